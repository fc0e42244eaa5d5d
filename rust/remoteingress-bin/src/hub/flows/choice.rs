//! Where a flow goes when its address refuses what it sends, and what it keeps for that.

use remoteingress_core::hub::flow_admission::Backlog;
use remoteingress_core::hub::target_addresses::TargetAddresses;
use remoteingress_core::udp_counters::UdpDrop;
use std::task::Waker;
use std::time::Instant;

/// The target has several addresses, or its pool other targets: the flow goes over to the next one when its own fails.
pub(super) struct Choice {
    pub(super) addresses: TargetAddresses,
    /// Datagrams for the next address or target, in case the current one refuses them. Nothing is kept once it hasn't.
    pub(super) kept: Backlog,
    pub(super) phase: Phase,
    /// Numbers of the targets that have refused what is kept, before this one.
    pub(super) refused_by: Vec<u32>,
    /// The flow's task, which waits at the socket.
    pub(super) waiter: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The address has got nothing yet.
    Fresh,
    /// It has got datagrams since then, all of which are kept.
    Trying(Instant),
    /// The same, but more of them than are kept.
    Overflowed(Instant),
    /// It has answered, or hasn't refused for a while.
    Settled,
    /// The target has refused what is kept at all of its addresses: another one of its pool is to get it.
    Refused(UdpDrop),
}

impl Choice {
    pub(super) fn new(addresses: TargetAddresses, kept: Backlog, refused_by: Vec<u32>) -> Self {
        Self {
            addresses,
            kept,
            phase: Phase::Fresh,
            refused_by,
            waiter: None,
        }
    }

    pub(super) fn keep(&mut self, payload: &[u8]) {
        let since = match self.phase {
            Phase::Fresh => Instant::now(),
            Phase::Trying(since) => since,
            Phase::Refused(_) => {
                // This target gets it, too: one that is too many is lost there.
                let _ = self.kept.push(payload);
                return;
            }
            Phase::Overflowed(_) | Phase::Settled => return,
        };
        self.phase = match self.kept.push(payload) {
            Ok(()) => Phase::Trying(since),
            Err(_) => Phase::Overflowed(since),
        };
    }

    /// The flow's task gives it another target, and what was kept to that.
    pub(super) fn wait_for_target(&mut self, kept: &[Box<[u8]>], reason: UdpDrop) {
        for payload in kept {
            self.keep(payload);
        }
        self.phase = Phase::Refused(reason);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    pub(super) fn settle(&mut self) {
        self.phase = Phase::Settled;
        self.refused_by.clear();
        self.kept.take();
    }
}
