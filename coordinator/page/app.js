// The page: addresses to views, the token, the connection's state, keys.

import { session } from "./api.js";
import { announce, h, setAttribute, setText } from "./dom.js";
import { about, connection, follow, overview, theme, tokenWanted } from "./live.js";
import { rest } from "./stream.js";
import { SweepView } from "./sweep.js";
import { SweepsView } from "./sweeps.js";
import { WorkersView } from "./workers.js";

const HIDDEN_MS = 30000;
const CHORD_MS = 1500;

const main = document.getElementById("main");
let view = null;
let viewKey = null;

session.takeFromAddress();

/* Addresses: #/sweeps, #/sweeps/ID/TAB/..., #/workers */

function parts() {
  if (!location.hash.startsWith("#/")) return [];
  return location.hash.slice(2).split("/").filter(Boolean).map(decoded);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function route(first) {
  session.takeFromAddress();
  const [name = "sweeps", id, ...more] = parts();
  const key = name === "sweeps" && id ? `sweeps/${id}` : name;
  if (key !== viewKey) {
    view?.close();
    view = make(name, id);
    viewKey = key;
    view.onTitle = showTitle;
    main.replaceChildren(view.node);
    window.scrollTo(0, 0);
    if (!first) main.querySelector("h1")?.focus({ preventScroll: true });
  }
  view.route?.(more);
  for (const link of document.querySelectorAll("nav [data-view]")) setAttribute(link, "aria-current", link.dataset.view === name ? "page" : null);
  showTitle();
}

// Another token: nothing stays that it may not see.
session.listeners.add(() => {
  viewKey = null;
  route(true);
});

function make(name, id) {
  if (name === "sweeps") return id ? new SweepView(id) : new SweepsView();
  if (name === "workers") return new WorkersView();
  return {
    title: "Not here",
    node: h("div", {}, h("h1", { tabindex: "-1" }, "There is nothing here"), h("p", {}, h("a", { href: "#/sweeps" }, "All sweeps"))),
    close() {},
  };
}

function showTitle() {
  setText(document.querySelector("title"), `${view.title} · nadgrid`);
}

/* The connection: the worst of what is open */

const words = {
  live: "live",
  connecting: "connecting",
  resting: "resting",
  away: "coordinator away, trying again",
  refused: "no access",
};

function showConnection() {
  const states = [...connection.states].map(([name, { state, error }]) => (state === "refused" && !error?.wantsToken && name !== "overview" ? "live" : state));
  const worst = ["refused", "away", "connecting", "resting", "live"].find((state) => states.includes(state)) ?? "connecting";
  const node = document.getElementById("connection");
  if (node.dataset.state !== worst) node.dataset.state = worst;
  setText(document.getElementById("connection-words"), words[worst]);
}

connection.changed.listen(showConnection);

/* The token */

const panel = document.getElementById("token");
const field = document.getElementById("token-field");
const caller = document.getElementById("caller");

function askForToken(why) {
  setText(document.getElementById("token-words"), why);
  document.getElementById("token-forget").hidden = !session.token;
  panel.hidden = false;
  field.focus();
}

document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = field.value.trim();
  field.value = "";
  panel.hidden = true;
  session.set(token);
  main.focus({ preventScroll: true });
  announce("Token taken");
});

document.getElementById("token-forget").addEventListener("click", () => {
  panel.hidden = true;
  session.set(null);
});

document.getElementById("token-close").addEventListener("click", () => {
  panel.hidden = true;
});

tokenWanted.listen(askForToken);

caller.addEventListener("click", () => {
  const mayWrite = about.value?.may_write;
  if (mayWrite) askForToken("The page has a token and sends it with every request. Another one replaces it.");
  else askForToken(`${session.token ? "With its token" : "Without a token"} the page may only show. With the one in the address that the coordinator printed when it started (after #token=) it may pause, resume and cancel.`);
});

function showCaller() {
  const value = about.value;
  setText(document.getElementById("version"), value ? `nadgrid-coordinator ${value.version}` : "");
  caller.hidden = !value;
  if (!value) return;
  setText(caller, value.caller ?? (value.may_write ? "may steer" : "read only"));
  caller.title = value.may_write ? "This page may pause, resume and cancel" : "This page may only show";
}

about.changed.listen(showCaller);

/* Colours */

const themeButton = document.getElementById("theme");

function showTheme() {
  const other = theme.current === "dark" ? "light" : "dark";
  themeButton.setAttribute("aria-label", `Use ${other} colours`);
  themeButton.title = `Use ${other} colours (t)`;
}

themeButton.addEventListener("click", () => theme.toggle());
theme.changed.listen(showTheme);

/* Keys */

const shortcuts = document.getElementById("shortcuts");
document.getElementById("help").addEventListener("click", () => shortcuts.showModal());
document.getElementById("shortcuts-close").addEventListener("click", () => shortcuts.close());

document.getElementById("skip").addEventListener("click", (event) => {
  // An address of its own would leave the view.
  event.preventDefault();
  main.focus();
});

let chordUntil = 0;

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.closest("input, select, textarea")) return;
  const chord = performance.now() < chordUntil;
  chordUntil = 0;
  if (chord && (key === "s" || key === "w")) location.hash = key === "s" ? "#/sweeps" : "#/workers";
  else if (key === "g") chordUntil = performance.now() + CHORD_MS;
  else if (key === "t") theme.toggle();
  else if (key === "?") shortcuts.showModal();
  else if (!view?.key?.(event)) return;
  event.preventDefault();
});

/* Nobody looks: the streams are closed, since all tabs of a browser share few connections */

let hiding = null;

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => rest(true), HIDDEN_MS);
  else rest(false);
});

/** What the coordinator waits for, above every view. */
function showNotices() {
  const node = document.getElementById("notices");
  node.hidden = overview.notices.length === 0;
  setText(node, overview.notices.join("; "));
}

overview.changed.listen(showTitle);
overview.changed.listen(showNotices);
window.addEventListener("hashchange", () => route(false));
showTheme();
route(true);
const overviewStream = follow();
window.addEventListener("online", () => overviewStream.hurry());
