//! The pick: a target for one stream, and a place at it.

use crate::client::{ClientKey, mix};
use crate::member::{Out, Slot};
use crate::plan::{Entry, Plan, Strategy, number};
use crate::region::Origin;
use crate::time::Moment;

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
/// Above the score of any target below its soft limit: the tier is 3 at most, and the load, of a target that rises, 10.
const AT_SOFT: f64 = 1_000.0;
/// Length of a turn for a weight of 1, so that the turns of all weights differ.
const TURN: f64 = (1_u64 << 32) as f64;
/// Scores that are as good as equal.
const EQUAL: f64 = 1e-9;

/// One pick.
#[derive(Debug)]
pub struct Pick<'a> {
    plan: &'a Plan,
    ask: &'a Ask<'a>,
    /// Regions of the client and of the way in, as entries have them; no entry has that of none.
    region: u32,
    local: u32,
    passed: [usize; MAX_TRIES],
    priority: u8,
}

impl<'a> Pick<'a> {
    /// Of this plan, for this stream.
    pub fn new(plan: &'a Plan, ask: &'a Ask<'a>) -> Self {
        Self {
            plan,
            ask,
            region: ask.origin.region.map_or(u32::MAX, number),
            local: ask.origin.local.map_or(u32::MAX, number),
            passed: [usize::MAX; MAX_TRIES],
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
        for passed in 0..MAX_TRIES {
            let Some(index) = self.choose(random) else {
                break;
            };
            match self.reserve(index) {
                Ok(slot) => return Ok(Picked { index, slot }),
                Err(_) => self.pass(passed, index),
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
                tier: self.tier(entry),
                load: self.load(entry),
                score: if self.plan.spills_at_soft {
                    self.spilling_score(entry)
                } else {
                    self.geo_score(entry)
                },
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

    #[inline]
    fn tier(&self, entry: &Entry) -> u8 {
        if self.plan.has_countries {
            return self.ask.origin.tier(entry.settings.place, true);
        }
        // The same without countries, in few instructions.
        match entry.region {
            region if region == self.region => 0,
            region if region == self.local => 1,
            _ => 2,
        }
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

    #[inline]
    fn geo_score(&self, entry: &Entry) -> f64 {
        100.0 * f64::from(self.tier(entry)) + self.load(entry)
    }

    fn spilling_score(&self, entry: &Entry) -> f64 {
        let is_at_soft = entry.member.streams() >= entry.settings.soft_limit.max(1);
        self.geo_score(entry) + if is_at_soft { AT_SOFT } else { 0.0 }
    }

    fn out(&self, entry: &Entry, is_bound: bool) -> Option<Out> {
        let hard_limit = entry.settings.hard_limit;
        entry.member.out(self.ask.now, hard_limit, is_bound)
    }

    fn pass(&mut self, number: usize, index: usize) {
        if let Some(passed) = self.passed.get_mut(number) {
            *passed = index;
        }
    }

    /// The best target that takes streams, of the first priority that has one.
    fn choose(&mut self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let plan = self.plan;
        plan.priorities.iter().find_map(|priority| {
            self.priority = *priority;
            let this = &*self;
            match plan.strategy {
                Strategy::Geo if plan.spills_at_soft => {
                    this.lowest(|entry| this.spilling_score(entry))
                }
                Strategy::Geo => this.lowest(|entry| this.geo_score(entry)),
                Strategy::LeastConnections => this.lowest(|entry| this.load(entry)),
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
            && !self.passed.contains(&index)
            && !self.ask.tried.contains(&index)
    }

    /// The lowest score; those that share it take turns by weight, as start-time fair queueing has it (Goyal, Vin and
    /// Cheng, 1996). Most targets cost a look at their score.
    fn lowest(&self, score: impl Fn(&Entry) -> f64) -> Option<usize> {
        let clock = self.plan.clock();
        let (mut best, mut lowest, mut first) = (None, f64::INFINITY, u64::MAX);
        for (index, entry) in self.plan.entries.iter().enumerate() {
            let score = score(entry);
            if score > lowest + EQUAL {
                continue;
            }
            let turn = entry.member.turn().max(clock);
            let is_lower = score < lowest - EQUAL;
            if (is_lower || turn < first) && self.takes(index) {
                best = Some((index, entry));
                lowest = if is_lower { score } else { lowest };
                first = turn;
            }
        }
        let (index, entry) = best?;
        self.plan.advance_clock(first);
        let length = (TURN / self.share(entry)) as u64;
        entry.member.set_turn(first.saturating_add(length));
        Some(index)
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
        entry.member.ramp(self.ask.now, self.plan.slow_start)
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

/// A number from 0 to 1.
fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// Numbers in order, spread over 0 to 1 as evenly as any number of them can be: multiples of the golden ratio.
fn golden(number: u64) -> f64 {
    unit(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
