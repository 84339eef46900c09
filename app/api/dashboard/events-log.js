// What has happened, newest first, in words.

import { KeyedViews, byId, el, setText } from "./dom.js";
import { clock, words } from "./format.js";

const SHOWN = 200;

/** Who or what, what has become of it, why, and how good that is. */
const SAYINGS = {
  link_added: (e) => [e.name, e.kind === "attached" ? "came" : "is added", e.url ?? e.detail, ""],
  link_up: (e) => [e.name, "is up", e.detail, "good"],
  link_down: (e) => [e.name, "is down", e.detail, "bad"],
  link_degraded: (e) => [e.name, "is degraded", e.detail, "warn"],
  link_recovered: (e) => [e.name, "has recovered", e.detail, "good"],
  link_draining: (e) => [e.name, "is draining", e.detail, "warn"],
  link_changed: (e) => [e.name, `is ${e.state === "up" ? e.role : e.state}`, e.detail, ""],
  link_retired: (e) => [e.name, "is retired", e.detail, ""],
  host_attached: (e) => [`Host of ${e.multilink}`, "is attached", e.detail, "good"],
  host_detached: (e) => [`Host of ${e.multilink}`, "is detached", e.detail, "warn"],
  multilink_added: (e) => [e.multilink, "is served", e.path, ""],
  multilink_removed: (e) => [e.multilink, "is removed", e.path, ""],
  handoff: (e) => [handoffWords(e), `is ${words(e.state)}`, e.reason || e.verified_by, TONES[e.state] ?? "new"],
  missed: () => ["Some events", "were missed", "the list below has a gap here", "warn"],
};

const TONES = { completed: "good", rolled_back: "bad", aborted: "warn" };
const handoffWords = (e) => (e.to ? `Hand-off to ${e.to}` : "Hand-off");

class EventLine {
  constructor({ kind, data, at }) {
    const saying = SAYINGS[kind] ?? (() => [words(kind), "", "", ""]);
    const [who, what, why, tone] = saying(data);
    const time = el("time", { datetime: new Date(at).toISOString() }, clock(at));
    const line = el("p", {}, who, " ", el("b", {}, what), why ? el("span", { class: "aside" }, ` – ${why}`) : null);
    this.element = el("li", { class: "event", "data-tone": tone || null, "data-kind": kind }, time, line);
  }

  update() {
    // What has happened does not change.
  }
}

export class EventsLog {
  constructor(root, store) {
    const list = el("ol");
    this.empty = el("p", { class: "empty" });
    root.replaceChildren(list, this.empty);
    this.views = new KeyedViews(list, (event) => new EventLine(event));
    this.all = byId("all-events");
    this.all.addEventListener("change", () => this.render(store));
  }

  render(store) {
    const concerns = ({ kind, data }) => this.all.checked || kind === "missed" || data.multilink === store.selected;
    const shown = store.events.filter(concerns).slice(0, SHOWN);
    this.views.render(shown, (event) => event.id);
    this.empty.hidden = shown.length > 0;
    setText(this.empty, store.connection === "loading" ? "…" : "Nothing has happened yet.");
  }
}
