// Puts the page together: the store, what feeds it, and the views of it.

import { Connection } from "./connection.js";
import { byId, setText } from "./dom.js";
import { EventsLog } from "./events-log.js";
import { Feed } from "./feed.js";
import { Figures } from "./figures.js";
import { askForHandoff } from "./handoff-dialog.js";
import { HandoffList } from "./handoff-list.js";
import { progressViews } from "./handoff-progress.js";
import { addLink, retireLink } from "./link-dialogs.js";
import { LinksTable } from "./links-table.js";
import { Picture } from "./picture.js";
import { takeTokenFromAddress } from "./session.js";
import { SignIn } from "./sign-in.js";
import { Store } from "./store.js";
import { Tabs } from "./tabs.js";
import { Throughput } from "./throughput.js";

const store = new Store();
const feed = new Feed(store);

function changed(what) {
  setText(byId("announcer"), what);
  feed.refresh();
}

function begin() {
  store.update({ connection: "loading", words: "" });
  feed.start();
}

const actions = {
  changed,
  retire: (link) => retireLink(link, changed),
  handOffTo: (link) => askForHandoff(store, store.multilink, changed, link),
};

const controls = {
  render({ multilink }) {
    byId("add-link").disabled = multilink === null;
    byId("hand-off").disabled = multilink === null || store.runningHandoff() !== null;
  },
};

for (const view of [
  new Connection(byId("main")),
  new SignIn(byId("sign-in"), begin),
  new Tabs(byId("tabs"), byId("multilink"), store, () => feed.refresh()),
  new Figures(byId("figures")),
  new Picture(byId("picture")),
  new LinksTable(byId("links"), actions),
  new Throughput(byId("charts")),
  new HandoffList(byId("handoffs"), byId("handoff-strip"), store),
  new EventsLog(byId("events"), store),
  progressViews,
  controls,
]) {
  store.subscribe(view);
}

byId("add-link").addEventListener("click", () => addLink(store.multilink, changed));
byId("hand-off").addEventListener("click", () => askForHandoff(store, store.multilink, changed));
addEventListener("hashchange", () => takeTokenFromAddress() && begin());

takeTokenFromAddress();
begin();
