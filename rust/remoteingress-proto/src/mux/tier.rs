//! Tiers: what goes first when a link is full, and when a stream becomes `sustained` (D8).

use std::time::{Duration, Instant};

/// Scheduling class of a stream's frames. All others (PING, ACK, WINDOW, CONTROL ...) go before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// New and ordinary streams.
    Data,
    /// Streams that have moved much for long: last, with a guaranteed share.
    Sustained,
}

/// A stream that moved this much per second on average over [`SUSTAINED_PERIOD`] is sustained (D8).
pub const SUSTAINED_BYTES_PER_SEC: u64 = 2_500_000;
/// Averaging period of [`SUSTAINED_BYTES_PER_SEC`] (D8).
pub const SUSTAINED_PERIOD: Duration = Duration::from_secs(10);

/// Tells when one direction of a stream becomes sustained. It never goes back.
#[derive(Debug)]
pub struct RateMeter {
    since: Instant,
    bytes: u64,
    sustained: bool,
}

impl RateMeter {
    /// Starts to measure.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            sustained: false,
        }
    }

    /// Counts what moved.
    #[inline]
    pub fn record(&mut self, now: Instant, bytes: usize) {
        if self.sustained {
            return;
        }
        self.bytes += bytes as u64;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < SUSTAINED_PERIOD {
            return;
        }
        let needed = u128::from(SUSTAINED_BYTES_PER_SEC) * elapsed.as_millis() / 1_000;
        self.sustained = u128::from(self.bytes) >= needed;
        self.since = now;
        self.bytes = 0;
    }

    /// The direction is sustained from now on, whatever it moves.
    pub fn sustain(&mut self) {
        self.sustained = true;
    }

    /// True if the direction is sustained.
    pub fn is_sustained(&self) -> bool {
        self.sustained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(secs: u64, bytes_per_sec: usize) -> RateMeter {
        let start = crate::any_instant();
        let mut meter = RateMeter::new(start);
        for i in 1..=secs * 10 {
            meter.record(start + Duration::from_millis(i * 100), bytes_per_sec / 10);
        }
        meter
    }

    #[test]
    fn a_stream_is_sustained_after_ten_fast_seconds_and_stays_so() {
        assert!(!after(9, 10_000_000).is_sustained());
        assert!(after(10, 2_500_000).is_sustained());
        assert!(!after(60, 2_400_000).is_sustained());
        let mut meter = after(10, 3_000_000);
        meter.record(crate::any_instant() + Duration::from_secs(3_600), 0);
        assert!(meter.is_sustained());
    }
}
