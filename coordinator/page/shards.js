// Shards, the latest first, and what happened to one of them when.

import { getJson, sweepPath } from "./api.js";
import { List, atMostEvery, copyButton, h, setAttribute, setText } from "./dom.js";
import { count, counted, duration, milliseconds, seconds, showTime } from "./format.js";
import { ticks } from "./live.js";
import { Table, child, showState } from "./table.js";

const REFETCH_MS = 2000;
const LIMIT = 200;

export class ShardsTab {
  constructor(id) {
    this.id = id;
    this.key = null;
    this.seen = null;
    this.shards = [];
    this.skew = 0;
    this.total = h("p", { class: "summary" });
    this.table = new Table({
      caption: "Shards, the latest first", keyOf: ({ key }) => key, columns: this.columns(), empty: "No shard has been given out yet.",
    });
    this.timeline = new Timeline(id);
    this.node = h("div", {}, this.timeline.node, h("h2", {}, "Shards"), this.total, this.table.node);
    this.refresh = atMostEvery(REFETCH_MS, () => this.read());
    this.unlisten = ticks.listen(() => this.table.show(this.shards));
  }

  close() {
    this.closed = true;
    this.refresh.cancel();
    this.unlisten();
    this.timeline.close();
  }

  route([key]) {
    const chosen = key ?? null;
    if (chosen === this.key) return;
    this.key = chosen;
    this.timeline.choose(chosen);
    this.table.show(this.shards);
  }

  update(sweep) {
    const seen = JSON.stringify([sweep.state, sweep.jobs.map((job) => [job.shards, job.members_in_flight, job.retries, job.state])]);
    if (seen === this.seen) return;
    this.seen = seen;
    this.refresh();
  }

  async read() {
    try {
      const { shards, total } = await getJson(`${sweepPath(this.id, "shards")}?limit=${LIMIT}`);
      if (this.closed) return;
      this.shards = shards;
      setText(this.total, total > shards.length ? `The latest ${count(shards.length)} of ${counted(total, "shard")}.` : `${counted(total, "shard")}.`);
      this.table.show(shards);
      this.timeline.refresh();
    } catch (error) {
      this.seen = null;
      if (!this.closed) setText(this.total, error.message);
    }
  }

  columns() {
    return [
      { title: "Shard", head: true, kind: "wide", show: (cell, shard, row) => this.showKey(cell, shard, row) },
      { title: "State", show: (cell, { state }) => showState(cell, state) },
      { title: "Members", kind: "number", show: (cell, { members }) => setText(cell, count(members)) },
      { title: "Worker", kind: "words", show: (cell, { worker }) => setText(cell, worker ?? "–") },
      { title: "Attempts", kind: "number", show: (cell, { attempts }) => setText(cell, count(attempts)) },
      { title: "Time", kind: "number", show: showTimeTaken },
      { title: "Leased", kind: "number", show: (cell, { leased_at: at }) => showTime(child(cell, () => h("time")), at) },
    ];
  }

  showKey(cell, shard, row) {
    const link = child(cell, () => h("a", {}));
    link.href = `#/sweeps/${encodeURIComponent(this.id)}/shards/${encodeURIComponent(shard.key)}`;
    setText(link, blocksOf(shard));
    setAttribute(link, "aria-current", shard.key === this.key ? "true" : null);
    row.classList.toggle("chosen", shard.key === this.key);
  }
}

function blocksOf({ job, first_block: first, blocks }) {
  return blocks === 1 ? `${job}, block ${count(first)}` : `${job}, blocks ${count(first)} to ${count(first + blocks - 1)}`;
}

function membersOf({ job, members }) {
  return counted(members, job.startsWith("nads/") ? "network" : "run");
}

function showTimeTaken(cell, { seconds: taken, leased_at: leased, ended_at: ended }) {
  const open = ended === null && leased !== null;
  const value = taken ?? (open ? Date.now() / 1000 - seconds(leased) : null);
  setText(cell, value === null ? "–" : open ? `${duration(Math.max(0, Math.floor(value)))} so far` : duration(value));
}

/** A gantt chart that is a table: its rows say in numbers what its bars show. */
class Timeline {
  constructor(id) {
    this.id = id;
    this.key = null;
    this.title = h("h2", { tabindex: "-1" });
    this.facts = h("p", { class: "facts-line" });
    this.trace = h("code");
    this.traceLine = h("p", { class: "facts-line trace" }, "trace ", this.trace, copyButton("trace id", () => this.trace.textContent));
    this.body = h("tbody", { role: "rowgroup" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.list = new List(this.body, ({ at }) => at, () => spanRow());
    this.table = h("table", { role: "table", class: "gantt" },
      h("caption", { class: "unseen" }, "What happened when, since the shard was first leased"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        h("th", { scope: "col", role: "columnheader" }, "Span"),
        h("th", { scope: "col", role: "columnheader" }, "Worker"),
        h("th", { scope: "col", role: "columnheader", class: "number" }, "Begin"),
        h("th", { scope: "col", role: "columnheader", class: "number" }, "Time"),
        h("th", { scope: "col", role: "columnheader", class: "track-head" }, h("span", { class: "unseen" }, "Drawn"), this.axis))),
      this.body);
    this.note = h("p", { class: "empty" });
    const close = h("a", { class: "button", href: `#/sweeps/${encodeURIComponent(id)}/shards` }, "Close");
    this.node = h("section", { class: "panel timeline", "aria-label": "Timeline of a shard" },
      h("div", { class: "panel-head" }, this.title, close), this.facts, this.traceLine, this.note, this.table);
    this.node.hidden = true;
    this.over = false;
    this.refresh = atMostEvery(REFETCH_MS, () => this.read());
  }

  close() {
    this.key = null;
    this.refresh.cancel();
  }

  choose(key) {
    this.key = key;
    this.over = false;
    this.node.hidden = key === null;
    if (key === null) return;
    setText(this.title, "Timeline");
    setText(this.facts, "");
    setText(this.note, "Reading the timeline…");
    this.note.hidden = false;
    this.table.hidden = true;
    this.traceLine.hidden = true;
    this.refresh.cancel();
    this.refresh();
    this.title.focus({ preventScroll: true });
    this.node.scrollIntoView({ block: "nearest" });
  }

  async read() {
    const key = this.key;
    if (key === null || this.over) return;
    try {
      const shard = await getJson(sweepPath(this.id, "shards", key));
      if (key === this.key) this.show(shard);
    } catch (error) {
      if (key !== this.key) return;
      this.note.hidden = false;
      setText(this.note, error.message);
    }
  }

  show(shard) {
    this.over = shard.ended_at !== null && shard.spans.every(({ end_ms: end }) => end !== null);
    setText(this.title, blocksOf(shard));
    setText(this.facts, [shard.state, membersOf(shard), counted(shard.attempts, "attempt"), shard.worker ? `by ${shard.worker}` : null]
      .filter(Boolean).join(" · "));
    setText(this.trace, shard.trace_id ?? "");
    this.traceLine.hidden = !shard.trace_id;
    this.note.hidden = shard.spans.length > 0;
    setText(this.note, shard.spans.length > 0 ? "" : "Nothing is known of this shard's spans any more.");
    this.table.hidden = shard.spans.length === 0;
    const total = Math.max(1e-3, ...shard.spans.map(({ begin_ms: begin, end_ms: end }) => end ?? begin), shard.ended_at ? 0 : sinceLease(shard));
    this.list.show(shard.spans.map((span, at) => ({ ...span, at, total, again: at > 0 && shard.spans[at - 1].worker === span.worker })));
    this.showAxis(total);
  }

  showAxis(total) {
    const step = niceStep(total);
    const marks = [];
    // A label at the very end would stick out.
    for (let at = 0; at <= 0.93 * total; at += step) {
      const mark = h("span", {}, milliseconds(at));
      mark.style.left = `${(100 * at) / total}%`;
      marks.push(mark);
    }
    this.axis.replaceChildren(...marks);
  }
}

function sinceLease({ leased_at: leased }) {
  const at = seconds(leased);
  return at === null ? 0 : Math.max(0, Date.now() - 1000 * at);
}

/** 1, 2 or 5 times a power of ten, so that there are two to five steps. */
function niceStep(total) {
  const power = 10 ** Math.floor(Math.log10(total / 2));
  const factor = total / 2 / power;
  return power * (factor >= 5 ? 5 : factor >= 2 ? 2 : 1);
}

function spanRow() {
  const name = h("th", { scope: "row", role: "rowheader" });
  const worker = h("td", { role: "cell" });
  const begin = h("td", { role: "cell", class: "number" });
  const took = h("td", { role: "cell", class: "number" });
  const bar = h("span", { class: "span-bar" });
  const words = h("span", { class: "unseen" });
  const track = h("td", { role: "cell", class: "track" }, h("div", { class: "slot" }, words, bar));
  const detail = h("small");
  const title = h("span");
  name.append(title, detail);
  const update = (span) => {
    const end = span.end_ms ?? span.total;
    setText(title, span.name);
    setText(detail, span.detail ?? "");
    name.style.paddingLeft = `${0.5 + 0.9 * (span.depth ?? 0)}rem`;
    setText(worker, span.worker ?? "coordinator");
    worker.classList.toggle("again", span.again);
    setText(begin, milliseconds(span.begin_ms));
    setText(took, span.end_ms === null ? "under way" : milliseconds(end - span.begin_ms));
    setText(words, `${milliseconds(span.begin_ms)} to ${span.end_ms === null ? "now" : milliseconds(end)}`);
    bar.dataset.name = span.name;
    bar.classList.toggle("open", span.end_ms === null);
    bar.style.left = `${(100 * span.begin_ms) / span.total}%`;
    bar.style.width = `${(100 * Math.max(0, end - span.begin_ms)) / span.total}%`;
  };
  return { node: h("tr", { role: "row" }, name, worker, begin, took, track), update };
}
