//! What one end counts of UDP: datagrams both ways, and those dropped by reason (docs/ipc.md).

use remoteingress_proto::flow::{FragmentDrops, Refusal, ReplyRefusal};
use remoteingress_proto::mux::DatagramDrops;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// Why a datagram went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum UdpDrop {
            $($(#[$doc])* $variant,)*
        }

        /// Their names in status, in the order of the enum.
        const NAMES: [&str; [$($name,)*].len()] = [$($name,)*];
    };
}

reasons! {
    /// No session to the hub is live.
    NoSession "noSession",
    /// Another worker's queue for datagrams of workers without a session is full.
    HandoverFull "handoverFull",
    /// The listener has as many flows as it may.
    MaxFlowsPerListener "maxUdpFlowsPerListener",
    /// The client network has as many flows as it may.
    MaxFlowsPerIp "maxUdpFlowsPerIp",
    /// The hub has as many flows of this edge as it may.
    MaxFlowsPerEdge "maxUdpFlowsPerEdge",
    /// No flow has this id (any more).
    UnknownFlow "unknownFlow",
    /// The client hasn't shown that it gets answers, and the target has sent a multiple of what it was sent.
    Unvalidated "unvalidatedReplyFactor",
    /// No tunnel datagram or its fragments can carry it.
    TooLarge "tooLarge",
    /// The peer's tunnel datagram makes no sense.
    Malformed "malformed",
    /// Newer ones pushed it out of the tunnel's queue.
    QueueFull "queueFull",
    /// It waited for 500 ms.
    Late "late",
    /// The session had no connection.
    Detached "connectionLost",
    /// The other fragments of its datagram didn't come in time.
    FragmentLate "fragmentLate",
    /// A fragment doesn't fit the others of its datagram.
    FragmentInvalid "fragmentInvalid",
    /// Newer fragments pushed it out of the memory for unfinished datagrams.
    FragmentOverflow "fragmentOverflow",
    /// The socket of a client or target took nothing more.
    SocketFull "socketFull",
    /// The socket of a client or target refused it.
    SendFailed "sendFailed",
    /// Its port has been closed, or the hub has no target for it.
    UnknownListener "unknownListener",
    /// The edge's `clientAddressPolicy` refuses the client's address.
    ClientRefused "clientRefused",
    /// The target's name or address leads nowhere.
    TargetUnreachable "targetUnreachable",
    /// ICMP: nobody listens at the target.
    TargetRefused "targetRefused",
    /// Too many wait for the target's name, or their flow has ended meanwhile.
    Resolving "resolving",
    /// The process has no descriptor left for a socket.
    Descriptors "descriptors",
}

/// The datagrams of one end since its start, which its workers count together.
#[derive(Debug, Default)]
pub struct UdpCounters {
    datagrams_in: AtomicU64,
    datagrams_out: AtomicU64,
    drops: Drops,
}

#[derive(Debug)]
struct Drops([AtomicU64; NAMES.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }
}

impl UdpCounters {
    /// Counts datagrams from clients to their targets.
    pub fn count_in(&self, datagrams: u64) {
        self.datagrams_in.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// Counts datagrams from targets to their clients.
    pub fn count_out(&self, datagrams: u64) {
        self.datagrams_out.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// Counts one datagram that went no further.
    pub fn drop(&self, reason: UdpDrop) {
        self.drop_many(reason, 1);
    }

    /// Counts datagrams that went no further.
    pub fn drop_many(&self, reason: UdpDrop, count: u64) {
        if let Some(drops) = self.drops.0.get(reason as usize)
            && count > 0
        {
            drops.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Adds what a session has dropped since `before`.
    pub fn add_queue(&self, before: DatagramDrops, now: DatagramDrops) {
        self.drop_many(UdpDrop::QueueFull, now.overflow - before.overflow);
        self.drop_many(UdpDrop::Late, now.late - before.late);
        self.drop_many(UdpDrop::Detached, now.detached - before.detached);
    }

    /// Adds what a session's fragments have lost since `before`.
    pub fn add_fragments(&self, before: FragmentDrops, now: FragmentDrops) {
        self.drop_many(UdpDrop::FragmentLate, now.late - before.late);
        self.drop_many(UdpDrop::FragmentInvalid, now.invalid - before.invalid);
        self.drop_many(UdpDrop::FragmentOverflow, now.overflow - before.overflow);
    }

    /// The object that status shows as `udp` (docs/ipc.md); reasons that haven't occurred are left out.
    pub fn to_json(&self, active_flows: usize) -> Value {
        let counts = NAMES.iter().zip(&self.drops.0);
        let dropped: Map<String, Value> = counts
            .map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name, json!(count)))
            .collect();
        json!({
            "activeFlows": active_flows,
            "datagramsIn": self.datagrams_in.load(Ordering::Relaxed),
            "datagramsOut": self.datagrams_out.load(Ordering::Relaxed),
            "dropped": dropped,
        })
    }
}

impl From<Refusal> for UdpDrop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::PerListener => Self::MaxFlowsPerListener,
            Refusal::PerClient => Self::MaxFlowsPerIp,
            Refusal::IdsExhausted => Self::NoSession,
        }
    }
}

impl From<ReplyRefusal> for UdpDrop {
    fn from(refusal: ReplyRefusal) -> Self {
        match refusal {
            ReplyRefusal::UnknownFlow => Self::UnknownFlow,
            ReplyRefusal::Unvalidated => Self::Unvalidated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_shown_by_name_once_they_happen() {
        let counters = UdpCounters::default();
        counters.count_in(1);
        counters.drop(UdpDrop::Descriptors);
        let late = DatagramDrops {
            late: 3,
            ..DatagramDrops::default()
        };
        counters.add_queue(DatagramDrops::default(), late);
        let expected = json!({
            "activeFlows": 2, "datagramsIn": 1, "datagramsOut": 0,
            "dropped": {"descriptors": 1, "late": 3},
        });
        assert_eq!(counters.to_json(2), expected);
    }
}
