// The table of links: sortable, with everything that the API knows of each, and what can be done with it.

import * as api from "./api.js";
import { KeyedViews, byId, el, setAttribute, setText } from "./dom.js";
import { age, bitRate, bytes, count, duplicatesOf, lostOf, plural, seconds } from "./format.js";
import { LinkDetails } from "./link-details.js";
import { stateOf } from "./link-state.js";

const STATES = ["down", "connecting", "draining", "degraded", "standby", "up"];
const IDLE = { rx_bytes: 0, tx_bytes: 0, rx_frames: 0, tx_frames: 0 };

/** Title, what it is sorted by, and whether it is a number (which sorts from the largest). */
const COLUMNS = [
  ["Name", (link) => link.name],
  ["State", (link) => STATES.indexOf(stateOf(link))],
  ["Kind", (link) => link.kind],
  ["Since", (link) => Date.parse(link.since)],
  ["Round trip", (link) => link.monitor?.rtt_s ?? -1, true],
  ["To host", (link, rates) => rates.get(link.id)?.rx_bytes ?? link.rx.bytes / 1e15, true],
  ["From host", (link, rates) => rates.get(link.id)?.tx_bytes ?? link.tx.bytes / 1e15, true],
  ["Dropped", (link) => lostOf(link.rx) + lostOf(link.tx), true],
];

const cell = (label, isNumber) => el("td", { "data-label": label, class: isNumber ? "number" : null });

class LinkRow {
  #link = null;

  constructor(table) {
    this.table = table;
    this.cells = COLUMNS.map(([title, , isNumber]) => cell(title, isNumber));
    this.main = this.cells.map(() => el("strong"));
    this.notes = this.cells.map(() => el("small"));
    this.cells.forEach((each, at) => each.append(this.main[at], this.notes[at]));
    this.cells[0].className = "wide first";
    this.notes[0].className = "clip";
    this.cells[1].className = "state";
    this.pill = el("span", { class: "pill" });
    this.main[1].replaceWith(this.pill);
    this.more = el("button", { type: "button", class: "small more", "aria-expanded": "false" }, "Details");
    this.role = el("button", { type: "button", class: "small" });
    this.move = el("button", { type: "button", class: "small" }, "Hand off");
    this.retire = el("button", { type: "button", class: "small danger" }, "Retire");
    this.problem = el("p", { class: "problem", role: "alert" });
    this.more.replaceChildren(el("span", { class: "chevron", "aria-hidden": "true" }), el("span", { class: "on-phone" }, "Details"));
    const buttons = el("div", { class: "row-actions" }, this.more, this.role, this.move, this.retire);
    this.row = el("tr", { class: "link" }, ...this.cells, el("td", { class: "wide" }, buttons, this.problem));
    this.details = new LinkDetails(COLUMNS.length + 1);
    this.element = el("tbody", {}, this.row, this.details.element);
    this.more.addEventListener("click", () => this.#toggle());
    this.role.addEventListener("click", () => this.#changeRole());
    this.move.addEventListener("click", () => this.table.handOffTo(this.#link));
    this.retire.addEventListener("click", () => this.table.retire(this.#link));
  }

  #toggle() {
    const isOpen = this.more.getAttribute("aria-expanded") === "true";
    setAttribute(this.more, "aria-expanded", String(!isOpen));
    this.details.element.hidden = isOpen;
    this.details.update(this.#link);
  }

  async #changeRole() {
    const role = this.#link.role === "active" ? "standby" : "active";
    if (this.isBusy) {
      return;
    }
    this.isBusy = true; // Not `disabled`, which would take the focus away.
    setText(this.problem, "");
    try {
      await api.updateLink(this.#link.id, { role });
      this.table.changed(`${this.#link.name} is ${role} now.`);
    } catch (error) {
      setText(this.problem, error.message);
    } finally {
      this.isBusy = false;
    }
  }

  update(link, store) {
    this.#link = link;
    const rate = store.rates.get(link.id) ?? IDLE;
    const state = stateOf(link);
    const lost = lostOf(link.rx) + lostOf(link.tx);
    setAttribute(this.row, "data-muted", state === "standby" || state === "down");
    setAttribute(this.row, "data-link", link.name);
    setText(this.pill, state);
    setAttribute(this.pill, "data-state", state);
    const contents = [
      [link.name, link.url ?? link.description],
      [null, link.detail],
      [link.kind, link.peer ? `pid ${link.peer.pid}` : ""],
      [age(store.now() * 1000 - Date.parse(link.since)), link.reconnect && link.kind === "dialled" ? "redials" : ""],
      [link.monitor ? seconds(link.monitor.rtt_s) : "–", monitored(link.monitor)],
      [bitRate(rate.rx_bytes), totals(link.rx)],
      [bitRate(rate.tx_bytes), totals(link.tx)],
      [`${count(lost)} lost`, plural(duplicatesOf(link), "copy", "copies")],
    ];
    contents.forEach(([main, note], at) => {
      setText(this.main[at], main ?? "");
      setText(this.notes[at], note);
    });
    setAttribute(this.notes[0], "title", contents[0][1]);
    setAttribute(this.main[7], "class", lost > 0 ? "alert" : null);
    setText(this.role, link.role === "active" ? "Standby" : "Activate");
    for (const [button, words] of [
      [this.more, "Details of"],
      [this.role, link.role === "active" ? "Set on standby:" : "Make active:"],
      [this.move, "Hand off to"],
      [this.retire, "Retire"],
    ]) {
      setAttribute(button, "aria-label", `${words} ${link.name}`);
    }
    this.move.disabled = link.state !== "up" || store.runningHandoff() !== null;
    if (!this.details.element.hidden) {
      this.details.update(link);
    }
  }
}

const totals = (direction) => `${count(direction.frames)} fr, ${bytes(direction.bytes)}`;

function monitored(monitor) {
  if (!monitor) {
    return "";
  }
  return monitor.lost === null ? "not heard yet" : `${Math.round(monitor.lost * 100)} % lost`;
}

export class LinksTable {
  #sortedBy = null; // a column's number; null: as they came
  #isDescending = false;
  #store = null;

  /** `actions`: retire(link), handOffTo(link), changed(words). */
  constructor(root, actions) {
    Object.assign(this, actions);
    this.heads = COLUMNS.map(([title, , isNumber], at) => {
      const button = el("button", { type: "button", onclick: () => this.#sort(at) }, title);
      return el("th", { scope: "col", class: isNumber ? "number" : null, "aria-sort": "none" }, button);
    });
    const last = el("th", { scope: "col" }, el("span", { class: "unseen" }, "What can be done"));
    this.table = el("table", { "aria-labelledby": "links-title" }, el("thead", {}, el("tr", {}, ...this.heads, last)));
    this.views = new KeyedViews(new BodiesOf(this.table), () => new LinkRow(this));
    this.empty = el("p", { class: "empty" });
    root.replaceChildren(this.table, this.empty);
  }

  #sort(at) {
    const isNumber = COLUMNS[at][2] === true;
    this.#isDescending = this.#sortedBy === at ? !this.#isDescending : isNumber;
    this.#sortedBy = at;
    this.heads.forEach((head, each) => {
      setAttribute(head, "aria-sort", each !== at ? "none" : this.#isDescending ? "descending" : "ascending");
    });
    this.render(this.#store);
  }

  render(store) {
    this.#store = store;
    const links = [...store.shownLinks];
    if (this.#sortedBy !== null) {
      const by = COLUMNS[this.#sortedBy][1];
      const sign = this.#isDescending ? -1 : 1;
      const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      links.sort((a, b) => sign * compare(by(a, store.rates), by(b, store.rates)) || (a.id < b.id ? -1 : 1));
    }
    const hadFocus = this.table.contains(document.activeElement);
    this.views.render(links, (link) => link.id, store);
    if (hadFocus && !this.table.contains(document.activeElement)) {
      byId("add-link").focus(); // The row went, and its button with it.
    }
    this.table.hidden = links.length === 0;
    this.empty.hidden = links.length > 0;
    setText(this.empty, emptyWords(store));
  }
}

function emptyWords(store) {
  if (store.connection === "loading") {
    return "…";
  }
  if (!store.multilink) {
    return "There is no multilink. Make one: vde-multilink serve multi:///tmp/vm1, or POST /multilinks.";
  }
  return `There is no link yet. Clients join with: vde_plug ${store.multilink.path} – or add one here.`;
}

/** A table's bodies as a list of their own, after its head. */
class BodiesOf {
  constructor(table) {
    this.table = table;
  }

  get firstElementChild() {
    return this.table.tBodies[0] ?? null;
  }

  insertBefore(body, next) {
    this.table.insertBefore(body, next);
  }
}
