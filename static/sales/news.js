// Keeps the page up to date: by the shop's events while they come, else by asking as often as the shop wishes.

import { send } from "./network.js";
import { station } from "./station.js";

const GIVE_UP_AFTER_MS = 8_000;
const AGAIN_AFTER_MS = 3_000;

// `apply` gets each status; one of this moment, which is asked for while `needsTime` says so, comes with the page's times at
// which it was asked for and heard. `lost` is called when there is none. Nothing happens while the page is hidden. Returns
// a function that asks at once.
export function follow(api, needsTime, apply, lost) {
  let timer = null;
  let asking = null; // the question whose answer counts: an older one's may have waited here while the computer slept
  let isUnanswered = true; // events come without the time that they took: the clock needs one answer
  const events = station(`${api}/events`, {
    heard: apply,
    lost,
    changed: () => (events.isTold() ? isUnanswered || clearTimeout(timer) : asking ?? ask()),
  });

  async function ask() {
    clearTimeout(timer);
    const mine = (asking = Symbol("question"));
    let waitMs = AGAIN_AFTER_MS;
    try {
      // Any other answer may be a copy, of the browser's or of a cache in between, with an old serverTime.
      const isFresh = needsTime();
      const askedAt = performance.now();
      const response = await send(`${api}/status${isFresh ? "?fresh=1" : ""}`, GIVE_UP_AFTER_MS);
      const heardAt = performance.now();
      if (!response.ok) throw new Error(response.statusText);
      const status = await response.json();
      if (asking !== mine) return;
      if (isFresh) apply(status, askedAt, heardAt);
      else apply(status);
      isUnanswered = false;
      waitMs = status.pollAfterMs;
    } catch {
      if (asking !== mine) return;
      isUnanswered = true;
      lost();
    }
    asking = null;
    // Pages that opened together must not ask together.
    if (!document.hidden && (isUnanswered || !events.isTold())) timer = setTimeout(ask, waitMs * (1 + Math.random() * 0.2));
  }

  function begin() {
    ask();
    events.begin();
  }

  function rest() {
    clearTimeout(timer);
    events.end();
  }

  function goOffline() {
    rest();
    lost();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : begin()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => event.persisted && begin());
  addEventListener("online", begin);
  addEventListener("offline", goOffline);
  begin();
  return ask;
}
