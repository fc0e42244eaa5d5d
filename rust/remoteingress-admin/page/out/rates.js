// Throughput, from how far the counters of two answers are apart.
export const samplesShown = 60;
/** Rates of the last samples, in bytes per second; the newest is the last. */
export class Rates {
    in = [];
    out = [];
    last;
    /** `at` in ms of a clock that only goes forward. */
    add(bytesIn, bytesOut, at) {
        const last = this.last;
        this.last = { bytesIn, bytesOut, at };
        // Counters that went back are those of another run: they say nothing about the time between.
        if (!last || at <= last.at || bytesIn < last.bytesIn || bytesOut < last.bytesOut)
            return;
        const seconds = (at - last.at) / 1_000;
        this.push((bytesIn - last.bytesIn) / seconds, (bytesOut - last.bytesOut) / seconds);
    }
    push(inRate, outRate) {
        push(this.in, inRate);
        push(this.out, outRate);
    }
    /** Nothing is known of the time until the next sample. */
    pause() {
        this.last = undefined;
        if (this.in.length > 0)
            this.zero();
    }
    /** A second without traffic. */
    zero() {
        this.push(0, 0);
    }
    get inNow() {
        return this.in.at(-1) ?? 0;
    }
    get outNow() {
        return this.out.at(-1) ?? 0;
    }
}
function push(samples, sample) {
    samples.push(sample);
    if (samples.length > samplesShown)
        samples.shift();
}
