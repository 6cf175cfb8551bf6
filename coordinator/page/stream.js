// Server-sent events over fetch, since EventSource can send no token. A stream that breaks is opened again.

import { ApiError, request, session } from "./api.js";

const SILENCE_MS = 30000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 5000;

const open = new Set();

/** Closes all streams (nobody looks), and opens them again. Browsers allow a page few connections, and tabs share them. */
export function rest(resting) {
  for (const stream of open) stream.rest(resting);
}

/*
 * connecting ──▶ live ──▶ away ──▶ live ...      away: tried again, later and later
 *      └──▶ refused                              refused: waits for another token
 * any ──▶ resting ──▶ connecting                 nobody looks at the page
 */
export class Stream {
  /** `onEvent(name, data)` gets parsed JSON, `onState(state, error)` a word of the diagram above. */
  constructor(path, { onEvent, onState }) {
    this.path = path;
    this.onEvent = onEvent;
    this.onState = onState;
    this.state = null;
    this.closed = false;
    this.resting = false;
    this.eager = false;
    this.backoff = BACKOFF_FIRST_MS;
    this.wake = () => {};
    this.again = () => this.restart();
    session.listeners.add(this.again);
    open.add(this);
    this.run();
  }

  close() {
    this.closed = true;
    session.listeners.delete(this.again);
    open.delete(this);
    this.abort?.abort();
    this.wake();
  }

  rest(resting) {
    if (this.resting === resting) return;
    this.resting = resting;
    if (resting) this.abort?.abort();
    this.wake();
  }

  /** Opens it anew at once: there is another token, or the network is back. */
  restart() {
    this.backoff = BACKOFF_FIRST_MS;
    this.eager = true;
    this.abort?.abort();
    this.wake();
  }

  /** Does not wait any longer where it was about to try again. */
  hurry() {
    this.wake();
  }

  async run() {
    this.enter("connecting");
    while (!this.closed) {
      if (this.resting) {
        this.enter("resting");
        await this.pause(null);
        continue;
      }
      this.eager = false;
      let isOver = false;
      try {
        await this.read();
        isOver = true;
      } catch (error) {
        if (this.closed) return;
        if (error instanceof ApiError && (error.wantsToken || error.status === 404)) {
          this.enter("refused", error);
          await this.pause(null);
          this.enter("connecting");
          continue;
        }
      }
      if (this.closed || this.resting || this.eager) continue;
      // A stream that came to its end is asked for again; only if that fails nobody is there.
      if (!isOver) this.enter("away");
      await this.pause(this.backoff);
      this.backoff = Math.min(BACKOFF_LAST_MS, 2 * this.backoff);
    }
  }

  enter(state, error = null) {
    if (state === this.state && !error) return;
    this.state = state;
    this.onState?.(state, error);
  }

  /** Waits so long, for ever with null, or until somebody wakes it. */
  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = milliseconds === null ? null : setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async read() {
    const abort = new AbortController();
    this.abort = abort;
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const response = await request(this.path, { signal: abort.signal, headers: { Accept: "text/event-stream" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
        buffer = this.take(buffer + value.replaceAll("\r", ""));
      }
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  }

  /** Handles the complete events of a buffer and returns what is left. */
  take(buffer) {
    const events = buffer.split("\n\n");
    const rest = events.pop();
    for (const event of events) this.handle(event);
    return rest;
  }

  handle(event) {
    let name = "message";
    const data = [];
    for (const line of event.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
    if (data.length === 0 || this.closed) return;
    const parsed = JSON.parse(data.join("\n"));
    this.backoff = BACKOFF_FIRST_MS;
    this.enter("live");
    this.onEvent(name, parsed);
  }
}
