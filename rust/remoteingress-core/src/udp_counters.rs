//! UDP as one end counts it: datagrams both ways, and those dropped by reason (docs/status.md).

use remoteingress_config::status::UdpStatus;
use remoteingress_proto::flow::FragmentDrops;
use remoteingress_proto::mux::DatagramDrops;
use std::sync::atomic::{AtomicU64, Ordering};

pub use remoteingress_config::reasons::UdpDropReason as UdpDrop;

/// The datagrams of one end since its start, which its workers count together.
#[derive(Debug, Default)]
pub struct UdpCounters {
    datagrams_in: AtomicU64,
    datagrams_out: AtomicU64,
    drops: Drops,
}

#[derive(Debug)]
struct Drops([AtomicU64; UdpDrop::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; UdpDrop::ALL.len()])
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

    /// Datagrams that went no further for this reason.
    pub fn dropped(&self, reason: UdpDrop) -> u64 {
        let drops = self.drops.0.get(reason as usize);
        drops.map_or(0, |drops| drops.load(Ordering::Relaxed))
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

    /// The counts as status shows them; reasons that haven't occurred are left out.
    pub fn status(&self, active_flows: usize) -> UdpStatus {
        let counts = UdpDrop::ALL.iter().copied().zip(&self.drops.0);
        UdpStatus {
            active_flows,
            datagrams_in: self.datagrams_in.load(Ordering::Relaxed),
            datagrams_out: self.datagrams_out.load(Ordering::Relaxed),
            dropped: counts
                .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

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
        let expected = UdpStatus {
            active_flows: 2,
            datagrams_in: 1,
            datagrams_out: 0,
            dropped: BTreeMap::from([(UdpDrop::Descriptors, 1), (UdpDrop::Late, 3)]),
        };
        assert_eq!(counters.status(2), expected);
    }
}
