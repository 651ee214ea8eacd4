// The shop's clock, as far as this page knows it. The shopper's own clock may be wrong and is never asked for the time.

const KEEP_MS = 60_000;
const JUMP_MS = 1_500;

let ahead = null; // the shop's time less performance.now(); null while it is not known
let roundTrip = Infinity;
let learnedAt = -Infinity;
let gap = Date.now() - performance.now();

export const isKnown = () => ahead !== null;
export const now = () => performance.now() + ahead;

// The shop said `shopMs` at some moment between `askedAt` and `heardAt`. Half way is the best guess, and the quickest
// answer the best one (as in NTP, RFC 5905): it is kept for a minute, against slower ones.
export function learn(shopMs, askedAt, heardAt) {
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
  return true;
}
