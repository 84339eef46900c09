// Dialogs with a form: made anew each time, gone when closed; a refusal's words stand next to what was asked.

import { el, setText } from "./dom.js";

let made = 0;

export function field(label, attributes, hint) {
  made += 1;
  const id = `field-${made}`;
  const input = el("input", { id, autocomplete: "off", spellcheck: "false", ...attributes });
  const small = hint ? el("span", { class: "hint", id: `${id}-hint` }, hint) : null;
  if (small) {
    input.setAttribute("aria-describedby", small.id);
  }
  return { input, element: el("div", { class: "field" }, el("label", { for: id }, label), input, small) };
}

export function checkbox(label, isChecked) {
  const input = el("input", { type: "checkbox", checked: isChecked });
  return { input, element: el("label", { class: "check" }, input, label) };
}

/** Radio buttons; `input()` is the one that is chosen. */
export function choices(title, options, chosen) {
  made += 1;
  const name = `choice-${made}`;
  const inputs = options.map(([value]) => el("input", { type: "radio", name, value, checked: value === chosen }));
  const labels = options.map(([, words], at) => el("label", {}, inputs[at], words));
  const element = el("fieldset", {}, el("legend", {}, title), el("div", { class: "choices" }, ...labels));
  return { element, value: () => inputs.find((input) => input.checked)?.value };
}

export function openDialog(className, title, ...contents) {
  made += 1;
  const heading = el("h2", { id: `dialog-${made}` }, title);
  const dialog = el("dialog", { class: className, "aria-labelledby": heading.id }, ...contents);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.firstElementChild.prepend(heading);
  dialog.showModal();
  return dialog;
}

/** A dialog that asks, and closes once `submit()` has succeeded. */
export function askInDialog({ title, contents, submitLabel, isDanger = false, submit }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const go = el("button", { type: "submit", class: isDanger ? "danger" : "primary" }, submitLabel);
  const leave = el("button", { type: "button" }, "Cancel");
  const buttons = el("div", { class: "buttons" }, leave, go);
  const form = el("form", { novalidate: true }, ...contents, problem, buttons);
  const dialog = openDialog("slim", title, form);
  leave.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(problem, "");
    go.disabled = true;
    try {
      await submit();
      dialog.close();
    } catch (error) {
      setText(problem, error.message);
      problem.scrollIntoView({ block: "nearest" });
    } finally {
      go.disabled = false;
    }
  });
  return dialog;
}

/** A number as typed; what is none goes out as it is, and the service says what is wrong with it. */
export function numberOf(input) {
  const text = input.value.trim().replace(",", ".");
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : input.value;
}
