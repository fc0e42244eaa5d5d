//! When the operator is told that somebody was refused: a warning per reason and minute, which counts for all.

use crate::refusals::Refused;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A line about those who were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Something to be done: which limit or fault it is, and what helps.
    Warning(&'static str),
    /// Nothing to be done: a tunnel port on the internet has this every day, or while it starts and stops.
    Notice(&'static str),
}

/// A reason is warned of again after this.
const INTERVAL: Duration = Duration::from_secs(60);

/// The refusals that the operator knows of.
#[derive(Debug)]
pub struct RefusalWarnings<R>(BTreeMap<R, Told>);

#[derive(Debug)]
struct Told {
    count: u64,
    at: Instant,
}

/// A warning that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning<R> {
    /// Why they were refused.
    pub reason: R,
    /// How many were refused since the last warning.
    pub refused: u64,
    /// Where the last of them was, if that says something.
    pub last: Option<IpAddr>,
}

impl<R> Default for RefusalWarnings<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Copy + Ord> RefusalWarnings<R> {
    /// The warnings that are due now, by all counts so far; they count as written. To be asked about once a second, so
    /// that the first one of a burst counts all of that.
    pub fn due(
        &mut self,
        now: Instant,
        counts: impl IntoIterator<Item = (R, Refused)>,
    ) -> Vec<Warning<R>> {
        let mut due = Vec::new();
        for (reason, Refused { count, last }) in counts {
            let told = self.0.get(&reason);
            let known = told.map_or(0, |told| told.count);
            let is_recent = told.is_some_and(|told| now < told.at + INTERVAL);
            if count > known && !is_recent {
                self.0.insert(reason, Told { count, at: now });
                due.push(Warning {
                    reason,
                    refused: count - known,
                    last,
                });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;
    use crate::refusals::Refusals;

    #[test]
    fn each_reason_is_told_once_a_minute_with_the_number_of_those_since() {
        let now = any_instant();
        let address = IpAddr::from([192, 0, 2, 1]);
        let (refusals, mut warnings) = (Refusals::default(), RefusalWarnings::default());
        let later = |secs| now + Duration::from_secs(secs);
        let told = |warnings: &mut RefusalWarnings<char>, secs| {
            let due = warnings.due(later(secs), refusals.all());
            let told = |warning: Warning<char>| (warning.reason, warning.refused, warning.last);
            due.into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(told(&mut warnings, 0), []);
        for _ in 0..197 {
            refusals.count_from('a', address);
        }
        assert_eq!(told(&mut warnings, 1), [('a', 197, Some(address))]);
        refusals.count('a');
        refusals.count('b');
        assert_eq!(told(&mut warnings, 2), [('b', 1, None)]);
        refusals.count('a');
        assert_eq!(told(&mut warnings, 60), []);
        assert_eq!(told(&mut warnings, 61), [('a', 2, Some(address))]);
        assert_eq!(told(&mut warnings, 1_000), []);
        assert_eq!(refusals.snapshot()[&'a'], 199);
    }
}
