// Whether what is shown is how it is now: the sign at the top, and a banner while the service does not answer.

import { byId, setAttribute, setText } from "./dom.js";

const WORDS = { loading: "Connecting", live: "Live", lost: "No connection", "signed-out": "Signed out" };

export class Connection {
  #since = null;

  constructor(board) {
    this.board = board;
    this.pill = byId("connection");
    this.banner = byId("banner");
  }

  render(store) {
    const isLost = store.connection === "lost";
    setText(this.pill, WORDS[store.connection]);
    setAttribute(this.pill, "data-state", store.connection);
    this.board.hidden = store.connection === "signed-out";
    this.board.classList.toggle("stale", isLost);
    setAttribute(this.board, "aria-busy", store.connection === "loading" ? "true" : "false");
    this.#since = isLost ? (this.#since ?? new Date()) : null;
    if (isLost) {
      const when = this.#since.toLocaleTimeString("en-GB");
      setText(this.banner, `${store.words} What you see is from ${when}; trying again by itself.`);
    } else if (store.connection === "live") {
      setText(this.banner, "");
    }
    setAttribute(this.banner, "data-shown", isLost);
  }
}
