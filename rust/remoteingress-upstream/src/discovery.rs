//! The targets that a name in the DNS gives, over good answers, bad ones and none.
//!
//! A lookup that fails must not take the targets of a pool away, and an answer that was cut short must not cut streams:
//!
//! ```text
//!            a good answer has it             a good one doesn't, or none came
//!                                             for the time of the hold
//! not known ─────────────────────► present ──────────────────────────────────► leaving ───► not known
//!                                     ▲                                           │    30 s
//!                                     └────────── a good answer has it ───────────┘
//! ```
//!
//! - A target that a good answer no longer has is *leaving* for 30 s: no new clients, then it is gone. If it is in an answer
//!   before that, it is present again. It has the same id whenever it comes, so that what is known of its health holds.
//! - An empty answer, and one that says that the name doesn't exist, keep the targets for the time of the hold. If such
//!   answers still come after that, all of them leave: somebody has emptied the name.
//! - A lookup without an answer (timeout, SERVFAIL, refused) keeps the targets for as long as it takes: that says
//!   something of the name server, and nothing of them. It doesn't stop the time of a hold that has begun, but only a
//!   lookup that is answered ends it.
//!
//! The driver calls [`handle_answer`](Discovery::handle_answer) or [`handle_failure`](Discovery::handle_failure) at the end
//! of each lookup, begins the next at [`refresh_at`](Discovery::refresh_at), and calls
//! [`handle_timeout`](Discovery::handle_timeout) at [`poll_timeout`](Discovery::poll_timeout). Only one lookup of a name
//! runs at a time.

use crate::time::Moment;
use std::time::Duration;

mod answer;

pub use answer::{Answer, Family, Found, MAX_RECORDS, Target};

/// Targets that are leaving at one time. Where more would be, the first to leave are gone at once.
const MAX_LEAVING: usize = 256;
/// How long a target that vanishes from the answers may still have the clients that it has: servers leave records out
/// where an answer is cut to the size of a datagram, and have them again in the next.
const DRAIN: Duration = Duration::from_secs(30);
/// No name is looked up more often, even if its records say 0.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
/// Each name is looked up at least this often, though its records may be used for longer.
const LONGEST_REFRESH: Duration = Duration::from_secs(300);
/// Time to the lookup after the first failure; doubles with each one in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Most time between lookups while they fail.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Why a lookup gave no targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name exists, and has no record of the type that was asked for.
    Empty,
    /// The name doesn't exist (NXDOMAIN).
    NoSuchName,
    /// No usable answer: timeout, SERVFAIL, refused, damaged.
    Error,
}

/// How far the targets of a name can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No lookup has ended well yet, and there are no targets.
    Unanswered {
        /// The last lookup's failure; none before the first has ended.
        failure: Option<Failure>,
    },
    /// The targets are those of the last lookup.
    Current,
    /// The last lookup failed; the targets are those of an earlier one.
    Held {
        /// The last lookup's failure.
        failure: Failure,
        /// End of the first lookup in a row that failed.
        since: Moment,
        /// When the targets leave if no better answer comes; none if they stay for as long as lookups fail.
        until: Option<Moment>,
    },
    /// The targets have left, since for longer than the hold the name had none.
    Emptied {
        /// The last lookup's failure.
        failure: Failure,
    },
}

/// Targets of one name.
#[derive(Clone, Debug)]
pub struct Discovery {
    hold: Duration,
    /// By their ids.
    targets: Vec<Target>,
    has_answer: HasAnswer,
    failing: Option<Failing>,
    refresh_at: Moment,
    cut: usize,
}

/// The answer that the targets are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HasAnswer {
    NotYet,
    Yes,
    NoLonger,
}

/// Lookups in a row that failed, up to now.
#[derive(Clone, Copy, Debug)]
struct Failing {
    latest: Failure,
    count: u32,
    since: Moment,
    /// End of the first of them whose answer said that there is no target.
    empty_since: Option<Moment>,
}

impl Failure {
    /// That of an answer without records: it says that there are none only if all of it is there.
    fn of_empty(answer: &Answer) -> Self {
        match answer.missing {
            Some(_) => Self::Error,
            None => Self::Empty,
        }
    }

    /// True if the name server has said that the name has no targets.
    fn is_answer(self) -> bool {
        match self {
            Self::Empty | Self::NoSuchName => true,
            Self::Error => false,
        }
    }
}

impl Discovery {
    /// A name that hasn't been looked up, and is to be at once. `hold` is how long it keeps its targets while answers say
    /// that there are none.
    pub fn new(hold: Duration, now: Moment) -> Self {
        Self {
            hold,
            targets: Vec::new(),
            has_answer: HasAnswer::NotYet,
            failing: None,
            refresh_at: now,
            cut: 0,
        }
    }

    /// A lookup ended with a good answer. True if that changed the targets.
    ///
    /// Where the lookup of one family of addresses failed, the targets of that family stay as they are.
    pub fn handle_answer(&mut self, mut answer: Answer, now: Moment) -> bool {
        if answer.records.is_empty() {
            return self.handle_failure(Failure::of_empty(&answer), now);
        }
        let mut changed = self.expire(now);
        if let Some(family) = answer.missing {
            let kept = self.targets.iter().filter(|target| {
                target.leaving.is_none() && target.port.is_none() && family.has(&target.id)
            });
            let kept = kept.filter_map(|target| target.id.parse().ok());
            answer.records.extend(kept.map(Found::address));
        }
        let (targets, cut) = answer::targets(answer.records);
        changed |= self.replace(targets, now);
        self.cut = cut;
        self.has_answer = HasAnswer::Yes;
        self.failing = None;
        // While one family's lookup fails, the whole is looked up as often as if both failed for long.
        let longest = match answer.missing {
            Some(_) => LONGEST_RETRY,
            None => LONGEST_REFRESH,
        };
        self.refresh_at = now.after(answer.ttl.clamp(SHORTEST_REFRESH, longest));
        changed
    }

    /// A lookup ended without a target. True if that changed the targets.
    pub fn handle_failure(&mut self, failure: Failure, now: Moment) -> bool {
        let before = self.failing.unwrap_or(Failing {
            latest: failure,
            count: 0,
            since: now,
            empty_since: None,
        });
        self.failing = Some(Failing {
            latest: failure,
            count: before.count.saturating_add(1),
            empty_since: before
                .empty_since
                .or_else(|| failure.is_answer().then_some(now)),
            ..before
        });
        // 2^5 times the first is beyond the longest.
        let doubled = FIRST_RETRY.saturating_mul(1 << before.count.min(5));
        self.refresh_at = now.after(doubled.min(LONGEST_RETRY));
        self.expire(now)
    }

    /// Ends what has its end before or at `now`. True if that changed the targets.
    pub fn handle_timeout(&mut self, now: Moment) -> bool {
        self.expire(now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if no lookup ends before.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let leaving = self.targets.iter().filter_map(|target| target.leaving);
        leaving.chain(self.hold_ends()).min()
    }

    /// When the next lookup is to begin. It stays as it is until a lookup ends.
    pub fn refresh_at(&self) -> Moment {
        self.refresh_at
    }

    /// The targets in force and those that are leaving, by their ids.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How far the targets can be relied on.
    pub fn state(&self) -> State {
        let Some(failing) = self.failing else {
            return match self.has_answer {
                HasAnswer::NotYet => State::Unanswered { failure: None },
                // Without a failure since, the last answer has set the targets.
                HasAnswer::Yes | HasAnswer::NoLonger => State::Current,
            };
        };
        let failure = failing.latest;
        match self.has_answer {
            HasAnswer::NotYet => State::Unanswered {
                failure: Some(failure),
            },
            HasAnswer::Yes => State::Held {
                failure,
                since: failing.since,
                until: self.hold_ends(),
            },
            HasAnswer::NoLonger => State::Emptied { failure },
        }
    }

    /// Records of the last good answer that were too many, beyond the first [`MAX_RECORDS`].
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// When the targets leave, if the last lookup was answered and there are none.
    fn hold_ends(&self) -> Option<Moment> {
        let failing = self.failing?;
        if self.has_answer != HasAnswer::Yes || !failing.latest.is_answer() {
            return None;
        }
        Some(failing.empty_since?.after(self.hold))
    }

    fn expire(&mut self, now: Moment) -> bool {
        self.survive_jump(now);
        let before = self.targets.len();
        let is_there = |target: &Target| target.leaving.is_none_or(|until| until > now);
        self.targets.retain(is_there);
        let gone = self.targets.len() != before;
        if self.hold_ends().is_none_or(|end| end > now) {
            return gone;
        }
        self.has_answer = HasAnswer::NoLonger;
        self.cut = 0;
        self.replace(Vec::new(), now) | gone
    }

    /// Nothing ends later than it would if it had begun now: a clock that went back must not stop the lookups for years.
    fn survive_jump(&mut self, now: Moment) {
        self.refresh_at = self.refresh_at.min(now.after(LONGEST_REFRESH));
        for leaving in self
            .targets
            .iter_mut()
            .filter_map(|one| one.leaving.as_mut())
        {
            *leaving = (*leaving).min(now.after(DRAIN));
        }
        if let Some(failing) = &mut self.failing {
            failing.since = failing.since.min(now);
            failing.empty_since = failing.empty_since.map(|since| since.min(now));
        }
    }

    /// Makes `present` the targets in force, sorted by their ids. Those that were there and aren't in it leave.
    fn replace(&mut self, present: Vec<Target>, now: Moment) -> bool {
        let before = std::mem::take(&mut self.targets);
        let is_present = |id: &str| {
            present
                .binary_search_by(|one| one.id.as_str().cmp(id))
                .is_ok()
        };
        let mut leaving: Vec<Target> = before
            .iter()
            .filter(|target| !is_present(&target.id))
            .cloned()
            .collect();
        for target in &mut leaving {
            target.leaving.get_or_insert_with(|| now.after(DRAIN));
        }
        leaving.sort_by_key(|target| target.leaving);
        leaving.drain(..leaving.len().saturating_sub(MAX_LEAVING));
        self.targets = present;
        self.targets.append(&mut leaving);
        self.targets.sort_by(|one, other| one.id.cmp(&other.id));
        self.targets != before
    }
}
