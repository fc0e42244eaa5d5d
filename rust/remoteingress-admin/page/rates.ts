// Throughput, from how far the counters of two answers are apart.

export const samplesShown = 60;

/** Rates of the last samples, in bytes per second; the newest is the last. */
export class Rates {
  readonly in: number[] = [];
  readonly out: number[] = [];
  private last: { bytesIn: number; bytesOut: number; at: number } | undefined;

  /** `at` in ms of a clock that only goes forward. */
  add(bytesIn: number, bytesOut: number, at: number): void {
    const last = this.last;
    this.last = { bytesIn, bytesOut, at };
    // Counters that went back are those of another run: they say nothing about the time between.
    if (!last || at <= last.at || bytesIn < last.bytesIn || bytesOut < last.bytesOut) return;
    const seconds = (at - last.at) / 1_000;
    this.push((bytesIn - last.bytesIn) / seconds, (bytesOut - last.bytesOut) / seconds);
  }

  push(inRate: number, outRate: number): void {
    push(this.in, inRate);
    push(this.out, outRate);
  }

  /** Nothing is known of the time until the next sample. */
  pause(): void {
    this.last = undefined;
    if (this.in.length > 0) this.zero();
  }

  /** A second without traffic. */
  zero(): void {
    this.push(0, 0);
  }

  get inNow(): number {
    return this.in.at(-1) ?? 0;
  }

  get outNow(): number {
    return this.out.at(-1) ?? 0;
  }
}

function push(samples: number[], sample: number): void {
  samples.push(sample);
  if (samples.length > samplesShown) samples.shift();
}
