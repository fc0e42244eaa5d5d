//! A stream's key, the bytes that it has moved, and its life, whoever takes its bytes at this end.

use super::first_byte::{FirstByte, TargetSide};
use remoteingress_core::stream::StreamLife;
use remoteingress_proto::mux::StreamKey;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The last number given to a stream of this process, in events.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Kept by each stream, in place: an idle one pays for it.
pub(crate) struct Vitals {
    key: StreamKey,
    serial: u64,
    life: Cell<StreamLife>,
    moved: Cell<(u64, u64)>,
    /// Absent unless it is timed, and once it has come.
    first_byte: Cell<Option<Box<FirstByte>>>,
}

impl Vitals {
    pub(crate) fn new(key: StreamKey, now: Instant) -> Self {
        Self {
            key,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed) + 1,
            life: Cell::new(StreamLife::new(now)),
            moved: Cell::new((0, 0)),
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
            first_byte: Cell::new(self.first_byte.take()),
        }
    }

    pub(crate) fn key(&self) -> StreamKey {
        self.key
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
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
                first.times.first_byte.record(first.since.elapsed());
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
