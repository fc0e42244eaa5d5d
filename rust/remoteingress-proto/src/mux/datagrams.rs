//! Datagrams on their way into the tunnel: a bounded queue that drops the oldest, and what is too late (D10).
//!
//! A datagram that a stall holds up is worse than one that is lost: whoever sent it has given up on
//! it, and it delays those after it.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that may wait: 16 of the largest datagrams, so that a client's burst of them isn't its own end; at less than
/// 16 Mbit/s the deadline is the narrower bound.
const MAX_QUEUED: usize = 1_024 * 1_024;
/// A datagram that has waited longer is dropped (D10).
const DEADLINE: Duration = Duration::from_millis(500);
/// The cost of a datagram beside its bytes, in the queue as on the wire, so that tiny ones are bounded too.
pub(super) const DATAGRAM_OVERHEAD: usize = 64;

/// Datagrams that didn't leave, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramDrops {
    /// Pushed out by newer ones: the queue was full.
    pub overflow: u64,
    /// They had waited for 500 ms.
    pub late: u64,
    /// There was no connection.
    pub detached: u64,
    /// The path takes less than it did when they were made.
    pub oversized: u64,
}

/// One that waits.
#[derive(Debug)]
struct Queued {
    at: Instant,
    datagram: Bytes,
    /// Nobody's payload is lost with it.
    is_notice: bool,
}

/// Datagrams that wait for the connection: at most 1 MiB of them with their overhead, for 500 ms each.
#[derive(Debug, Default)]
pub(crate) struct DatagramQueue {
    queue: VecDeque<Queued>,
    bytes: usize,
    drops: DatagramDrops,
}

impl DatagramQueue {
    pub(crate) fn push(&mut self, at: Instant, datagram: Bytes, is_notice: bool) {
        self.bytes += datagram.len() + DATAGRAM_OVERHEAD;
        self.queue.push_back(Queued {
            at,
            datagram,
            is_notice,
        });
        while self.bytes > MAX_QUEUED && self.queue.len() > 1 {
            let oldest = self.remove_oldest();
            self.drops.overflow += u64::from(oldest.is_some_and(|oldest| !oldest.is_notice));
        }
    }

    /// The oldest that isn't too late.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        loop {
            let oldest = self.remove_oldest()?;
            if now.saturating_duration_since(oldest.at) < DEADLINE {
                return Some(oldest.datagram);
            }
            self.drops.late += u64::from(!oldest.is_notice);
        }
    }

    /// Bytes that wait, with those that each datagram costs beside its own.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove_oldest(&mut self) -> Option<Queued> {
        let oldest = self.queue.pop_front()?;
        self.bytes -= oldest.datagram.len() + DATAGRAM_OVERHEAD;
        Some(oldest)
    }

    /// The connection is gone, and what was for it.
    pub(crate) fn detach(&mut self) {
        let payloads = self.queue.iter().filter(|queued| !queued.is_notice);
        self.drops.detached += payloads.count() as u64;
        self.queue.clear();
        self.bytes = 0;
    }

    /// One that found no connection.
    pub(crate) fn count_detached(&mut self) {
        self.drops.detached += 1;
    }

    /// One that the connection doesn't take any more.
    pub(crate) fn count_oversized(&mut self) {
        self.drops.oversized += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn drops(&self) -> DatagramDrops {
        self.drops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: usize) -> Bytes {
        Bytes::from(vec![0; size])
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut queue, now) = (DatagramQueue::default(), crate::any_instant());
        for number in 0..1_200_u32 {
            let mut datagram = number.to_be_bytes().to_vec();
            datagram.resize(1_200, 0);
            queue.push(now, datagram.into(), false);
        }
        let first = queue.pop(now).expect("some are left");
        let dropped = queue.drops().overflow;
        assert!(dropped > 0);
        assert_eq!(
            u64::from(u32::from_be_bytes([first[0], first[1], first[2], first[3]])),
            dropped
        );
    }

    #[test]
    fn the_late_are_dropped() {
        let (mut queue, now) = (DatagramQueue::default(), crate::any_instant());
        queue.push(now, of(1), false);
        queue.push(now + Duration::from_millis(100), of(2), false);
        let later = now + DEADLINE;
        assert_eq!(queue.pop(later).map(|datagram| datagram.len()), Some(2));
        assert_eq!(queue.pop(later), None);
        assert_eq!(queue.drops().late, 1);
    }

    #[test]
    fn a_lost_notice_is_no_lost_datagram() {
        let (mut queue, now) = (DatagramQueue::default(), crate::any_instant());
        queue.push(now, of(1), true);
        assert_eq!(queue.pop(now + DEADLINE), None);
        queue.push(now, of(1), true);
        queue.detach();
        queue.push(now, of(1), true);
        queue.push(now, of(MAX_QUEUED), false);
        assert_eq!(queue.queue.len(), 1);
        assert_eq!(queue.drops(), DatagramDrops::default());
    }

    #[test]
    fn empty_datagrams_are_bounded_too() {
        let (mut queue, now) = (DatagramQueue::default(), crate::any_instant());
        for _ in 0..10_000 {
            queue.push(now, Bytes::new(), false);
        }
        assert!(queue.queue.len() <= MAX_QUEUED / DATAGRAM_OVERHEAD);
    }
}
