// The sale page: what the shop says, shown as it changes, and the purchase without leaving the page.

import { announce } from "./announcements.js";
import { attempt } from "./attempts.js";
import * as clock from "./clock.js";
import { duration, fill, moment, number } from "./formats.js";
import { follow } from "./news.js";
import { tellWho } from "./who.js";
import { setText, words } from "./words.js";

const element = (id) => document.getElementById(id);
const [sale, button, answer, countdown] = ["sale", "press", "answer", "countdown"].map(element);
const api = `/api/sales/${sale.dataset.slug}`;
const EARLY_MS = 2_000;

const shown = {
  status: sale.dataset.status,
  startsMs: Number(sale.dataset.starts),
  endsMs: Number(sale.dataset.ends),
  total: Number(sale.dataset.total),
  remaining: Number(sale.dataset.remaining),
  isBusy: false,
  soldOutIn: sale.dataset.soldOutIn ?? "", // how quickly it went, in words
};

// Takes a status of the API. The only way in for what the shop says of the sale.
function apply(status, askedAt, heardAt) {
  if (askedAt) clock.learn(Date.parse(status.serverTime), askedAt, heardAt);
  shown.startsMs = Date.parse(status.startTime);
  shown.endsMs = Date.parse(status.endTime);
  shown.total = status.totalStock;
  showStock(status.remainingStock);
  const within = status.soldOutTime && duration(Date.parse(status.soldOutTime) - shown.startsMs);
  shown.soldOutIn = within ? fill(words.soldOutIn, { time: within }) : "";
  shown.status = status.status;
  element("offline").textContent = "";
  show();
}

function show() {
  if (clock.isKnown()) {
    if (shown.status === "upcoming" && clock.now() >= shown.startsMs) shown.status = "active";
    if (shown.status !== "ended" && clock.now() >= shown.endsMs) shown.status = "ended";
  }
  const { status } = shown;
  sale.dataset.status = element("state").dataset.status = status;
  setText(element("state").lastElementChild, (status === "sold_out" && shown.soldOutIn) || words.status[status]);
  showIcon(element("state"), status);
  if (answer.dataset.code === "sold_out") setText(element("answer-headline"), headline("sold_out")); // heard a moment later
  button.setAttribute("aria-disabled", String(shown.isBusy || status !== "active"));
  button.dataset.busy = shown.isBusy;
  setText(element("press-words"), shown.isBusy ? words.busy : words.button[status]);
  showTimes(status);
}

function showTimes(status) {
  const time = element("when").querySelector("time");
  const atMs = status === "upcoming" ? shown.startsMs : shown.endsMs;
  setText(time, fill(words.when[status], { moment: moment(atMs) }));
  time.dateTime = new Date(atMs).toISOString();

  if (status !== "ended") countdown.hidden = false; // once it is there it stays, at zero
  const leftMs = clock.isKnown() ? Math.max(0, atMs - clock.now()) : null;
  const seconds = Math.ceil(leftMs / 1000);
  const parts = { days: seconds / 86_400, hours: (seconds / 3600) % 24, minutes: (seconds / 60) % 60, seconds: seconds % 60 };
  for (const [id, value] of Object.entries(parts)) {
    setText(element(id), leftMs === null ? "––" : String(Math.floor(value)).padStart(2, "0"));
  }
  if (leftMs !== null) announce(status, leftMs);
}

function showStock(remaining) {
  shown.remaining = remaining;
  const bar = element("bar");
  bar.max = shown.total;
  bar.value = remaining;
  setText(element("left"), fill(words.left, { remaining: number(remaining), total: number(shown.total) }));
}

function showIcon(place, name) {
  place.querySelector("use").setAttribute("href", `#icon-${name}`);
}

const headline = (code) => (code === "sold_out" && shown.soldOutIn) || words.headline[code];

// Code and receipt come only to the buyer; whoever has typed a buyer's name hears how the buyer finds them.
function showOrder({ orderCode, purchaseTime, receiptUrl }) {
  element("bought").hidden = element("receipt").hidden = !receiptUrl;
  element("find").hidden = Boolean(receiptUrl);
  if (!receiptUrl) return;
  setText(element("order-code"), orderCode);
  element("order-time").dateTime = purchaseTime;
  setText(element("order-time"), moment(Date.parse(purchaseTime)));
  element("receipt").href = receiptUrl;
}

function showAnswer(body, said = {}) {
  const code = body.code in words.headline ? body.code : "other";
  answer.dataset.icon = words.icon[code] ?? "alert";
  showIcon(answer, answer.dataset.icon);
  answer.dataset.code = code;
  setText(element("answer-headline"), said.headline ?? headline(code));
  setText(element("answer-sentence"), said.sentence ?? words.sentence[code]);
  element("order").hidden = !body.orderId;
  if (body.orderId) showOrder(body);
  answer.hidden = false;
  answer.scrollIntoView({ block: "nearest" });
  if (body.orderId) element("answer-headline").focus({ preventScroll: true }); // the button that had it is covered now
}

// Ask once more when nobody knows, and when the press came a blink before the start by the shop's clock.
function again(body) {
  const isEarly = body.code === "not_started" && clock.isKnown() && shown.startsMs - clock.now() < EARLY_MS;
  if (body.code === "unknown") showAnswer(body, words.asking);
  else if (isEarly) showAnswer(body, words.opening);
  return body.code === "unknown" || isEarly;
}

element("buy").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = element("user-id"); // a sale that asks who you are has none
  if (shown.isBusy || shown.status !== "active") return;
  shown.isBusy = true;
  answer.hidden = true;
  show();
  const body = await attempt(`${api}/purchase`, name?.value ?? "", again);
  shown.isBusy = false;
  if (typeof body.remainingStock === "number") showStock(body.remainingStock);
  if (["sold_out", "paused", "ended"].includes(body.code)) shown.status = body.code;
  name?.setAttribute("aria-invalid", String(body.code === "invalid_request"));
  showAnswer(body);
  show();
});

if (element("who")) tellWho(element("who"), api);
button.disabled = false; // aria-disabled from here on: the button keeps the keyboard's focus whatever it says
const askNow = follow(api, clock.needsAnswer, apply, () => setText(element("offline"), words.offline));
show();
setInterval(() => {
  if (clock.hasJumped()) askNow();
  show();
}, 250);
