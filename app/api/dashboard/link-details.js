// What else the API knows of a link: below its row, when asked for.

import { el, setText } from "./dom.js";
import { bytes, count, dayAndClock, reasons, seconds } from "./format.js";

const LINES = [
  ["Id", (link) => link.id],
  ["Locator", (link) => link.url ?? "none: it came by itself"],
  ["Says of itself", (link) => link.description || "nothing"],
  ["Peer", (link) => (link.peer ? `process ${link.peer.pid}, user ${link.peer.uid}, group ${link.peer.gid}` : "unknown")],
  ["Role", (link) => link.role],
  ["State", (link) => (link.detail ? `${link.state}: ${link.detail}` : link.state)],
  ["Since", (link) => dayAndClock(Date.parse(link.since))],
  ["When it goes down", (link) => (link.kind === "attached" ? "it is gone" : link.reconnect ? "dialled again" : "stays down")],
  ["To the host", (link) => directionWords(link.rx)],
  ["From the host", (link) => directionWords(link.tx)],
  ["Not handed on, to the host", (link) => reasons(link.rx)],
  ["Not handed on, from the host", (link) => reasons(link.tx)],
  ["Reflections", (link) => count(link.reflections)],
  ["Health", (link) => link.health ?? "not watched"],
  ["Watch", (link) => watchWords(link.monitor)],
];

export class LinkDetails {
  constructor(columns) {
    this.values = LINES.map(() => el("dd"));
    const pairs = LINES.map(([title], at) => el("div", {}, el("dt", {}, title), this.values[at]));
    this.element = el("tr", { class: "details", hidden: true }, el("td", { colspan: columns }, el("dl", {}, ...pairs)));
  }

  update(link) {
    LINES.forEach(([, words], at) => setText(this.values[at], words(link)));
  }
}

const directionWords = (direction) => `${count(direction.frames)} frames, ${bytes(direction.bytes)}`;

function watchWords(monitor) {
  if (!monitor) {
    return "none";
  }
  const heard = monitor.last_heard ? `, last heard ${dayAndClock(Date.parse(monitor.last_heard))}` : ", not heard yet";
  const lost = monitor.lost === null ? "" : `, ${Math.round(monitor.lost * 100)} % lost`;
  return `${monitor.address} every ${monitor.interval_s} s, round trip ${seconds(monitor.rtt_s)}${lost}${heard}`;
}
