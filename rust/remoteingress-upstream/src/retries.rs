//! How many retries a pool pays for, so that one whose targets die isn't hit threefold.
//!
//! In any ten seconds of the clock there are at most 20 % as many retries as there are first dials, and ten a second
//! beside. linkerd has the same two numbers and the same window (`retryBudget` of its service profiles). The ten a
//! second are one sum for the window: a pool that was quiet may retry a hundred times at once.

use crate::time::Moment;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Retries for a hundred first dials.
const PERCENT: u64 = 20;
/// Retries that a pool has in each second whatever it dials.
const PER_SECOND: u64 = 10;
/// Seconds that are looked at together: the one that runs, and those before it.
const WINDOW: usize = 10;
/// Seconds that are kept: more than a window, so that two workers whose clocks were read at different times add to seconds
/// of their own.
const KEPT: usize = 16;

/// The retries of one pool. It outlives the pool's plans.
#[derive(Debug, Default)]
pub struct RetryBudget {
    dials: [Second; KEPT],
    taken: Mutex<Taken>,
}

/// What was counted in one second: its number in the high half, the count in the low one. Nobody dials 2^32 times in a
/// second.
#[derive(Debug, Default)]
struct Second(AtomicU64);

/// Retries by second.
#[derive(Debug, Default)]
struct Taken {
    seconds: [(u64, u64); WINDOW],
    /// The latest second that was asked about: time doesn't go back here.
    latest: u64,
}

impl RetryBudget {
    /// A stream dials its first target.
    #[inline]
    pub fn dialled(&self, now: Moment) {
        let second = second(now);
        if let Some(counted) = self.dials.get(place(second, KEPT)) {
            counted.add(second);
        }
    }

    /// Takes a retry; false if there is none left.
    pub fn take(&self, now: Moment) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let second = second(now).max(taken.latest);
        taken.latest = second;
        let dials: u64 = self.dials.iter().map(|dials| dials.count(second)).sum();
        let allowed = dials * PERCENT / 100 + PER_SECOND * WINDOW as u64;
        if taken.count(second) >= allowed {
            return false;
        }
        taken.add(second);
        true
    }
}

impl Second {
    #[inline]
    fn add(&self, second: u64) {
        let packed = self.0.load(Ordering::Relaxed);
        if packed >> 32 == low_half(second) {
            self.0.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The first of a new second. Of two that come at once the other one finds the second begun, and adds to it.
        let begun = low_half(second) << 32 | 1;
        let order = Ordering::Relaxed;
        if let Err(other) = self.0.compare_exchange(packed, begun, order, order)
            && other >> 32 == low_half(second)
        {
            self.0.fetch_add(1, order);
        }
    }

    /// What was counted, if that was in the window which ends with `last`.
    fn count(&self, last: u64) -> u64 {
        let packed = self.0.load(Ordering::Relaxed);
        let age = low_half(last.wrapping_sub(packed >> 32));
        if age < WINDOW as u64 {
            low_half(packed)
        } else {
            0
        }
    }
}

impl Taken {
    fn count(&self, last: u64) -> u64 {
        let seconds = self.seconds.iter();
        let in_window = seconds.filter(|(second, _)| last - second < WINDOW as u64);
        in_window.map(|(_, count)| count).sum()
    }

    fn add(&mut self, second: u64) {
        let Some((of, count)) = self.seconds.get_mut(place(second, WINDOW)) else {
            return;
        };
        *count = if *of == second { *count + 1 } else { 1 };
        *of = second;
    }
}

fn second(now: Moment) -> u64 {
    now.0 / 1_000
}

fn place(second: u64, places: usize) -> usize {
    (second % places as u64) as usize
}

fn low_half(number: u64) -> u64 {
    number & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::Range;

    fn taken(budget: &RetryBudget, now: Moment, asked: u32) -> usize {
        (0..asked).filter(|_| budget.take(now)).count()
    }

    #[test]
    fn a_quiet_pool_has_a_hundred_retries_and_then_ten_a_second() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget, Moment(500), 1_000), 100);
        assert_eq!(taken(&budget, Moment(9_999), 1_000), 0);
        let later: usize = (10..110)
            .map(|second| taken(&budget, Moment(second * 1_000), 10))
            .sum();
        assert_eq!(later, 1_000);
    }

    #[test]
    fn a_pool_whose_targets_all_fail_has_a_fifth_more_dials() {
        let budget = RetryBudget::default();
        let mut retries = 0;
        for millis in 0..60_000 {
            budget.dialled(Moment(millis));
            retries += taken(&budget, Moment(millis), 2);
        }
        // 20 % of 60,000, ten a second, and what ten seconds have at once.
        assert!(
            (12_000..=12_000 + 600 + 100).contains(&retries),
            "{retries}"
        );
    }

    #[test]
    fn workers_whose_clocks_differ_a_little_all_count() {
        let budget = RetryBudget::default();
        for millis in 0..8_000 {
            budget.dialled(Moment(millis));
            budget.dialled(Moment(millis + 700));
        }
        assert_eq!(taken(&budget, Moment(8_000), 10_000), 100 + 3_200);
    }

    /// What has happened, one line each, and the rule as it is written.
    #[derive(Default)]
    struct List {
        dials: Vec<u64>,
        retries: Vec<u64>,
    }

    impl List {
        fn within(list: &[u64], last: u64) -> usize {
            let from = last.saturating_sub(9);
            list.iter()
                .filter(|one| (from..=last).contains(*one))
                .count()
        }

        fn allows(&self, second: u64) -> bool {
            let (dials, retries) = (
                Self::within(&self.dials, second),
                Self::within(&self.retries, second),
            );
            retries < dials / 5 + 100
        }
    }

    proptest! {
        #[test]
        fn it_is_the_rule_over_a_list(
            start in prop_oneof![Just(0), Just((u64::from(u32::MAX) - 20) * 1_000), any::<u32>().prop_map(u64::from)],
            steps in proptest::collection::vec((0_u64..3_000, 0_u32..80, 0_u32..80), 1..40),
        ) {
            let (budget, mut list, mut now) = (RetryBudget::default(), List::default(), Moment(start));
            for (millis, dials, retries) in steps {
                now = Moment(now.0 + millis);
                let second = now.0 / 1_000;
                for _ in 0..dials {
                    budget.dialled(now);
                    list.dials.push(second);
                }
                for _ in 0..retries {
                    let allowed = list.allows(second);
                    prop_assert_eq!(budget.take(now), allowed);
                    list.retries.extend(allowed.then_some(second));
                }
            }
            // Over whole seconds of any number: a fifth of the dials (of a window more), and ten a second rounded up to
            // whole windows.
            let count = |list: &[u64], seconds: Range<u64>| list.iter().filter(|one| seconds.contains(one)).count();
            let mut begins = list.retries.clone();
            begins.dedup();
            for from in begins {
                for seconds in [1, 10, 17, 30] {
                    let end = from + seconds;
                    let dials = count(&list.dials, from.saturating_sub(9)..end);
                    let most = dials / 5 + 100 * seconds.div_ceil(10) as usize;
                    prop_assert!(count(&list.retries, from..end) <= most);
                }
            }
        }

        #[test]
        fn a_clock_that_jumps_gives_no_more(steps in proptest::collection::vec(any::<u64>(), 1..200)) {
            let budget = RetryBudget::default();
            prop_assert_eq!(taken(&budget, Moment(u64::MAX), 1_000), 100);
            for now in steps {
                budget.dialled(Moment(now));
                // Two hundred dials at most are forty retries.
                budget.take(Moment(now));
            }
            prop_assert!(taken(&budget, Moment(0), 1_000) <= 40);
        }
    }
}
