// Workers: what they are, what they do, and what ails them.

import { h, setText } from "./dom.js";
import { count, counted, device, duration, numericsClass, rate } from "./format.js";
import { overview, ticks } from "./live.js";
import { Table, child, showState } from "./table.js";

export class WorkersView {
  constructor() {
    this.title = "Workers";
    this.received = performance.now();
    this.summary = h("p", { class: "summary" });
    this.table = new Table({ caption: "Workers", keyOf: ({ id }) => id, columns: this.columns() });
    this.note = h("p", { class: "empty" }, "Reading the workers…");
    this.hint = h("p", { class: "empty" }, "No worker has connected. ", h("code", {}, "nadgrid-worker --coordinator URL"), " starts one.");
    this.node = h("div", {}, h("h1", { tabindex: "-1" }, "Workers"), this.summary, this.table.node, this.note, this.hint);
    this.unlisten = [
      overview.changed.listen(() => {
        this.received = performance.now();
        this.update();
      }),
      ticks.listen(() => this.update()),
    ];
    this.update();
  }

  close() {
    for (const unlisten of this.unlisten) unlisten();
  }

  update() {
    const workers = overview.workers ?? [];
    this.table.show(workers);
    this.note.hidden = overview.workers !== null;
    this.hint.hidden = !overview.workers || workers.length > 0;
    const connected = workers.filter((worker) => worker.connected);
    const sum = (of) => connected.reduce((total, worker) => total + of(worker), 0);
    this.summary.hidden = workers.length === 0;
    setText(this.summary, `${counted(connected.length, "worker")} connected, ${counted(sum((worker) => worker.slots), "slot")}, ${counted(sum((worker) => worker.leases), "shard")} under way`);
  }

  columns() {
    return [
      { title: "Worker", head: true, kind: "wide", show: showName },
      { title: "State", show: showWorkerState },
      { title: "Device", kind: "tight", show: showDevice },
      { title: "Slots", kind: "number", show: (cell, { slots }) => setText(cell, count(slots)) },
      { title: "Leases", kind: "number", show: (cell, { leases }) => setText(cell, count(leases)) },
      { title: "Rate", kind: "number", show: showRate },
      { title: "Done", kind: "number", show: (cell, { members_done: done }) => setText(cell, count(done)) },
      { title: "Last heard", kind: "number", show: (cell, worker) => setText(cell, this.heard(worker)) },
      { title: "Last error", kind: "words", show: (cell, { last_error: error }) => setText(cell, error ?? "–") },
    ];
  }

  /** A connected worker's silence is that of the last overview: it is heard all the time, and the overview does not change for that. */
  heard({ connected, silent_ms: silent }) {
    const since = connected ? 0 : performance.now() - this.received;
    const total = (silent + since) / 1000;
    return total < 5 ? "just now" : `${duration(Math.floor(total))} ago`;
  }
}

function showName(cell, { id, name, version }) {
  const box = child(cell, () => h("div", {}, h("span", { class: "name" }), h("small")));
  const [words, small] = box.children;
  setText(words, name);
  setText(small, `${id} · ${version}`);
}

/** One word, and why. */
export function workerState({ connected, unfit, draining }) {
  if (!connected) return ["away", null];
  if (unfit) return ["unfit", unfit];
  return draining ? ["draining", "takes no more shards and will leave"] : ["fit", null];
}

function showWorkerState(cell, worker) {
  const [state, why] = workerState(worker);
  const box = child(cell, () => h("div", {}, h("span"), h("small")));
  showState(box.firstElementChild, state);
  setText(box.lastElementChild, why ?? "");
}

function showDevice(cell, { numerics_class: numerics }) {
  setText(cell, device(numerics));
  cell.title = numericsClass(numerics) ?? "";
}

function showRate(cell, { members_per_second: perSecond, rate_of: of }) {
  const box = child(cell, () => h("div", {}, h("span"), h("small")));
  const experiment = of?.split("/")[0];
  setText(box.firstElementChild, rate(perSecond, experiment === "nads" ? "networks" : "runs"));
  setText(box.lastElementChild, of ?? "");
}
