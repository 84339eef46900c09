// The hand-off under way, below the picture; and those that are over, each with its report.

import { KeyedViews, el, setAttribute, setText } from "./dom.js";
import { clock, count, plural, seconds, words } from "./format.js";
import { fromWords, lengthOf, toWords, watchHandoff } from "./handoff-progress.js";
import { FINAL_STATES } from "./store.js";

const SHOWN = 20;

class PastHandoff {
  constructor(store, { id }) {
    this.title = el("b");
    this.state = el("span", { class: "pill" });
    this.aside = el("span", { class: "aside" });
    this.open = el("button", { type: "button", class: "small", onclick: () => watchHandoff(store, id) });
    this.element = el("li", { class: "past-handoff" }, this.title, this.open, this.aside, this.state);
  }

  update(handoff, store) {
    const isOver = FINAL_STATES.has(handoff.state);
    const started = handoff.phases.length > 0 ? clock(Date.parse(handoff.phases[0].started)) : "";
    const { to_host: toHost } = handoff.report;
    const told = handoff.reason || `${count(toHost.frames)} frames, ${plural(toHost.duplicates, "duplicate")} dropped`;
    setText(this.title, `${fromWords(handoff)} → ${toWords(handoff)}`);
    setText(this.state, words(handoff.state));
    setAttribute(this.state, "data-state", isOver ? handoff.state : "running");
    setText(this.aside, `${started}, ${seconds(lengthOf(handoff, store.now() * 1000))} – ${told}`);
    setText(this.open, isOver ? "Report" : "Watch");
    setAttribute(this.open, "aria-label", `${isOver ? "Report of" : "Watch"} the hand-off to ${toWords(handoff)}, ${started}`);
  }
}

export class HandoffList {
  constructor(root, strip, store) {
    const list = el("ol");
    this.empty = el("p", { class: "empty" }, "None yet. A hand-off moves the host from one path to another, without losing a frame.");
    root.replaceChildren(list, this.empty);
    this.views = new KeyedViews(list, (handoff) => new PastHandoff(store, handoff));
    this.strip = strip;
    this.words = el("span");
    this.watch = el("button", { type: "button", class: "small" }, "Watch");
    this.watch.addEventListener("click", () => watchHandoff(store, store.runningHandoff().id));
    strip.replaceChildren(this.words, this.watch);
  }

  render(store) {
    const own = [...store.handoffs.values()].filter((handoff) => handoff.multilink === store.selected);
    this.views.render(own.reverse().slice(0, SHOWN), (handoff) => handoff.id, store);
    this.empty.hidden = own.length > 0;
    const running = store.runningHandoff();
    const told = running
      ? `A hand-off from ${fromWords(running)} to ${toWords(running)} is ${words(running.state)}.`
      : "No hand-off is under way.";
    setText(this.words, told);
    this.watch.hidden = running === null;
  }
}
