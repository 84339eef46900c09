// Keeps the store in step with the service: lists now and then, events and rates as they come; and again after a loss.

import * as api from "./api.js";
import { readEvents } from "./event-stream.js";
import { moment } from "./format.js";
import { FINAL_STATES } from "./store.js";

const REFRESH_MS = 2000;
const HANDOFF_MS = 300;
const AFTER_EVENT_MS = 60; // A burst of events is one refresh.
const RETRY_MS = [500, 1000, 2000, 3000];
const HISTORIES = 24; // Of so many links the past is fetched; of others it begins with the page.
// No run of the service has this name: everything that it still knows is told, after a `missed` of no interest.
const FROM_THE_START = "page-0";

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal.addEventListener("abort", stop);
  });

export class Feed {
  #store;
  #lastId = FROM_THE_START;
  #stop = new AbortController();
  #isWoken = false;
  #wakeUp = () => {};
  #past = new Set(); // links whose history has been asked for

  constructor(store) {
    this.#store = store;
  }

  /** Begin, or begin anew: with another token, say. */
  start() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  /** Something was changed from this page: look at once. */
  refresh() {
    this.#wake();
  }

  #wake() {
    this.#isWoken = true;
    this.#wakeUp();
  }

  async #run(signal) {
    let failures = 0;
    while (!signal.aborted) {
      const session = new AbortController();
      const either = AbortSignal.any([signal, session.signal]);
      try {
        await this.#loadAll(either);
        failures = 0;
        this.#store.update({ connection: "live", words: "" });
        await Promise.all([this.#follow(either), this.#keepFresh(either)]);
      } catch (error) {
        session.abort();
        if (signal.aborted) {
          return;
        }
        if (error instanceof api.SignedOutError) {
          this.#store.update({ connection: "signed-out", words: error.message });
          return;
        }
        this.#store.update({ connection: "lost", words: error.message });
        await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)], signal).catch(() => {});
        failures += 1;
      }
    }
  }

  async #loadAll(signal) {
    this.#past.clear(); // There may be a gap in what the page has seen itself.
    const handoffs = api.listHandoffs({ signal });
    const [, past] = await Promise.all([this.#refreshLists(signal), handoffs]);
    this.#store.update({ handoffs: new Map(past.map((handoff) => [handoff.id, handoff])) });
  }

  async #refreshLists(signal) {
    const [multilinks, links] = await Promise.all([api.listMultilinks({ signal }), api.listLinks({ signal })]);
    this.#store.setLists(multilinks, links);
    this.#fetchPast(signal);
  }

  async #keepFresh(signal) {
    for (;;) {
      const started = performance.now();
      this.#isWoken = false;
      const running = this.#runningIds();
      await Promise.all([this.#refreshLists(signal), ...running.map((id) => this.#fetchHandoff(id, signal))]);
      // A service with very many links is asked more rarely, and one that nobody looks at too.
      const spent = performance.now() - started;
      const due = this.#runningIds().length > 0 ? HANDOFF_MS : Math.max(REFRESH_MS, spent * 10);
      await this.#idle(document.hidden ? Math.max(due, 10_000) : due, signal);
    }
  }

  async #idle(ms, signal) {
    const woken = new Promise((resolve) => {
      this.#wakeUp = resolve;
    });
    if (!this.#isWoken) {
      await Promise.race([pause(ms, signal), woken]);
    }
    await pause(AFTER_EVENT_MS, signal);
  }

  #runningIds() {
    const unfinished = [...this.#store.handoffs.values()].filter((each) => !FINAL_STATES.has(each.state));
    const named = this.#store.multilinks.map((multilink) => multilink.handoff);
    return [...new Set([...unfinished.map((each) => each.id), ...named.filter((id) => id !== null)])];
  }

  async #fetchHandoff(id, signal) {
    try {
      this.#store.addHandoff(await api.getHandoff(id, { signal }));
    } catch (error) {
      if (error.status !== 404) {
        throw error;
      }
      this.#store.removeHandoff(id); // The service has started anew, and knows it no longer.
    }
  }

  #fetchPast(signal) {
    for (const link of this.#store.shownLinks.slice(0, HISTORIES)) {
      if (!this.#past.has(link.id)) {
        this.#past.add(link.id);
        api.getHistory(link.id, { signal }).then(
          ({ samples }) => this.#store.addHistory(link.id, samples.map((s) => ({ ...s, at: moment(s.at) / 1000 }))),
          () => this.#past.delete(link.id), // It has gone meanwhile, or the service has: whoever asks next tells.
        );
      }
    }
  }

  async #follow(signal) {
    for (;;) {
      for await (const event of readEvents("/events", this.#lastId, signal)) {
        this.#take(event, signal);
      }
      await pause(RETRY_MS[0], signal); // It ended the stream: it stops, or this page has fallen behind.
    }
  }

  #take({ id, kind, data }, signal) {
    const isFirst = this.#lastId === FROM_THE_START;
    this.#lastId = id;
    if (kind === "stats") {
      this.#store.addSamples(moment(data.at) / 1000, data.links);
      return;
    }
    if (kind !== "missed" || !isFirst) {
      this.#store.addEvent({ id, kind, data, at: moment(data.at) });
    }
    if (kind === "handoff" && this.#store.handoffs.get(data.handoff)?.state !== data.state) {
      this.#fetchHandoff(data.handoff, signal).catch(() => {}); // keepFresh meets the same trouble, and tells.
    }
    this.#wake();
  }
}
