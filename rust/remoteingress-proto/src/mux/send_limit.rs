//! Bytes that may be on their way over one ordered connection: what its path carries and a little more, so that
//! what has to wait does so here, where the scheduler can still reorder it, and not in buffers on the way (D8).

use std::time::{Duration, Instant};

/// On their way in any case: what the sender's socket may hold unsent. Less leaves the receiver without work between
/// two acknowledgements; at 384 KiB a ping beside bulk streams took twice as long (bench, `mixed`), the rate was the
/// same.
const RESERVE: usize = 128 * 1_024;
/// A shorter span says more of how the processes are scheduled than of the path.
const SHORTEST_SPAN: Duration = Duration::from_millis(5);
/// The fastest of this many spans counts: a span in which little was sent is not held against the path. BBR looks back
/// ten round trips for the same reason.
const SPANS: usize = 8;
/// Of what the path carries at that rate: less would keep a rate that can rise from rising; TCP's slow start doubles
/// too.
const GAIN: f64 = 2.0;

/// Limit on bytes on their way, from the rate and the round trip that are seen. Rate and round trip of a path of
/// constant rate and delay settle after a few round trips.
#[derive(Debug)]
pub(super) struct SendLimit {
    since: Instant,
    acknowledged: u64,
    /// Bytes per second of the last spans.
    rates: [f64; SPANS],
    next: usize,
}

impl SendLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            acknowledged: 0,
            rates: [0.0; SPANS],
            next: 0,
        }
    }

    /// The limit in bytes, now that the peer has acknowledged this many bytes in all and a segment's round trip takes
    /// `rtt`.
    pub(super) fn observe(&mut self, now: Instant, acknowledged: u64, rtt: Duration) -> usize {
        let span = now.saturating_duration_since(self.since);
        if span >= rtt.max(SHORTEST_SPAN) {
            let bytes = acknowledged.saturating_sub(self.acknowledged);
            if let Some(rate) = self.rates.get_mut(self.next) {
                *rate = bytes as f64 / span.as_secs_f64();
            }
            self.next = (self.next + 1) % SPANS;
            (self.since, self.acknowledged) = (now, acknowledged);
        }
        RESERVE.saturating_add(self.carried_in(rtt.mul_f64(GAIN)))
    }

    /// Bytes that the path carries in `time`, by the fastest of the last spans.
    pub(super) fn carried_in(&self, time: Duration) -> usize {
        let fastest = self.rates.iter().copied().fold(0.0, f64::max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and `as` ends at the largest number"
        )]
        {
            (fastest * time.as_secs_f64()) as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A path that carries `rate` bytes per second with this delay there and back, always with something to send: the
    /// limit after `round_trips`, and the share that was carried of all that could be.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a simulation in fractions of bytes, none negative"
    )]
    fn run(rate: f64, rtt: Duration, round_trips: u32) -> (usize, f64) {
        let begin = crate::any_instant();
        let (mut limit, mut now) = (SendLimit::new(begin), begin);
        let step = (rtt / 20).max(MS / 100);
        let (mut sent, mut acknowledged, mut most) =
            (0.0, 0.0, limit.observe(begin, 0, rtt) as f64);
        let mut on_the_way = std::collections::VecDeque::new();
        while now < begin + rtt * round_trips {
            now += step;
            while let Some((_, bytes)) = on_the_way.pop_front_if(|(due, _)| *due <= now) {
                acknowledged += bytes;
            }
            most = limit.observe(now, acknowledged as u64, rtt) as f64;
            let room: f64 = (most - (sent - acknowledged)).max(0.0);
            let bytes = room.min(rate * step.as_secs_f64());
            sent += bytes;
            on_the_way.push_back((now + rtt, bytes));
        }
        let possible = rate * (rtt * round_trips.saturating_sub(1)).as_secs_f64();
        (most as usize, acknowledged / possible)
    }

    #[test]
    fn a_long_fat_path_is_filled_within_ten_round_trips() {
        let rate = 125e6;
        let (limit, _) = run(rate, 100 * MS, 10);
        let carried = rate * 0.1;
        assert!(limit as f64 > carried, "{limit}");
        let (_, share) = run(rate, 100 * MS, 100);
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn little_waits_on_a_short_path() {
        let (limit, share) = run(1e9, MS / 10, 1_000);
        assert!(limit < 400 * 1_024, "{limit}");
        assert!(share > 0.99, "{share}");
    }

    #[test]
    fn it_never_holds_a_path_below_what_it_carries() {
        for rate in [1e5, 1e6, 1e7, 1e8] {
            for rtt in [MS, 20 * MS, 300 * MS] {
                let (_, share) = run(rate, rtt, 200);
                assert!(share > 0.9, "{rate} {rtt:?}: {share}");
            }
        }
    }

    #[test]
    fn a_pause_is_not_held_against_the_path_at_once() {
        let begin = crate::any_instant();
        let mut limit = SendLimit::new(begin);
        let (mut now, mut acknowledged) = (begin, 0);
        for _ in 0..3 {
            now += 40 * MS;
            acknowledged += 4_000_000;
            limit.observe(now, acknowledged, 40 * MS);
        }
        let full = limit.observe(now, acknowledged, 40 * MS);
        now += 40 * MS;
        assert_eq!(limit.observe(now, acknowledged, 40 * MS), full);
        for _ in 0..SPANS {
            now += 40 * MS;
            limit.observe(now, acknowledged, 40 * MS);
        }
        assert_eq!(limit.observe(now, acknowledged, 40 * MS), RESERVE);
    }
}
