// What the page knows. Views are told once a frame, however often it changes.

export const KEPT_S = 300;
const KEPT_EVENTS = 500;
export const FINAL_STATES = new Set(["completed", "rolled_back", "aborted"]);

export class Store {
  connection = "loading"; // loading, live, lost, signed-out
  words = ""; // why, where it is not live
  selected = null; // a multilink's name
  multilinks = [];
  links = [];
  handoffs = new Map();
  rates = new Map(); // link id to its sample of the last second; an idle link has none
  history = new Map(); // link id to samples, oldest first, idle seconds left out
  events = []; // newest first
  #clock = { at: Date.now() / 1000, heard: performance.now() };
  #views = [];
  #pending = false;

  subscribe(view) {
    this.#views.push(view);
  }

  update(changes) {
    Object.assign(this, changes);
    if (!this.multilinks.some((multilink) => multilink.name === this.selected)) {
      this.selected = this.multilinks[0]?.name ?? null;
    }
    this.#tell();
  }

  /** The service's clock, as far as it has been heard. Unix seconds. */
  now() {
    return this.#clock.at + (performance.now() - this.#clock.heard) / 1000;
  }

  get multilink() {
    return this.multilinks.find((multilink) => multilink.name === this.selected) ?? null;
  }

  get shownLinks() {
    return this.links.filter((link) => link.multilink === this.selected);
  }

  /** The hand-off under way on a multilink. */
  runningHandoff(name = this.selected) {
    return [...this.handoffs.values()].find((each) => each.multilink === name && !FINAL_STATES.has(each.state)) ?? null;
  }

  setLists(multilinks, links) {
    const known = new Set(links.map((link) => link.id));
    for (const id of this.history.keys()) {
      if (!known.has(id)) {
        this.history.delete(id);
        this.rates.delete(id);
      }
    }
    this.update({ multilinks, links });
  }

  addHandoff(handoff) {
    this.handoffs.set(handoff.id, handoff);
    this.#tell();
  }

  removeHandoff(id) {
    this.handoffs.delete(id);
    this.#tell();
  }

  addSamples(at, samples) {
    this.#clock = { at, heard: performance.now() };
    this.rates = new Map(Object.entries(samples));
    for (const [id, sample] of this.rates) {
      const kept = this.history.get(id) ?? [];
      kept.push({ ...sample, at });
      while (kept[0].at < at - KEPT_S) {
        kept.shift();
      }
      this.history.set(id, kept);
    }
    this.#tell();
  }

  /** What the service knows of the past, and after that what the page has seen itself. */
  addHistory(id, samples) {
    const own = this.history.get(id) ?? [];
    const last = samples.at(-1)?.at ?? -Infinity;
    this.history.set(id, [...samples, ...own.filter((sample) => sample.at > last + 0.5)]);
    this.#tell();
  }

  addEvent(event) {
    if (!this.events.some((each) => each.id === event.id)) {
      this.events = [event, ...this.events].slice(0, KEPT_EVENTS);
      this.#tell();
    }
  }

  #tell() {
    if (this.#pending) {
      return;
    }
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      for (const view of this.#views) {
        view.render(this);
      }
    });
  }
}
