// A bar of what is done, under way and failed, and the numbers to it.

import { h, setAttribute, setText } from "./dom.js";
import { count, percent } from "./format.js";

export class Progress {
  constructor(label) {
    this.done = h("span", { class: "done" });
    this.flight = h("span", { class: "flight" });
    this.failed = h("span", { class: "failed" });
    this.bar = h("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0" }, this.done, this.flight, this.failed);
    this.words = h("span", { class: "numbers" });
    this.node = h("div", { class: "progress" }, this.bar, this.words);
  }

  /** `what` is what the members are called. */
  show({ members, members_done: done, members_in_flight: flight, members_failed: failed }, what) {
    const width = (part) => `${members > 0 ? (100 * part) / members : 0}%`;
    this.done.style.width = width(done);
    this.flight.style.width = width(Math.min(flight, members - done));
    this.failed.style.width = width(failed);
    const words = [`${count(done)} of ${count(members)} ${what}`];
    if (failed > 0) words.push(`${count(failed)} failed`);
    setAttribute(this.bar, "aria-valuemax", members);
    setAttribute(this.bar, "aria-valuenow", done);
    setAttribute(this.bar, "aria-valuetext", words.join(", "));
    setText(this.words, [...words, percent(done, members)].join(" · "));
  }
}

/** What a sweep's or job's time is about: "12 s left", "took 2 min". `now` in seconds. */
export function remaining({ members, members_done: done, members_in_flight: flight, members_failed: failed }, perSecond) {
  const left = members - done - flight - failed;
  return perSecond && left > 0 ? left / perSecond : null;
}
