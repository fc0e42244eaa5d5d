// Who of several gets how much of what comes anew: from how far their counters have gone in the last minute.

const windowMs = 60_000;

/** The counters of one pool's targets over time. */
export class Shares {
  private samples: { at: number; totals: Map<string, number> }[] = [];

  /** `at` in ms of a clock that only goes forward. */
  add(totals: Map<string, number>, at: number): void {
    const last = this.samples.at(-1);
    // Counters that went back are those of another run.
    if (last && [...totals].some(([id, total]) => total < (last.totals.get(id) ?? 0))) this.samples = [];
    this.samples.push({ at, totals });
    // The first that is left is the newest of those that are a window old, or that of the page's start.
    while (this.samples.length > 2 && (this.samples[1]?.at ?? at) <= at - windowMs) this.samples.shift();
  }

  /** Parts of 1 by target; none where nothing has come. */
  get(): Map<string, number> {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last) return new Map();
    // One that wasn't there at the start has had nothing.
    const news = [...last.totals].map(([id, total]) => [id, total - (first.totals.get(id) ?? 0)] as const);
    const all = news.reduce((sum, [, own]) => sum + own, 0);
    return new Map(all > 0 ? news.map(([id, own]) => [id, own / all]) : []);
  }
}
