//! When each target is checked, and what its answers make of it. The checks themselves are done elsewhere.
//!
//! ```text
//!        `fall` bad answers in a row
//!  up ───────────────────────────────► down     an answer that agrees with the state: next check after the interval
//!     ◄───────────────────────────────          one that doesn't: after the fast interval, and the row grows
//!        `rise` good answers in a row
//! ```
//!
//! Times count from the begin of a check, so a target that answers slowly isn't asked less often. First checks are spread
//! over an interval, and so are those that come late because the machine stood still: no moment has a crowd of them. The
//! one that has waited longest is next, so targets that take all of the time allowed delay others and starve none.

use crate::member::Checked;
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// First checks that are spread over one interval: 10 ms apart at 10 s. More begin again at its start, between the others.
const SPREAD: u64 = 1_000;

/// How often a target is checked, and how many answers change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Time from one check's begin to the next, a tenth more or less.
    pub interval: Duration,
    /// The same after an answer that doesn't agree with the target's state; never longer than `interval`.
    pub fast_interval: Duration,
    /// Good answers in a row that bring a target up. 0 is 1.
    pub rise: u32,
    /// Bad answers in a row that take a target down. 0 is 1.
    pub fall: u32,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target answered as it should.
    Good,
    /// It did not.
    Bad,
    /// The check couldn't be done, by a fault of this machine: no descriptor was left. It says nothing of the target.
    Unknown,
}

/// A check that runs. It is given back when it has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    target: u32,
    serial: u64,
}

/// The checks of all targets of a hub, each with a number of its own.
#[derive(Debug)]
pub struct Schedule {
    targets: BTreeMap<u32, Target>,
    /// Targets whose check doesn't run, by the moment of the next.
    due: BTreeSet<(Moment, u32)>,
    running: usize,
    most_at_once: usize,
    /// The next moment that is free for a first check.
    free_from: Moment,
    serial: u64,
}

#[derive(Debug)]
struct Target {
    rhythm: Rhythm,
    state: Checked,
    /// Answers in a row that don't agree with the state.
    against: u32,
    /// It was late by so much that it has been given another moment. That happens once for each check.
    is_put_off: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Waiting { due: Moment },
    Running { begun: Moment, serial: u64 },
}

impl Rhythm {
    /// That of targets without a configured check, of which streams have shown that they fail: one good answer is enough
    /// for trials to begin anew, and nothing but the interval is between two checks.
    pub fn recovery(interval: Duration) -> Self {
        Self {
            interval,
            fast_interval: interval,
            rise: 1,
            fall: 1,
        }
    }

    /// Milliseconds to the next check after an answer that agrees with the state; `unit` is from 0 to 1.
    fn usual(&self, unit: f64) -> u64 {
        // The cast gives 0 for what is no number.
        let spread = (millis(self.interval) as f64 * (0.9 + 0.2 * unit.clamp(0.0, 1.0))) as u64;
        spread.max(1)
    }

    fn fast(&self) -> u64 {
        millis(self.fast_interval.min(self.interval))
    }
}

impl Default for Rhythm {
    /// Every 10 s, or 1 s while the state is about to change; 2 good answers, 3 bad ones.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

impl Check {
    /// Number of the target.
    pub fn target(&self) -> u32 {
        self.target
    }
}

impl Schedule {
    /// No target yet. Of their checks at most `most_at_once` (1 or more) run at the same time.
    pub fn new(most_at_once: usize) -> Self {
        Self {
            targets: BTreeMap::new(),
            due: BTreeSet::new(),
            running: 0,
            most_at_once: most_at_once.max(1),
            free_from: Moment::default(),
            serial: 0,
        }
    }

    /// A target is checked from now on, and counts as `state` until its answers say otherwise. A few of them are checked
    /// at once, a thousand over the first interval. One that is there already keeps its state and its answers: it only
    /// gets another rhythm.
    pub fn add(&mut self, target: u32, rhythm: Rhythm, state: Checked, now: Moment) {
        if self.change(target, rhythm, now) {
            return;
        }
        let due = self.free_moment(rhythm.interval, now);
        self.insert(target, rhythm, state, due);
    }

    /// As [`add`](Self::add), but the first check comes after an interval: for a target of which something else has just
    /// shown that it fails. `unit`, from 0 to 1, spreads it by a tenth each way.
    pub fn add_later(
        &mut self,
        target: u32,
        rhythm: Rhythm,
        state: Checked,
        now: Moment,
        unit: f64,
    ) {
        if !self.change(target, rhythm, now) {
            self.insert(target, rhythm, state, later(now, rhythm.usual(unit)));
        }
    }

    /// A target is checked no more. Its check, if one runs, is to be ended: it no longer counts as one that runs.
    pub fn remove(&mut self, target: u32) {
        match self.targets.remove(&target).map(|target| target.phase) {
            Some(Phase::Waiting { due }) => {
                self.due.remove(&(due, target));
            }
            Some(Phase::Running { .. }) => self.running -= 1,
            None => {}
        }
    }

    /// Begins the check that is due for the longest time; none if none is, or if as many run as may.
    pub fn next(&mut self, now: Moment) -> Option<Check> {
        while self.running < self.most_at_once {
            let &(due, number) = self.due.first().filter(|(due, _)| *due <= now)?;
            self.due.remove(&(due, number));
            let target = self.targets.get(&number)?;
            let interval = target.rhythm.interval;
            let is_put_off = !target.is_put_off && now.since(due) > interval;
            let free = is_put_off.then(|| self.free_moment(interval, now));
            let target = self.targets.get_mut(&number)?;
            target.is_put_off = is_put_off;
            if let Some(due) = free {
                target.phase = Phase::Waiting { due };
                self.due.insert((due, number));
                continue;
            }
            self.serial += 1;
            self.running += 1;
            let serial = self.serial;
            target.phase = Phase::Running { begun: now, serial };
            let target = number;
            return Some(Check { target, serial });
        }
        None
    }

    /// A check has ended. Gives the target's new state if this answer has changed it. `unit`, from 0 to 1, spreads the
    /// next check by a tenth each way. A check of a target that was removed since says nothing.
    pub fn done(
        &mut self,
        check: Check,
        answer: Answer,
        now: Moment,
        unit: f64,
    ) -> Option<Checked> {
        let Check { target, serial } = check;
        let of = self.targets.get_mut(&target)?;
        let begun = match of.phase {
            Phase::Running { begun, serial: own } if own == serial => begun,
            Phase::Running { .. } | Phase::Waiting { .. } => return None,
        };
        let change = of.judge(answer);
        let is_changing = of.against > 0;
        let pause = if is_changing {
            of.rhythm.fast()
        } else {
            of.rhythm.usual(unit)
        };
        // A check that took longer than that is followed by another at once.
        let due = later(begun, pause).max(now);
        of.phase = Phase::Waiting { due };
        self.due.insert((due, target));
        self.running -= 1;
        change
    }

    /// When [`next`](Self::next) is to be called again, if no check ends before; none if it waits for one to end, or if
    /// there is no target.
    pub fn next_at(&self) -> Option<Moment> {
        let first = self.due.first().map(|(due, _)| *due);
        first.filter(|_| self.running < self.most_at_once)
    }

    /// State of a target by its answers; none if it isn't checked.
    pub fn state(&self, target: u32) -> Option<Checked> {
        self.targets.get(&target).map(|target| target.state)
    }

    /// Checks that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Targets that are checked.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    fn insert(&mut self, number: u32, rhythm: Rhythm, state: Checked, due: Moment) {
        let target = Target {
            rhythm,
            state,
            against: 0,
            is_put_off: false,
            phase: Phase::Waiting { due },
        };
        self.targets.insert(number, target);
        self.due.insert((due, number));
    }

    /// Gives a target that is there another rhythm; false if it isn't.
    fn change(&mut self, number: u32, rhythm: Rhythm, now: Moment) -> bool {
        let Some(target) = self.targets.get_mut(&number) else {
            return false;
        };
        let is_other = target.rhythm != rhythm;
        target.rhythm = rhythm;
        // A long pause of the old rhythm doesn't hold back the new one.
        if let Phase::Waiting { due } = target.phase
            && is_other
            && due > later(now, millis(rhythm.interval))
        {
            let sooner = self.free_moment(rhythm.interval, now);
            self.due.remove(&(due, number));
            self.due.insert((sooner, number));
            if let Some(target) = self.targets.get_mut(&number) {
                target.phase = Phase::Waiting { due: sooner };
            }
        }
        true
    }

    /// A moment within the interval from now that has no crowd: now if it is for one target, each next one a bit later.
    fn free_moment(&mut self, interval: Duration, now: Moment) -> Moment {
        let interval = millis(interval);
        // So what was added and removed again and again never pushes this further and further away.
        if self.free_from < now || self.free_from.0 - now.0 > interval {
            self.free_from = now;
        }
        let free = self.free_from;
        self.free_from = later(free, (interval / SPREAD).max(1));
        free
    }
}

impl Target {
    fn judge(&mut self, answer: Answer) -> Option<Checked> {
        let found = match answer {
            Answer::Good => Checked::Up,
            Answer::Bad => Checked::Down,
            Answer::Unknown => return None,
        };
        if found == self.state {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let needed = match found {
            Checked::Up => self.rhythm.rise,
            Checked::Down => self.rhythm.fall,
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.state = found;
        Some(found)
    }
}

/// At least one, so that no rhythm is without a pause.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn later(moment: Moment, millis: u64) -> Moment {
    Moment(moment.0.saturating_add(millis))
}
