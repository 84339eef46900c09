// A hand-off as it goes: its phases with their times, the counts as they grow, and the report at its end.

import * as api from "./api.js";
import { KeyedViews, el, setAttribute, setText } from "./dom.js";
import { count, seconds, words } from "./format.js";
import { openDialog } from "./form.js";
import { FINAL_STATES } from "./store.js";

export const PHASES = ["making", "verifying", "overlapping", "draining"];
const TITLES = { making: "Make", verifying: "Verify", overlapping: "Overlap", draining: "Drain" };
const OUTCOMES = { completed: "Completed.", rolled_back: "Rolled back.", aborted: "Aborted." };
const NOW = {
  making: "Connecting the new path. The old one carries everything, as before.",
  verifying: "Waiting for proof that the new path carries. The old one carries everything, as before.",
  overlapping: "Both paths carry; second copies are dropped.",
  draining: "The new path carries. What is still under way on the old one is taken in.",
};

export const toWords = (handoff) => handoff.to.name ?? handoff.to.url ?? "a new link";
export const fromWords = (handoff) => handoff.from.join(", ") || "nothing";

/** Seconds from its start to its end, or to `now` (milliseconds). */
export function lengthOf(handoff, now) {
  const last = handoff.phases.at(-1);
  if (!last) {
    return 0;
  }
  const start = Date.parse(handoff.phases[0].started);
  const end = last.duration_s === null ? now : Date.parse(last.started) + last.duration_s * 1000;
  return Math.max(0, end - start) / 1000;
}

const watched = new Map(); // dialog views, by hand-off

export function watchHandoff(store, id) {
  const view = new HandoffView(store.handoffs.get(id));
  watched.set(id, view);
  view.dialog.addEventListener("close", () => watched.delete(id));
  view.update(store.handoffs.get(id), store);
}

export const progressViews = {
  render(store) {
    for (const [id, view] of watched) {
      const handoff = store.handoffs.get(id);
      if (handoff) {
        view.update(handoff, store);
      }
    }
  },
};

class HandoffView {
  #said = "";

  constructor(handoff) {
    this.id = handoff.id;
    this.steps = PHASES.map((phase) => {
      const time = el("span");
      return { phase, time, element: el("li", { "data-phase": phase }, el("b", {}, TITLES[phase]), time) };
    });
    this.outcome = el("div", { class: "outcome" });
    this.spoken = el("p", { class: "unseen", "aria-live": "polite" });
    this.toHost = new DirectionTable("To the host", ["first", "later", "missed"], ["Came first", "Second copies", "Never came"]);
    this.fromHost = new DirectionTable("From the host", ["frames", "dropped"], ["Frames sent", "Not taken"]);
    this.problem = el("p", { class: "problem", role: "alert" });
    this.abort = el("button", { type: "button", class: "danger" }, "Abort and roll back");
    this.leave = el("button", { type: "button" }, "Close");
    const body = el(
      "div",
      { class: "dialog-body", tabindex: "-1", autofocus: true },
      el("p", { class: "muted" }, `From ${fromWords(handoff)} to ${toWords(handoff)}, on ${handoff.multilink}`),
      el("ol", { class: "steps", "aria-label": "Phases" }, ...this.steps.map((step) => step.element)),
      this.outcome,
      this.spoken,
      this.toHost.element,
      this.fromHost.element,
      this.problem,
      el("div", { class: "buttons" }, this.abort, this.leave),
    );
    this.dialog = openDialog("handoff", "Hand-off", body);
    this.leave.addEventListener("click", () => this.dialog.close());
    this.abort.addEventListener("click", () => this.#abort());
  }

  async #abort() {
    this.abort.disabled = true;
    setText(this.problem, "");
    try {
      this.store.addHandoff(await api.abortHandoff(this.id));
    } catch (error) {
      setText(this.problem, error.message);
      this.abort.disabled = false;
    }
  }

  update(handoff, store) {
    this.store = store;
    const isOver = FINAL_STATES.has(handoff.state);
    const now = store.now() * 1000;
    for (const { phase, time, element } of this.steps) {
      const run = handoff.phases.find((each) => each.state === phase);
      const isLast = run !== undefined && handoff.phases.at(-1) === run;
      const failed = isOver && isLast && handoff.state !== "completed";
      setAttribute(element, "data-step", failed ? "failed" : !run ? "todo" : isLast && !isOver ? "now" : "done");
      setAttribute(element, "aria-current", isLast && !isOver ? "step" : null);
      setText(time, run ? seconds(run.duration_s ?? Math.max(0, now - Date.parse(run.started)) / 1000) : "");
    }
    this.#say(handoff, isOver, now);
    this.toHost.update(handoff.report.to_host);
    this.fromHost.update(handoff.report.from_host);
    this.abort.hidden = isOver;
    setAttribute(this.leave, "class", isOver ? "primary" : null);
  }

  #say(handoff, isOver, now) {
    const outcome = isOver ? OUTCOMES[handoff.state] : NOW[handoff.state];
    const proof = handoff.verified_by ? ` Verified: ${handoff.verified_by}.` : "";
    const length = isOver ? ` It took ${seconds(lengthOf(handoff, now))}.` : "";
    const rest = `${handoff.reason ? ` ${sentence(handoff.reason)}` : ""}${proof}${length}`;
    if (this.#said !== outcome + rest) {
      this.#said = outcome + rest;
      setAttribute(this.outcome, "data-state", handoff.state);
      this.outcome.replaceChildren(el("b", {}, outcome), rest);
      setText(this.spoken, isOver ? outcome + rest : words(handoff.state));
    }
  }
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

class DirectionTable {
  constructor(title, members, heads) {
    this.members = members;
    this.caption = el("caption", {}, title);
    this.summary = el("p", { class: "hint" });
    const cells = heads.map((head) => el("th", { scope: "col" }, head));
    const body = el("tbody");
    this.rows = new KeyedViews(body, () => new PathRow(members));
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Path"), ...cells));
    const table = el("table", { class: "report" }, this.caption, head, body);
    this.element = el("div", {}, el("div", { class: "report-scroll" }, table), this.summary);
  }

  update(direction) {
    this.rows.render(Object.entries(direction.paths), ([name]) => name);
    const parts = [`${count(direction.frames)} frames`, `longest gap ${seconds(direction.longest_gap_s)}`];
    if (this.members.includes("later")) {
      parts.splice(1, 0, `${count(direction.duplicates)} duplicates dropped`);
      if (direction.skew_median_s !== null) {
        parts.push(`the other copy ${seconds(direction.skew_median_s)} later (99 %: ${seconds(direction.skew_p99_s)})`);
      }
    }
    setText(this.summary, parts.join(" · "));
  }
}

class PathRow {
  constructor(members) {
    this.members = members;
    this.name = el("th", { scope: "row" });
    this.cells = members.map(() => el("td"));
    this.element = el("tr", {}, this.name, ...this.cells);
  }

  update([name, path]) {
    setText(this.name, name);
    this.members.forEach((member, at) => setText(this.cells[at], count(path[member])));
  }
}
