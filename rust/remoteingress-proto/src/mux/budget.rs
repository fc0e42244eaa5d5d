//! The memory budget: credit given is memory promised, and all promises of a process fit one number (D9).
//!
//! The pool is shared by the workers; each leases pieces from it and then counts alone, so the data path
//! reads the shared counter and seldom writes it. A worker's read buffers go round here, too.

use crate::wire::frame::{DataBuffer, MAX_FRAME_LEN};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;
/// Bytes that a worker takes from or gives back to the pool at a time (D9), if the budget is large.
const LARGEST_PIECE: usize = MIB;
/// Of a small budget it takes this part, so that others' unused leases leave most of it.
const PIECES: usize = 128;
/// Pieces that a worker keeps although it doesn't use them, so that a lease doesn't go back and forth.
const SPARE: usize = 2;
/// A full frame: what was leased for one isn't given back before it is used.
const SMALLEST_PIECE: usize = MAX_FRAME_LEN;
/// Less than this isn't worth the look for free pages that gives it back to the system: the heap of a process that
/// has done nothing is about as large.
const WORTH_RETURNING: usize = 16 * MIB;
/// Calls of [`BudgetPool::has_shrunk`], seconds, from one yes to its repetition: by then the transport has freed its part.
const AGAIN: usize = 5;

/// Read buffers that a worker keeps for its next reads: 512 KiB beside the budget, as much as a fast session has on
/// its way.
const MAX_BUFFERS: usize = 32;

/// The use that memory is wanted for; scarce memory is kept for uses that let other memory go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A larger window: only while less than 80 % is committed.
    Growth,
    /// Credit of a new stream, or credit given again: up to 15/16, so that promises to stalled
    /// readers never take the memory that sending needs.
    Credit,
    /// Payload to be sent or not yet acknowledged: all of it.
    Send,
}

/// One process's budget in bytes.
#[derive(Debug)]
pub struct BudgetPool {
    limit: usize,
    piece: usize,
    leased: AtomicUsize,
    /// The most that was leased since `has_shrunk` was asked.
    recently: AtomicUsize,
    /// The most that was leased since it said yes.
    most: AtomicUsize,
    /// Calls of `has_shrunk` until it says yes once more; 0: it doesn't.
    again_in: AtomicUsize,
}

impl BudgetPool {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            piece: (limit / PIECES).clamp(SMALLEST_PIECE, LARGEST_PIECE),
            leased: AtomicUsize::new(0),
            recently: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            again_in: AtomicUsize::new(0),
        })
    }

    /// True if much of what was leased has been given back, and not leased again since the last call. To be
    /// called every second or so, by one thread: what a load needs again and again isn't worth giving away. It is said once
    /// more five calls later, when what the transport held for the same streams, and isn't counted here, is free too.
    pub fn has_shrunk(&self) -> bool {
        let recently = self.recently.swap(self.leased(), Ordering::Relaxed);
        let most = self.most.load(Ordering::Relaxed).max(recently);
        let has_shrunk = most - recently >= WORTH_RETURNING && recently <= most / 2;
        let most = if has_shrunk { recently } else { most };
        self.most.store(most, Ordering::Relaxed);
        let again_in = self.again_in.load(Ordering::Relaxed);
        let next = if has_shrunk {
            AGAIN
        } else {
            again_in.saturating_sub(1)
        };
        self.again_in.store(next, Ordering::Relaxed);
        has_shrunk || again_in == 1
    }

    /// The whole budget in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that workers hold leases on: an upper bound of what is committed.
    pub fn leased(&self) -> usize {
        self.leased.load(Ordering::Relaxed)
    }

    fn try_lease(&self, bytes: usize, most: usize) -> bool {
        let leased = self
            .leased
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |leased| {
                leased.checked_add(bytes).filter(|sum| *sum <= most)
            });
        if let Ok(before) = leased {
            self.recently.fetch_max(before + bytes, Ordering::Relaxed);
        }
        leased.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.leased.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A worker's share of the budget. Clones count together.
#[derive(Clone, Debug)]
pub struct Budget(Rc<Lease>);

#[derive(Debug)]
struct Lease {
    pool: Arc<BudgetPool>,
    leased: Cell<usize>,
    used: Cell<usize>,
    /// As [`DataBuffer::full`] makes them, [`MAX_BUFFERS`] at most.
    buffers: RefCell<Vec<DataBuffer>>,
}

impl Budget {
    /// A worker's share of `pool`; nothing is leased yet.
    pub fn new(pool: Arc<BudgetPool>) -> Self {
        Self(Rc::new(Lease {
            pool,
            leased: Cell::new(0),
            used: Cell::new(0),
            buffers: RefCell::default(),
        }))
    }

    /// A buffer for a read, full-size.
    pub(crate) fn take_buffer(&self) -> DataBuffer {
        let spare = self.0.buffers.borrow_mut().pop();
        spare.unwrap_or_else(DataBuffer::full)
    }

    /// One that wasn't used.
    pub(crate) fn give_back(&self, buffer: DataBuffer) {
        let mut buffers = self.0.buffers.borrow_mut();
        if buffers.len() < MAX_BUFFERS {
            buffers.push(buffer);
        }
    }

    /// A frame isn't needed any more: if it filled a buffer, that is used again.
    pub(crate) fn recycle(&self, frame: Bytes) {
        if frame.len() > MAX_FRAME_LEN / 2
            && let Some(buffer) = DataBuffer::recycled(frame)
        {
            self.give_back(buffer);
        }
    }

    /// Commits `bytes`, or refuses and changes nothing.
    #[must_use]
    pub fn reserve(&self, bytes: usize, purpose: Purpose) -> bool {
        let Lease {
            pool, leased, used, ..
        } = &*self.0;
        let Some(wanted) = used.get().checked_add(bytes) else {
            return false;
        };
        let most = match purpose {
            Purpose::Growth => pool.limit / 5 * 4,
            Purpose::Credit => pool.limit / 16 * 15,
            Purpose::Send => pool.limit,
        };
        // Unused parts of leases count as used by others: that is at most 2 pieces each.
        let others = pool.leased().saturating_sub(leased.get());
        if others.saturating_add(wanted) > most {
            return false;
        }
        if wanted > leased.get() {
            let missing = (wanted - leased.get()).div_ceil(pool.piece) * pool.piece;
            let exact = wanted - leased.get();
            let got = [missing, exact]
                .into_iter()
                .find(|n| pool.try_lease(*n, pool.limit));
            let Some(got) = got else { return false };
            leased.set(leased.get() + got);
        }
        used.set(wanted);
        true
    }

    /// Releases what was committed.
    pub fn release(&self, bytes: usize) {
        let Lease {
            pool, leased, used, ..
        } = &*self.0;
        debug_assert!(bytes <= used.get(), "released {bytes} of {}", used.get());
        used.set(used.get().saturating_sub(bytes));
        let spare = leased.get() - used.get();
        if spare > SPARE * pool.piece {
            let back = (spare - pool.piece) / pool.piece * pool.piece;
            pool.give_back(back);
            leased.set(leased.get() - back);
        }
    }

    /// Bytes this worker has committed.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// Bytes that a new stream's window starts with, by how much of the budget is committed (D9):
    /// 256 KiB below 1/8, 64 KiB to 1/4, 16 KiB to 1/2, 2 KiB beyond.
    pub fn initial_credit(&self) -> u32 {
        let Lease {
            pool, leased, used, ..
        } = &*self.0;
        let committed = pool.leased().saturating_sub(leased.get()) + used.get();
        let limit = pool.limit;
        let kib = if committed < limit / 8 {
            256
        } else if committed < limit / 4 {
            64
        } else if committed < limit / 2 {
            16
        } else {
            2
        };
        kib * 1_024
    }

    /// More than half is committed: buffer as little as possible.
    pub fn is_tight(&self) -> bool {
        let Lease {
            pool, leased, used, ..
        } = &*self.0;
        pool.leased().saturating_sub(leased.get()) + used.get() > pool.limit / 2
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(self.leased.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{MAX_PAYLOAD_LEN, StreamId};

    #[test]
    fn workers_together_never_exceed_the_limit() {
        let pool = BudgetPool::new(10 * MIB);
        let (a, b) = (Budget::new(pool.clone()), Budget::new(pool.clone()));
        let mut held = 0;
        while a.reserve(300 * KIB, Purpose::Send) || b.reserve(300 * KIB, Purpose::Send) {
            held += 300 * KIB;
        }
        assert!(held <= 10 * MIB && held > 8 * MIB, "{held}");
        assert!(pool.leased() <= 10 * MIB);
        a.release(a.used());
        b.release(b.used());
        assert!(pool.leased() <= 2 * SPARE * pool.piece);
        drop((a, b));
        assert_eq!(pool.leased(), 0);
    }

    #[test]
    fn what_frees_memory_may_use_the_last_of_it() {
        let budget = Budget::new(BudgetPool::new(160 * MIB));
        let fill = |purpose| {
            while budget.reserve(64 * KIB, purpose) {}
            budget.used() / MIB
        };
        assert_eq!(fill(Purpose::Growth), 128);
        assert_eq!(fill(Purpose::Credit), 150);
        assert_eq!(fill(Purpose::Send), 160);
    }

    #[test]
    fn two_hundred_mebibytes_admit_about_48_500_streams() {
        let budget = Budget::new(BudgetPool::new(200 * MIB));
        let mut streams = 0;
        while budget.reserve(budget.initial_credit() as usize, Purpose::Credit) {
            streams += 1;
        }
        assert_eq!(streams, 100 + 400 + 3_200 + 44_800);
    }

    #[test]
    fn buffers_go_round_when_nobody_else_holds_them() {
        let budget = Budget::new(BudgetPool::new(MIB));
        let frame = |budget: &Budget, payload| {
            let mut buffer = budget.take_buffer();
            buffer.payload_mut().fill(7);
            buffer.truncate(payload);
            buffer.into_frame(StreamId(1))
        };
        let kept = |budget: &Budget| budget.0.buffers.borrow().len();
        let first = frame(&budget, 12_000);
        let memory = first.as_ptr();
        let held = first.clone();
        budget.recycle(first);
        assert_eq!(kept(&budget), 0, "somebody still reads it");
        budget.recycle(held);
        budget.recycle(Bytes::from(vec![0; 12_000]));
        assert_eq!(kept(&budget), 1);
        let again = budget.take_buffer();
        assert_eq!(again.len(), MAX_PAYLOAD_LEN);
        assert_eq!(again.into_frame(StreamId(3)).as_ptr(), memory);
        let many: Vec<_> = (0..100).map(|_| frame(&budget, 16_000)).collect();
        many.into_iter().for_each(|frame| budget.recycle(frame));
        assert_eq!(kept(&budget), MAX_BUFFERS);
    }

    #[test]
    fn an_idle_worker_leaves_a_small_budget_to_others() {
        let pool = BudgetPool::new(MIB);
        let (idle, busy) = (Budget::new(pool.clone()), Budget::new(pool));
        assert!(idle.reserve(512 * KIB, Purpose::Credit));
        idle.release(512 * KIB);
        assert!(busy.reserve(900 * KIB, Purpose::Credit));
    }

    #[test]
    fn a_load_that_is_over_is_noticed_and_one_that_comes_back_never() {
        let pool = BudgetPool::new(200 * MIB);
        let budget = Budget::new(pool.clone());
        let load = |bytes| {
            assert!(budget.reserve(bytes, Purpose::Send));
            budget.release(bytes);
        };
        load(100 * MIB);
        assert!(!pool.has_shrunk(), "it was just there");
        let noticed: Vec<bool> = (0..8).map(|_| pool.has_shrunk()).collect();
        let once_more = [true, false, false, false, false, true, false, false];
        assert_eq!(noticed, once_more);
        for _ in 0..5 {
            load(100 * MIB);
            assert!(!pool.has_shrunk(), "it comes back each time");
        }
        load(60 * MIB);
        assert!(!pool.has_shrunk(), "most of it does");
        assert!(pool.has_shrunk());
        load(WORTH_RETURNING / 2);
        let noticed = (0..4).any(|_| pool.has_shrunk());
        assert!(!noticed, "too little");
    }
}
