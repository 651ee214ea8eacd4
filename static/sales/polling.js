// Asks for the sale's status as often as the shop wishes: not while the page is hidden, and at once when it is back.

import { send } from "./network.js";

const GIVE_UP_AFTER_MS = 8_000;
const AGAIN_AFTER_MS = 3_000;

// `apply` gets each status with the page's times at which it was asked for and heard; `lost` is called when there is
// none. Returns a function that asks at once.
export function poll(url, apply, lost) {
  let timer = null;
  let isAsking = false;

  async function ask() {
    clearTimeout(timer);
    if (isAsking) return;
    isAsking = true;
    let waitMs = AGAIN_AFTER_MS;
    try {
      const askedAt = performance.now();
      // A revalidated answer would be the old one, with an old serverTime.
      const response = await send(url, GIVE_UP_AFTER_MS, { cache: "no-store" });
      const heardAt = performance.now();
      if (!response.ok) throw new Error(response.statusText);
      const status = await response.json();
      apply(status, askedAt, heardAt);
      waitMs = status.pollAfterMs;
    } catch {
      lost();
    }
    isAsking = false;
    // Pages that opened together must not ask together.
    if (!document.hidden) timer = setTimeout(ask, waitMs * (1 + Math.random() * 0.2));
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : ask()));
  addEventListener("pageshow", (event) => event.persisted && ask());
  addEventListener("online", ask);
  addEventListener("offline", lost);
  ask();
  return ask;
}
