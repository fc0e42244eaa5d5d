//! Counts what is cheap to send and dear to process; legal traffic costs nothing (threats A3.8).

use std::time::{Duration, Instant};

/// Glitches that a peer may make at once (threats A3.8).
const BURST: u32 = 1_000;
/// One glitch is forgiven in this time: 100 per second (threats A3.8).
const REFILL: Duration = Duration::from_millis(10);

/// A bucket of forgiveness.
#[derive(Debug)]
pub(super) struct GlitchBucket {
    level: u32,
    total: u64,
    drained_at: Instant,
}

impl GlitchBucket {
    /// An empty bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            level: 0,
            total: 0,
            drained_at: now,
        }
    }

    /// Counts one glitch; false when there were too many.
    #[must_use]
    pub(super) fn record(&mut self, now: Instant) -> bool {
        self.total += 1;
        let elapsed = now.saturating_duration_since(self.drained_at).as_millis();
        let drained = u32::try_from(elapsed / REFILL.as_millis()).unwrap_or(u32::MAX);
        if drained > 0 {
            self.level = self.level.saturating_sub(drained);
            self.drained_at = now;
        }
        self.level = self.level.saturating_add(1);
        self.level <= BURST
    }

    /// Glitches so far.
    #[cfg(feature = "testing")]
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_at_once_then_a_hundred_per_second() {
        let start = crate::any_instant();
        let mut bucket = GlitchBucket::new(start);
        assert!((0..1_000).all(|_| bucket.record(start)));
        assert!(!bucket.record(start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| bucket.record(later)).count(), 99);
        assert!(bucket.record(start + Duration::from_secs(315_360_000)));
    }
}
