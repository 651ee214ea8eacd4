// Attempts to buy. One attempt keeps its Idempotency-Key until it is settled, so that asking again can never buy twice.

import { send } from "./network.js";

const GIVE_UP_AFTER_MS = 10_000;
const TRIES = 8;
const LONGEST_WAIT_MS = 8_000;

let open = null; // the shopper and key of an attempt whose answer is not known

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
  if (open?.userId !== userId) open = { userId, key: newKey() };
  let answer = await ask(url, open);
  for (let tried = 1; tried < TRIES && again(answer); tried += 1) {
    await pause(Math.min(LONGEST_WAIT_MS, 500 * 2 ** (tried - 1)));
    answer = await ask(url, open);
  }
  if (!["unknown", "server_error"].includes(answer.code)) open = null;
  return answer;
}
