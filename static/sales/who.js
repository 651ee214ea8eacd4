// Tells shoppers of a sale that asks who they are whom this browser has confirmed.

import { fill } from "./formats.js";
import { send } from "./network.js";
import { setText, words } from "./words.js";

const GIVE_UP_AFTER_MS = 8_000;

// What the page says already is right for who has confirmed nothing, and when nobody knows.
export async function tellWho(place, api) {
  try {
    const response = await send(`${api}/shopper`, GIVE_UP_AFTER_MS);
    const { userId } = await response.json();
    if (!userId) return;
    setText(place.querySelector("#who-words"), fill(words.who.words, { userId }));
    setText(place.querySelector("#who-link"), words.who.link);
  } catch {
    // it stays as it is
  }
}
