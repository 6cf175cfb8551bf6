// What all views share: the overview, read live; the connection's state; the theme.

import { getJson, session } from "./api.js";
import { announce } from "./dom.js";
import { Stream } from "./stream.js";

/** A set of listeners. */
class Signal {
  constructor() {
    this.listeners = new Set();
  }

  /** Returns what takes the listener off again. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  send(value) {
    for (const listener of [...this.listeners]) listener(value);
  }
}

/** The last overview, null before the first; `sweeps` newest first, `workers`, and `notices`, what the coordinator itself waits for. */
export const overview = { sweeps: null, workers: null, notices: [], changed: new Signal() };

/** `api/about`, null before it is known. */
export const about = { value: null, changed: new Signal() };

/** `{name, state, error}` of every stream. */
export const connection = { states: new Map(), changed: new Signal() };

/** Asked for when a request is refused: `{words}` for the token's panel. */
export const tokenWanted = new Signal();

/** Once a second, for what grows with time. */
export const ticks = new Signal();
setInterval(() => {
  if (!document.hidden) ticks.send();
}, 1000);

/** Opens a stream whose state is a part of the page's. */
export function openStream(name, path, onEvent, onState) {
  const stream = new Stream(path, {
    onEvent,
    onState(state, error) {
      connection.states.set(name, { state, error });
      connection.changed.send();
      if (error?.wantsToken) tokenWanted.send(error.message);
      onState?.(state, error);
    },
  });
  return {
    hurry: () => stream.hurry(),
    close() {
      stream.close();
      connection.states.delete(name);
      connection.changed.send();
    },
  };
}

/** Whether a sweep has come to its end, by its state. */
export function isOver(state) {
  return ["complete", "incomplete", "failed", "cancelled"].includes(state);
}

let states = new Map();

function announceStates(sweeps) {
  const words = sweeps
    .filter(({ id, state }) => states.has(id) && states.get(id) !== state)
    .map(({ name, state }) => `Sweep ${name} is ${state}.`);
  if (words.length > 0) announce(words.join(" "));
  states = new Map(sweeps.map(({ id, state }) => [id, state]));
}

/** Reads the overview until the page is closed. */
export function follow() {
  return openStream("overview", "api/events", (name, data) => {
    if (name !== "overview") return;
    overview.sweeps = data.sweeps;
    overview.workers = data.workers;
    overview.notices = data.notices;
    announceStates(data.sweeps);
    overview.changed.send();
  }, (state) => {
    if (state === "live") readAbout();
  });
}

/** Reads who the coordinator takes the page for. A failure is told by the streams. */
export async function readAbout() {
  try {
    about.value = await getJson("api/about");
    about.changed.send();
  } catch {
    about.value = null;
    about.changed.send();
  }
}

session.listeners.add(() => {
  // Another token may see other sweeps.
  overview.sweeps = null;
  overview.workers = null;
  readAbout();
});

const dark = matchMedia("(prefers-color-scheme: dark)");

/** The colours: the system's, until somebody chooses others. */
export const theme = {
  changed: new Signal(),

  get current() {
    return document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  },

  toggle() {
    const next = this.current === "dark" ? "light" : "dark";
    // Back at the system's colours, the page follows the system again.
    const system = next === (dark.matches ? "dark" : "light");
    if (system) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (system) localStorage.removeItem("nadgrid-theme");
      else localStorage.setItem("nadgrid-theme", next);
    } catch {
      // Storage is switched off: the choice lives as long as the page.
    }
    this.changed.send();
  },
};
dark.addEventListener("change", () => theme.changed.send());
