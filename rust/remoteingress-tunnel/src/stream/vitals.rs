//! A stream's key, the bytes that it has moved, its life and its facts, whoever takes its bytes at this end.

use super::facts::Facts;
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

/// Kept by each stream, in place: an idle one pays for it.
pub(crate) struct Vitals {
    key: StreamKey,
    serial: u64,
    life: Cell<StreamLife>,
    moved: Cell<(u64, u64)>,
    facts: OnceCell<Facts>,
    times: OnceCell<Box<Times>>,
    /// In ticks.
    opened_at: u32,
    /// Its id in its session, once that has forgotten it; 0: it had none.
    id: Cell<u32>,
}

/// Times of a stream that somebody wants to know.
#[derive(Clone)]
struct Times {
    /// The first payload into the tunnel.
    first_in: Cell<Option<Instant>>,
    /// The first payload out of it.
    first_out: Cell<Option<Instant>>,
}

impl Vitals {
    pub(crate) fn new(key: StreamKey, now: Instant) -> Self {
        Self {
            key,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed) + 1,
            life: Cell::new(StreamLife::new(now)),
            moved: Cell::new((0, 0)),
            facts: OnceCell::new(),
            times: OnceCell::new(),
            opened_at: ticks(now),
            id: Cell::new(0),
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
            times: self.times.clone(),
            opened_at: self.opened_at,
            id: self.id.clone(),
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
        TICK * ticks(now).wrapping_sub(self.opened_at)
    }

    /// The session is about to forget the stream.
    pub(crate) fn keep_id(&self, id: Option<StreamId>) {
        self.id.set(id.map_or(0, |id| id.0));
    }

    /// The id that was kept.
    pub(crate) fn kept_id(&self) -> Option<StreamId> {
        Some(StreamId(self.id.get())).filter(|id| id.0 != 0)
    }

    /// Somebody wants to know the times from now on.
    pub(crate) fn begin_times(&self) {
        self.times.get_or_init(|| {
            Box::new(Times {
                first_in: Cell::new(None),
                first_out: Cell::new(None),
            })
        });
    }

    /// Times of the first payload into the tunnel and out of it.
    pub(crate) fn first_bytes(&self) -> (Option<Instant>, Option<Instant>) {
        let times = self.times.get();
        times.map_or((None, None), |times| {
            (times.first_in.get(), times.first_out.get())
        })
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
        if inward == 0 {
            self.first(|times| &times.first_in);
        }
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        let (inward, outward) = self.moved.get();
        self.moved.set((inward, outward + bytes as u64));
        if outward == 0 && bytes > 0 {
            self.first(|times| &times.first_out);
        }
    }

    #[cold]
    fn first(&self, of: impl FnOnce(&Times) -> &Cell<Option<Instant>>) {
        if let Some(times) = self.times.get() {
            of(times).set(Some(Instant::now()));
        }
    }

    /// Takes bytes back that were counted, since they will be moved once more.
    pub(crate) fn uncount_out(&self, bytes: usize) {
        let (inward, outward) = self.moved.get();
        self.moved
            .set((inward, outward.saturating_sub(bytes as u64)));
    }
}

fn ticks(now: Instant) -> u32 {
    let since = now.saturating_duration_since(*BEGIN).as_millis() / TICK.as_millis();
    // It begins anew after a year.
    (since & u128::from(u32::MAX)) as u32
}
