// The form for the token, with the words of the service that refused the last one.

import { byId, setText } from "./dom.js";
import { keepToken, token } from "./session.js";

export class SignIn {
  #isShown = false;

  constructor(root, begin) {
    this.root = root;
    this.input = byId("token");
    this.words = byId("sign-in-words");
    root.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.input.value.trim() === "") {
        this.input.focus();
        return;
      }
      keepToken(this.input.value);
      this.input.value = "";
      begin();
    });
  }

  render(store) {
    const wanted = store.connection === "signed-out";
    if (wanted) {
      setText(this.words, store.words);
      // Nobody has tried a token yet: that there is none is no failure worth red words.
      this.words.className = token() === "" ? "muted" : "problem";
    }
    if (wanted !== this.#isShown) {
      this.#isShown = wanted;
      this.root.hidden = !wanted;
      if (wanted) {
        this.input.focus();
      }
    }
  }
}
