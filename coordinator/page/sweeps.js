// All sweeps, newest first.

import { getJson } from "./api.js";
import { h, setText } from "./dom.js";
import { duration, membersWord, rate, seconds, showTime, timeLeft } from "./format.js";
import { isOver, overview } from "./live.js";
import { Progress } from "./progress.js";
import { Table, child, showState } from "./table.js";

const LIVE_SWEEPS = 100;

export class SweepsView {
  constructor() {
    this.title = "Sweeps";
    this.older = new Map();
    this.pageToken = null;
    this.problem = null;
    this.table = new Table({
      caption: "Sweeps, newest first",
      keyOf: ({ id }) => id,
      columns: columns(),
    });
    this.more = h("button", { type: "button", on: { click: () => this.loadOlder() } }, "Show older sweeps");
    this.note = h("p", { class: "empty" });
    this.hint = h("p", { class: "empty" }, "No sweep yet. ", h("code", {}, "nadgrid submit SPEC"), " starts one.");
    this.node = h("div", {}, h("h1", { tabindex: "-1" }, "Sweeps"), this.table.node, this.note, this.hint, h("p", { class: "actions" }, this.more));
    this.unlisten = overview.changed.listen(() => this.update());
    this.update();
  }

  close() {
    this.unlisten();
  }

  update() {
    const live = overview.sweeps ?? [];
    const ids = new Set(live.map(({ id }) => id));
    const sweeps = [...live, ...[...this.older.values()].filter(({ id }) => !ids.has(id))];
    const anyOwner = sweeps.some(({ owner }) => owner);
    this.table.node.classList.toggle("without-owner", !anyOwner);
    this.table.show(sweeps);
    this.hint.hidden = !overview.sweeps || sweeps.length > 0;
    this.note.hidden = overview.sweeps !== null && !this.problem;
    setText(this.note, this.problem ?? "Reading the sweeps…");
    this.more.hidden = live.length < LIVE_SWEEPS || this.pageToken === "";
  }

  async loadOlder() {
    this.more.disabled = true;
    this.problem = null;
    try {
      if (this.pageToken === null) await this.page("");
      await this.page(this.pageToken);
    } catch (error) {
      this.problem = error.message;
    } finally {
      this.more.disabled = false;
      this.update();
    }
  }

  async page(token) {
    const query = token ? `?page_token=${encodeURIComponent(token)}` : "";
    const { sweeps, next_page_token: next } = await getJson(`api/sweeps${query}`);
    for (const sweep of sweeps) this.older.set(sweep.id, sweep);
    this.pageToken = next ?? "";
    this.update();
  }
}

function columns() {
  return [
    { title: "Sweep", head: true, kind: "wide", show: showName },
    { title: "State", show: showStateAndNotice },
    { title: "Progress", kind: "wide", show: showProgress },
    { title: "Rate", kind: "number", show: (cell, sweep) => setText(cell, rateWords(sweep)) },
    { title: "Time", kind: "number", show: (cell, sweep) => setText(cell, timeWords(sweep)) },
    { title: "Workers", kind: "number", show: (cell, { workers, state }) => setText(cell, isOver(state) ? "–" : String(workers)) },
    { title: "Owner", kind: "owner", show: (cell, { owner }) => setText(cell, owner ?? "–") },
    { title: "Submitted", kind: "number", show: (cell, { submitted_at: at }) => showTime(child(cell, () => h("time")), at) },
  ];
}

function showName(cell, { id, name, experiments }) {
  const box = child(cell, () => h("div", {}, h("a", {}), h("small")));
  const [link, small] = box.children;
  link.href = `#/sweeps/${encodeURIComponent(id)}`;
  link.title = id;
  setText(link, name);
  setText(small, experiments.join(", "));
}

/** The state; what keeps the sweep back is told where it is pointed at. */
function showStateAndNotice(cell, { state, notices }) {
  showState(cell, state);
  cell.title = notices.join("\n");
}

const bars = new WeakMap();

function showProgress(cell, sweep) {
  if (!bars.has(cell)) {
    const progress = new Progress(`Progress of ${sweep.name}`);
    bars.set(cell, progress);
    cell.append(progress.node);
  }
  bars.get(cell).show(sweep, membersWord(sweep.experiments));
}

function rateWords({ members_per_second: perSecond, experiments }) {
  return rate(perSecond, membersWord(experiments) === "networks" ? "networks" : "runs");
}

function timeWords({ state, started_at: started, ended_at: ended, seconds_left: left }) {
  if (isOver(state)) return seconds(started) === null ? "–" : `took ${duration(seconds(ended) - seconds(started))}`;
  return left === null ? "–" : `${timeLeft(left)} left`;
}
