// The charts of a multilink's links: all of one scale, so that they can be compared.

import { Chart, niceScale } from "./chart.js";
import { KeyedViews, el, setText } from "./dom.js";

const SHOWN = 24;

export class Throughput {
  constructor(root) {
    this.views = new KeyedViews(root, (link) => new Chart(link));
    this.note = el("p", { class: "empty" });
    root.after(this.note);
  }

  render(store) {
    const links = store.shownLinks;
    const shown = links.slice(0, SHOWN);
    let most = 0;
    for (const link of shown) {
      for (const sample of store.history.get(link.id) ?? []) {
        most = Math.max(most, sample.rx_bytes, sample.tx_bytes);
      }
    }
    this.views.render(shown, (link) => link.id, store, niceScale(most));
    const rest = links.length - shown.length;
    const words = links.length === 0 ? "A link's throughput shows here as soon as there is a link." : "";
    setText(this.note, rest > 0 ? `${rest} more links are in the table.` : words);
    this.note.hidden = this.note.textContent === "";
  }
}
