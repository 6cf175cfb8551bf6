// Members a second over the last half minute, as the command line counts them.

const WINDOW_SECONDS = 30;

export class Rate {
  constructor() {
    this.seen = [];
  }

  /** Takes in a position. One that goes back (a worker was lost with its shard) begins anew. */
  observe(seconds, position) {
    const last = this.seen.at(-1);
    if (last && position < last.position) this.seen = [];
    this.seen.push({ seconds, position });
    while (this.seen.length > 2 && seconds - this.seen[1].seconds > WINDOW_SECONDS) this.seen.shift();
  }

  /** Null until there was progress. */
  perSecond() {
    const from = this.seen[0];
    const to = this.seen.at(-1);
    if (!from || to.seconds <= from.seconds || to.position <= from.position) return null;
    return (to.position - from.position) / (to.seconds - from.seconds);
  }
}
