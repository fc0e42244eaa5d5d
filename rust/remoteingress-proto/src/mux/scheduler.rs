//! Choice of the next stream to send: byte-fair within a tier, `sustained` after `data` with a guaranteed share (D8).
//!
//! Within a tier this is deficit round robin with a list for newcomers (as in FQ-CoDel, RFC 8290
//! section 4): a stream that was silent and has something to say gets one quantum before those
//! that always have, so that a keystroke doesn't wait for a round of downloads.

use crate::mux::tier::Tier;
use crate::wire::frame::MAX_FRAME_LEN;
use std::collections::VecDeque;
use std::time::Instant;

/// Bytes that a stream may send per round at least, and a newcomer in its first one: one full frame.
const QUANTUM: i64 = MAX_FRAME_LEN as i64;
/// The same at most, on a fast path: four frames, which the receiver gives to their socket in one write. With 16 streams
/// that took a twelfth off the CPU time per byte of both ends (bench, `down16`).
const LARGEST_QUANTUM: i64 = 4 * QUANTUM;
/// Bytes that all sustained streams of a session together get per second while others have data (D8).
const GUARANTEED_BYTES_PER_SEC: f64 = 1_000_000.0;
/// The guarantee's bucket. It spans the pause between two turns of a link that is as slow as
/// 2 MB/s and takes 128 KiB at a time; the rule that data goes in between keeps bursts apart.
const GUARANTEE_BURST: f64 = 128.0 * 1_024.0;

/// Streams of one tier that have something to send.
#[derive(Debug)]
struct FairQueue {
    new: VecDeque<Entry>,
    old: VecDeque<Entry>,
    quantum: i64,
}

/// A stream's index, and the ticket it was queued with: an entry whose ticket isn't the stream's
/// any more is void. Without it, a stream that reuses an index would stand in the queue twice.
type Entry = (usize, Ticket);
type Ticket = u64;

/// A stream's place in the scheduler, kept in the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    deficit: i64,
    /// Of the entry in a queue, if there is one.
    ticket: Option<Ticket>,
    sustained: bool,
}

impl FairQueue {
    fn new() -> Self {
        Self {
            new: VecDeque::new(),
            old: VecDeque::new(),
            quantum: QUANTUM,
        }
    }

    /// The stream whose turn it is; it stays at the front of its list. Streams that have run
    /// empty are dropped here, newcomers only after a place among the old ones, so that coming
    /// back quickly doesn't make them new again (RFC 8290 section 4.2).
    fn front(&mut self, slots: &mut impl Slots) -> Option<usize> {
        loop {
            let from_new = !self.new.is_empty();
            let list = if from_new {
                &mut self.new
            } else {
                &mut self.old
            };
            let (index, ticket) = *list.front()?;
            let has_frame = slots.has_frame(index);
            let Some(slot) = slots.slot(index).filter(|slot| slot.ticket == Some(ticket)) else {
                list.pop_front();
                continue;
            };
            if has_frame && slot.deficit > 0 {
                return Some(index);
            }
            list.pop_front();
            if has_frame {
                slot.deficit += self.quantum;
                self.old.push_back((index, ticket));
            } else if from_new && !self.old.is_empty() {
                self.old.push_back((index, ticket));
            } else {
                slot.ticket = None;
            }
        }
    }
}

/// The streams that the scheduler knows by index. An index whose stream is gone,
/// or has become another's, is harmless.
pub trait Slots {
    /// The slot of the stream at `index`.
    fn slot(&mut self, index: usize) -> Option<&mut Slot>;
    /// True if that stream has something to send.
    fn has_frame(&self, index: usize) -> bool;
}

/// Chooses among the streams that have frames. Control frames never come here: they go first.
#[derive(Debug)]
pub struct Scheduler {
    data: FairQueue,
    sustained: FairQueue,
    last_ticket: Ticket,
    tokens: f64,
    refilled: Instant,
    /// Bytes of `data` to be sent before `sustained` may use its guarantee again: as many as it
    /// sent last, so that it never gets more than half.
    owed_to_data: usize,
    /// Reason for the last choice.
    choice: Choice,
}

/// Reason why a stream was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was silent until now.
    Newcomer,
    /// Its turn among those of the `data` tier, or of `sustained` as far as that is guaranteed.
    Turn,
    /// Nothing else wants to send: `sustained` beyond its guarantee.
    Leftover,
}

impl Scheduler {
    /// Nothing is queued yet.
    pub fn new(now: Instant) -> Self {
        Self {
            data: FairQueue::new(),
            sustained: FairQueue::new(),
            last_ticket: 0,
            tokens: GUARANTEE_BURST,
            refilled: now,
            owed_to_data: 0,
            choice: Choice::Turn,
        }
    }

    /// Bytes that a stream which always has something to send may send per round: between one and four full frames.
    pub fn set_quantum(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(LARGEST_QUANTUM);
        let quantum = bytes.clamp(QUANTUM, LARGEST_QUANTUM);
        (self.data.quantum, self.sustained.quantum) = (quantum, quantum);
    }

    /// Reason why `next` or `next_newcomer` named the stream that it did.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// The stream that sends next, if it is one that was silent until now.
    pub fn next_newcomer(&mut self, slots: &mut impl Slots) -> Option<usize> {
        let index = self.data.front(slots)?;
        self.choice = Choice::Newcomer;
        (!self.data.new.is_empty()).then_some(index)
    }

    /// A stream has something to send. Says nothing new about one that is queued.
    pub fn activate(&mut self, index: usize, tier: Tier, slots: &mut impl Slots) {
        let Some(slot) = slots.slot(index).filter(|slot| slot.ticket.is_none()) else {
            return;
        };
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let sustained = tier == Tier::Sustained;
        *slot = Slot {
            deficit: QUANTUM,
            ticket: Some(ticket),
            sustained,
        };
        let queue = if sustained {
            &mut self.sustained
        } else {
            &mut self.data
        };
        queue.new.push_back((index, ticket));
    }

    /// The stream that sends next.
    pub fn next(&mut self, now: Instant, slots: &mut impl Slots) -> Option<usize> {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = self.refilled.max(now);
        self.tokens = (self.tokens + elapsed * GUARANTEED_BYTES_PER_SEC).min(GUARANTEE_BURST);
        let guaranteed = self.tokens >= MAX_FRAME_LEN as f64 && self.owed_to_data == 0;
        let data = self.data.front(slots);
        let turn = if self.data.new.is_empty() {
            Choice::Turn
        } else {
            Choice::Newcomer
        };
        self.choice = turn;
        if data.is_some() && !guaranteed {
            return data;
        }
        let sustained = self.sustained.front(slots);
        if sustained.is_some() {
            self.choice = if data.is_some() {
                Choice::Turn
            } else {
                Choice::Leftover
            };
        }
        sustained.or(data)
    }

    /// The stream that `next` named has sent a frame of `bytes`, and belongs to `tier` from now on.
    pub fn sent(&mut self, index: usize, bytes: usize, tier: Tier, slots: &mut impl Slots) {
        let Some(slot) = slots.slot(index) else {
            return;
        };
        slot.deficit -= i64::try_from(bytes).unwrap_or(QUANTUM);
        let was_sustained = slot.sustained;
        let moves = was_sustained != (tier == Tier::Sustained);
        if moves {
            slot.ticket = None;
        }
        if was_sustained {
            if self.data.front(slots).is_some() {
                self.tokens -= bytes as f64;
                self.owed_to_data = bytes;
            }
        } else {
            self.owed_to_data = self.owed_to_data.saturating_sub(bytes);
        }
        if moves {
            self.activate(index, tier, slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Streams and whether each has something to send.
    struct Table(Vec<(Slot, bool)>);

    impl Table {
        fn all_ready(streams: usize) -> Self {
            Self(vec![(Slot::default(), true); streams])
        }
    }

    impl Slots for Table {
        fn slot(&mut self, index: usize) -> Option<&mut Slot> {
            self.0.get_mut(index).map(|(slot, _)| slot)
        }

        fn has_frame(&self, index: usize) -> bool {
            self.0.get(index).is_some_and(|(_, ready)| *ready)
        }
    }

    const FRAME: usize = MAX_FRAME_LEN;
    const D: Tier = Tier::Data;
    const S: Tier = Tier::Sustained;

    /// Sends on a link of `bytes_per_sec` for `secs` of virtual time, all streams always having
    /// frames of `frame` bytes; gives the order of (index, bytes).
    fn run(
        streams: &[(Tier, usize)],
        bytes_per_sec: usize,
        secs: u64,
        turn: usize,
    ) -> Vec<(usize, usize)> {
        let (mut now, mut table) = (crate::any_instant(), Table::all_ready(streams.len()));
        let end = now + Duration::from_secs(secs);
        let mut scheduler = Scheduler::new(now);
        for (i, (tier, _)) in streams.iter().enumerate() {
            scheduler.activate(i, *tier, &mut table);
        }
        let mut order = Vec::new();
        while now < end {
            // The socket takes `turn` bytes at once, then nothing until they have left.
            let mut taken = 0;
            while taken < turn {
                let i = scheduler.next(now, &mut table).expect("all have frames");
                let (tier, frame) = streams[i];
                scheduler.sent(i, frame, tier, &mut table);
                order.push((i, frame));
                taken += frame;
            }
            now += Duration::from_secs_f64(taken as f64 / bytes_per_sec as f64);
        }
        order
    }

    fn bytes_of(order: &[(usize, usize)], index: usize) -> usize {
        order
            .iter()
            .filter(|(i, _)| *i == index)
            .map(|(_, n)| n)
            .sum()
    }

    #[test]
    fn streams_of_a_tier_share_by_bytes_not_by_frames() {
        let order = run(&[(D, FRAME), (D, 100), (D, 4_000)], 10_000_000, 1, FRAME);
        let each: Vec<usize> = (0..3).map(|i| bytes_of(&order, i)).collect();
        let (least, most) = (each.iter().min().expect("3"), each.iter().max().expect("3"));
        assert!(most - least <= 2 * FRAME, "{each:?}");
    }

    #[test]
    fn sustained_gets_a_megabyte_per_second_under_full_data_load() {
        for (link, turn) in [
            (2_000_000, FRAME),
            (2_000_000, 131_072),
            (10_000_000, 131_072),
            (1_000_000_000, 131_072),
        ] {
            let order = run(
                &[(D, FRAME), (D, FRAME), (S, FRAME), (S, FRAME)],
                link,
                10,
                turn,
            );
            let sustained = bytes_of(&order, 2) + bytes_of(&order, 3);
            let share = sustained / 10;
            assert!(
                share >= 985_000,
                "{share} B/s on {link} B/s in turns of {turn}"
            );
            assert!(
                share <= 1_100_000,
                "{share} B/s on {link} B/s in turns of {turn}"
            );
        }
    }

    #[test]
    fn sustained_never_gets_more_than_half_of_a_slow_link() {
        let order = run(&[(D, FRAME), (S, FRAME)], 400_000, 10, FRAME);
        let (data, sustained) = (bytes_of(&order, 0), bytes_of(&order, 1));
        assert!(
            sustained <= data + FRAME && sustained * 10 >= data * 9,
            "{sustained} {data}"
        );
    }

    #[test]
    fn sustained_never_delays_data_by_more_than_one_frame() {
        let order = run(
            &[(D, 1_000), (S, FRAME), (S, FRAME)],
            3_000_000,
            10,
            131_072,
        );
        assert!(order.windows(2).all(|w| w[0].0 == 0 || w[1].0 == 0));
    }

    #[test]
    fn sustained_is_drained_freely_when_alone() {
        let order = run(&[(S, FRAME)], 100_000_000, 1, FRAME);
        assert!(bytes_of(&order, 0) >= 100_000_000);
    }

    #[test]
    fn a_newcomer_goes_before_those_that_always_send() {
        let (now, mut table) = (crate::any_instant(), Table::all_ready(9));
        let mut scheduler = Scheduler::new(now);
        for i in 0..8 {
            scheduler.activate(i, D, &mut table);
        }
        for _ in 0..20 {
            let i = scheduler.next(now, &mut table).expect("bulk");
            scheduler.sent(i, FRAME, D, &mut table);
        }
        scheduler.activate(8, D, &mut table);
        assert_eq!(scheduler.next(now, &mut table), Some(8));
        scheduler.sent(8, 100, D, &mut table);
        table.0[8].1 = false;
        assert!(scheduler.next(now, &mut table).expect("bulk") < 8);
    }

    #[test]
    fn turns_are_longer_on_a_fast_path_but_no_newcomer_waits_for_one() {
        for (quantum, frames) in [(0, 1), (3 * FRAME, 3), (1 << 30, 4)] {
            let (now, mut table) = (crate::any_instant(), Table::all_ready(4));
            let mut scheduler = Scheduler::new(now);
            scheduler.set_quantum(quantum);
            for i in 0..3 {
                scheduler.activate(i, D, &mut table);
            }
            let mut turn = |scheduler: &mut Scheduler| {
                let i = scheduler.next(now, &mut table).expect("ready");
                scheduler.sent(i, FRAME, D, &mut table);
                i
            };
            // A newcomer has one frame, then all have their rounds.
            let order: Vec<_> = (0..3 + 3 * 12).map(|_| turn(&mut scheduler)).collect();
            let runs: Vec<_> = order[3..].chunk_by(|a, b| a == b).map(<[_]>::len).collect();
            let whole = runs.len() - 1;
            assert!(runs[..whole].iter().all(|run| *run == frames), "{runs:?}");
            scheduler.activate(3, D, &mut table);
            assert_eq!(scheduler.next(now, &mut table), Some(3));
        }
    }

    #[test]
    fn streams_that_come_back_at_once_dont_starve_those_that_never_run_empty() {
        let (now, mut table) = (crate::any_instant(), Table::all_ready(9));
        let mut scheduler = Scheduler::new(now);
        let mut sent = [0usize; 9];
        for _turn in 0..100 {
            for i in 0..9 {
                table.0[i].1 = true;
                scheduler.activate(i, D, &mut table);
            }
            for _frame in 0..8 {
                let i = scheduler.next(now, &mut table).expect("ready");
                scheduler.sent(i, FRAME, D, &mut table);
                sent[i] += FRAME;
                table.0[i].1 = i == 0;
            }
        }
        assert!(sent[0] >= 80 * FRAME, "{sent:?}");
    }

    #[test]
    fn streams_that_are_gone_or_empty_are_not_chosen() {
        let (now, mut table) = (crate::any_instant(), Table::all_ready(3));
        let mut scheduler = Scheduler::new(now);
        scheduler.activate(0, D, &mut table);
        scheduler.activate(1, S, &mut table);
        scheduler.activate(2, D, &mut table);
        table.0[0] = (Slot::default(), false);
        table.0.truncate(2);
        assert_eq!(scheduler.next(now, &mut table), Some(1));
        scheduler.sent(1, 10, S, &mut table);
        table.0[1].1 = false;
        assert_eq!(scheduler.next(now, &mut table), None);
        table.0[0].1 = true;
        scheduler.activate(0, D, &mut table);
        assert_eq!(scheduler.next(now, &mut table), Some(0));
    }

    #[test]
    fn an_index_that_is_reused_while_queued_gets_one_share() {
        let (now, mut table) = (crate::any_instant(), Table::all_ready(2));
        let mut scheduler = Scheduler::new(now);
        for _ in 0..5 {
            table.0[0] = (Slot::default(), true);
            scheduler.activate(0, D, &mut table);
        }
        scheduler.activate(1, D, &mut table);
        let mut sent = [0usize; 2];
        for _ in 0..20 {
            let i = scheduler.next(now, &mut table).expect("ready");
            scheduler.sent(i, FRAME, D, &mut table);
            sent[i] += 1;
        }
        assert_eq!(sent, [10, 10]);
    }

    #[test]
    fn a_stream_moves_to_sustained_with_what_it_has_left() {
        let (now, mut table) = (crate::any_instant(), Table::all_ready(9));
        let mut scheduler = Scheduler::new(now);
        scheduler.activate(0, D, &mut table);
        scheduler.activate(1, D, &mut table);
        assert_eq!(scheduler.next(now, &mut table), Some(0));
        scheduler.sent(0, FRAME, S, &mut table);
        for _ in 0..3 {
            let i = scheduler.next(now, &mut table).expect("both have frames");
            scheduler.sent(i, FRAME, if i == 0 { S } else { D }, &mut table);
        }
        assert!(table.0[0].0.sustained && !table.0[1].0.sustained);
    }
}
