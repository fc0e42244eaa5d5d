//! One generation of a pool, as streams see it.

use crate::plan::Plan;
use crate::pool_set::Candidate;
use remoteingress_config::TcpProxyProtocol;
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{PickReason, TargetSource};
use remoteingress_config::pools::PoolConfig;
use remoteingress_proto::token::host::Host;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One generation of a pool.
#[derive(Debug)]
pub struct LivePool {
    /// Its name.
    pub name: Name,
    /// It stands for the name in keys of bindings.
    pub number: u32,
    /// Ports of TCP name it: what happens to datagrams is held against no target then.
    pub is_over_tcp: bool,
    /// Its settings.
    pub config: Arc<PoolConfig>,
    /// What picks read.
    pub plan: Arc<Plan>,
    /// Where the targets are, in the order of the plan's entries.
    pub destinations: Vec<Destination>,
    /// What is counted of the pool, over all generations.
    pub counts: Arc<PoolCounts>,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its id.
    pub id: Name,
    /// A name or an address.
    pub host: Host,
    /// Absent: the listener's.
    pub port: Option<u16>,
    /// Where it comes from.
    pub source: TargetSource,
    /// What it is told of the client, where the port doesn't say that.
    pub proxy_protocol: Option<TcpProxyProtocol>,
    /// False: its source says that it is down, and no check can say otherwise.
    pub is_healthy: bool,
    /// Its source has it no more: it takes no new clients, and is gone soon.
    pub is_leaving: bool,
}

/// Streams and flows by why they got their target.
#[derive(Debug, Default)]
pub struct Picks([AtomicU64; PickReason::ALL.len()]);

impl Picks {
    /// One has got its target for this reason.
    pub fn add(&self, reason: PickReason) {
        if let Some(count) = self.0.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts so far; a reason that hasn't occurred is absent.
    pub fn counts(&self) -> BTreeMap<PickReason, u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let counts = PickReason::ALL.iter().copied().zip(counts);
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// What is counted of a pool.
#[derive(Debug, Default)]
pub struct PoolCounts {
    /// Streams and flows that got a target.
    pub picks: Picks,
    /// Dials beyond the first of a stream.
    pub retries: AtomicU64,
    /// Clients that wait for a place now.
    pub waiting: AtomicU64,
    /// Clients that came back to their target.
    pub affinity_hits: AtomicU64,
    /// Clients whose target couldn't have them.
    pub affinity_broken: AtomicU64,
    /// Refused: there is no target.
    pub refused_empty: AtomicU64,
    /// Refused: all are full.
    pub refused_full: AtomicU64,
    /// Refused: none takes streams, or those that were dialled failed.
    pub refused_unhealthy: AtomicU64,
}

impl Destination {
    /// The PROXY header for it. `of_port` is what the port has, and whether it says so itself: then the port's counts.
    pub fn header<P: From<TcpProxyProtocol>>(&self, (of_port, says_header): (P, bool)) -> P {
        match self.proxy_protocol {
            Some(own) if !says_header => own.into(),
            _ => of_port,
        }
    }
}

impl From<&Candidate> for Destination {
    fn from(candidate: &Candidate) -> Self {
        Self {
            id: candidate.id.clone(),
            host: candidate.host.clone(),
            port: candidate.port,
            source: candidate.source,
            proxy_protocol: candidate.proxy_protocol,
            is_healthy: candidate.is_healthy,
            is_leaving: candidate.is_leaving,
        }
    }
}
