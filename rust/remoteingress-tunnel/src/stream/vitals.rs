//! A stream's key, the bytes that it has moved, its life and its facts, whoever takes its bytes at this end.

use super::facts::Facts;
use super::first_byte::{FirstByte, TargetSide};
use remoteingress_core::stream::StreamLife;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::wire::frame::StreamId;
use std::cell::{Cell, OnceCell};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last number given to a stream of this process, in events.
static SERIAL: AtomicU64 = AtomicU64::new(0);
/// Ticks count from here.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Unit of a stream's age: 32 bits of it last for a year.
const TICK: Duration = Duration::from_millis(10);

/// Ticks by which a stream may be younger than the moment that its age is counted to.
const EARLIEST: u32 = 6_000;

/// Kept by each stream, in place: an idle one pays for it.
pub(crate) struct Vitals {
    key: StreamKey,
    serial: u64,
    life: Cell<StreamLife>,
    moved: Cell<(u64, u64)>,
    facts: OnceCell<Facts>,
    /// Absent unless it is timed, and once it has come.
    first_byte: Cell<Option<Box<FirstByte>>>,
    /// In ticks.
    opened_at: u32,
    /// Its id in its session, once that has forgotten it; 0: it had none.
    id: Cell<u32>,
}

impl Vitals {
    pub(crate) fn new(key: StreamKey, now: Instant) -> Self {
        Self {
            key,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed) + 1,
            life: Cell::new(StreamLife::new(now)),
            moved: Cell::new((0, 0)),
            facts: OnceCell::new(),
            opened_at: ticks(now),
            id: Cell::new(0),
            first_byte: Cell::new(None),
        }
    }

    /// The same stream, whose bytes somebody else takes from now on.
    pub(crate) fn hand_over(&self) -> Self {
        self.update(StreamLife::handle_handed_over);
        Self {
            key: self.key,
            serial: self.serial,
            life: self.life.clone(),
            moved: self.moved.clone(),
            facts: self.facts.clone(),
            opened_at: self.opened_at,
            id: self.id.clone(),
            first_byte: Cell::new(self.first_byte.take()),
        }
    }

    pub(crate) fn key(&self) -> StreamKey {
        self.key
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes the facts, once.
    pub(crate) fn set_facts(&self, facts: Facts) {
        let _ = self.facts.set(facts);
    }

    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.facts.get()
    }

    /// The stream's age, as far as ticks tell it.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        between(self.opened_at, ticks(now))
    }

    /// The session is about to forget the stream.
    pub(crate) fn keep_id(&self, id: Option<StreamId>) {
        self.id.set(id.map_or(0, |id| id.0));
    }

    /// The id that was kept.
    pub(crate) fn kept_id(&self) -> Option<StreamId> {
        Some(StreamId(self.id.get())).filter(|id| id.0 != 0)
    }

    /// State of the stream's life.
    pub(crate) fn life(&self) -> StreamLife {
        self.life.get()
    }

    /// Tells the stream's life that something has happened.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut StreamLife) -> T) -> T {
        let mut life = self.life.get();
        let told = change(&mut life);
        self.life.set(life);
        told
    }

    /// Payload bytes into the tunnel and out of it so far.
    pub(crate) fn moved(&self) -> (u64, u64) {
        self.moved.get()
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        let (inward, outward) = self.moved.get();
        self.moved.set((inward + bytes as u64, outward));
        if inward == 0 && bytes > 0 {
            self.began(TargetSide::Socket);
        }
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        let (inward, outward) = self.moved.get();
        self.moved.set((inward, outward + bytes as u64));
        if outward == 0 && bytes > 0 {
            self.began(TargetSide::Tunnel);
        }
    }

    /// Times the target's first byte.
    pub(crate) fn time_first_byte(&self, first: FirstByte) {
        self.first_byte.set(Some(Box::new(first)));
    }

    /// Payload of this side has come for the first time.
    fn began(&self, side: TargetSide) {
        match self.first_byte.take() {
            Some(first) if first.side == side => {
                let took = first.since.elapsed();
                first.times.first_byte.record(took);
                if let Some(told) = first.told {
                    told.set(Some(took));
                }
            }
            other => self.first_byte.set(other),
        }
    }

    /// Takes bytes back that were counted, since they will be moved once more.
    pub(crate) fn uncount_out(&self, bytes: usize) {
        let (inward, outward) = self.moved.get();
        self.moved
            .set((inward, outward.saturating_sub(bytes as u64)));
    }
}

/// Time from one tick to another.
fn between(opened_at: u32, now: u32) -> Duration {
    let age = now.wrapping_sub(opened_at);
    // Whoever asks may have looked at the clock before the stream was opened.
    if age > u32::MAX - EARLIEST {
        return Duration::ZERO;
    }
    TICK * age
}

fn ticks(now: Instant) -> u32 {
    let since = now.saturating_duration_since(*BEGIN).as_millis() / TICK.as_millis();
    // It begins anew after a year.
    (since & u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_opened_after_the_look_is_new() {
        assert_eq!(between(500, 498), Duration::ZERO);
        assert_eq!(between(500, 500), Duration::ZERO);
        assert_eq!(between(500, 600), Duration::from_secs(1));
        assert_eq!(between(u32::MAX, 99), Duration::from_secs(1));
    }
}
