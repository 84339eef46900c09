// Five minutes of one link as SVG: above the axis what went to the host, below it what came from there.

import { el, setAttribute, setText, svg } from "./dom.js";
import { bitRate, clock, count, plural } from "./format.js";
import { KEPT_S } from "./store.js";

const HEIGHT = 140;
const MIDDLE = HEIGHT / 2;
const ROOM = 12; // above and below, for words
const FLOOR = 1250; // 10 kbit/s: less than that does not fill the chart

/** 1, 2 or 5 times a power of ten bits a second, at least `bytesPerSecond`. Bytes a second. */
export function niceScale(bytesPerSecond) {
  const bits = Math.max(bytesPerSecond, FLOOR) * 8;
  const power = 10 ** Math.floor(Math.log10(bits));
  return ((bits <= power ? 1 : bits <= 2 * power ? 2 : bits <= 5 * power ? 5 : 10) * power) / 8;
}

/** One number a second, oldest first; null before the link was there. */
export function perSecond(samples, now, since) {
  const row = new Array(KEPT_S).fill(null);
  const last = Math.floor(now);
  for (let at = 0; at < KEPT_S; at += 1) {
    row[at] = last - (KEPT_S - 1 - at) >= since - 1 ? IDLE : null;
  }
  for (const sample of samples) {
    const at = KEPT_S - 1 - (last - Math.floor(sample.at));
    if (at >= 0 && at < KEPT_S) {
      row[at] = sample;
    }
  }
  return row;
}

const IDLE = Object.freeze({
  rx_bytes: 0, tx_bytes: 0, rx_frames: 0, tx_frames: 0, dropped: 0, duplicates: 0,
}); // prettier-ignore

export class Chart {
  #row = [];
  #now = 0;
  #reading = null; // the second that is read, counted from the left
  #isPointed = false;

  constructor(link) {
    this.name = el("h3");
    this.rx = el("span", { class: "rx" });
    this.tx = el("span", { class: "tx" });
    const head = el("div", { class: "chart-head" }, this.name, this.rx, this.tx);
    this.areas = {};
    const parts = [];
    for (const direction of ["rx", "tx"]) {
      const area = svg("path", { class: `${direction}-area` });
      const line = svg("path", { class: `${direction}-line` });
      this.areas[direction] = { area, line };
      parts.push(area, line);
    }
    this.axis = svg("line", { class: "axis", y1: MIDDLE, y2: MIDDLE, x1: 0 });
    this.minutes = svg("path", { class: "grid" });
    this.marks = svg("g");
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.scale = svg("text", { x: 6, y: 13 });
    this.ages = [svg("text", { y: HEIGHT - 6, x: 6 }), svg("text", { y: HEIGHT - 6, "text-anchor": "end" })];
    setText(this.ages[0], "5 min ago");
    setText(this.ages[1], "now");
    this.svg = svg("svg", { "aria-hidden": "true" }, this.minutes, ...parts, this.axis, this.marks, this.cursor);
    this.svg.append(this.scale, ...this.ages);
    this.plot = el("div", {
      class: "plot", tabindex: "0", role: "slider", "aria-orientation": "horizontal",
      "aria-valuemin": -KEPT_S + 1, "aria-valuemax": 0, "aria-valuenow": 0,
    }, this.svg); // prettier-ignore
    this.readout = el("p", { class: "readout" });
    this.element = el("article", { class: "chart", "data-link": link.id }, head, this.plot, this.readout);
    this.#listen();
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width)).observe(this.plot);
  }

  #listen() {
    this.plot.addEventListener("pointermove", (event) => {
      const { left, width } = this.plot.getBoundingClientRect();
      this.#isPointed = true;
      this.#read(Math.round(((event.clientX - left) / width) * (KEPT_S - 1)));
    });
    this.plot.addEventListener("pointerleave", () => {
      this.#isPointed = false;
      this.#read(null);
    });
    this.plot.addEventListener("focus", () => this.#isPointed || this.#read(KEPT_S - 1));
    this.plot.addEventListener("blur", () => this.#read(null));
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 30, PageDown: -30 };
    this.plot.addEventListener("keydown", (event) => {
      const from = this.#reading ?? KEPT_S - 1;
      const ends = { Home: 0, End: KEPT_S - 1 };
      const to = ends[event.key] ?? (steps[event.key] ? from + steps[event.key] : null);
      if (to !== null) {
        event.preventDefault();
        this.#read(to);
      }
    });
  }

  #resize(width) {
    this.width = width;
    this.#draw();
  }

  update(link, store, top) {
    const rate = store.rates.get(link.id) ?? IDLE;
    setText(this.name, link.name);
    setText(this.rx, `↓ ${bitRate(rate.rx_bytes)}`);
    setText(this.tx, `↑ ${bitRate(rate.tx_bytes)}`);
    setAttribute(this.plot, "aria-label", `Throughput of ${link.name}, second by second`);
    this.#now = store.now();
    this.#row = perSecond(store.history.get(link.id) ?? [], this.#now, Date.parse(link.since) / 1000);
    this.top = top;
    this.#draw();
    this.#read(this.#reading);
  }

  #draw() {
    if (!this.width || this.#row.length === 0) {
      return;
    }
    const x = (at) => ((at / (KEPT_S - 1)) * this.width).toFixed(1);
    const reach = MIDDLE - ROOM;
    setAttribute(this.svg, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
    for (const [direction, sign] of [["rx", -1], ["tx", 1]]) {
      const points = this.#row.map((sample, at) => {
        const share = sample ? Math.min(1, sample[`${direction}_bytes`] / this.top) : 0;
        return `${x(at)} ${(MIDDLE + sign * share * reach).toFixed(1)}`;
      });
      const first = Math.max(0, this.#row.findIndex((sample) => sample !== null));
      const line = points.slice(first).join("L");
      setAttribute(this.areas[direction].line, "d", `M${line}`);
      setAttribute(this.areas[direction].area, "d", `M${x(first)} ${MIDDLE}L${line}L${x(KEPT_S - 1)} ${MIDDLE}Z`);
    }
    setAttribute(this.axis, "x2", this.width);
    setAttribute(this.minutes, "d", [1, 2, 3, 4].map((m) => `M${x(m * 60)} 0V${HEIGHT}`).join(""));
    setText(this.scale, `± ${bitRate(this.top)}`);
    setAttribute(this.ages[1], "x", this.width - 6);
    this.#drawMarks(x);
  }

  #drawMarks(x) {
    const marks = [];
    this.#row.forEach((sample, at) => {
      if (sample?.duplicates) {
        marks.push(svg("circle", { class: "duplicate", r: 2.5, cx: x(at), cy: MIDDLE }));
      }
      if (sample?.dropped) {
        marks.push(svg("line", { class: "drop", x1: x(at), x2: x(at), y1: MIDDLE - 9, y2: MIDDLE + 9 }));
      }
    });
    this.marks.replaceChildren(...marks);
  }

  #read(to) {
    this.#reading = to === null ? null : Math.max(0, Math.min(KEPT_S - 1, to));
    setAttribute(this.readout, "data-reading", this.#reading !== null);
    setAttribute(this.cursor, "visibility", this.#reading === null ? "hidden" : "visible");
    if (this.#reading === null) {
      setText(this.readout, totalsOf(this.#row));
      return;
    }
    const place = ((this.#reading / (KEPT_S - 1)) * (this.width ?? 0)).toFixed(1);
    setAttribute(this.cursor, "x1", place);
    setAttribute(this.cursor, "x2", place);
    const words = this.#wordsAt(this.#reading);
    setText(this.readout, words);
    setAttribute(this.plot, "aria-valuenow", this.#reading - KEPT_S + 1);
    setAttribute(this.plot, "aria-valuetext", words);
  }

  #wordsAt(at) {
    const when = clock((Math.floor(this.#now) - (KEPT_S - 1 - at)) * 1000);
    const sample = this.#row[at];
    if (!sample) {
      return `${when} – not there yet`;
    }
    const parts = [
      `to host ${bitRate(sample.rx_bytes)} (${plural(sample.rx_frames, "frame")})`,
      `from host ${bitRate(sample.tx_bytes)} (${plural(sample.tx_frames, "frame")})`,
    ];
    if (sample.duplicates) {
      parts.push(plural(sample.duplicates, "duplicate"));
    }
    if (sample.dropped) {
      parts.push(`${count(sample.dropped)} lost`);
    }
    return `${when} – ${parts.join(", ")}`;
  }
}

function totalsOf(row) {
  let [duplicates, dropped] = [0, 0];
  for (const sample of row) {
    duplicates += sample?.duplicates ?? 0;
    dropped += sample?.dropped ?? 0;
  }
  const lost = dropped ? `${plural(dropped, "frame")} lost` : "no frame lost";
  return duplicates ? `${lost}, ${plural(duplicates, "duplicate")} dropped` : lost;
}
