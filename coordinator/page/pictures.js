// Pictures that the coordinator draws: fetched with the token, decoded, and only then put in the place of the last one.

import { getBlob, getJson, sweepPath } from "./api.js";
import { List, atMostEvery, h, saveBlob, setText } from "./dom.js";
import { count } from "./format.js";
import { theme } from "./live.js";

const REFETCH_MS = 2000;
const RETRY_MS = 5000;

/** One picture. While a new one is on its way, the last one stays. */
export class Picture {
  constructor() {
    this.image = null;
    this.url = null;
    this.blob = null;
    this.wanted = null;
    this.busy = false;
    this.closed = false;
    this.problem = h("p", { class: "empty" });
    this.problem.hidden = true;
    this.node = h("div", { class: "picture" }, this.problem);
  }

  close() {
    this.closed = true;
    if (this.url) URL.revokeObjectURL(this.url);
  }

  /** Shows what is at the path; `alt` says what it is. Of several calls the last one counts. `known` is a blob that needs no fetch. */
  async show(path, alt) {
    this.wanted = { path, alt };
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.wanted && !this.closed) {
        const wanted = this.wanted;
        this.wanted = null;
        await this.load(wanted);
      }
    } finally {
      this.busy = false;
    }
  }

  async load({ path, alt }) {
    this.node.setAttribute("aria-busy", "true");
    try {
      const { blob } = await this.fetch(path);
      const url = URL.createObjectURL(blob);
      const image = h("img", { alt, src: url });
      await image.decode();
      if (this.closed) URL.revokeObjectURL(url);
      else this.put(image, url, blob);
    } catch (error) {
      this.fail(error);
    }
    this.node.removeAttribute("aria-busy");
  }

  fetch(path) {
    return getBlob(path);
  }

  put(image, url, blob) {
    if (this.image) this.image.replaceWith(image);
    else this.node.prepend(image);
    if (this.url) URL.revokeObjectURL(this.url);
    [this.image, this.url, this.blob] = [image, url, blob];
    this.problem.hidden = true;
  }

  fail(error) {
    this.problem.hidden = false;
    setText(this.problem, error.status === undefined ? "This picture cannot be shown." : error.message);
    this.failed?.(error);
  }
}

/** The coordinator is away, or has too much to do: a picture is asked for again. */
const BUSY = [0, 429, 503];

/** A picture with its title, how far it is, and buttons that save it. */
class Figure {
  /** `again()` is called when the picture could not be had. */
  constructor(id, entry, again) {
    this.id = id;
    this.entry = entry;
    this.version = null;
    this.picture = new Picture();
    this.picture.failed = (error) => {
      this.version = null;
      if (BUSY.includes(error.status)) again();
    };
    this.title = h("span", { class: "title" });
    this.far = h("span", { class: "far" });
    const save = (ending) => h("button", {
      type: "button", class: "quiet small", on: { click: () => this.save(ending) }, "aria-label": `Save ${entry.title} as ${ending.toUpperCase()}`,
    }, ending.toUpperCase());
    const enlarge = h("button", {
      type: "button", class: "quiet small", on: { click: () => this.enlarge() }, "aria-label": `Enlarge ${entry.title}`,
    }, "Enlarge");
    this.node = h("figure", { class: `figure ${entry.kind}`, data: { name: entry.name } },
      this.picture.node,
      h("figcaption", {}, this.title, this.far, h("span", { class: "save" }, enlarge, save("svg"), save("png"))));
  }

  close() {
    this.picture.close();
  }

  update(entry) {
    this.entry = entry;
    const version = `${entry.members_done} ${entry.complete} ${theme.current}`;
    setText(this.title, entry.title);
    setText(this.far, entry.complete ? "" : `${count(entry.members_done)} so far`);
    if (version === this.version) return;
    this.version = version;
    this.picture.show(this.path("svg"), this.alt());
  }

  alt() {
    const { title, complete, members_done: done } = this.entry;
    return complete ? title : `${title}, ${count(done)} so far`;
  }

  path(ending) {
    return `${sweepPath(this.id, "pictures", this.entry.name)}.${ending}?theme=${theme.current}`;
  }

  /** Shows it as wide as the screen, or wider: labels stay legible on a small one. */
  enlarge() {
    if (!this.picture.image) return;
    const close = h("button", { type: "button", on: { click: () => dialog.close() } }, "Close");
    const dialog = h("dialog", { class: "large", "aria-label": this.entry.title, on: { close: () => dialog.remove() } },
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Picture" }, this.picture.image.cloneNode()),
      h("p", { class: "actions" }, close));
    document.getElementById("main").append(dialog);
    dialog.showModal();
    close.focus();
  }

  async save(ending) {
    try {
      const { blob, name } = await getBlob(this.path(ending));
      saveBlob(blob, name ?? `${this.entry.name.replaceAll("/", "_")}.${ending}`);
    } catch (error) {
      this.picture.fail(error);
    }
  }
}

/** The pictures of a sweep that pass a filter. */
export class Pictures {
  constructor(id, { title, filter, empty }) {
    this.id = id;
    this.filter = filter;
    this.entries = [];
    this.seen = null;
    this.message = h("p", { class: "empty" });
    this.emptyWords = empty;
    const grid = h("div", { class: "figures" });
    this.node = h("section", { "aria-label": title }, h("h2", {}, title), this.message, grid);
    this.list = new List(grid, ({ name }) => name, (entry) => new Figure(id, entry, () => this.later()));
    this.refresh = atMostEvery(REFETCH_MS, () => this.read());
    this.unlisten = theme.changed.listen(() => this.show());
    this.node.hidden = !empty;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.refresh.cancel();
    this.unlisten();
    this.list.close();
  }

  /** Looks for what is new when the sweep has come further. */
  update(sweep) {
    const seen = JSON.stringify(sweep.jobs.map(({ members_done: done, state }) => [done, state]));
    if (seen === this.seen) return;
    this.seen = seen;
    this.refresh();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), RETRY_MS);
  }

  async read() {
    try {
      const { pictures } = await getJson(sweepPath(this.id, "pictures"));
      if (this.closed) return;
      this.entries = pictures.filter(this.filter);
      this.show();
    } catch (error) {
      // Comes again with the next event.
      this.seen = null;
      if (!this.closed) setText(this.message, error.message);
    }
  }

  show() {
    this.list.show(this.entries);
    this.message.hidden = this.entries.length > 0;
    this.node.hidden = this.entries.length === 0 && !this.emptyWords;
    setText(this.message, this.emptyWords ?? "");
  }
}
