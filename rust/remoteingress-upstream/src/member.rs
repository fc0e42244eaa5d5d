//! What is known of one target while streams come and go: it outlives every plan that names it.

use crate::bank::Seat;
use crate::breaker::{Breaker, BreakerRules, Phase, SavedBreaker};
use crate::latency::{Latency, SavedLatency};
use crate::time::Moment;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An operator's word on a target. It stands apart from health, and outlives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// It takes streams.
    #[default]
    Active,
    /// It takes no new clients; those that are bound to it may come.
    Drain,
    /// It takes no streams.
    Dead,
}

/// What the checks of a target have found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checked {
    /// It isn't checked, or has answered well.
    #[default]
    Up,
    /// It hasn't answered, or not well.
    Down,
}

/// The numbers of a hub's targets, handed out upwards. One serves all pools, so that a binding names its target by a
/// number alone.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU32);

/// Members of a pool that are out because streams failed, and how many may be.
#[derive(Debug, Default)]
pub struct Ejections {
    out: AtomicU32,
    most: AtomicU32,
}

/// Why a member gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// An operator has said so.
    Admin(Admin),
    /// Its checks have failed.
    Down,
    /// Streams to it have failed; it is tried again then.
    Open {
        /// Begin of its trials.
        until: Moment,
    },
    /// It is tried with one stream at a time, and that is on its way.
    Trial,
    /// It has as many streams as it may have.
    Full,
    /// It is to get no new clients: its weight is 0.
    Weightless,
    /// This stream has tried it.
    Tried,
}

/// Health that is older than this says nothing of the target any more.
pub const HEALTH_LASTS: Duration = Duration::from_secs(60);

/// State of a target, as it is kept over a restart of the hub. Moments begin anew with it, so that all times here are
/// relative to the moment of saving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedMember {
    /// The operator's word. It has no end.
    pub admin: Admin,
    /// What was learned of it. It lasts as long as [`HEALTH_LASTS`].
    pub health: SavedHealth,
}

/// What was learned of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedHealth {
    /// What its checks have found.
    pub checked: Checked,
    /// Failures since the last stream that went well.
    pub failures: u32,
    /// Its breaker.
    pub breaker: SavedBreaker,
    /// Time that a connect takes, if that was measured.
    pub latency: Option<SavedLatency>,
}

/// The state of one target, shared by all workers. Each has cache lines of its own for all but its streams and turn, which
/// scans read.
#[repr(align(128))]
pub struct Member {
    id: Box<str>,
    number: u32,
    /// Its streams and its turn.
    seat: Seat,
    admin: AtomicU8,
    checked: AtomicU8,
    /// The breaker's, for those that only look: 0 while it is closed, else its end and one.
    open_until: AtomicU64,
    on_trial: AtomicBool,
    /// Failures since the last stream that went well. Read first, so that success takes no lock.
    failures: AtomicU32,
    /// Streams in a row that it took and reset before anything was said.
    resets: AtomicU32,
    latency: Latency,
    /// Since when it takes more and more streams, and one; 0 if it takes all.
    rising_since: AtomicU64,
    total: AtomicU64,
    failed: AtomicU64,
    /// Why its last check failed.
    check_error: Mutex<Option<Box<str>>>,
    breaker: Mutex<Breaker>,
    ejections: Arc<Ejections>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("streams", &self.streams())
            .finish_non_exhaustive()
    }
}

impl Numbers {
    /// A number above 0 that no other target has. They begin anew after 2^32, which is more targets than a hub meets within the
    /// longest time that a binding lasts, a week: 7,000 a second.
    pub fn take(&self) -> u32 {
        self.0
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
            .max(1)
    }
}

impl Ejections {
    /// Sets how many may be out: of so many members, this share of them in percent.
    pub(crate) fn limit(&self, members: usize, percent: u8) {
        let most = members.saturating_mul(percent.into()) / 100;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.most.store(most, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        let more = |out| (out < self.most.load(Ordering::Relaxed)).then_some(out + 1);
        let taken = self
            .out
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more);
        taken.is_ok()
    }

    fn give_back(&self) {
        self.out.fetch_sub(1, Ordering::AcqRel);
    }

    /// Members that are out now.
    pub fn out(&self) -> u32 {
        self.out.load(Ordering::Relaxed)
    }
}

impl Member {
    /// A target without a stream, known by this id, and in bindings by this number.
    pub(crate) fn new(
        id: &str,
        number: u32,
        seat: Seat,
        rules: BreakerRules,
        ejections: &Arc<Ejections>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            number,
            seat,
            admin: AtomicU8::new(0),
            checked: AtomicU8::new(0),
            open_until: AtomicU64::new(0),
            on_trial: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            latency: Latency::default(),
            rising_since: AtomicU64::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            check_error: Mutex::default(),
            breaker: Mutex::new(Breaker::new(rules)),
            ejections: ejections.clone(),
        })
    }

    /// The state that it had when it was saved, `age` ago: for a member that has had no stream yet, in a plan. Of its pool
    /// no more members are out than may be.
    pub fn restore(&self, saved: &SavedMember, age: Duration, now: Moment) {
        self.set_admin(saved.admin);
        if age > HEALTH_LASTS {
            return;
        }
        let health = &saved.health;
        self.checked.store(health.checked as u8, Ordering::Relaxed);
        // The breaker hears of a good stream only where there are failures.
        let failures = health.failures.max(health.breaker.in_a_row);
        self.failures.store(failures, Ordering::Relaxed);
        self.change(|breaker| {
            let is_out = breaker.phase() != Phase::Closed;
            let is_to_be_out = health.breaker.open_for.is_some();
            let may_open = is_to_be_out && (is_out || self.ejections.take());
            breaker.restore(health.breaker, age, now, may_open);
        });
        if let Some(latency) = health.latency {
            self.latency.restore(latency, age, now);
        }
    }

    /// What a state file keeps of it.
    pub fn saved(&self, now: Moment) -> SavedMember {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        SavedMember {
            admin: self.admin(),
            health: SavedHealth {
                checked: self.checked(),
                failures: self.failures(),
                breaker: breaker.saved(now),
                latency: self.latency.saved(now),
            },
        }
    }

    /// Its id in the pool.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its number among the targets of all pools of the hub.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Streams that it has now, those whose dial is under way among them.
    pub fn streams(&self) -> u32 {
        self.seat.streams()
    }

    /// Streams that it was chosen for so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The operator's word.
    pub fn admin(&self) -> Admin {
        match self.admin.load(Ordering::Relaxed) {
            0 => Admin::Active,
            1 => Admin::Drain,
            _ => Admin::Dead,
        }
    }

    /// The operator has spoken.
    pub fn set_admin(&self, admin: Admin) {
        self.admin.store(admin as u8, Ordering::Relaxed);
    }

    /// What its checks have found.
    pub fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Relaxed) {
            0 => Checked::Up,
            _ => Checked::Down,
        }
    }

    /// A check has come to another result. A target that comes up rises from `now` on.
    pub fn set_checked(&self, checked: Checked, now: Moment) {
        let before = self.checked.swap(checked as u8, Ordering::Relaxed);
        if before != checked as u8 && checked == Checked::Up {
            self.rise(now);
        }
    }

    /// Why its last check failed; none if that was good, or there was none.
    pub fn check_error(&self) -> Option<String> {
        self.last_check_error().as_deref().map(str::to_owned)
    }

    /// A check has failed for this reason, or was good, or there are none any more.
    pub fn set_check_error(&self, error: Option<String>) {
        *self.last_check_error() = error.map(String::into_boxed_str);
    }

    fn last_check_error(&self) -> MutexGuard<'_, Option<Box<str>>> {
        let error = self.check_error.lock();
        error.unwrap_or_else(PoisonError::into_inner)
    }

    /// It takes more and more streams from now on, if its pool starts targets slowly.
    pub fn rise(&self, now: Moment) {
        let since = now.0.saturating_add(1);
        self.rising_since.store(since, Ordering::Release);
        self.seat.set_rising(true);
    }

    /// The share of its weight that it has, after it has risen for a part of `slow_start`: a tenth at first, then linear.
    pub fn ramp(&self, now: Moment, slow_start: Duration) -> f64 {
        let since = self.rising_since.load(Ordering::Acquire);
        if since == 0 {
            return 1.0;
        }
        let time = now.since(Moment(since - 1));
        if time >= slow_start {
            self.has_risen(since);
            return 1.0;
        }
        (0.1 + 0.9 * time.as_secs_f64() / slow_start.as_secs_f64()).min(1.0)
    }

    fn has_risen(&self, since: u64) {
        let (ended, other) = (Ordering::AcqRel, Ordering::Acquire);
        let is_this = self
            .rising_since
            .compare_exchange(since, 0, ended, other)
            .is_ok();
        self.seat.set_rising(false);
        // It may have begun anew meanwhile.
        if !is_this || self.rising_since.load(other) != 0 {
            self.seat.set_rising(true);
        }
    }

    /// The breaker's state.
    pub fn phase(&self) -> Phase {
        match self.open_until.load(Ordering::Acquire) {
            0 => Phase::Closed,
            end => Phase::Open {
                until: Moment(end - 1),
            },
        }
    }

    /// Failures since the last stream that went well.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why it gets no stream now, if it gets none; `is_bound` for a client that it has already.
    #[inline]
    pub fn out(&self, now: Moment, hard_limit: u32, is_bound: bool) -> Option<Out> {
        match self.admin() {
            Admin::Active => {}
            Admin::Drain if is_bound => {}
            admin @ (Admin::Drain | Admin::Dead) => return Some(Out::Admin(admin)),
        }
        if self.checked() == Checked::Down {
            return Some(Out::Down);
        }
        if let Phase::Open { until } = self.phase() {
            if now < until {
                return Some(Out::Open { until });
            }
            if self.on_trial.load(Ordering::Relaxed) {
                return Some(Out::Trial);
            }
        }
        let is_full = hard_limit != 0 && self.streams() >= hard_limit;
        is_full.then_some(Out::Full)
    }

    /// Takes a place for one stream, so that `hard_limit` holds exactly over all workers (0: none). A member whose breaker
    /// is open gives one place at a time.
    pub fn reserve(self: &Arc<Self>, hard_limit: u32) -> Result<Slot, Out> {
        let is_trial = self.phase() != Phase::Closed;
        if is_trial && self.on_trial.swap(true, Ordering::AcqRel) {
            return Err(Out::Trial);
        }
        self.take(hard_limit).inspect_err(|_| {
            if is_trial {
                self.on_trial.store(false, Ordering::Release);
            }
        })?;
        Ok(Slot {
            member: self.clone(),
            given: if is_trial {
                Given::OnTrial
            } else {
                Given::AsUsual
            },
            has_failed: false,
        })
    }

    /// As [`Self::reserve`] without asking the breaker.
    pub(crate) fn reserve_regardless(self: &Arc<Self>, hard_limit: u32) -> Result<Slot, Out> {
        self.take(hard_limit)?;
        Ok(Slot {
            member: self.clone(),
            given: Given::Regardless,
            has_failed: false,
        })
    }

    fn take(&self, hard_limit: u32) -> Result<(), Out> {
        if !self.seat.add(hard_limit) {
            return Err(Out::Full);
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn succeeded(&self, now: Moment, connect: Duration) {
        self.latency.measure(now, connect);
        if self.failures() == 0 && self.phase() == Phase::Closed {
            return;
        }
        let before = self.phase();
        self.change(|breaker| breaker.succeeded(now));
        if self.phase() == Phase::Closed {
            self.failures.store(0, Ordering::Relaxed);
            if before != Phase::Closed {
                self.rise(now);
            }
        }
    }

    fn has_failed(&self, now: Moment, unit: f64) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.change(|breaker| {
            // Asked only where the breaker would open: a place among the ejected is taken for that.
            let may_open = breaker.is_tripping() && self.ejections.take();
            breaker.failed(now, may_open, unit);
        });
    }

    /// It took a stream, and reset it before anybody said anything. That it took it doesn't make up for that.
    fn has_reset(&self, now: Moment, unit: f64) {
        let in_a_row = self
            .resets
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        self.change(|breaker| {
            let is_enough = breaker.phase() == Phase::Closed && breaker.is_enough(in_a_row);
            if is_enough && self.ejections.take() {
                breaker.trip(now, unit);
                self.failures.store(in_a_row, Ordering::Relaxed);
                self.resets.store(0, Ordering::Relaxed);
            }
        });
    }

    /// Somebody has looked at it while it got no streams, and found it well: it takes streams again.
    pub fn revive(&self, now: Moment) {
        if self.phase() == Phase::Closed {
            return;
        }
        self.change(Breaker::reset);
        self.failures.store(0, Ordering::Relaxed);
        self.rise(now);
    }

    /// Changes the breaker, and shows its new state to those that only look.
    fn change(&self, change: impl FnOnce(&mut Breaker)) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.phase();
        change(&mut breaker);
        let after = breaker.phase();
        let shown = match after {
            Phase::Closed => 0,
            Phase::Open { until } => until.0.saturating_add(1),
        };
        self.open_until.store(shown, Ordering::Release);
        if before != Phase::Closed && after == Phase::Closed {
            self.ejections.give_back();
        }
    }

    /// Time that a connect takes, as it was measured; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.get()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.phase() != Phase::Closed {
            self.ejections.give_back();
        }
    }
}

/// A place at a member, for one stream or flow. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    member: Arc<Member>,
    given: Given,
    /// It counts as failed.
    has_failed: bool,
}

/// What the breaker says of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    AsUsual,
    /// The one stream that a member with an open breaker gets, until its fate is known.
    OnTrial,
    /// It wasn't asked.
    Regardless,
}

impl Slot {
    /// The member that it is at.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// No target took streams: this one has it although its breaker is open.
    pub fn is_last_resort(&self) -> bool {
        self.given == Given::Regardless
    }

    /// The target took the stream, `connect` after the dial began.
    pub fn succeeded(&mut self, now: Moment, connect: Duration) {
        self.member.succeeded(now, connect);
        self.end_trial();
    }

    /// The target refused, didn't answer, or answered too late; `unit` is a random number from 0 to 1. What the client or
    /// this hub is to blame for doesn't belong here: drop the slot. A flow may fail again and again where it stays: each time
    /// says something of the target, and the flow counts as one that failed.
    pub fn failed(&mut self, now: Moment, unit: f64) {
        self.count_failure();
        self.member.has_failed(now, unit);
        self.end_trial();
    }

    /// The stream isn't dialled after all: it isn't counted as one that the target was to get.
    pub fn give_back_unused(self) {
        self.member.total.fetch_sub(1, Ordering::Relaxed);
    }

    /// The target reset the stream, which it had taken, before it or the client said anything.
    pub fn was_reset(&mut self, now: Moment, unit: f64) {
        self.count_failure();
        self.member.has_reset(now, unit);
    }

    /// The target has said something.
    pub fn spoke(&mut self) {
        if self.member.resets.load(Ordering::Relaxed) != 0 {
            self.member.resets.store(0, Ordering::Relaxed);
        }
    }

    fn count_failure(&mut self) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.member.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn end_trial(&mut self) {
        if self.given == Given::OnTrial {
            self.given = Given::AsUsual;
            self.member.on_trial.store(false, Ordering::Release);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end_trial();
        self.member.seat.remove();
    }
}
