//! When an operator is told of clients for whom a pool had no target: each of its events and warnings counts all of those
//! since the one before.

use crate::pick::NoTarget;
use crate::time::Moment;
use remoteingress_config::name::Name;
use std::collections::BTreeMap;
use std::time::Duration;

/// From one event of a pool to the next for the same reason.
const EVENT_INTERVAL: Duration = Duration::from_secs(5);
/// The same for warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Clients that were refused, by their pool and the reason, as far as nobody was told of them. It has no more pools than
/// have refused somebody within a minute.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<Name, [Untold; 3]>);

/// The same of one pool and reason.
#[derive(Debug, Default)]
struct Untold {
    event: Pace,
    warning: Pace,
    /// What the last target did to the first of those that no warning counts yet.
    error: Option<String>,
}

#[derive(Debug, Default)]
struct Pace {
    refused: u64,
    told_at: Option<Moment>,
}

/// What is to be told of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The pool.
    pub pool: Name,
    /// Why it had no target.
    pub reason: NoTarget,
    /// How many an event counts, if one is due.
    pub event: Option<u64>,
    /// How many a warning counts, if one is due.
    pub warning: Option<u64>,
    /// What a target did to one of those that the warning counts.
    pub error: Option<String>,
}

impl Refusals {
    /// A client was refused. `error` says what the last target that was dialled for it did.
    pub fn count(&mut self, pool: &Name, reason: NoTarget, error: impl FnOnce() -> Option<String>) {
        if !self.0.contains_key(pool) {
            self.0.insert(pool.clone(), Default::default());
        }
        let place = ALL.iter().position(|one| *one == reason);
        let reasons = self.0.get_mut(pool);
        let untold = reasons.and_then(|reasons| reasons.get_mut(place?));
        if let Some(untold) = untold {
            untold.event.refused += 1;
            untold.warning.refused += 1;
            if untold.error.is_none() {
                untold.error = error();
            }
        }
    }

    /// What is due now; it counts as told. To be asked about once a second, so that what is told first of many counts all
    /// of a second.
    pub fn due(&mut self, now: Moment) -> Vec<Due> {
        let mut due = Vec::new();
        for (pool, reasons) in &mut self.0 {
            for (untold, reason) in reasons.iter_mut().zip(ALL) {
                let event = untold.event.due(now, EVENT_INTERVAL);
                let warning = untold.warning.due(now, WARNING_INTERVAL);
                if event.or(warning).is_none() {
                    continue;
                }
                let error = warning.and_then(|_| untold.error.take());
                due.push(Due {
                    pool: pool.clone(),
                    reason,
                    event,
                    warning,
                    error,
                });
            }
        }
        let is_over = |untold: &Untold| {
            let recent = |pace: &Pace, interval| pace.refused > 0 || pace.is_recent(now, interval);
            !recent(&untold.event, EVENT_INTERVAL) && !recent(&untold.warning, WARNING_INTERVAL)
        };
        self.0.retain(|_, reasons| !reasons.iter().all(is_over));
        due
    }
}

const ALL: [NoTarget; 3] = [NoTarget::Empty, NoTarget::Full, NoTarget::NoneHealthy];

impl Pace {
    fn is_recent(&self, now: Moment, interval: Duration) -> bool {
        self.told_at.is_some_and(|at| now.since(at) < interval)
    }

    fn due(&mut self, now: Moment, interval: Duration) -> Option<u64> {
        if self.refused == 0 || self.is_recent(now, interval) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NoTarget::{Empty, Full, NoneHealthy};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// What is due after so many seconds: pool, reason, and what event and warning count.
    type Told = (Name, NoTarget, Option<u64>, Option<u64>);

    fn due(refusals: &mut Refusals, secs: u64) -> Vec<Told> {
        let due = refusals.due(Moment(secs * 1_000)).into_iter();
        due.map(|due| (due.pool, due.reason, due.event, due.warning))
            .collect()
    }

    #[test]
    fn an_event_comes_every_five_seconds_and_a_warning_every_minute() {
        let mut refusals = Refusals::default();
        let web = name("web");
        assert_eq!(due(&mut refusals, 0), []);
        for _ in 0..7 {
            refusals.count(&web, Empty, || None);
        }
        let told = (web.clone(), Empty, Some(7), Some(7));
        assert_eq!(due(&mut refusals, 1), [told]);
        // One a second.
        let mut events = Vec::new();
        let mut warnings = Vec::new();
        for secs in 2..=121 {
            refusals.count(&web, Empty, || None);
            for (_, _, event, warning) in due(&mut refusals, secs) {
                events.extend(event.map(|refused| (secs, refused)));
                warnings.extend(warning.map(|refused| (secs, refused)));
            }
        }
        let every_five: Vec<_> = (1..=24).map(|nth| (1 + 5 * nth, 5)).collect();
        assert_eq!(events, every_five);
        assert_eq!(warnings, [(61, 60), (121, 60)]);
        // Nobody else was refused.
        assert_eq!(due(&mut refusals, 126), []);
    }

    #[test]
    fn pools_and_reasons_are_told_apart() {
        let mut refusals = Refusals::default();
        let (mail, web) = (name("mail"), name("web"));
        for (pool, reason) in [
            (&web, Full),
            (&mail, NoneHealthy),
            (&web, Empty),
            (&web, Full),
        ] {
            refusals.count(pool, reason, || None);
        }
        let one =
            |pool: &Name, reason, refused| (pool.clone(), reason, Some(refused), Some(refused));
        let expected = [
            one(&mail, NoneHealthy, 1),
            one(&web, Empty, 1),
            one(&web, Full, 2),
        ];
        assert_eq!(due(&mut refusals, 1), expected);
        refusals.count(&mail, Full, || None);
        assert_eq!(due(&mut refusals, 2), [one(&mail, Full, 1)]);
    }

    #[test]
    fn a_warning_has_the_error_of_the_first_that_it_counts() {
        let mut refusals = Refusals::default();
        let web = name("web");
        let mut error = |secs: u64, error: &str| {
            refusals.count(&web, NoneHealthy, || Some(error.to_owned()));
            let due = refusals.due(Moment(secs * 1_000)).pop();
            due.and_then(|due| due.error)
        };
        assert_eq!(error(1, "one").as_deref(), Some("one"));
        // An event without a warning leaves it there.
        assert_eq!(error(6, "two"), None);
        assert_eq!(error(61, "three").as_deref(), Some("two"));
    }

    #[test]
    fn a_pool_that_refuses_nobody_any_more_is_forgotten() {
        let mut refusals = Refusals::default();
        let web = name("web");
        refusals.count(&web, Empty, || None);
        refusals.due(Moment(1_000));
        refusals.due(Moment(60_999));
        assert_eq!(refusals.0.len(), 1);
        refusals.due(Moment(61_000));
        assert!(refusals.0.is_empty());
        // Not one whose refusals are untold.
        refusals.count(&web, Empty, || None);
        assert_eq!(due(&mut refusals, 61), [(web, Empty, Some(1), Some(1))]);
    }
}
