// What a screen reader is told without being asked: milestones, and never every second.

import { duration, fill } from "./formats.js";
import { setText, words } from "./words.js";

const MILESTONES_MS = [600_000, 60_000, 10_000];

const announcer = document.getElementById("announcer");
let earlier = null; // status and time left at the last look

export function announce(status, leftMs) {
  if (earlier && earlier.status !== status) {
    setText(announcer, words.status[status]);
  } else if (earlier && (status === "upcoming" || status === "active")) {
    const passed = MILESTONES_MS.find((ms) => leftMs <= ms && ms < earlier.leftMs);
    const sentence = status === "upcoming" ? words.startsIn : words.endsIn;
    if (passed) setText(announcer, fill(sentence, { time: duration(passed) }));
  }
  earlier = { status, leftMs };
}
