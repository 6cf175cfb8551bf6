// Neural anisotropy directions, one at a time: in pixels and in frequency, with another architecture beside.

import { getBlob, getJson, sweepPath } from "./api.js";
import { announce, h, saveBlob, setAttribute, setText } from "./dom.js";
import { count, significant } from "./format.js";
import { overview, theme } from "./live.js";
import { Picture, Pictures } from "./pictures.js";

const CACHED_PICTURES = 64;

/** A picture out of a small cache, so that a slider moved back shows at once. */
class CachedPicture extends Picture {
  constructor() {
    super();
    this.cache = new Map();
  }

  async fetch(path) {
    const kept = this.cache.get(path);
    if (kept) return kept;
    const answer = await getBlob(path);
    this.cache.set(path, answer);
    if (this.cache.size > CACHED_PICTURES) this.cache.delete(this.cache.keys().next().value);
    return answer;
  }
}

/** One architecture's directions. */
class Pane {
  constructor(label) {
    this.picture = new CachedPicture();
    this.heading = h("h3");
    this.facts = h("p", { class: "facts-line" });
    this.value = h("p", { class: "facts-line" });
    this.saveButton = h("button", { type: "button", class: "quiet small", on: { click: () => this.save() } }, "SVG");
    this.node = h("section", { class: "pane", "aria-label": label },
      this.heading, this.facts, this.picture.node, h("div", { class: "below" }, this.value, this.saveButton));
    this.job = null;
  }

  close() {
    this.picture.close();
  }

  show({ id, sweepName, job }, index) {
    this.job = job;
    const at = Math.min(index, job.directions - 1);
    this.name = `${job.architecture}_nad_${at}.svg`;
    setText(this.heading, sweepName ? `${job.title} · ${sweepName}` : job.title);
    setText(this.facts, [
      `${count(job.networks)} networks`,
      `effective rank ${significant(job.effective_rank, 4)}`,
      `anisotropy ${significant(job.anisotropy, 3)}`,
    ].join(" · "));
    const error = job.standard_errors?.[at];
    const value = `singular value ${significant(job.singular_values[at], 4)}${error ? ` ± ${significant(error, 2)}` : ""}`;
    setText(this.value, `NAD ${count(at)}${at < index ? " (its last)" : ""}: ${value}`);
    this.saveButton.setAttribute("aria-label", `Save this NAD of ${job.title} as SVG`);
    const path = `${sweepPath(id, "nads", job.architecture)}/${at}.svg?theme=${theme.current}`;
    this.picture.show(path, `NAD ${at} of ${job.title} in pixels, and its magnitudes in frequency`);
  }

  save() {
    if (this.picture.blob) saveBlob(this.picture.blob, this.name);
  }
}

/** The tab. Its address is `nads/ARCHITECTURE/INDEX`, and `/beside/ID/ARCHITECTURE` for a second one. */
export class NadsTab {
  constructor(id) {
    this.id = id;
    this.jobs = [];
    this.others = new Map();
    this.index = 0;
    this.chosen = null;
    this.beside = null;
    this.complete = null;
    this.wait = h("p", { class: "empty" });
    this.left = new Pane("First architecture");
    this.right = new Pane("Second architecture");
    this.architecture = h("select", { id: "nads-architecture", on: { change: () => this.choose(this.architecture.value) } });
    this.second = h("select", { id: "nads-beside", on: { change: () => this.put(this.second.value) } });
    this.slider = h("input", {
      type: "range", id: "nads-index", min: "0", step: "1", value: "0", on: { input: () => this.move(Number(this.slider.value)) },
    });
    this.field = h("input", {
      type: "number", id: "nads-number", min: "0", step: "1", value: "0", "aria-label": "Index of the direction",
      on: { change: () => this.move(Number(this.field.value)) },
    });
    this.sliderLabel = h("label", { for: "nads-index" });
    const step = (by, words, sign) => h("button", {
      type: "button", class: "icon", "aria-label": words, on: { click: () => this.move(this.index + by) },
    }, h("span", { "aria-hidden": "true" }, sign));
    this.panes = h("div", { class: "panes" }, this.left.node, this.right.node);
    this.viewer = h("div", {},
      h("div", { class: "controls" },
        h("p", { class: "control" }, h("label", { for: "nads-architecture" }, "Architecture"), this.architecture),
        h("p", { class: "control" }, h("label", { for: "nads-beside" }, "Beside it"), this.second),
        h("p", { class: "control slider" }, this.sliderLabel,
          h("span", { class: "row" }, step(-1, "Previous direction", "‹"), this.slider, step(1, "Next direction", "›"), this.field))),
      this.panes);
    this.curves = new Pictures(id, {
      title: "Spectra and accuracy against NAD index",
      filter: ({ name, kind, job }) => name.endsWith("spectra") || (kind === "curve" && !job?.startsWith("margins")),
    });
    this.node = h("div", { class: "nads" }, h("h2", { class: "unseen" }, "Neural anisotropy directions"), this.wait, this.viewer, this.curves.node);
    this.viewer.hidden = true;
    this.unlisten = [
      theme.changed.listen(() => this.show()),
      overview.changed.listen(() => this.fillSecond()),
    ];
  }

  close() {
    this.closed = true;
    for (const unlisten of this.unlisten) unlisten();
    this.left.close();
    this.right.close();
    this.curves.close();
  }

  /** Takes what stands in the address. */
  route([architecture, index, , besideId, besideArchitecture]) {
    if (architecture) this.chosen = architecture;
    if (index !== undefined && Number.isInteger(Number(index))) this.index = Math.max(0, Number(index));
    this.beside = besideId && besideArchitecture ? `${besideId}/${besideArchitecture}` : null;
    this.show();
  }

  update(sweep) {
    this.curves.update(sweep);
    const nads = sweep.jobs.filter(({ experiment }) => experiment === "nads");
    const complete = nads.filter(({ state }) => state === "complete").map(({ architecture }) => architecture).join();
    const open = nads.find(({ state }) => state !== "complete");
    setText(this.wait, open
      ? `The directions of ${open.architecture} are here once all its networks are in: ${count(open.members_done)} of ${count(open.members)}.`
      : "");
    this.wait.hidden = !open;
    if (complete === this.complete) return;
    this.complete = complete;
    if (complete) this.read();
  }

  async read() {
    try {
      const { jobs } = await getJson(sweepPath(this.id, "nads"));
      if (this.closed) return;
      this.jobs = jobs;
      this.fillFirst();
      this.fillSecond();
      this.show();
    } catch (error) {
      this.complete = null;
      this.wait.hidden = false;
      setText(this.wait, error.message);
    }
  }

  fillFirst() {
    fill(this.architecture, this.jobs.map(({ architecture, title }) => [architecture, title]));
  }

  /** Other architectures of this sweep, then those of other complete sweeps. */
  fillSecond() {
    const here = this.jobs.map(({ architecture, title }) => [`${this.id}/${architecture}`, title]);
    const others = (overview.sweeps ?? [])
      .filter(({ id, state }) => id !== this.id && state === "complete")
      .map(({ id, name, experiments }) => ({
        label: `${name} (${id})`,
        options: experiments.filter((job) => job.startsWith("nads/")).map((job) => [`${id}/${job.slice(5)}`, job.slice(5)]),
      }))
      .filter(({ options }) => options.length > 0);
    fill(this.second, [["", "nothing"]], [{ label: "This sweep", options: here }, ...others].filter(({ options }) => options.length > 0));
    this.second.value = this.beside ?? "";
  }

  choose(architecture) {
    this.chosen = architecture;
    this.show();
    this.keepAddress();
  }

  put(beside) {
    this.beside = beside || null;
    this.show();
    this.keepAddress();
  }

  move(index) {
    if (this.jobs.length === 0 || !Number.isFinite(index)) return;
    this.index = Math.min(Math.max(0, Math.round(index)), this.lastIndex());
    this.show();
    this.keepAddress();
  }

  /** Arrow keys anywhere in the tab, but where they have a meaning of their own. */
  key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || this.viewer.hidden) return false;
    this.move(this.index + by);
    announce(`NAD ${this.index}`);
    return true;
  }

  job() {
    return this.jobs.find(({ architecture }) => architecture === this.chosen) ?? this.jobs[0];
  }

  lastIndex() {
    return this.job().directions - 1;
  }

  keepAddress() {
    const beside = this.beside ? `/beside/${this.beside.split("/").map(encodeURIComponent).join("/")}` : "";
    history.replaceState(null, "", `#/sweeps/${encodeURIComponent(this.id)}/nads/${encodeURIComponent(this.job().architecture)}/${this.index}${beside}`);
  }

  async show() {
    if (this.jobs.length === 0) return;
    const job = this.job();
    this.index = Math.min(this.index, this.lastIndex());
    this.viewer.hidden = false;
    this.architecture.value = job.architecture;
    setAttribute(this.slider, "max", this.lastIndex());
    setAttribute(this.field, "max", this.lastIndex());
    setAttribute(this.slider, "aria-valuetext", `NAD ${this.index} of 0 to ${this.lastIndex()}`);
    if (this.slider.value !== String(this.index)) this.slider.value = this.index;
    if (this.field.value !== String(this.index)) this.field.value = this.index;
    setText(this.sliderLabel, `Direction, 0 to ${count(this.lastIndex())} by decreasing variance`);
    this.left.show({ id: this.id, sweepName: null, job }, this.index);
    await this.showBeside();
  }

  async showBeside() {
    const beside = this.beside;
    const index = this.index;
    if (!beside) {
      this.right.node.hidden = true;
      this.panes.classList.remove("two");
      return;
    }
    const [id, architecture] = beside.split("/");
    try {
      const job = (await this.jobsOf(id)).find((other) => other.architecture === architecture);
      if (this.closed || beside !== this.beside || index !== this.index) return;
      if (!job) throw new Error(`Sweep ${id} has no directions of ${architecture}.`);
      this.right.show({ id, sweepName: id === this.id ? null : this.nameOf(id), job }, index);
      this.right.node.hidden = false;
      this.panes.classList.add("two");
    } catch (error) {
      this.right.node.hidden = true;
      this.wait.hidden = false;
      setText(this.wait, error.message);
    }
  }

  async jobsOf(id) {
    if (id === this.id) return this.jobs;
    if (!this.others.has(id)) this.others.set(id, (await getJson(sweepPath(id, "nads"))).jobs);
    return this.others.get(id);
  }

  nameOf(id) {
    return overview.sweeps?.find((sweep) => sweep.id === id)?.name ?? id;
  }
}

/** Fills a select, and leaves it alone when nothing is new: an open list would close. */
function fill(select, options, groups = []) {
  const shape = JSON.stringify([options, groups]);
  if (select.dataset.shape === shape) return;
  select.dataset.shape = shape;
  const value = select.value;
  const make = ([key, words]) => h("option", { value: key }, words);
  select.replaceChildren(...options.map(make), ...groups.map(({ label, options: inner }) => h("optgroup", { label }, ...inner.map(make))));
  select.value = value;
}
