// One sweep: how far it is, what it drew, its directions, shards, files and spec; and what one may do to it.

import { post, sweepPath } from "./api.js";
import { copyButton, h, setAttribute, setText } from "./dom.js";
import { FilesTab } from "./files.js";
import { count, counted, duration, membersWord, numericsClass, percent, rate, seconds, showTime, timeLeft } from "./format.js";
import { isOver, openStream, ticks, tokenWanted } from "./live.js";
import { NadsTab } from "./nads.js";
import { Pictures } from "./pictures.js";
import { Progress } from "./progress.js";
import { ShardsTab } from "./shards.js";
import { Table, showState } from "./table.js";

const TABS = [
  ["overview", "Overview", (id) => new OverviewTab(id)],
  ["nads", "Directions", (id) => new NadsTab(id)],
  ["shards", "Shards", (id) => new ShardsTab(id)],
  ["files", "Files", (id) => new FilesTab(id)],
  ["spec", "Spec", (id) => new SpecTab(id)],
];

/** A sweep's page. Its address is `#/sweeps/ID/TAB/...`. */
export class SweepView {
  constructor(id) {
    this.id = id;
    this.sweep = null;
    this.tab = null;
    this.heading = h("h1", { tabindex: "-1" }, id);
    this.state = h("span");
    this.problem = h("p", { class: "problem", role: "alert" });
    this.problem.hidden = true;
    this.message = h("p", { class: "notice" });
    this.message.hidden = true;
    this.notices = h("ul", { class: "notice", "aria-label": "What keeps the sweep back" });
    this.notices.hidden = true;
    this.progress = new Progress("Progress of the sweep");
    this.pace = h("p", { class: "pace" });
    this.actions = new Actions(id, (sweep) => this.steered(sweep), (error) => this.tellProblem(error));
    this.head = h("div", { class: "sweep-head" }, h("div", { class: "sweep-title" }, this.heading, this.state), this.actions.node);
    this.links = TABS.map(([name, title]) => h("a", { href: this.address(name), data: { tab: name } }, title));
    this.body = h("div", { class: "tab-body" });
    this.content = h("div", {}, this.message, this.progress.node, this.pace, this.notices, h("nav", { class: "tabs", "aria-label": "Parts of the sweep" }, ...this.links), this.body);
    this.content.hidden = true;
    this.node = h("div", {}, h("p", { class: "back" }, h("a", { href: "#/sweeps" }, "Sweeps")), this.head, this.problem, this.content);
    this.unlisten = ticks.listen(() => this.showPace());
    this.stream = openStream(`sweep ${id}`, sweepPath(id, "events"), (name, data) => {
      if (name === "sweep") this.update(data);
    }, (state, error) => {
      if (state === "refused") this.tellProblem(error);
      else if (state === "live") this.problem.hidden = true;
    });
  }

  get title() {
    if (!this.sweep) return this.id;
    return this.sweep.state === "running" ? `${this.sweep.name} ${percent(this.sweep.progress)}` : `${this.sweep.name}, ${this.sweep.state}`;
  }

  close() {
    this.unlisten();
    this.stream.close();
    this.actions.close();
    this.tab?.view.close();
  }

  address(tab) {
    return `#/sweeps/${encodeURIComponent(this.id)}${tab === "overview" ? "" : `/${tab}`}`;
  }

  /** Shows the part that the address names. */
  route([name = "overview", ...rest]) {
    const [tab, , make] = TABS.find(([known]) => known === name) ?? TABS[0];
    if (this.tab?.name !== tab) {
      this.tab?.view.close();
      this.tab = { name: tab, view: make(this.id) };
      this.body.replaceChildren(this.tab.view.node);
      if (this.sweep) this.tab.view.update(this.sweep);
    }
    this.tab.view.route(rest);
    for (const link of this.links) setAttribute(link, "aria-current", link.dataset.tab === tab ? "page" : null);
  }

  key(event) {
    return this.tab?.view.key?.(event) ?? false;
  }

  tellProblem(error) {
    this.problem.hidden = false;
    setText(this.problem, error.message);
  }

  steered(sweep) {
    this.problem.hidden = true;
    this.update(sweep);
  }

  update(sweep) {
    this.sweep = sweep;
    this.content.hidden = false;
    setText(this.heading, sweep.name);
    showState(this.state, sweep.state);
    setText(this.message, sweep.message);
    this.message.hidden = !sweep.message;
    this.showNotices(sweep.notices);
    this.progress.show({ ...total(sweep), progress: sweep.progress }, word(sweep));
    this.showPace();
    this.actions.show(sweep);
    const directions = this.links.find(({ dataset }) => dataset.tab === "nads");
    directions.hidden = !sweep.jobs.some(({ experiment }) => experiment === "nads");
    this.tab?.view.update(sweep);
    this.onTitle?.();
  }

  showNotices(notices) {
    this.notices.hidden = notices.length === 0;
    // Only what is new is read out.
    if (notices.join("\n") !== [...this.notices.children].map(({ textContent }) => textContent).join("\n")) {
      this.notices.replaceChildren(...notices.map((notice) => h("li", {}, notice)));
    }
  }

  showPace() {
    if (this.sweep) setText(this.pace, paceWords(this.sweep));
  }
}

/** Where a sweep's time stands, in a line. */
function paceWords(sweep) {
  const started = seconds(sweep.started_at);
  const workers = counted(sweep.workers, "worker");
  if (isOver(sweep.state)) {
    const ended = seconds(sweep.ended_at);
    return started === null || ended === null ? "" : `Took ${duration(ended - started)}.`;
  }
  if (started === null) return sweep.workers > 0 ? `${workers} can take it.` : "No worker that can take it is connected.";
  if (sweep.state === "paused") return "No shard is given out until it is resumed.";
  const perSecond = sweep.jobs.reduce((all, job) => all + (job.members_per_second ?? 0), 0);
  return [
    perSecond > 0 ? rate(perSecond, word(sweep)) : null,
    sweep.seconds_left !== null ? `about ${timeLeft(sweep.seconds_left)} left` : null,
    `running for ${duration(Math.max(0, Math.floor(Date.now() / 1000 - started)))}`,
    sweep.workers > 0 ? workers : "no worker that can take it is connected",
  ].filter(Boolean).join(" · ");
}

function total({ jobs }) {
  const sum = (key) => jobs.reduce((all, job) => all + job[key], 0);
  return { members: sum("members"), members_done: sum("members_done"), members_in_flight: sum("members_in_flight"), members_failed: sum("members_failed") };
}

function word({ jobs }) {
  return membersWord(jobs.map(({ experiment }) => experiment));
}

/** Pause, resume, and cancel, which asks first. */
class Actions {
  constructor(id, done, failed) {
    this.id = id;
    this.done = done;
    this.failed = failed;
    const button = (words, kind, listener) => h("button", { type: "button", class: kind, on: { click: listener } }, words);
    this.pause = button("Pause", null, () => this.act("pause"));
    this.resume = button("Resume", "primary", () => this.act("resume"));
    this.cancel = button("Cancel…", "danger", () => this.dialog.showModal());
    this.question = h("p");
    this.dialog = h("dialog", { "aria-labelledby": "cancel-title" },
      h("h2", { id: "cancel-title" }, "Cancel this sweep?"), this.question,
      h("p", { class: "actions" },
        button("Keep it", null, () => this.dialog.close()),
        button("Cancel the sweep", "danger", () => {
          this.dialog.close();
          this.act("cancel");
        })));
    this.node = h("div", { class: "actions" }, this.pause, this.resume, this.cancel, this.dialog);
    this.node.hidden = true;
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  show({ state, name, jobs }) {
    const over = isOver(state);
    const { members, members_done: done } = total({ jobs });
    this.node.hidden = over;
    this.pause.hidden = over || state === "paused";
    this.resume.hidden = state !== "paused";
    setText(this.question, `${name} ends for good, with ${count(done)} of ${count(members)} done. A pause can be taken back, this cannot.`);
    if (over) this.close();
  }

  async act(what) {
    for (const button of [this.pause, this.resume, this.cancel]) button.disabled = true;
    try {
      this.done(await post(sweepPath(this.id, what)));
    } catch (error) {
      this.failed(error);
      if (error.wantsToken) {
        tokenWanted.send(`To ${what} a sweep the page needs a token: one of yours, or the one in the address that the coordinator printed when it started (after #token=).`);
      }
    } finally {
      for (const button of [this.pause, this.resume, this.cancel]) button.disabled = false;
    }
  }
}

/** Jobs, failures, pictures and facts. */
class OverviewTab {
  constructor(id) {
    this.jobs = new Table({
      caption: "Jobs",
      keyOf: ({ experiment, architecture }) => `${experiment}/${architecture}`,
      columns: jobColumns(),
    });
    this.failures = new Table({
      caption: "Failures",
      keyOf: ({ job, first_block: first, blocks }) => `${job}/${first}/${blocks}`,
      columns: failureColumns(),
    });
    this.failuresBox = h("section", { "aria-label": "Failures" }, h("h2", {}, "Failures"), this.failures.node);
    this.pictures = new Pictures(id, { title: "Pictures", filter: () => true, empty: "Pictures are here from the first results on." });
    this.facts = new Facts();
    this.node = h("div", {},
      h("section", { "aria-label": "Jobs" }, h("h2", {}, "Jobs"), this.jobs.node), this.failuresBox, this.pictures.node,
      h("section", { "aria-label": "Facts" }, h("h2", {}, "Facts"), this.facts.node));
  }

  close() {
    this.pictures.close();
  }

  route() {}

  update(sweep) {
    this.jobs.show(sweep.jobs);
    this.failures.show(sweep.failures);
    this.failuresBox.hidden = sweep.failures.length === 0;
    this.pictures.update(sweep);
    this.facts.show(sweep);
  }
}

const bars = new WeakMap();

function jobColumns() {
  return [
    { title: "Job", head: true, show: (cell, { experiment, architecture }) => setText(cell, `${experiment}/${architecture}`) },
    { title: "State", show: (cell, { state }) => showState(cell, state) },
    { title: "Progress", kind: "wide", show: showJobProgress },
    { title: "Left", kind: "number", show: (cell, { seconds_left: left }) => setText(cell, left === null ? "–" : timeLeft(left)) },
    { title: "Shards", kind: "number", show: (cell, { shards }) => setText(cell, count(shards)) },
    { title: "Troubles", kind: "words", show: (cell, job) => setText(cell, troubles(job)) },
    { title: "Slot time", kind: "number", show: (cell, { slot_seconds: time }) => setText(cell, time > 0 ? duration(time) : "–") },
    { title: "Digest", kind: "digest", show: showJobDigest },
  ];
}

function showJobProgress(cell, job) {
  if (!bars.has(cell)) {
    const progress = new Progress(`Progress of ${job.experiment}/${job.architecture}`);
    bars.set(cell, progress);
    cell.append(progress.node);
  }
  bars.get(cell).show(job, membersWord([job.experiment]));
}

function troubles({ retries, speculative, audits_due: due, audits_passed: passed }) {
  const words = [
    retries > 0 ? counted(retries, "retry", "retries") : null,
    speculative > 0 ? counted(speculative, "speculative lease", "speculative leases") : null,
    due > 0 ? `${count(passed)} of ${counted(due, "audit")} passed` : null,
  ];
  return words.filter(Boolean).join(", ") || "–";
}

function showJobDigest(cell, { digest, experiment, architecture }) {
  if (!digest) {
    cell.replaceChildren("–");
  } else if (cell.dataset.digest !== digest) {
    cell.replaceChildren(h("span", { class: "copied" }, h("code", { title: digest }, `${digest.slice(0, 16)}…`), copyButton(`digest of ${experiment}/${architecture}`, () => digest)));
  }
  cell.dataset.digest = digest ?? "";
}

function failureColumns() {
  return [
    { title: "Job", head: true, show: (cell, { job }) => setText(cell, job) },
    { title: "Blocks", kind: "number", show: (cell, { first_block: first, blocks }) => setText(cell, blocks === 1 ? count(first) : `${count(first)} to ${count(first + blocks - 1)}`) },
    { title: "Attempts", kind: "number", show: (cell, { attempts }) => setText(cell, count(attempts)) },
    { title: "Workers", kind: "words", show: (cell, { workers }) => setText(cell, workers.join(", ") || "–") },
    { title: "What it said", kind: "wide words", show: (cell, { message }) => setText(cell, message) },
  ];
}

/** What else is known of a sweep. */
class Facts {
  constructor() {
    this.node = h("dl", { class: "facts" });
    this.rows = new Map();
  }

  show(sweep) {
    this.text("Id", sweep.id, { copy: true });
    this.text("Digest", sweep.digest, { copy: true });
    this.text("Owner", sweep.owner);
    this.time("Submitted", sweep.submitted_at);
    this.time("Started", sweep.started_at);
    this.time("Ended", sweep.ended_at);
    this.text("Priority and weight", `${sweep.priority}, ${sweep.weight}`);
    this.text("Numerics class", numericsClass(sweep.numerics_class));
    this.text("Coordinator", sweep.coordinator_version);
  }

  row(title, make) {
    if (!this.rows.has(title)) {
      const value = make();
      const box = h("div", {}, h("dt", {}, title), h("dd", {}, ...value.nodes));
      this.node.append(box);
      this.rows.set(title, { ...value, box });
    }
    return this.rows.get(title);
  }

  text(title, words, { copy = false } = {}) {
    const row = this.row(title, () => {
      const value = h(copy ? "code" : "span");
      return { value, nodes: copy ? [value, copyButton(title.toLowerCase(), () => value.textContent)] : [value] };
    });
    setText(row.value, words);
    row.box.hidden = !words;
  }

  time(title, moment) {
    const row = this.row(title, () => {
      const value = h("time");
      return { value, nodes: [value] };
    });
    showTime(row.value, moment);
    row.box.hidden = !moment;
  }
}

/** The spec with every default filled in. */
class SpecTab {
  constructor() {
    this.code = h("code");
    this.node = h("section", { "aria-label": "Spec" },
      h("h2", {}, "Spec"), h("p", { class: "summary" }, "With every default filled in. ", copyButton("spec", () => this.code.textContent)),
      h("pre", { tabindex: "0", "aria-label": "The spec in TOML" }, this.code));
  }

  close() {}

  route() {}

  update({ spec }) {
    setText(this.code, spec);
  }
}
