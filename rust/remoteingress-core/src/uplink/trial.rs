//! Times of the trials that find out whether QUIC works again, while TLS carries the tunnel (D13).

use std::time::{Duration, Instant};

/// The longest time between two trials, unless the configuration begins with a longer one (D13).
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
/// A fallback that comes this soon after a return counts as one outage with the last: the pauses go on growing.
const RELAPSE: Duration = Duration::from_secs(600);

/// The times of the trials.
#[derive(Debug)]
pub struct TrialSchedule {
    first: Duration,
    interval: Duration,
    recovered_at: Option<Instant>,
}

impl TrialSchedule {
    /// Trials that begin `first` after a fallback, and come less often as they fail.
    pub fn new(first: Duration) -> Self {
        Self {
            first,
            interval: first,
            recovered_at: None,
        }
    }

    /// QUIC has failed.
    pub fn fell_back(&mut self, now: Instant) {
        let relapsed = |at: Instant| now.saturating_duration_since(at) < RELAPSE;
        if self.recovered_at.take().is_some_and(relapsed) {
            self.failed();
        } else {
            self.interval = self.first;
        }
    }

    /// A trial has failed.
    pub fn failed(&mut self) {
        self.interval = (self.interval * 2).min(LONGEST_INTERVAL.max(self.first));
    }

    /// QUIC carries new streams again.
    pub fn recovered(&mut self, now: Instant) {
        self.recovered_at = Some(now);
    }

    /// The time to wait before the next trial: many edges must not try at once. `random` is uniform in 0..1.
    pub fn delay(&self, random: f64) -> Duration {
        self.interval.mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn trials_come_less_and_less_often() {
        let now = crate::any_instant();
        let mut schedule = TrialSchedule::new(MINUTE);
        schedule.fell_back(now);
        let mut delays = Vec::new();
        for _ in 0..6 {
            delays.push(schedule.delay(0.0).as_secs());
            schedule.failed();
        }
        assert_eq!(delays, [60, 120, 240, 480, 600, 600]);
        assert_eq!(schedule.delay(1.0).as_secs(), 720);
    }

    #[test]
    fn a_relapse_makes_the_next_trial_later_and_a_new_outage_does_not() {
        let now = crate::any_instant();
        let mut schedule = TrialSchedule::new(MINUTE);
        schedule.fell_back(now);
        schedule.recovered(now);
        schedule.fell_back(now + MINUTE);
        assert_eq!(schedule.delay(0.0), 2 * MINUTE);
        schedule.recovered(now + MINUTE);
        schedule.fell_back(now + 20 * MINUTE);
        assert_eq!(schedule.delay(0.0), MINUTE);
    }
}
