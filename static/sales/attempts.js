// Attempts to buy. A shopper keeps one Idempotency-Key in this tab: asking again can never buy twice, and the key proves
// who bought, whatever became of an answer.

import { send } from "./network.js";

const GIVE_UP_AFTER_MS = 10_000;
const TRIES = 8;
const LONGEST_WAIT_MS = 8_000;

let last = null; // the shopper and key of the last attempt

// The storage may be forbidden, or full: then the key is kept as long as the page.
function kept(url) {
  try {
    return last ?? JSON.parse(sessionStorage.getItem(url));
  } catch {
    return last;
  }
}

function begin(url, userId) {
  last = { userId, key: newKey() };
  try {
    sessionStorage.setItem(url, JSON.stringify(last));
  } catch {
    // see above
  }
  return last;
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function ask(url, { userId, key }) {
  try {
    const response = await send(url, GIVE_UP_AFTER_MS, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ userId: userId || undefined }), // who is known by a cookie types no name
    });
    return await response.json();
  } catch {
    return { code: "unknown" }; // it may have arrived
  }
}

// Ends after `ms`, or as soon as the network is back.
function pause(ms) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
  });
}

// Returns the answer to an attempt to buy. `again` says of an answer whether to ask once more, and is told of each.
export async function attempt(url, userId, again) {
  let current = kept(url);
  if (current?.userId !== userId) current = begin(url, userId);
  let answer = await ask(url, current);
  if (answer.code === "idempotency_key_reused") answer = await ask(url, (current = begin(url, userId))); // another's cookie
  for (let tried = 1; tried < TRIES && again(answer); tried += 1) {
    await pause(Math.min(LONGEST_WAIT_MS, 500 * 2 ** (tried - 1)));
    answer = await ask(url, current);
  }
  return answer;
}
