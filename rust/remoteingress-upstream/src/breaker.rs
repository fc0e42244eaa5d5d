//! What failures do to a target: after some in a row it gets no streams for a while, then one at a time, then all again.
//!
//! ```text
//!            failures in a row                 time is up
//! closed ───────────────────────► open ──────────────────────► half-open
//!    ▲                             ▲                               │ │
//!    │                             └──── a trial fails (longer) ───┘ │
//!    └──────────────────────────────── good trials in a row ────────┘
//! ```

use crate::time::Moment;
use std::time::Duration;

/// How a breaker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Good trials in a row that close it.
    pub trials: u32,
    /// How long it stays open the first time.
    pub first: Duration,
    /// It doubles each time, up to this.
    pub longest: Duration,
}

impl Default for BreakerRules {
    /// 3 failures, 3 good trials, 10 s to 60 s.
    fn default() -> Self {
        Self {
            failures: 3,
            trials: 3,
            first: Duration::from_secs(10),
            longest: Duration::from_secs(60),
        }
    }
}

/// State of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The target takes streams.
    Closed,
    /// It takes none until then, and one at a time from then on.
    Open {
        /// Begin of its trials.
        until: Moment,
    },
}

/// State of a breaker, as it is kept over a restart of the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedBreaker {
    /// While it is open: the time until its trials, none if they had begun.
    pub open_for: Option<Duration>,
    /// In a row: failures while closed, good trials while half-open.
    pub in_a_row: u32,
    /// Times that it has opened without closing.
    pub opened: u32,
}

/// The breaker of one target.
#[derive(Clone, Debug)]
pub struct Breaker {
    rules: BreakerRules,
    phase: Phase,
    /// In a row: failures while closed, good trials while half-open.
    in_a_row: u32,
    /// Times that it has opened without closing.
    opened: u32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rules: BreakerRules) -> Self {
        Self {
            rules,
            phase: Phase::Closed,
            in_a_row: 0,
            opened: 0,
        }
    }

    /// What it was when it was saved, `age` ago. It opens only if it may, and for no longer than its rules say, whatever a
    /// file says.
    pub(crate) fn restore(
        &mut self,
        saved: SavedBreaker,
        age: Duration,
        now: Moment,
        may_open: bool,
    ) {
        let longest = self.rules.longest.saturating_add(self.rules.longest / 10);
        let open_for = saved.open_for.filter(|_| may_open);
        let (phase, most) = match open_for {
            None => (Phase::Closed, self.rules.failures),
            Some(time) => {
                let until = now.after(time.saturating_sub(age).min(longest));
                (Phase::Open { until }, self.rules.trials)
            }
        };
        self.phase = phase;
        // The next one decides: one that had it all would have changed its phase.
        self.in_a_row = saved.in_a_row.min(most.saturating_sub(1));
        self.opened = saved.opened;
    }

    /// What a state file keeps of it.
    pub(crate) fn saved(&self, now: Moment) -> SavedBreaker {
        SavedBreaker {
            open_for: match self.phase {
                Phase::Closed => None,
                Phase::Open { until } => Some(until.since(now)),
            },
            in_a_row: self.in_a_row,
            opened: self.opened,
        }
    }

    /// State of the breaker.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Failures since the last stream that went well, while it is closed.
    pub fn failures(&self) -> u32 {
        match self.phase {
            Phase::Closed => self.in_a_row,
            Phase::Open { .. } => self.rules.failures,
        }
    }

    /// True if the next failure is one that opens it.
    pub(crate) fn is_tripping(&self) -> bool {
        self.phase == Phase::Closed && self.in_a_row.saturating_add(1) >= self.rules.failures
    }

    /// A stream went well.
    pub fn succeeded(&mut self, now: Moment) {
        match self.phase {
            Phase::Closed => self.in_a_row = 0,
            // A stream from before it opened says nothing of the target now.
            Phase::Open { until } if now < until => {}
            Phase::Open { .. } => {
                self.in_a_row += 1;
                if self.in_a_row >= self.rules.trials {
                    *self = Self::new(self.rules);
                }
            }
        }
    }

    /// A stream failed. It opens only if `may_open`: not too many others of the pool are out. `unit`, from 0 to 1, spreads
    /// the time by a tenth each way, so that targets that failed together aren't tried together.
    pub fn failed(&mut self, now: Moment, may_open: bool, unit: f64) {
        match self.phase {
            Phase::Closed => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if self.in_a_row >= self.rules.failures && may_open {
                    self.open(now, unit);
                }
            }
            Phase::Open { until } if now < until => {}
            Phase::Open { .. } => self.open(now, unit),
        }
    }

    /// True if so many failures in a row open it.
    pub(crate) fn is_enough(&self, in_a_row: u32) -> bool {
        in_a_row >= self.rules.failures
    }

    /// It opens, whatever came before. See [`Self::failed`] for `unit`.
    pub(crate) fn trip(&mut self, now: Moment, unit: f64) {
        self.open(now, unit);
    }

    /// It closes, and forgets what came before.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.rules);
    }

    fn open(&mut self, now: Moment, unit: f64) {
        // 2^16 times the first is longer than any configuration says.
        let doubled = self.rules.first.saturating_mul(1 << self.opened.min(16));
        let time = doubled.min(self.rules.longest);
        let until = now.after(time.mul_f64(0.9 + 0.2 * unit.clamp(0.0, 1.0)));
        self.phase = Phase::Open { until };
        self.opened = self.opened.saturating_add(1);
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Moment) -> Breaker {
        let mut breaker = Breaker::new(BreakerRules::default());
        for _ in 0..3 {
            assert_eq!(breaker.phase(), Phase::Closed);
            breaker.failed(now, true, 0.5);
        }
        breaker
    }

    fn until(breaker: &Breaker) -> Moment {
        match breaker.phase() {
            Phase::Open { until } => until,
            Phase::Closed => panic!("it is closed"),
        }
    }

    #[test]
    fn three_failures_in_a_row_open_it_for_longer_each_time() {
        let mut now = Moment(5);
        let mut breaker = opened(now);
        for secs in [10, 20, 40, 60, 60, 60] {
            let end = until(&breaker);
            assert_eq!(end.since(now), Duration::from_secs(secs));
            // What began before doesn't count.
            breaker.failed(now, true, 0.5);
            breaker.succeeded(now);
            assert_eq!(until(&breaker), end);
            now = end;
            breaker.failed(now, true, 0.5);
        }
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(BreakerRules::default());
        for _ in 0..10 {
            breaker.failed(Moment(1), true, 0.5);
            breaker.failed(Moment(1), true, 0.5);
            breaker.succeeded(Moment(1));
        }
        assert_eq!((breaker.phase(), breaker.failures()), (Phase::Closed, 0));
    }

    #[test]
    fn three_good_trials_close_it_and_the_next_time_is_short_again() {
        let mut breaker = opened(Moment(0));
        let mut now = until(&breaker);
        breaker.failed(now, true, 0.5);
        now = until(&breaker);
        for _ in 0..2 {
            breaker.succeeded(now);
            assert_ne!(breaker.phase(), Phase::Closed);
        }
        breaker.succeeded(now);
        assert_eq!(breaker.phase(), Phase::Closed);
        for _ in 0..3 {
            breaker.failed(now, true, 0.5);
        }
        assert_eq!(until(&breaker).since(now), Duration::from_secs(10));
    }

    #[test]
    fn it_stays_closed_while_too_many_others_are_out() {
        let mut breaker = Breaker::new(BreakerRules::default());
        for _ in 0..9 {
            breaker.failed(Moment(0), false, 0.5);
        }
        assert_eq!((breaker.phase(), breaker.failures()), (Phase::Closed, 9));
        breaker.failed(Moment(0), true, 0.0);
        assert_eq!(until(&breaker), Moment(9_000));
    }

    #[test]
    fn a_clock_at_its_end_opens_for_ever_and_overflows_nothing() {
        let breaker = opened(Moment(u64::MAX));
        assert_eq!(until(&breaker), Moment(u64::MAX));
    }
}
