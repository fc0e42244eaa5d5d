//! Admission of UDP flows: how much waits for a target's name, how often an edge is answered (D10).

use crate::client_network::TokenBucket;
use crate::udp_counters::UdpDrop;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Payload of flows whose target's name is being resolved, per session: the first datagrams of many clients. Each counts
/// for [`WAITING_OVERHEAD`] bytes more, so that tiny ones are bounded, too.
const MAX_WAITING_BYTES: usize = 1_024 * 1_024;
/// An allocation of its own, and its place in the list.
const WAITING_OVERHEAD: usize = 64;
/// Datagrams of one such flow: a burst of a client that doesn't wait for an answer.
const MAX_WAITING: usize = 32;
/// A flow's header is acknowledged again after this at the earliest; the edge repeats it meanwhile.
const ACKNOWLEDGE_AGAIN: Duration = Duration::from_millis(100);
/// FLOW_UNKNOWN per second and session, so that a hub that lost its flows doesn't answer each datagram.
const UNKNOWN_RATE: f64 = 1_000.0;

/// Bytes that wait in all flows of a session: for the same thing, such as names.
#[derive(Clone, Debug, Default)]
pub struct WaitingBytes(Rc<Cell<usize>>);

impl WaitingBytes {
    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.get() == 0
    }
}

/// Datagrams of one flow that wait for its target's name. At most 32 of them, and 1 MiB of all of the session's flows; the
/// newest is dropped, since the beginning of a flow is what it can't do without.
#[derive(Debug)]
pub struct Backlog {
    waiting: RefCell<Vec<Box<[u8]>>>,
    of_session: WaitingBytes,
}

impl Backlog {
    /// An empty backlog, counted with those of the session's other flows.
    pub fn new(of_session: WaitingBytes) -> Self {
        Self {
            waiting: RefCell::default(),
            of_session,
        }
    }

    /// Keeps a copy: a slice of what the session has read would keep all of that.
    pub fn push(&self, payload: &[u8]) -> Result<(), UdpDrop> {
        let bytes = self.of_session.0.get() + cost(payload);
        let mut waiting = self.waiting.borrow_mut();
        if bytes > MAX_WAITING_BYTES || waiting.len() == MAX_WAITING {
            return Err(UdpDrop::Resolving);
        }
        self.of_session.0.set(bytes);
        waiting.push(payload.into());
        Ok(())
    }

    /// Empties it, in order.
    pub fn take(&self) -> Vec<Box<[u8]>> {
        let waiting = self.waiting.take();
        let bytes: usize = waiting.iter().map(|payload| cost(payload)).sum();
        self.of_session.0.set(self.of_session.0.get() - bytes);
        waiting
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.take();
    }
}

fn cost(payload: &[u8]) -> usize {
    payload.len() + WAITING_OVERHEAD
}

/// Time at which the edge was told last that the hub knows a flow's header.
#[derive(Debug, Default)]
pub struct Acknowledgements(Cell<Option<Instant>>);

impl Acknowledgements {
    /// True if the edge is to be told now, which counts as told.
    pub fn is_due(&self, now: Instant) -> bool {
        let is_due = self
            .0
            .get()
            .is_none_or(|last| now >= last + ACKNOWLEDGE_AGAIN);
        if is_due {
            self.0.set(Some(now));
        }
        is_due
    }
}

/// Limit on answers to datagrams of unknown flows.
#[derive(Debug)]
pub struct UnknownFlows(RefCell<TokenBucket>);

impl UnknownFlows {
    /// A full second's worth.
    pub fn new(now: Instant) -> Self {
        Self(RefCell::new(TokenBucket::full(now, UNKNOWN_RATE)))
    }

    /// True if the edge is to be told of this one.
    pub fn may_answer(&self, now: Instant) -> bool {
        self.0.borrow_mut().take(now, UNKNOWN_RATE, UNKNOWN_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    #[test]
    fn a_flow_keeps_its_first_32_datagrams() {
        let backlog = Backlog::new(WaitingBytes::default());
        for number in 0..32 {
            assert_eq!(backlog.push(&[number]), Ok(()));
        }
        assert_eq!(backlog.push(&[99]), Err(UdpDrop::Resolving));
        let kept = backlog.take();
        assert_eq!((kept[0][0], kept[31][0], kept.len()), (0, 31, 32));
        assert_eq!(backlog.push(&[1]), Ok(()));
    }

    #[test]
    fn all_flows_of_a_session_share_a_mebibyte_and_a_flow_that_ends_gives_its_part_back() {
        let all = WaitingBytes::default();
        let flows: Vec<Backlog> = (0..64).map(|_| Backlog::new(all.clone())).collect();
        let kept: usize = flows
            .iter()
            .map(|flow| (0..32).filter(|_| flow.push(&[0; 960]).is_ok()).count())
            .sum();
        assert_eq!(kept, 1_024);
        let late = Backlog::new(all.clone());
        assert_eq!(late.push(&[]), Err(UdpDrop::Resolving));
        drop(flows);
        assert_eq!(all.0.get(), 0);
        assert_eq!(late.push(&[0; 60_000]), Ok(()));
    }

    #[test]
    fn a_header_is_acknowledged_at_once_and_then_ten_times_a_second() {
        let mut now = any_instant();
        let acknowledgements = Acknowledgements::default();
        assert!(acknowledgements.is_due(now));
        now += Duration::from_millis(99);
        assert!(!acknowledgements.is_due(now));
        now += Duration::from_millis(1);
        assert!(acknowledgements.is_due(now));
        assert!(!acknowledgements.is_due(now));
    }

    #[test]
    fn a_thousand_unknown_flows_are_answered_per_second() {
        let now = any_instant();
        let unknown = UnknownFlows::new(now);
        let answered = |now| (0..2_000).filter(|_| unknown.may_answer(now)).count();
        assert_eq!(answered(now), 1_000);
        assert_eq!(answered(now + Duration::from_millis(500)), 500);
    }
}
