// The live dashboard: asks for the numbers once a second, shortly after the workers have told theirs.

import { Chart, LEAST_SECONDS, followTheme, words } from "./charts.js";
import * as clock from "../clock.js";

// After a second's end, until every worker has told what it counted in it.
const ASK_AFTER_MS = 250;
const ANSWER_WITHIN_MS = 4_000;
const OLD_MS = 3_000;
const WINDOW_SECONDS = 600;
// A number of more characters is written smaller on the wall.
const LONG = 6;
const SHARES_TOLD = [50, 25, 10];

const live = document.getElementById("live");
const zone = live.dataset.zone;
const charts = [...live.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure, { zone }));
const time = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeStyle: "medium" });
const part = (name) => document.getElementById(`live-${name}`);

let seconds = new Map(); // by second, what each column says of it
let told = null; // the latest answer
let trouble = "";

function remember({ columns }) {
  const { second: numbers, ...others } = columns;
  const last = numbers.at(-1);
  numbers.forEach((number, place) => {
    const row = Object.fromEntries(Object.entries(others).map(([key, list]) => [key, list[place]]));
    row.remaining ??= seconds.get(number)?.remaining ?? seconds.get(number - 1)?.remaining ?? null;
    seconds.set(number, row);
  });
  seconds = new Map([...seconds].filter(([number]) => number > last - WINDOW_SECONDS).sort(([a], [b]) => a - b));
}

// From a little before the first attempt on: an empty stretch before it says nothing.
function shown() {
  const rows = [...seconds];
  const first = rows.findIndex(([, row]) => row.purchased + row.already + row.sold_out + row.refused + row.failed > 0);
  const latest = Math.max(rows.length - LEAST_SECONDS, 0);
  const kept = rows.slice(first < 0 ? latest : Math.min(Math.max(first - 1, 0), latest));
  const keys = Object.keys(kept[0][1]);
  return {
    second: kept.map(([number]) => number),
    ...Object.fromEntries(keys.map((key) => [key, kept.map(([, row]) => row[key])])),
  };
}

function show(answer) {
  remember(answer);
  const columns = shown();
  for (const chart of charts) {
    if (chart.figure.dataset.chart === "stock") chart.most = answer.totalStock;
    chart.update(columns);
  }
  for (const tile of answer.tiles) showTile(tile);
  part("bar").value = answer.shareLeft;
  part("state").textContent = answer.state.line;
  part("state").dataset.state = answer.state.word;
  announce(answer, told);
  told = answer;
}

function showTile({ key, value, detail, worry }) {
  const tile = live.querySelector(`[data-tile="${key}"]`);
  tile.classList.toggle("worries", worry !== "");
  tile.classList.toggle("is-long", value.length > LONG);
  for (const [name, text] of Object.entries({ value, detail, worry })) {
    const place = tile.querySelector(`.live-${name}`);
    if (place.textContent !== text) place.textContent = text;
  }
}

// To those who listen, only what they would ask for: the numbers change every second.
function announce(answer, before) {
  const heard = [];
  if (!before) return;
  if (answer.state.word !== before.state.word) heard.push(answer.state.line);
  const share = SHARES_TOLD.findLast((share) => answer.shareLeft <= share && before.shareLeft > share);
  if (share && answer.shareLeft > 0) heard.push(`${share} % of the units remain`);
  for (const tile of answer.tiles) {
    const was = before.tiles.find(({ key }) => key === tile.key);
    if (tile.worry && !was?.worry) heard.push(`${tile.label}: ${tile.worry}`);
    if (!tile.worry && was?.worry) heard.push(`${tile.label} is well again`);
  }
  if (heard.length) part("milestone").textContent = `${heard.join(". ")}.`;
}

function showTrouble(text) {
  if (text === trouble) return;
  trouble = text;
  part("trouble").textContent = text;
  part("trouble").hidden = !text;
}

function showAge() {
  if (!told || !clock.isKnown()) return;
  const ageMs = clock.now() - told.nowMs;
  live.classList.toggle("is-old", ageMs > OLD_MS);
  part("age").textContent = ageMs > OLD_MS ? `${words(Math.round(ageMs / 1000))} s old` : `Live, ${time.format(told.nowMs)}`;
  showCountdown(clock.now());
}

function showCountdown(now) {
  const { startsMs, endsMs } = told;
  const [moment, sentence] = now < startsMs ? [startsMs, "to the start"] : now < endsMs ? [endsMs, "to the end"] : [0, ""];
  part("clock").hidden = !moment || moment - now > 24 * 3600_000;
  const left = Math.ceil((moment - now) / 1000);
  const [hours, minutes, rest] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const two = (value) => String(value).padStart(2, "0");
  part("clock-time").textContent = hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
  part("clock-words").textContent = sentence;
}

function troubleOf(response) {
  if (response.type === "opaqueredirect" || response.status === 403) return "You are signed out. Load this page again to sign in.";
  if (response.status === 429) return "The server limits your address (ADDRESS_RATE): these numbers wait for their turn.";
  return `The server answers ${response.status}: these numbers are not new.`;
}

async function ask() {
  const askedAt = performance.now();
  const since = [...seconds.keys()].at(-1) ?? 0;
  const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
  const response = await fetch(`${live.dataset.url}?since=${since}`, { cache: "no-store", redirect: "manual", signal });
  if (!response.ok) return showTrouble(troubleOf(response));
  const answer = await response.json();
  clock.learn(answer.nowMs, askedAt, performance.now());
  show(answer);
  return showTrouble("");
}

async function askForEver() {
  clock.hasJumped();
  try {
    await ask();
  } catch (error) {
    if (error instanceof TypeError || error.name === "TimeoutError") showTrouble("The server cannot be reached. It is asked again every second.");
    else throw error;
  } finally {
    const now = clock.isKnown() ? clock.now() : performance.now();
    setTimeout(askForEver, 1000 - ((now - ASK_AFTER_MS) % 1000));
  }
}

live.classList.add("is-live");
followTheme(charts);
setInterval(showAge, 250);
askForEver();
