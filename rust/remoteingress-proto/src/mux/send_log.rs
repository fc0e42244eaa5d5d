//! Numbered frames that the peer hasn't acknowledged, kept by reference for replay (D3).

use crate::mux::budget::Budget;
use crate::mux::cut_message::CutMessage;
use bytes::Bytes;
use std::collections::VecDeque;

/// Beyond this many unacknowledged bytes no data frame is scheduled (D3).
const MAX_BYTES: usize = 32 * 1_024 * 1_024;
/// The same for frames, since small ones cost more than their bytes. A peer that acknowledges
/// every 50 ms stays far below it.
const MAX_FRAMES: usize = 1 << 18;

/// Beyond the limit, for streams that were silent until now (chosen by intuition: 16 full frames).
const NEWCOMERS: usize = 256 * 1_024;

#[derive(Debug)]
struct Entry {
    frame: Bytes,
    /// Bytes that its payload has committed in the budget.
    cost: usize,
}

/// An acknowledgement or resume offset outside what was sent and not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetOutOfRange;

/// The frames numbered `acknowledged..next`.
#[derive(Debug)]
pub(super) struct SendLog {
    budget: Budget,
    frames: VecDeque<Entry>,
    acknowledged: u64,
    bytes: usize,
    /// Bytes of frames that were acknowledged, in all.
    acknowledged_bytes: u64,
    cut_message: CutMessage,
    /// Number of `frames` that were handed out on the current connection.
    sent: usize,
    /// Beyond this many unacknowledged bytes no data frame is scheduled.
    limit: usize,
    /// No data frame is scheduled at all.
    is_held: bool,
}

impl SendLog {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            frames: VecDeque::new(),
            acknowledged: 0,
            bytes: 0,
            acknowledged_bytes: 0,
            cut_message: CutMessage::default(),
            sent: 0,
            limit: MAX_BYTES,
            is_held: false,
        }
    }

    /// The number that the next new frame gets.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.acknowledged + self.frames.len() as u64
    }

    /// The number of the first frame that isn't acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Keeps a frame that is handed out now; `cost` is released when it is acknowledged.
    pub(super) fn push(&mut self, frame: Bytes, cost: usize) {
        debug_assert_eq!(self.sent, self.frames.len(), "replay goes first");
        self.bytes += frame.len();
        self.frames.push_back(Entry { frame, cost });
        self.sent += 1;
    }

    /// The next frame to send again on a new connection.
    pub(super) fn replay(&mut self) -> Option<Bytes> {
        let entry = self.frames.get(self.sent)?;
        self.sent += 1;
        Some(entry.frame.clone())
    }

    /// Something is to be sent again.
    #[inline]
    pub(super) fn is_replaying(&self) -> bool {
        self.sent < self.frames.len()
    }

    /// The peer has received every frame numbered below `received`.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), OffsetOutOfRange> {
        if !self.contains(received) {
            return Err(OffsetOutOfRange);
        }
        while self.acknowledged < received {
            let Some(entry) = self.frames.pop_front() else {
                break;
            };
            self.acknowledged += 1;
            self.sent = self.sent.saturating_sub(1);
            self.bytes -= entry.frame.len();
            self.acknowledged_bytes += entry.frame.len() as u64;
            // Payload has a cost, and isn't looked at: it may be in no cache any more.
            if entry.cost == 0 {
                self.cut_message.acknowledged(&entry.frame);
            }
            self.budget.release(entry.cost);
            self.budget.recycle(entry.frame);
        }
        Ok(())
    }

    /// The control message of which the peer has acknowledged a part.
    pub(super) fn cut_message(&self) -> CutMessage {
        self.cut_message
    }

    /// The peer has never seen any of these: they are numbered anew, without those that `keep` refuses.
    pub(super) fn begin_again(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        for entry in std::mem::take(&mut self.frames) {
            if keep(&entry.frame) {
                self.frames.push_back(entry);
            } else {
                self.bytes -= entry.frame.len();
                self.budget.release(entry.cost);
            }
        }
        self.acknowledged = 0;
        self.cut_message = CutMessage::default();
        self.sent = 0;
    }

    /// True if replay can begin with the frame numbered `offset`.
    pub(super) fn contains(&self, offset: u64) -> bool {
        (self.acknowledged..=self.next()).contains(&offset)
    }

    /// The connection died: everything unacknowledged is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Room for one more data frame.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        !self.is_held && self.bytes < self.limit && self.frames.len() < MAX_FRAMES
    }

    /// Room for a frame of a stream that was silent until now, which shall not wait for an acknowledgement.
    pub(super) fn has_room_for_newcomer(&self) -> bool {
        !self.is_held && self.bytes < self.limit + NEWCOMERS && self.frames.len() < MAX_FRAMES
    }

    /// Decides whether data frames wait, newcomers' too, whatever room there is.
    pub(super) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Bytes that may be on their way, at most 32 MiB.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes.min(MAX_BYTES);
    }

    /// As much may be on its way as ever, of all streams.
    pub(super) fn unlimit(&mut self) {
        self.limit = MAX_BYTES;
        self.is_held = false;
    }

    /// Even control frames are too many: the peer takes part in the session but acknowledges nothing.
    pub(super) fn is_overrun(&self) -> bool {
        self.frames.len() >= 2 * MAX_FRAMES
    }

    /// Bytes of the frames that were acknowledged, in all.
    pub(super) fn acknowledged_bytes(&self) -> u64 {
        self.acknowledged_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for SendLog {
    fn drop(&mut self) {
        self.budget
            .release(self.frames.iter().map(|entry| entry.cost).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::budget::{BudgetPool, Purpose};

    #[test]
    fn replays_what_is_not_acknowledged_and_releases_what_is() {
        let budget = Budget::new(BudgetPool::new(1 << 20));
        let mut log = SendLog::new(&budget);
        for i in 0..5u8 {
            assert!(budget.reserve(100, Purpose::Send));
            log.push(Bytes::copy_from_slice(&[i]), 100);
        }
        assert_eq!(log.replay(), None);
        log.acknowledge(2).expect("sent");
        assert_eq!(budget.used(), 300);
        log.rewind();
        log.acknowledge(3).expect("the peer had one more");
        assert_eq!(log.replay().as_deref(), Some(&[3u8][..]));
        assert_eq!(log.replay().as_deref(), Some(&[4u8][..]));
        assert_eq!(log.replay(), None);
        assert_eq!(log.acknowledge(6), Err(OffsetOutOfRange));
        assert_eq!(log.acknowledge(2), Err(OffsetOutOfRange));
        assert_eq!((log.next(), log.bytes()), (5, 2));
        drop(log);
        assert_eq!(budget.used(), 0);
    }
}
