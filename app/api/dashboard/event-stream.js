// Server-sent events over fetch(): EventSource cannot send the token. The format is the HTML standard's, section 9.2.

import { UnreachableError, send } from "./api.js";

const SILENCE_LIMIT_MS = 45_000; // The service says something every 15 s.

/** Yields {id, kind, data} until the service ends the stream; throws UnreachableError when it breaks. */
export async function* readEvents(path, lastId, outerSignal) {
  const watchdog = new AbortController();
  const signal = AbortSignal.any([outerSignal, watchdog.signal]);
  let timer = setTimeout(() => watchdog.abort(), SILENCE_LIMIT_MS);
  try {
    const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
    const response = await send("GET", path, { headers, signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      clearTimeout(timer);
      timer = setTimeout(() => watchdog.abort(), SILENCE_LIMIT_MS);
      yield* parser.feed(value);
    }
  } catch (error) {
    // A broken stream is a TypeError ("network error"), one that has gone silent our own abort.
    throw outerSignal.aborted || error.status ? error : new UnreachableError();
  } finally {
    clearTimeout(timer);
    watchdog.abort();
  }
}

/** Text in pieces to events. Lines end with LF, CR or CRLF; a CR at the end of a piece waits for what follows. */
export class EventParser {
  #rest = "";
  #id = "";
  #kind = "";
  #data = [];

  *feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?=[^\n])/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line !== "") {
        this.#field(line);
      } else if (this.#data.length > 0) {
        yield { id: this.#id, kind: this.#kind || "message", data: JSON.parse(this.#data.join("\n")) };
        this.#data = [];
        this.#kind = "";
      }
    }
  }

  #field(line) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") {
      this.#data.push(value);
    } else if (name === "event") {
      this.#kind = value;
    } else if (name === "id") {
      this.#id = value;
    }
  }
}
