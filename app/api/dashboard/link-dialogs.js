// Adding a link, and retiring one.

import * as api from "./api.js";
import { el } from "./dom.js";
import { askInDialog, checkbox, field, numberOf } from "./form.js";

export function addLink(multilink, changed) {
  const url = field("Locator (VNL)", { class: "code", placeholder: "vde:///tmp/vm2", required: true }, "A path, vde:///tmp/vm2[5], or cmd://ssh ip2 vde_plug /tmp/vm2 where the service allows it.");
  const name = field("Name", { placeholder: "it gets one if left empty" });
  const address = field("Watch an address behind it", { placeholder: "10.0.0.2", inputmode: "text" }, "Asked every second: shows round-trip time and loss.");
  const standby = checkbox("On standby: it is heard, but not sent to", false);
  const reconnect = checkbox("Dial it again when it goes down", true);
  askInDialog({
    title: `Add a link to ${multilink.name}`,
    contents: [url.element, el("div", { class: "pair" }, name.element, address.element), standby.element, reconnect.element],
    submitLabel: "Add",
    submit: async () => {
      const link = await api.createLink({
        url: url.input.value.trim(),
        multilink: multilink.name,
        reconnect: reconnect.input.checked,
        role: standby.input.checked ? "standby" : "active",
        ...(name.input.value.trim() && { name: name.input.value.trim() }),
        ...(address.input.value.trim() && { monitor: { address: address.input.value.trim() } }),
      });
      changed(`${link.name} is ${link.state}.`);
    },
  });
}

export function retireLink(link, changed) {
  const drain = field("Drain for (seconds)", { value: "0.5", inputmode: "decimal" }, "No new frames go to it; what is queued goes out, what is under way comes in.");
  const then = link.kind === "attached" ? "Its client is told to leave." : "It will not be dialled again.";
  askInDialog({
    title: `Retire ${link.name}?`,
    contents: [el("p", {}, `The link is drained and closed. ${then} This cannot be undone.`), drain.element],
    submitLabel: "Retire",
    isDanger: true,
    submit: async () => {
      await api.retireLink(link.id, encodeURIComponent(numberOf(drain.input)));
      changed(`${link.name} is retired.`);
    },
  });
}
