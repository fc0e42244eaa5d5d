//! The pick: a target for one stream, and a place at it.

use crate::bank::SEATS;
use crate::client::{ClientKey, mix};
use crate::member::{Out, Slot};
use crate::plan::{Entry, Plan, Strategy};
use crate::region::{Origin, Place};
use crate::scan::{AT_SOFT, Row, least};
use crate::time::Moment;
use remoteingress_config::pool_status::PickReason;

/// What a pick goes by.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The client.
    pub client: ClientKey,
    /// Where it is.
    pub origin: Origin,
    /// Place in the plan of the target that the client is bound to.
    pub bound: Option<usize>,
    /// Places in the plan of targets that this stream has tried in vain.
    pub tried: &'a [usize],
    /// The time.
    pub now: Moment,
}

/// A target, and the place that was taken at it.
#[derive(Debug)]
pub struct Picked {
    /// Its place in the plan.
    pub index: usize,
    /// The stream's place at it.
    pub slot: Slot,
}

impl Picked {
    /// Why it is this one, of the first pick for a stream: by this plan, for what was asked.
    pub fn reason(&self, plan: &Plan, ask: &Ask<'_>) -> PickReason {
        if self.slot.is_last_resort() {
            return PickReason::LastResort;
        }
        if ask.bound == Some(self.index) {
            return PickReason::Binding;
        }
        let entry = plan.entries.get(self.index);
        let place = entry.filter(|_| plan.strategy == Strategy::Geo);
        match place.map(|entry| ask.origin.tier(entry.settings.place, plan.has_countries)) {
            None => PickReason::Strategy,
            Some(0) => PickReason::Tier0,
            Some(1) => PickReason::Tier1,
            Some(2) => PickReason::Tier2,
            Some(_) => PickReason::Tier3,
        }
    }
}

/// Why a stream gets no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// The pool has none.
    Empty,
    /// Those that are left have as many streams as they may have.
    Full,
    /// None that is left takes streams.
    NoneHealthy,
}

/// What a pick sees of one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Distance from the client, lowest first.
    pub tier: u8,
    /// Its streams over its soft limit and weight.
    pub load: f64,
    /// What `geo` compares, lowest first: 100 × tier + load, and 1,000 beside for a target that is at its soft limit, in a
    /// pool that spills there.
    pub score: f64,
    /// Why it gets no stream, if it gets none.
    pub out: Option<Out>,
}

/// Members that were full, or on trial, when a place was to be taken; so many are looked at.
const MAX_TRIES: usize = 8;
/// Draws until those that are out are counted instead.
const MAX_DRAWS: usize = 64;
/// The farthest tier.
const FARTHEST: u8 = 3;
/// Score of a tier, beside the load.
const TIER: f64 = 100.0;
/// Length of a turn for a weight of 1, so that the turns of all weights differ.
const TURN: f64 = (1_u64 << 32) as f64;
/// Scores that are as good as equal.
const EQUAL: f64 = 1e-9;

/// The best target so far of a scan.
#[derive(Debug)]
struct Best {
    index: Option<usize>,
    /// The lowest score.
    score: f64,
    /// Scores above this are higher.
    bar: f64,
    /// Its turn, at the clock's time or later.
    turn: u64,
    clock: u64,
}

impl Best {
    fn new(clock: u64) -> Self {
        Self {
            index: None,
            score: f64::INFINITY,
            bar: f64::INFINITY,
            turn: u64::MAX,
            clock,
        }
    }

    /// Whether its score is higher than this one.
    #[inline]
    fn is_higher(&self, score: f64) -> bool {
        score < self.score - EQUAL
    }

    /// Whether it has its turn before a target with this turn and place. Of equal turns the first in the plan has it.
    #[inline]
    fn is_first(&self, (turn, index): (u64, usize)) -> bool {
        let turn = turn.max(self.clock);
        self.turn < turn || (self.turn == turn && self.index <= Some(index))
    }

    fn replace(&mut self, score: f64, turn: u64, index: usize) {
        if self.is_higher(score) {
            self.score = score;
            self.bar = score + EQUAL;
        }
        self.turn = turn.max(self.clock);
        self.index = Some(index);
    }
}

/// One pick.
#[derive(Debug)]
pub struct Pick<'a> {
    plan: &'a Plan,
    ask: &'a Ask<'a>,
    /// Places of members that had no room after all, and how many they are.
    passed: [usize; MAX_TRIES],
    passes: usize,
    priority: u8,
}

impl<'a> Pick<'a> {
    /// Of this plan, for this stream.
    pub fn new(plan: &'a Plan, ask: &'a Ask<'a>) -> Self {
        Self {
            plan,
            ask,
            passed: [usize::MAX; MAX_TRIES],
            passes: 0,
            priority: 0,
        }
    }

    /// Picks a target and takes a place at it. `random` gives a number of 64 random bits each time.
    ///
    /// # Errors
    /// No target has a place for this stream.
    pub fn take(mut self, random: &mut impl FnMut() -> u64) -> Result<Picked, NoTarget> {
        if self.plan.entries.is_empty() {
            return Err(NoTarget::Empty);
        }
        if let Some(picked) = self.bound() {
            return Ok(picked);
        }
        for _ in 0..MAX_TRIES {
            let Some(index) = self.choose(random) else {
                break;
            };
            match self.reserve(index) {
                Ok(slot) => return Ok(Picked { index, slot }),
                Err(_) => self.pass(index),
            }
        }
        self.last_resort()
    }

    /// What it sees of each target, in the order of the settings.
    pub fn explain(&self) -> Vec<Seen> {
        let ask = self.ask;
        let seen = |(index, entry): (usize, &Entry)| {
            let is_bound = ask.bound == Some(index);
            let out = self.out(entry, is_bound);
            Seen {
                tier: self.tier(entry.settings.place),
                load: self.load(entry),
                score: TIER * f64::from(self.tier(entry.settings.place)) + self.compared(entry),
                out: ask
                    .tried
                    .contains(&index)
                    .then_some(Out::Tried)
                    .or(out)
                    .or_else(|| {
                        (entry.settings.weight == 0 && !is_bound).then_some(Out::Weightless)
                    }),
            }
        };
        self.plan.entries.iter().enumerate().map(seen).collect()
    }

    /// The target that the client is bound to, if that takes it.
    fn bound(&self) -> Option<Picked> {
        let ask = self.ask;
        let index = ask.bound.filter(|index| !ask.tried.contains(index))?;
        let entry = self.plan.entries.get(index)?;
        if self.out(entry, true).is_some() {
            return None;
        }
        let slot = self.reserve(index).ok()?;
        Some(Picked { index, slot })
    }

    /// Where only the breaker keeps targets out, evidence of streams alone: the one whose time is up first.
    fn last_resort(&self) -> Result<Picked, NoTarget> {
        let ask = self.ask;
        let mut first = None;
        let mut is_full = false;
        for (index, entry) in self.plan.entries.iter().enumerate() {
            if entry.settings.weight == 0 || ask.tried.contains(&index) {
                continue;
            }
            let until = match self.out(entry, false) {
                Some(Out::Open { until }) => until,
                Some(Out::Trial) => ask.now,
                Some(Out::Full) => {
                    is_full = true;
                    continue;
                }
                Some(_) | None => continue,
            };
            if first.is_none_or(|(earliest, _)| until < earliest) {
                first = Some((until, index));
            }
        }
        if is_full {
            return Err(NoTarget::Full);
        }
        let (_, index) = first.ok_or(NoTarget::NoneHealthy)?;
        let entry = self.plan.entries.get(index).ok_or(NoTarget::NoneHealthy)?;
        let slot = entry.member.reserve_regardless(entry.settings.hard_limit);
        let slot = slot.map_err(|_| NoTarget::Full)?;
        Ok(Picked { index, slot })
    }

    fn reserve(&self, index: usize) -> Result<Slot, Out> {
        let entry = self.plan.entries.get(index).ok_or(Out::Down)?;
        entry.member.reserve(entry.settings.hard_limit)
    }

    fn tier(&self, place: Place) -> u8 {
        self.ask.origin.tier(place, self.plan.has_countries)
    }

    #[inline]
    fn load(&self, entry: &Entry) -> f64 {
        let load = f64::from(entry.member.streams()) * entry.per_stream;
        if self.plan.starts_slowly {
            load / self.ramp(entry)
        } else {
            load
        }
    }

    /// The load, as scans compare it.
    fn compared(&self, entry: &Entry) -> f64 {
        let streams = entry.member.streams();
        let is_at_soft = streams >= entry.settings.soft_limit.max(1);
        if self.plan.spills_at_soft && is_at_soft {
            return self.load(entry) + AT_SOFT;
        }
        self.load(entry)
    }

    fn out(&self, entry: &Entry, is_bound: bool) -> Option<Out> {
        let hard_limit = entry.settings.hard_limit;
        entry.member.out(self.ask.now, hard_limit, is_bound)
    }

    fn pass(&mut self, index: usize) {
        if let Some(passed) = self.passed.get_mut(self.passes) {
            *passed = index;
            self.passes += 1;
        }
    }

    fn has_passed(&self, index: usize) -> bool {
        let mut passed = self.passed.iter().take(self.passes);
        passed.any(|one| *one == index)
    }

    /// The best target that takes streams, of the first priority that has one.
    fn choose(&mut self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let plan = self.plan;
        plan.priorities.iter().find_map(|priority| {
            self.priority = *priority;
            let this = &*self;
            match plan.strategy {
                Strategy::Geo if plan.spills_at_soft => this.lowest(Row::spilling_loads),
                Strategy::Geo | Strategy::LeastConnections => this.lowest(Row::loads),
                Strategy::RoundRobin => this.draw(|| plan.next_turn(), true),
                Strategy::Random => this.draw(&mut *random, false),
                Strategy::TwoChoices => self.better(&mut *random, |entry| this.load(entry)),
                Strategy::LeastLatency => this.better(&mut *random, delay),
                Strategy::IpHash => match plan.load_bound {
                    None => this.hashed(|_| true),
                    Some(bound) => this.hashed(this.has_room(bound)),
                },
            }
        })
    }

    fn takes(&self, index: usize) -> bool {
        let Some(entry) = self.plan.entries.get(index) else {
            return false;
        };
        entry.settings.priority == self.priority
            && entry.settings.weight > 0
            && self.out(entry, false).is_none()
            && !self.has_passed(index)
            && !self.ask.tried.contains(&index)
    }

    /// The lowest score; those that share it take turns by weight, as start-time fair queueing has it (Goyal, Vin and
    /// Cheng, 1996). Farther tiers are looked at only where nearer ones don't have a lower score than any of theirs.
    fn lowest(&self, loads: impl Fn(&Row) -> [f64; SEATS]) -> Option<usize> {
        let mut best = Best::new(self.plan.clock());
        for tier in 0..=FARTHEST {
            let base = TIER * f64::from(tier);
            if base > best.bar {
                break;
            }
            let groups = self.plan.groups.iter();
            let groups = groups.filter(|group| group.priority == self.priority);
            for group in groups.filter(|group| self.tier(group.place) == tier) {
                for row in &group.rows {
                    let least = base + least(&loads(row));
                    let is_worse = least > best.bar
                        || (!best.is_higher(least) && best.is_first(row.earliest()));
                    if !is_worse {
                        self.look(row, &loads(row), base, &mut best);
                    }
                }
            }
        }
        let index = best.index?;
        let entry = self.plan.entries.get(index)?;
        self.plan.advance_clock(best.turn);
        let length = (TURN / self.share(entry)) as u64;
        let next = best.turn.saturating_add(length);
        entry.member.seat().set_turn(next);
        Some(index)
    }

    /// Looks at the targets of one row, one of which may be better than the best so far.
    #[inline(never)]
    fn look(&self, row: &Row, loads: &[f64; SEATS], base: f64, best: &mut Best) {
        for (at, load) in loads.iter().enumerate() {
            let mut score = base + *load;
            // One that rises is below 0 here. What isn't a number, a seat of another group, is above any bar.
            if score <= best.bar {
                let index = row.index(at);
                if *load < 0.0 {
                    let entry = self.plan.entries.get(index);
                    score = base + entry.map_or(f64::INFINITY, |entry| self.rising(entry));
                }
                let turn = (row.turn(at), index);
                let is_better =
                    best.is_higher(score) || (score <= best.bar && !best.is_first(turn));
                if is_better && self.takes(index) {
                    best.replace(score, row.turn(at), index);
                }
            }
        }
    }

    /// What a target that rises, or has just risen, is compared by.
    #[cold]
    fn rising(&self, entry: &Entry) -> f64 {
        // Where targets don't start slowly nothing else notices that it has risen.
        entry.member.ramp(self.ask.now, entry.slow_start);
        self.compared(entry)
    }

    /// Targets that take streams.
    fn takers(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let entries = self.plan.entries.iter().enumerate();
        entries.filter(|(index, _)| self.takes(*index))
    }

    /// The target at this part, from 0 to 1, of the weights of those that take streams and are `fit`.
    /// Cold, so that what draws and hashes before it comes to this is compiled for that.
    #[cold]
    fn any(&self, part: f64, fit: impl Fn(&Entry) -> bool) -> Option<usize> {
        let takers = || self.takers().filter(|(_, entry)| fit(entry));
        let mut left = part * takers().map(|(_, entry)| self.share(entry)).sum::<f64>();
        let mut last = None;
        for (index, entry) in takers() {
            last = Some(index);
            left -= self.share(entry);
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// The part of its weight that a target has now.
    fn share(&self, entry: &Entry) -> f64 {
        f64::from(entry.settings.weight) * self.ramp(entry)
    }

    /// The share of its weight that a target has.
    fn ramp(&self, entry: &Entry) -> f64 {
        if !self.plan.starts_slowly {
            return 1.0;
        }
        entry.member.ramp(self.ask.now, entry.slow_start)
    }

    /// A target by weight; turns are taken as numbers in order, or at random. One that rises is passed over as often as
    /// its share lacks.
    fn draw(&self, mut number: impl FnMut() -> u64, in_order: bool) -> Option<usize> {
        let turns = &self.plan.turns;
        for _ in 0..MAX_DRAWS {
            let number = number();
            let at = number.checked_rem(turns.len() as u64)?;
            let index = usize::from(*turns.get(usize::try_from(at).ok()?)?);
            if self.takes(index) && self.is_due(index, mix(number)) {
                return Some(index);
            }
        }
        let number = number();
        let part = if in_order {
            golden(number)
        } else {
            unit(number)
        };
        self.any(part, |_| true)
    }

    /// Whether a target that rises takes a stream of this chance.
    fn is_due(&self, index: usize, chance: u64) -> bool {
        let entry = self.plan.entries.get(index);
        entry.is_some_and(|entry| {
            let ramp = self.ramp(entry);
            ramp >= 1.0 || unit(chance) < ramp
        })
    }

    /// The lower score of two draws.
    fn better(
        &self,
        mut random: impl FnMut() -> u64,
        score: impl Fn(&Entry) -> f64,
    ) -> Option<usize> {
        let first = self.draw(&mut random, false)?;
        let score = |index: usize| self.plan.entries.get(index).map_or(f64::INFINITY, &score);
        // The same one again is no choice.
        let other = (0..4).find_map(|_| {
            self.draw(&mut random, false)
                .filter(|other| *other != first)
        });
        match other {
            Some(other) if score(other) < score(first) => Some(other),
            _ => Some(first),
        }
    }

    /// The client's own target; while that is out, or has more than its share, another one that is always the same.
    fn hashed(&self, has_room: impl Fn(&Entry) -> bool) -> Option<usize> {
        let hashes = &self.plan.hashes;
        let ClientKey(client) = self.ask.client;
        for attempt in 0..MAX_TRIES as u64 {
            let hash = if attempt == 0 {
                client
            } else {
                mix(client.wrapping_add(attempt))
            };
            let at = hash.checked_rem(hashes.len() as u64)?;
            let index = usize::from(*hashes.get(usize::try_from(at).ok()?)?);
            let fits = || self.plan.entries.get(index).is_some_and(&has_room);
            if self.takes(index) && self.is_due(index, mix(hash)) && fits() {
                return Some(index);
            }
        }
        self.any(unit(client), has_room)
    }

    /// Whether a target has less than its share of all streams, this one among them, times the bound: consistent hashing
    /// with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2017). As the bound is 1 or more, one always has.
    fn has_room(&self, bound: f64) -> impl Fn(&Entry) -> bool {
        let sums = self
            .takers()
            .fold((1.0, 0.0), |(streams, shares), (_, entry)| {
                let more = f64::from(entry.member.streams());
                (streams + more, shares + self.share(entry))
            });
        // A little less: as a float a whole number of streams can come out above itself, and would allow one more.
        let most = bound * sums.0 / sums.1 * (1.0 - EQUAL);
        move |entry| f64::from(entry.member.streams()) < most * self.share(entry)
    }
}

/// What `leastLatency` compares: a target that was never measured gets one stream, to be measured.
fn delay(entry: &Entry) -> f64 {
    let streams = entry.member.streams();
    match entry.member.latency() {
        None if streams == 0 => 0.0,
        None => f64::INFINITY,
        Some(latency) => latency.as_secs_f64() * f64::from(streams.saturating_add(1)),
    }
}

/// A number from 0 to 1, 1 excluded, of 64 random bits.
pub fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// Numbers in order, spread over 0 to 1 as evenly as any number of them can be: multiples of the golden ratio.
fn golden(number: u64) -> f64 {
    unit(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
