// The service's multilinks, one of which is shown.

import { KeyedViews, byId, el, setAttribute, setText } from "./dom.js";

export class Tabs {
  constructor(root, panel, store, selected) {
    this.panel = panel;
    this.store = store;
    this.selected = selected;
    this.views = new KeyedViews(root, (multilink) => this.#makeTab(multilink));
    root.addEventListener("keydown", (event) => this.#move(event));
  }

  #makeTab({ name }) {
    const button = el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "multilink" }, name);
    button.addEventListener("click", () => this.#select(name));
    const update = (multilink) => {
      const isSelected = multilink.name === this.store.selected;
      setAttribute(button, "aria-selected", String(isSelected));
      setAttribute(button, "tabindex", isSelected ? "0" : "-1");
      setText(button, multilink.handoff ? `${name} ⇄` : name);
    };
    return { element: button, update };
  }

  #select(name) {
    this.store.update({ selected: name });
    this.selected();
  }

  #move(event) {
    const names = this.store.multilinks.map((multilink) => multilink.name);
    const at = names.indexOf(this.store.selected);
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: names.length - 1 };
    if (event.key in moves) {
      event.preventDefault();
      const name = names[(moves[event.key] + names.length) % names.length];
      this.#select(name);
      byId(`tab-${name}`).focus();
    }
  }

  render(store) {
    this.views.render(store.multilinks, (multilink) => multilink.name);
    setAttribute(this.panel, "aria-labelledby", store.selected === null ? "links-title" : `tab-${store.selected}`);
  }
}
