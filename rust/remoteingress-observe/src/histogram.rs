//! Counts of durations by size, which threads fill together and nobody waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds: from a target on the same machine to the longest deadline of a dial.
/// A last bucket has no bound.
pub const BOUNDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Durations that were recorded, by the bucket of [`BOUNDS`].
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The counts of a [`Histogram`] at one moment. Durations that come meanwhile may be in one of them and not yet in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Durations in each bucket alone, the one without a bound last.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All durations together.
    ///
    /// Unit: s
    pub sum: f64,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        let secs = duration.as_secs_f64();
        let place = BOUNDS.partition_point(|bound| *bound < secs);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let micros = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        Counts {
            buckets: std::array::from_fn(|place| {
                let bucket = self.buckets.get(place);
                bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed))
            }),
            sum: micros.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        assert_eq!(counts.buckets.iter().sum::<u64>(), 5);
        assert_eq!((counts.buckets[0], counts.buckets[1]), (2, 1));
        assert_eq!((counts.buckets[13], counts.buckets[14]), (1, 1));
        assert!((counts.sum - 20.000_502).abs() < 1e-9);
    }
}
