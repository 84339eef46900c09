// Asking for a hand-off. Once it has begun, the same dialog shows it.

import * as api from "./api.js";
import { el, setText } from "./dom.js";
import { choices, field, numberOf, openDialog } from "./form.js";
import { watchHandoff } from "./handoff-progress.js";
import { stateOf } from "./link-state.js";

const NEW = ""; // In place of a link's id: a path that is typed.

export function askForHandoff(store, multilink, changed, chosen = null) {
  const links = store.links.filter((link) => link.multilink === multilink.name);
  const request = new HandoffForm(multilink, links, chosen);
  const problem = el("p", { class: "problem", role: "alert" });
  const go = el("button", { type: "submit", class: "primary" }, "Hand off");
  const leave = el("button", { type: "button" }, "Cancel");
  const form = el("form", { novalidate: true }, ...request.elements, problem, el("div", { class: "buttons" }, leave, go));
  const dialog = openDialog("handoff", `Hand off ${multilink.name}`, form);
  // One key for one press of the button and all its repetitions: never two hand-offs where one was meant.
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let asked = 0;
  leave.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(problem, "");
    go.disabled = true;
    try {
      asked += 1;
      const handoff = await api.createHandoff(request.body(), `${key}-${asked}`);
      store.addHandoff(handoff);
      changed("The hand-off has begun.");
      dialog.close();
      watchHandoff(store, handoff.id);
    } catch (error) {
      setText(problem, error.message);
      problem.scrollIntoView({ block: "nearest" });
    } finally {
      go.disabled = false;
    }
  });
}

class HandoffForm {
  constructor(multilink, links, chosen) {
    this.multilink = multilink;
    const able = links.filter((link) => link.state === "up");
    const waiting = able.filter((link) => link.role === "standby");
    const preset = chosen ?? waiting[0] ?? null;
    this.target = choices(
      "To",
      [...able.map((link) => [link.id, `${link.name} (${stateOf(link)})`]), [NEW, "a new path"]],
      preset ? preset.id : NEW,
    );
    this.url = field("Locator (VNL) of the new path", { class: "code", placeholder: "vde:///tmp/vm2" }, "It is dialled first, and removed again if the hand-off does not succeed.");
    this.name = field("Name of the new link", { placeholder: "it gets one if left empty" });
    this.path = el("div", { class: "pair" }, this.url.element, this.name.element);
    this.verify = choices(
      "Verify that it carries",
      [["auto", "by itself"], ["address", "ask an address"], ["frames", "wait for frames"], ["none", "not at all"]],
      "auto",
    );
    this.address = field("Address", { placeholder: "10.0.0.2" }, "Asked over the new path only; its answer proves both directions.");
    this.frames = field("Frames", { value: "1", inputmode: "numeric" }, "So many frames from the new path are proof.");
    this.timeout = field("Give up after (seconds)", { value: "10", inputmode: "decimal" }, "It is then rolled back.");
    this.proof = el("div", { class: "pair" }, this.address.element, this.frames.element, this.timeout.element);
    this.overlap = field("Both carry for (seconds)", { value: "1", inputmode: "decimal" });
    this.drain = field("Drain the old for (seconds)", { value: "0.5", inputmode: "decimal" });
    this.old = choices("Then the old links are", [["retire", "retired"], ["standby", "kept on standby"]], "retire");
    const leaving = able.filter((link) => link.role === "active").map((link) => link.name);
    this.from = el("p", { class: "hint" }, leaving.length > 0 ? `Active now: ${leaving.join(", ")}.` : "No link is active now.");
    this.elements = [
      this.target.element, this.from, this.path, this.verify.element, this.proof,
      el("div", { class: "pair" }, this.overlap.element, this.drain.element), this.old.element,
    ]; // prettier-ignore
    for (const chooser of [this.target, this.verify]) {
      chooser.element.addEventListener("change", () => this.#show());
    }
    this.#show();
  }

  #show() {
    this.path.hidden = this.target.value() !== NEW;
    this.address.element.hidden = this.verify.value() !== "address";
    this.frames.element.hidden = this.verify.value() !== "frames";
    this.timeout.element.hidden = this.verify.value() === "none";
    this.proof.hidden = this.verify.value() === "none";
  }

  body() {
    const to =
      this.target.value() === NEW
        ? { url: this.url.input.value.trim(), ...(this.name.input.value.trim() && { name: this.name.input.value.trim() }) }
        : { link: this.target.value() };
    const proofs = {
      address: () => ({ address: this.address.input.value.trim() }),
      frames: () => ({ frames: numberOf(this.frames.input) }),
    };
    const verify = this.verify.value();
    return {
      multilink: this.multilink.name,
      to,
      verify: proofs[verify]?.() ?? verify,
      ...(verify !== "none" && { verify_timeout_s: numberOf(this.timeout.input) }),
      overlap_s: numberOf(this.overlap.input),
      drain_s: numberOf(this.drain.input),
      old: this.old.value(),
    };
  }
}
