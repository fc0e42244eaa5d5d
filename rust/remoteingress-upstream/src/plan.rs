//! One generation of a pool: its targets as they are configured, and the tables that its strategy reads.

use crate::bank::Seating;
use crate::breaker::BreakerRules;
use crate::client::HashSeed;
use crate::member::{Ejections, Member, Numbers};
use crate::region::Place;
use crate::retries::RetryBudget;
use crate::scan::{Group, Grouped, groups};
use crate::tables::{hash_table, turns};
use crate::time::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most targets of one pool.
pub const MAX_TARGETS: usize = 4_096;

pub use remoteingress_config::pools::Strategy;

/// A target as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// Unique in the pool, and the name by which its state is kept.
    pub id: String,
    /// Its share of new streams; 0: none.
    pub weight: u16,
    /// Streams that it has comfortably, at least 1.
    pub soft_limit: u32,
    /// Streams that it has at most; 0: any number.
    pub hard_limit: u32,
    /// Others are used only where all of lower ones are out.
    pub priority: u8,
    /// Where it is.
    pub place: Place,
    /// Time in which it gets its whole share, if it has one of its own.
    pub slow_start: Option<Duration>,
}

/// A pool as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its way to choose.
    pub strategy: Strategy,
    /// Its targets.
    pub targets: Vec<TargetSettings>,
    /// Time in which a target that comes back, or joins others, gets its whole share.
    pub slow_start: Duration,
    /// What failures do to a target.
    pub breaker: BreakerRules,
    /// Members that may be out because streams failed, in percent; the rest is used whatever happens.
    pub max_ejected_percent: u8,
    /// Mixed into hashes of clients and ids.
    pub seed: HashSeed,
    /// With `geo`: targets at their soft limit are left for farther ones below it, and used again once all are at it.
    pub spills_at_soft: bool,
    /// With `ipHash`: streams that a target may have, in percent of its share by weight, before its clients go to the next
    /// target of theirs; below 100 means 100. None: any number.
    pub load_bound_percent: Option<u16>,
}

/// A member and what is configured of it.
#[derive(Debug)]
pub struct Entry {
    /// Its live state.
    pub member: Arc<Member>,
    /// Its settings.
    pub settings: TargetSettings,
    /// 1 / (soft limit × weight); infinite without a weight.
    pub(crate) per_stream: f64,
    /// Time in which it gets its whole share after it came back.
    pub(crate) slow_start: Duration,
}

/// What a pool keeps from one plan to the next.
#[derive(Debug, Default)]
struct Kept {
    members: HashMap<String, Arc<Member>>,
    ejections: Arc<Ejections>,
    shared: Arc<Shared>,
}

/// What all plans of a pool share.
#[derive(Debug, Default)]
struct Shared {
    next_turn: AtomicU64,
    /// The turn of the target that was picked last among those that were as good.
    clock: AtomicU64,
    retries: RetryBudget,
}

/// A pool whose plans follow each other.
#[derive(Debug)]
pub struct Pool {
    numbers: Arc<Numbers>,
    kept: Kept,
}

/// One generation of a pool. Workers share it, and read it without a lock.
#[derive(Debug)]
pub struct Plan {
    pub(crate) strategy: Strategy,
    pub(crate) entries: Vec<Entry>,
    /// Numbers of the members and their places, in order of the numbers.
    places: Vec<(u32, u16)>,
    /// The priorities that entries have, in order.
    pub(crate) priorities: Vec<u8>,
    pub(crate) turns: Vec<u16>,
    pub(crate) hashes: Vec<u16>,
    /// For the ways to choose that look for the lowest score.
    pub(crate) groups: Vec<Group>,
    pub(crate) has_countries: bool,
    /// Some target does.
    pub(crate) starts_slowly: bool,
    pub(crate) spills_at_soft: bool,
    /// Streams over share by weight that a hashed target may have, at least 1.
    pub(crate) load_bound: Option<f64>,
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool without a target. All pools of a hub, whose bindings are in one table, have the same `numbers`.
    pub fn new(numbers: &Arc<Numbers>) -> Self {
        Self {
            numbers: numbers.clone(),
            kept: Kept::default(),
        }
    }

    /// The members of the last plan, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.kept.members.values()
    }

    /// The member of the last plan with this id.
    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.kept.members.get(id)
    }

    /// The next plan. Members keep their state by id; one that is new beside members that stay rises slowly from `now` on.
    /// Targets beyond [`MAX_TARGETS`] are left out.
    pub fn plan(&mut self, settings: &PoolSettings, now: Moment) -> Arc<Plan> {
        let targets = settings.targets.iter().take(MAX_TARGETS);
        let before = std::mem::take(&mut self.kept.members);
        let staying = targets
            .clone()
            .filter(|target| before.contains_key(&target.id))
            .count();
        // Those of one scan next to each other.
        let mut seatings: HashMap<_, Seating> = HashMap::new();
        let entries: Vec<_> = targets
            .map(|target| {
                let member = before.get(&target.id).cloned().unwrap_or_else(|| {
                    let number = self.numbers.take();
                    let ejections = &self.kept.ejections;
                    let seating = seatings.entry((target.priority, target.place));
                    let seat = seating.or_default().next();
                    let member = Member::new(&target.id, number, seat, settings.breaker, ejections);
                    if staying > 0 {
                        member.rise(now);
                    }
                    member
                });
                self.kept.members.insert(target.id.clone(), member.clone());
                Entry::new(member, target, settings.slow_start)
            })
            .collect();
        let ejections = &self.kept.ejections;
        ejections.limit(entries.len(), settings.max_ejected_percent);
        Arc::new(Plan::new(settings, entries, self.kept.shared.clone()))
    }
}

impl Entry {
    /// Its weight, as far as it has risen.
    pub fn effective_weight(&self, now: Moment) -> f64 {
        f64::from(self.settings.weight) * self.member.ramp(now, self.slow_start)
    }

    fn new(member: Arc<Member>, settings: &TargetSettings, slow_start: Duration) -> Self {
        let soft = f64::from(settings.soft_limit.max(1));
        Self {
            member,
            per_stream: 1.0 / (soft * f64::from(settings.weight)),
            slow_start: settings.slow_start.unwrap_or(slow_start),
            settings: settings.clone(),
        }
    }
}

/// The groups that this way to choose scans.
fn scanned(strategy: Strategy, entries: &[Entry]) -> Vec<Group> {
    let has_tiers = match strategy {
        Strategy::Geo => true,
        Strategy::LeastConnections => false,
        Strategy::RoundRobin
        | Strategy::Random
        | Strategy::IpHash
        | Strategy::LeastLatency
        | Strategy::TwoChoices => return Vec::new(),
    };
    let with_weight = (0_u16..).zip(entries);
    let with_weight = with_weight.filter(|(_, entry)| entry.settings.weight > 0);
    groups(with_weight.map(|(index, entry)| Grouped {
        index,
        priority: entry.settings.priority,
        place: if has_tiers {
            entry.settings.place
        } else {
            Place::default()
        },
        seat: entry.member.seat(),
        per_stream: entry.per_stream,
        soft_limit: entry.settings.soft_limit.max(1),
    }))
}

impl Plan {
    fn new(settings: &PoolSettings, entries: Vec<Entry>, shared: Arc<Shared>) -> Self {
        let weights: Vec<_> = entries.iter().map(|entry| entry.settings.weight).collect();
        let mut priorities: Vec<_> = entries
            .iter()
            .map(|entry| entry.settings.priority)
            .collect();
        priorities.sort_unstable();
        priorities.dedup();
        let hashes = if settings.strategy == Strategy::IpHash {
            let ids: Vec<_> = entries.iter().map(|entry| entry.member.id()).collect();
            hash_table(&ids, &weights, settings.seed)
        } else {
            Vec::new()
        };
        let numbers = entries.iter().map(|entry| entry.member.number());
        let mut places: Vec<_> = numbers.zip(0_u16..).collect();
        places.sort_unstable();
        Self {
            strategy: settings.strategy,
            places,
            turns: turns(&weights),
            hashes,
            groups: scanned(settings.strategy, &entries),
            priorities,
            has_countries: entries
                .iter()
                .any(|entry| entry.settings.place.country.is_some()),
            starts_slowly: entries.iter().any(|entry| !entry.slow_start.is_zero()),
            spills_at_soft: settings.spills_at_soft && settings.strategy == Strategy::Geo,
            load_bound: settings
                .load_bound_percent
                .map(|percent| f64::from(percent.max(100)) / 100.0),
            entries,
            shared,
        }
    }

    /// Its members, in the order of the settings.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Its way to choose.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The pool's retries.
    pub fn retries(&self) -> &RetryBudget {
        &self.shared.retries
    }

    /// Place of the member with this number among [`Self::entries`]; none if it isn't in this plan.
    pub fn place_of(&self, number: u32) -> Option<usize> {
        let at = self.places.partition_point(|(one, _)| *one < number);
        let (one, place) = self.places.get(at)?;
        (*one == number).then_some(usize::from(*place))
    }

    /// The time on the clock of turns: a target that has slept has its turn now, and none of those that it missed.
    pub(crate) fn clock(&self) -> u64 {
        self.shared.clock.load(Ordering::Relaxed)
    }

    /// A target has had its turn.
    pub(crate) fn advance_clock(&self, turn: u64) {
        self.shared.clock.fetch_max(turn, Ordering::Relaxed);
    }

    /// The number of the next turn, counted by all workers together.
    pub(crate) fn next_turn(&self) -> u64 {
        self.shared.next_turn.fetch_add(1, Ordering::Relaxed)
    }
}
