// The sale page: countdown by the server's clock, stock as it falls, and the purchase without leaving the page.

const sale = document.getElementById("sale");
const form = document.getElementById("buy");
const button = document.getElementById("press");
const answer = document.getElementById("answer");
const api = `/api/sales/${sale.dataset.slug}`;

const words = JSON.parse(document.getElementById("words").textContent);
const UNKNOWN_RETRIES = 5;

const state = {
  status: sale.dataset.status,
  startsMs: Number(sale.dataset.starts),
  endsMs: Number(sale.dataset.ends),
  clockAheadMs: null, // server's clock less this page's steady clock; null until the first answer
  busy: false,
};

const serverNowMs = () => performance.now() + state.clockAheadMs;

const localTime = (ms) => new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return `${days ? `${days} d ` : ""}${two(hours)}:${two(minutes)}:${two(seconds % 60)}`;
}

// Writes only what has changed: a screen reader announces every write.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show() {
  if (state.clockAheadMs !== null) {
    const now = serverNowMs();
    if (state.status === "upcoming" && now >= state.startsMs) state.status = "active";
    if (state.status !== "ended" && now >= state.endsMs) state.status = "ended";
    const when = document.getElementById("when");
    if (state.status === "upcoming") when.textContent = `Starts in ${duration(state.startsMs - now)} (${localTime(state.startsMs)})`;
    else if (state.status === "ended") when.textContent = `Ended ${localTime(state.endsMs)}`;
    else when.textContent = `Ends in ${duration(state.endsMs - now)} (${localTime(state.endsMs)})`;
  }
  sale.dataset.status = state.status;
  setText(document.getElementById("state"), words.status[state.status]);
  button.disabled = state.busy || state.status !== "active";
  button.textContent = state.busy ? "One moment…" : words.button[state.status];
}

function showStock(remaining, total) {
  const bar = document.getElementById("bar");
  bar.max = total ?? bar.max;
  bar.value = remaining;
  document.getElementById("left").textContent = `${remaining} of ${bar.max} left`;
}

async function poll() {
  let waitMs = 5000;
  try {
    const asked = performance.now();
    const response = await fetch(`${api}/status`, { cache: "no-cache" });
    if (response.ok) {
      const status = await response.json();
      const heard = performance.now();
      state.clockAheadMs = Date.parse(status.serverTime) - (asked + heard) / 2;
      state.status = status.status;
      state.startsMs = Date.parse(status.startTime);
      state.endsMs = Date.parse(status.endTime);
      showStock(status.remainingStock, status.totalStock);
      waitMs = status.pollAfterMs;
      const untilStartMs = state.startsMs - serverNowMs();
      if (untilStartMs > 0) waitMs = Math.min(waitMs, untilStartMs + 100);
    }
  } catch {
    // Offline: what is shown stays, and the next poll tries again.
  }
  show();
  setTimeout(poll, waitMs * (1 + Math.random() * 0.2));
}

function showAnswer(body) {
  answer.hidden = false;
  answer.dataset.outcome = body.code;
  document.getElementById("headline").textContent = words.headline[body.code] ?? words.headline.other;
  document.getElementById("message").textContent = body.message;
  document.getElementById("order").hidden = !body.orderId;
  if (body.orderId) {
    document.getElementById("order-id").textContent = body.orderId;
    const time = document.getElementById("order-time");
    time.dateTime = body.purchaseTime;
    time.textContent = localTime(Date.parse(body.purchaseTime));
    document.getElementById("receipt").href = body.receiptUrl;
  }
  if (typeof body.remainingStock === "number") showStock(body.remainingStock);
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function attempt(userId, key) {
  try {
    const response = await fetch(`${api}/purchase`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ userId }),
    });
    return await response.json();
  } catch {
    return { code: "unknown", message: "The answer did not reach you. You cannot buy twice, so we ask again." };
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (state.busy) return;
  state.busy = true;
  show();
  const key = newKey();
  const userId = document.getElementById("user-id").value;
  let body = await attempt(userId, key);
  for (let retry = 1; body.code === "unknown" && retry <= UNKNOWN_RETRIES; retry += 1) {
    showAnswer(body);
    await new Promise((resolve) => setTimeout(resolve, 1000 * retry));
    body = await attempt(userId, key);
  }
  showAnswer(body);
  if (body.code === "sold_out" || body.code === "ended" || body.code === "paused") state.status = body.code;
  state.busy = false;
  show();
});

poll();
setInterval(show, 500);
