// Charts of what happened second by second, drawn by uPlot in the page's own colours, light or dark.
// What a series is called, and the table that says the same, stand in the page.

/* global uPlot */

// Series are told apart by pattern or dashes first, by colour second.
const LOOKS = {
  purchased: { colour: "--chart-good", pattern: "solid" },
  already: { colour: "--chart-blue", pattern: "slash" },
  sold_out: { colour: "--chart-grey", pattern: "dots" },
  refused: { colour: "--chart-amber", pattern: "lines" },
  failed: { colour: "--chart-bad", pattern: "cross" },
  remaining: { colour: "--chart-blue", pattern: "solid" },
  p50: { colour: "--chart-good", dash: [] },
  p95: { colour: "--chart-blue", dash: [9, 5] },
  p99: { colour: "--chart-bad", dash: [3, 3] },
};
const TILE_PIXELS = 8;
export const LEAST_SECONDS = 30;
const PIXELS_OF_A_TIME = 90;
// So that whole numbers stand at the axis.
const LEAST_TOP = 4;
const LINES_OF_A_TABLE = 60;

const colourOf = (name) => getComputedStyle(document.querySelector("[data-chart]")).getPropertyValue(name).trim();
const number = new Intl.NumberFormat("en-GB");
export const words = (value) => (value === null || value === undefined ? "–" : number.format(value));

const PATTERNS = {
  slash: (pen) => { for (const x of [-8, 0, 8]) line(pen, x, 8, x + 8, 0); },
  lines: (pen) => { line(pen, 0, 2, 8, 2); line(pen, 0, 6, 8, 6); },
  cross: (pen) => { line(pen, 4, 0, 4, 8); line(pen, 0, 4, 8, 4); },
  dots: (pen) => { for (const [x, y] of [[2, 2], [6, 6]]) { pen.beginPath(); pen.arc(x, y, 1.2, 0, 7); pen.fill(); } },
};

function line(pen, ...ends) {
  pen.beginPath();
  pen.moveTo(ends[0], ends[1]);
  pen.lineTo(ends[2], ends[3]);
  pen.stroke();
}

function fillOf(look) {
  const colour = colourOf(look.colour);
  if (look.pattern === "solid") return `${colour}cc`;
  const tile = document.createElement("canvas");
  tile.width = tile.height = TILE_PIXELS;
  const pen = tile.getContext("2d");
  pen.fillStyle = `${colour}40`;
  pen.fillRect(0, 0, TILE_PIXELS, TILE_PIXELS);
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.6;
  PATTERNS[look.pattern](pen);
  return pen.createPattern(tile, "repeat");
}

function paintSwatch(canvas, look) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = colourOf(look.colour);
  pen.lineWidth = 4;
  if (look.pattern) {
    pen.fillStyle = fillOf(look);
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeRect(0, 0, canvas.width, canvas.height);
  } else {
    pen.setLineDash(look.dash);
    line(pen, 0, 12, canvas.width, 12);
  }
}

// What is below a series in a stack is added to it.
function stacked(lists) {
  const below = new Array(lists[0].length).fill(0);
  return lists.map((list) => list.map((value, place) => (below[place] += value ?? 0)));
}

export class Chart {
  constructor(figure, { zone, most = null }) {
    this.figure = figure;
    this.zone = zone;
    this.most = most;
    this.plot = figure.querySelector(".chart-plot");
    this.table = figure.querySelector(".chart-table");
    this.legend = new Map([...figure.querySelectorAll("[data-series]")].map((item) => [item.dataset.series, item]));
    this.keys = [...this.legend.keys()];
    this.isStack = this.keys.length > 1 && this.keys.every((key) => LOOKS[key].pattern);
    this.clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeStyle: "medium" });
    this.table?.addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.drawn?.setSize(this.size())).observe(this.plot);
  }

  // `columns` has a list for each series, and `second`: seconds since 1970.
  update(columns) {
    this.columns = columns;
    const lists = this.keys.map((key) => columns[key]);
    // The top of a stack is drawn first, so that what is empty is hidden behind what is not.
    const data = [columns.second, ...(this.isStack ? stacked(lists).reverse() : lists)];
    if (this.drawn) this.drawn.setData(data);
    else this.draw(data);
    for (const [key, item] of this.legend) item.querySelector(".chart-now").textContent = words(columns[key].at(-1));
    this.fillTable();
  }

  // Take the colours of the page anew.
  repaint() {
    this.drawn?.destroy();
    this.drawn = null;
    if (this.columns) this.update(this.columns);
  }

  draw(data) {
    for (const [key, item] of this.legend) paintSwatch(item.querySelector("canvas"), LOOKS[key]);
    const pixels = this.pixels();
    const font = `${pixels}px system-ui, sans-serif`;
    const grid = { stroke: colourOf("--chart-grid"), width: 1 };
    const axis = { stroke: colourOf("--chart-ink"), grid, ticks: grid, font };
    const keys = this.isStack ? this.keys.toReversed() : this.keys;
    this.drawn = new uPlot(
      {
        ...this.size(),
        series: [{}, ...keys.map((key, place) => this.series(LOOKS[key], place === keys.length - 1))],
        bands: this.isStack ? keys.slice(1).map((_, place) => this.band(LOOKS[keys[place]], place)) : [],
        scales: {
          x: { range: (_, from, to) => [Math.min(from, to - LEAST_SECONDS), to] },
          y: { range: (_, __, most) => [0, this.top(most)] },
        },
        axes: [
          { ...axis, space: PIXELS_OF_A_TIME, size: 2.5 * pixels, values: (_, found) => found.map((second) => this.time(second)) },
          { ...axis, size: this.room.bind(this), values: (_, found) => found.map(words) },
        ],
        padding: [pixels, 3 * pixels, 0, 0],
        legend: { show: false },
        cursor: { show: false },
      },
      data,
      this.plot,
    );
  }

  size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  pixels() {
    return parseFloat(getComputedStyle(this.plot).fontSize);
  }

  top(most) {
    return Math.max(this.most ?? (most || 0) * 1.08, LEAST_TOP);
  }

  // As wide as the widest number beside the axis.
  room(plot, values) {
    return Math.max(...(values ?? [""]).map((text) => text.length), 2) * this.pixels() * 0.65 + 18;
  }

  time(second) {
    return this.clock.format(second * 1000);
  }

  series(look, isLowest) {
    const fill = look.pattern && isLowest ? fillOf(look) : undefined;
    const width = look.pattern ? 1.5 : 2.5;
    return { stroke: colourOf(look.colour), width, fill, dash: look.dash, points: { show: false }, spanGaps: false };
  }

  // From a series down to the next one.
  band(look, place) {
    return { series: [place + 1, place + 2], fill: fillOf(look) };
  }

  fillTable() {
    if (!this.table?.open || !this.columns) return;
    const { second } = this.columns;
    const places = [...second.keys()].reverse().slice(0, LINES_OF_A_TABLE);
    this.table.querySelector("tbody").replaceChildren(...places.map((place) => this.tableLine(place)));
  }

  tableLine(place) {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = this.time(this.columns.second[place]);
    const cells = this.keys.map((key) => {
      const cell = document.createElement("td");
      cell.textContent = words(this.columns[key][place]);
      return cell;
    });
    row.append(head, ...cells);
    return row;
  }
}

// Draw anew when the page turns light or dark, by the system or by the admin's button.
export function followTheme(charts) {
  const repaint = () => charts.forEach((chart) => chart.repaint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
