// The multilink as a picture: the host in the middle, its links around it. What moves is what flows.

import { KeyedViews, setAttribute, setText, svg } from "./dom.js";
import { bitRate, plural, words } from "./format.js";
import { pathsOfHandoff, stateOf } from "./link-state.js";

const CARD = { width: 158, height: 50 };
const NARROW_CARD = { width: 116, height: 50 };
const HOST_RADIUS = 46;
const NARROW = 560;
const DASH = 18; // As in .lane's stroke-dasharray.
const SHOWN = { wide: 12, narrow: 8 };
const PHASES = ["making", "verifying", "overlapping", "draining"];

/** 1.5 to 9 pixels, by the logarithm: 1 kbit/s is thin, 1 Gbit/s is thick. */
function widthOf(bytesPerSecond) {
  return bytesPerSecond > 0 ? Math.min(9, 1.5 + 1.25 * Math.max(0, Math.log10((bytesPerSecond * 8) / 1000))) : 0;
}

/** Dashes a second. */
function speedOf(bytesPerSecond) {
  return Math.min(5, 0.8 + 0.7 * Math.max(0, Math.log10((bytesPerSecond * 8) / 1000)));
}

class Lane {
  constructor(forwards) {
    this.band = svg("path", { class: "band" });
    this.dashes = svg("path", { class: "lane" });
    this.element = svg("g", {}, this.band, this.dashes);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
      const offsets = forwards ? [0, -DASH] : [-DASH, 0];
      this.motion = this.dashes.animate(
        offsets.map((offset) => ({ strokeDashoffset: `${offset}px` })),
        { duration: 1000, iterations: Infinity },
      );
      this.motion.pause();
    }
  }

  update(rate, path, isLive) {
    setAttribute(this.band, "d", path);
    setAttribute(this.dashes, "d", path);
    setAttribute(this.band, "stroke-width", widthOf(rate).toFixed(1));
    setAttribute(this.dashes, "stroke-width", (widthOf(rate) * 0.6).toFixed(1));
    if (rate > 0 && isLive) {
      this.motion?.updatePlaybackRate(speedOf(rate));
      if (this.motion?.playState === "paused") {
        this.motion.play();
      }
    } else {
      this.motion?.pause();
    }
  }
}

class Edge {
  constructor() {
    this.halo = svg("path", { class: "halo" });
    this.wire = svg("path", { class: "wire" });
    this.toHost = new Lane(true);
    this.fromHost = new Lane(false);
    this.element = svg("g", { class: "edge" }, this.halo, this.wire, this.toHost.element, this.fromHost.element);
  }

  update(item, paths, layout) {
    const { x, y } = layout.places.get(item.key);
    const { x: hx, y: hy } = layout.host;
    const length = Math.hypot(hx - x, hy - y) || 1;
    const rate = item.rate;
    const [rx, tx] = [widthOf(rate?.rx_bytes ?? 0), widthOf(rate?.tx_bytes ?? 0)];
    const across = { x: (hy - y) / length, y: -(hx - x) / length };
    const line = (shift) =>
      `M${(x + across.x * shift).toFixed(1)} ${(y + across.y * shift).toFixed(1)}` +
      `L${(hx + across.x * shift).toFixed(1)} ${(hy + across.y * shift).toFixed(1)}`;
    setAttribute(this.halo, "d", line(0));
    setAttribute(this.wire, "d", line(0));
    this.toHost.update(rate?.rx_bytes ?? 0, line(rx / 2 + 1.2), layout.isLive);
    this.fromHost.update(rate?.tx_bytes ?? 0, line(-tx / 2 - 1.2), layout.isLive);
    setAttribute(this.element, "data-state", item.state);
    setAttribute(this.element, "data-path", paths.get(item.key));
  }
}

class Node {
  constructor() {
    this.card = svg("rect", { class: "card", rx: 9, height: CARD.height });
    this.dot = svg("circle", { class: "state-dot", r: 4.5, cx: 15, cy: 18 });
    this.name = svg("text", { class: "name", x: 26, y: 22 });
    this.rate = svg("text", { class: "quiet", x: 11, y: 40 });
    this.tagText = svg("text", { x: 8, y: 12 });
    this.tagBox = svg("rect", { height: 17, rx: 5 });
    this.tag = svg("g", { class: "tag", transform: "translate(10 -9)" }, this.tagBox, this.tagText);
    this.element = svg("g", { class: "node" }, this.card, this.dot, this.name, this.rate, this.tag);
  }

  update(item, paths, layout) {
    const { width, height } = layout.card;
    const { x, y } = layout.places.get(item.key);
    const path = paths.get(item.key);
    setAttribute(this.element, "transform", `translate(${(x - width / 2).toFixed(1)} ${(y - height / 2).toFixed(1)})`);
    setAttribute(this.element, "data-state", item.state);
    setAttribute(this.element, "data-path", path);
    setAttribute(this.card, "width", width);
    setText(this.name, clipped(item.name, layout.isNarrow ? 11 : 16));
    setText(this.rate, item.words);
    setAttribute(this.tag, "visibility", path ? "visible" : "hidden");
    setText(this.tagText, path === "new" ? "new path" : "old path");
    setAttribute(this.tagBox, "width", 74);
  }
}

const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

export class Picture {
  #root;
  #size = { width: 0, height: 0 };
  #store = null;

  constructor(root) {
    this.#root = root;
    this.edges = svg("g");
    this.nodes = svg("g");
    this.ring = svg("circle", { class: "host-ring", r: HOST_RADIUS + 7, pathLength: 4 });
    this.hostName = svg("text", { class: "name", "text-anchor": "middle", y: -5 });
    this.hostState = svg("text", { class: "quiet", "text-anchor": "middle", y: 12 });
    this.hostPhase = svg("text", { class: "quiet", "text-anchor": "middle", y: 27 });
    const circle = svg("circle", { class: "host-card", r: HOST_RADIUS });
    this.host = svg("g", {}, circle, this.ring, this.hostName, this.hostState, this.hostPhase);
    this.title = svg("title", { id: "picture-words" });
    const parts = [this.title, this.edges, this.host, this.nodes];
    this.svg = svg("svg", { role: "img", "aria-labelledby": "picture-words" }, ...parts);
    this.edgeViews = new KeyedViews(this.edges, () => new Edge());
    this.nodeViews = new KeyedViews(this.nodes, () => new Node());
    root.replaceChildren(this.svg);
    new ResizeObserver(([entry]) => {
      this.#size = { width: entry.contentRect.width, height: entry.contentRect.height };
      if (this.#store) {
        this.render(this.#store);
      }
    }).observe(root);
  }

  render(store) {
    this.#store = store;
    const { width, height } = this.#size;
    if (width === 0 || !store.multilink) {
      return;
    }
    const isNarrow = width < NARROW;
    const items = itemsOf(store, isNarrow ? SHOWN.narrow : SHOWN.wide);
    const layout = { ...layOut(items, width, height, isNarrow), isLive: store.connection === "live" };
    const handoff = store.runningHandoff();
    const paths = pathsOfHandoff(handoff, store.shownLinks);
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
    this.edgeViews.render(items, (item) => item.key, paths, layout);
    this.nodeViews.render(items, (item) => item.key, paths, layout);
    this.#renderHost(store.multilink, handoff, layout);
    setText(this.title, wordsOf(store.multilink, items, handoff));
  }

  #renderHost(multilink, handoff, layout) {
    setAttribute(this.host, "transform", `translate(${layout.host.x} ${layout.host.y})`);
    setAttribute(this.host, "data-host", multilink.host.state);
    setText(this.hostName, clipped(multilink.name, 11));
    setText(this.hostState, multilink.host.state === "attached" ? "host" : "no host");
    setText(this.hostPhase, handoff ? words(handoff.state) : "");
    const done = handoff ? PHASES.indexOf(handoff.state) + 1 : 0;
    setAttribute(this.ring, "visibility", done ? "visible" : "hidden");
    setAttribute(this.ring, "transform", "rotate(-90)");
    setAttribute(this.ring, "stroke-dasharray", `${done} 4`);
  }
}

function itemsOf(store, limit) {
  const links = store.shownLinks;
  const item = (link) => {
    const rate = store.rates.get(link.id);
    const moved = rate ? rate.rx_bytes + rate.tx_bytes : 0;
    const state = stateOf(link);
    const quiet = state === "up" ? "idle" : state;
    return { key: link.id, name: link.name, state, rate, moved, words: moved ? bitRate(moved) : quiet };
  };
  if (links.length <= limit) {
    return links.map(item);
  }
  // The busiest, in the order in which they came; the rest as one.
  const all = links.map(item);
  const busiest = new Set([...all].sort((a, b) => b.moved - a.moved).slice(0, limit - 1).map((each) => each.key));
  const rest = all.length - busiest.size;
  const more = { key: "more", name: `${rest} more`, state: "more", rate: undefined, moved: 0, words: "in the table" };
  return [...all.filter((each) => busiest.has(each.key)), more];
}

function layOut(items, width, height, isNarrow) {
  const card = isNarrow ? NARROW_CARD : CARD;
  const host = { x: width / 2, y: height / 2 };
  const reach = { x: Math.min(width / 2 - card.width / 2 - 6, 400), y: height / 2 - card.height / 2 - 14 };
  // Two links stand left and right where there is room, else above and below.
  const start = isNarrow ? -Math.PI / 2 : Math.PI;
  // Few links spread out along the longer side; many stand on a plain ellipse, where no two cards overlap.
  const spread = items.length <= 6 ? 0.6 : 1;
  const stretch = (value, power) => Math.sign(value) * Math.abs(value) ** power;
  const places = new Map();
  items.forEach((item, at) => {
    const angle = start + (2 * Math.PI * at) / items.length;
    const across = stretch(Math.cos(angle), isNarrow ? 1 : spread);
    const along = stretch(Math.sin(angle), isNarrow ? spread : 1);
    places.set(item.key, { x: host.x + reach.x * across, y: host.y + reach.y * along });
  });
  return { host, places, card, isNarrow };
}

function wordsOf(multilink, items, handoff) {
  const links = items.map((item) => `${item.name} ${item.state}, ${item.words}`).join("; ");
  const moving = handoff ? ` A hand-off is ${words(handoff.state)}.` : "";
  const host = multilink.host.state === "attached" ? "has its host" : "has no host";
  return `${multilink.name} ${host} and ${plural(items.length, "link")}. ${links}.${moving}`;
}
