// A bar of what is done, under way and failed, and the numbers to it. How much is done is what the coordinator says.

import { h, setAttribute, setText } from "./dom.js";
import { count, percent } from "./format.js";

export class Progress {
  constructor(label) {
    this.done = h("span", { class: "done" });
    this.flight = h("span", { class: "flight" });
    this.failed = h("span", { class: "failed" });
    this.bar = h("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, this.done, this.flight, this.failed);
    this.words = h("span", { class: "numbers" });
    this.node = h("div", { class: "progress" }, this.bar, this.words);
  }

  /** `progress` is a share of the work, the rest are members; `what` is what these are called. */
  show({ progress, members, members_done: done, members_in_flight: flight, members_failed: failed }, what) {
    const share = (part) => (members > 0 ? part / members : 0);
    const lost = Math.min(share(failed), progress);
    const underWay = Math.min(share(flight), progress - lost);
    const width = (part) => `${100 * part}%`;
    this.done.style.width = width(progress - underWay - lost);
    this.flight.style.width = width(underWay);
    this.failed.style.width = width(lost);
    const words = [`${count(done)} of ${count(members)} ${what}`];
    if (failed > 0) words.push(`${count(failed)} failed`);
    words.push(percent(progress));
    setAttribute(this.bar, "aria-valuenow", Math.floor(100 * progress + 1e-9));
    setAttribute(this.bar, "aria-valuetext", words.join(", "));
    setText(this.words, words.join(" · "));
  }
}
