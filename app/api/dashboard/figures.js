// What matters most of a multilink, as six figures of a fixed size.

import { el, setAttribute, setText } from "./dom.js";
import { bitRate, count, duplicatesOf, frameRate, lostOf, plural, sum } from "./format.js";
import { stateOf } from "./link-state.js";

const NAMES = ["Host", "Links", "To the host", "From the host", "Duplicates dropped", "Frames lost"];

export class Figures {
  constructor(root) {
    this.tiles = NAMES.map((name) => ({ name: el("dt", {}, name), value: el("dd"), note: el("dd", { class: "note" }) }));
    for (const { name, value, note } of this.tiles) {
      root.append(el("div", {}, name, value, note));
      setText(value, "…");
    }
  }

  render(store) {
    if (!store.multilink) {
      return;
    }
    figuresOf(store).forEach(([value, note, tone], at) => {
      setText(this.tiles[at].value, value);
      setText(this.tiles[at].note, note);
      setAttribute(this.tiles[at].value, "data-tone", tone);
      setAttribute(this.tiles[at].note, "title", note);
    });
  }
}

function figuresOf(store) {
  const { host, path, duplicates } = store.multilink;
  const links = store.shownLinks;
  const rates = links.map((link) => store.rates.get(link.id)).filter(Boolean);
  const carrying = links.filter((link) => stateOf(link) === "up").length;
  const standby = links.filter((link) => stateOf(link) === "standby").length;
  const toHost = { bytes: sum(rates.map((rate) => rate.rx_bytes)), frames: sum(rates.map((rate) => rate.rx_frames)) };
  // Every active link carries all that the host sends: the busiest shows how much that is.
  const fromHost = rates.reduce((most, rate) => (rate.tx_bytes > most.tx_bytes ? rate : most), { tx_bytes: 0, tx_frames: 0 });
  const copies = sum(links.map(duplicatesOf));
  const lost = sum([...links, { rx: host.rx, tx: host.tx }].map((each) => lostOf(each.rx) + lostOf(each.tx)));
  const isHere = host.state === "attached";
  const who = host.url ?? (host.peer ? `pid ${host.peer.pid}` : `vde://${path}[host]`);
  return [
    [isHere ? "Attached" : "Detached", who, isHere ? "good" : "warn"],
    [count(links.length), `${count(carrying)} active, ${count(standby)} standby`, links.length > 0 && carrying === 0 ? "bad" : null],
    [bitRate(toHost.bytes), frameRate(toHost.frames)],
    [bitRate(fromHost.tx_bytes), frameRate(fromHost.tx_frames)],
    [count(copies), duplicates === "drop" ? "second copies" : "they are passed on"],
    [count(lost), lost === 0 ? "none at all" : `host and ${plural(links.length, "link")}`, lost > 0 ? "warn" : "good"],
  ];
}
