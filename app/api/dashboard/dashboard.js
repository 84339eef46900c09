"use strict";

// Shows the multilinks and the links, asked for anew every two seconds. Everything that came from the service is put
// into the page as text, never as markup: names and descriptions are the clients' own words.

const TOKEN_KEY = "vde-multilink-token";
const REFRESH_MS = 2000;

const statusLine = document.getElementById("status");
const tokenForm = document.getElementById("token-form");
const tokenInput = document.getElementById("token");
const tables = document.getElementById("tables");

let timer = null;

class TokenError extends Error {}

function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) {
    return;
  }
  sessionStorage.setItem(TOKEN_KEY, token);
  // Neither the address bar nor the history is to keep it.
  history.replaceState(null, "", location.pathname);
}

async function fetchJson(path) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (!token) {
    throw new TokenError("This service needs its token.");
  }
  const response = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  const body = await response.json();
  if (response.status === 401) {
    throw new TokenError(body.detail);
  }
  if (!response.ok) {
    throw new Error(body.detail);
  }
  return body;
}

function makeCell(text, { number = false, attention = false, detail = "" } = {}) {
  const cell = document.createElement("td");
  cell.textContent = text;
  cell.classList.toggle("number", number);
  cell.classList.toggle("attention", attention);
  if (detail) {
    const small = document.createElement("span");
    small.className = "detail";
    small.textContent = detail;
    cell.append(small);
  }
  return cell;
}

function makeRow(...cells) {
  const row = document.createElement("tr");
  row.append(...cells);
  return row;
}

function fill(id, rows, columns, nothing) {
  if (rows.length === 0) {
    const cell = makeCell(nothing);
    cell.colSpan = columns;
    rows = [makeRow(cell)];
  }
  document.getElementById(id).replaceChildren(...rows);
}

function countFrames(direction) {
  return makeCell(direction.frames.toLocaleString(), { number: true });
}

function countDrops(...directions) {
  const dropped = directions.flatMap((direction) => Object.entries(direction.dropped));
  const total = dropped.reduce((sum, [, frames]) => sum + frames, 0);
  const reasons = dropped.map(([reason, frames]) => `${reason}: ${frames.toLocaleString()}`).join(", ");
  return makeCell(total.toLocaleString(), { number: true, attention: total > 0, detail: reasons });
}

function showPeer(peer, description) {
  return makeCell(peer ? `pid ${peer.pid}, uid ${peer.uid}` : "", { detail: description });
}

function multilinkRow(multilink) {
  const host = multilink.host;
  return makeRow(
    makeCell(multilink.name),
    makeCell(multilink.path),
    makeCell(host.state, { attention: host.state !== "attached", detail: host.detail }),
    makeCell(multilink.links.toLocaleString(), { number: true }),
    countFrames(host.rx),
    countFrames(host.tx),
    countDrops(host.rx, host.tx),
  );
}

function linkRow(link) {
  return makeRow(
    makeCell(link.name, { detail: link.url ?? "" }),
    makeCell(link.multilink),
    makeCell(link.kind),
    makeCell(link.state, { attention: link.state === "down", detail: link.detail }),
    makeCell(link.role),
    showPeer(link.peer, link.description),
    makeCell(new Date(link.since).toLocaleString()),
    countFrames(link.rx),
    countFrames(link.tx),
    countDrops(link.rx, link.tx),
  );
}

function show({ links = null, message, askToken = false }) {
  statusLine.textContent = message;
  tokenForm.hidden = !askToken;
  tables.hidden = askToken || (tables.hidden && links === null);
}

async function refresh() {
  clearTimeout(timer);
  try {
    const [{ multilinks }, { links }] = await Promise.all([fetchJson("/multilinks"), fetchJson("/links")]);
    fill("multilinks", multilinks.map(multilinkRow), 7, "There is no multilink yet.");
    fill("links", links.map(linkRow), 10, "There is no link yet.");
    show({ links, message: `As of ${new Date().toLocaleTimeString()}` });
  } catch (error) {
    if (error instanceof TokenError) {
      show({ message: error.message, askToken: true });
      tokenInput.focus();
      return;
    }
    show({ message: `The service does not answer: ${error.message}` });
  }
  timer = setTimeout(refresh, REFRESH_MS);
}

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, tokenInput.value.trim());
  tokenInput.value = "";
  refresh();
});

addEventListener("hashchange", () => {
  takeTokenFromAddress();
  refresh();
});

takeTokenFromAddress();
refresh();
