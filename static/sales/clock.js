// The shop's clock, as far as this page knows it. The shopper's own clock may be wrong and is never asked for the time.

const KEEP_MS = 300_000; // a quartz is off by some 10 ms after it
const ENOUGH = 3;
const JUMP_MS = 1_500;

let ahead = null; // the shop's time less performance.now(); null while it is not known
let roundTrip = Infinity;
let learnedAt = -Infinity;
let answers = 0;
let gap = Date.now() - performance.now();

export const isKnown = () => ahead !== null;
export const now = () => performance.now() + ahead;
// Whether another answer would make it better.
export const needsAnswer = () => answers < ENOUGH || performance.now() - learnedAt >= KEEP_MS;

// The shop said `shopMs` at some moment between `askedAt` and `heardAt`. Half way is the best guess, and the quickest
// answer the best one (as in NTP, RFC 5905): it is kept for five minutes, against slower ones.
export function learn(shopMs, askedAt, heardAt) {
  answers += 1;
  if (isKnown() && heardAt - askedAt > roundTrip && heardAt - learnedAt < KEEP_MS) return;
  ahead = shopMs - (askedAt + heardAt) / 2;
  roundTrip = heardAt - askedAt;
  learnedAt = heardAt;
}

// While a computer sleeps, performance.now() may stand still and Date.now() goes on: what was learned is worth nothing.
export function hasJumped() {
  const found = Date.now() - performance.now();
  if (Math.abs(found - gap) < JUMP_MS) return false;
  gap = found;
  ahead = null;
  answers = 0;
  return true;
}
