//! Settings that a hub and an edge have in common.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    thread,
    time::Duration,
};

use remoteingress_proto::mux::budget::BudgetPool;
use serde::{Deserialize, Serialize};

use super::limits::nonzero_seconds;

/// Settings of a hub or an edge, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Threads that carry streams.
    pub workers: usize,
    /// Bytes that windows, unread and unacknowledged data may take together. Absent: as many as the machine affords.
    pub memory_budget: Option<u64>,
    /// Time for which streams outlive their connection; zero: not at all.
    pub resume_timeout: Duration,
    /// Longest time without a question for a sign of life on a session that carries nothing.
    pub keepalive: Duration,
    /// Time in which running streams may end by themselves; zero: they are cut at once.
    pub drain_timeout: Duration,
    /// Without a byte in either direction. Off by default: an idle ssh session lives, keepalive finds the dead.
    pub idle_timeout: Option<Duration>,
    /// The same once one direction has ended.
    pub half_closed_timeout: Option<Duration>,
    /// Without an acknowledgement of the socket's peer, while bytes wait for one.
    pub ack_timeout: Option<Duration>,
    /// Of QUIC; TCP has the system's.
    pub congestion_controller: CongestionController,
    /// A UDP flow without a datagram in either direction for so long is over.
    pub udp_idle_timeout: Duration,
}

/// The method by which QUIC finds out how fast an end may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CongestionController {
    /// By loss, as TCP does (RFC 9438).
    #[default]
    Cubic,
    /// By rate and round trip: half the latency on a line that loses packets, but experimental.
    Bbr,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl EngineSettings {
    /// What all workers take their memory from, in a process that may have `memory` bytes, if that is known.
    pub fn budget_pool(&self, memory: Option<u64>) -> Arc<BudgetPool> {
        BudgetPool::new(usize::try_from(self.budget(memory)).unwrap_or(usize::MAX))
    }

    fn budget(&self, memory: Option<u64>) -> u64 {
        self.memory_budget.unwrap_or_else(|| {
            let affordable = memory.map_or(u64::MAX, |bytes| bytes / SHARE);
            MEMORY_BUDGET.min(affordable).max(MIB)
        })
    }

    /// As the other end is told.
    pub fn resume_timeout_secs(&self) -> u32 {
        u32::try_from(self.resume_timeout.as_secs()).unwrap_or(u32::MAX)
    }
}

/// The same as the user wrote them, in the fields of the hub's or the edge's own object.
#[derive(Debug)]
pub(super) struct EngineFields {
    pub(super) workers: Option<NonZeroU16>,
    pub(super) memory_budget_mib: Option<NonZeroU32>,
    pub(super) resume_timeout_secs: Option<u32>,
    pub(super) keepalive_secs: Option<NonZeroU32>,
    pub(super) drain_timeout_secs: Option<u32>,
    pub(super) idle_timeout_secs: Option<u32>,
    pub(super) half_closed_timeout_secs: Option<u32>,
    pub(super) ack_timeout_secs: Option<u32>,
    pub(super) congestion_controller: CongestionController,
    pub(super) udp_idle_timeout_secs: Option<NonZeroU32>,
}

impl From<EngineFields> for EngineSettings {
    fn from(fields: EngineFields) -> Self {
        let seconds = |given: Option<u32>, default| {
            given.map_or(default, |secs| Duration::from_secs(secs.into()))
        };
        Self {
            workers: fields
                .workers
                .map_or_else(cpus, |workers| usize::from(workers.get())),
            memory_budget: fields
                .memory_budget_mib
                .map(|mib| u64::from(mib.get()) * MIB),
            resume_timeout: seconds(fields.resume_timeout_secs, RESUME_TIMEOUT),
            keepalive: fields
                .keepalive_secs
                .map_or(KEEPALIVE, |secs| Duration::from_secs(secs.get().into())),
            drain_timeout: seconds(fields.drain_timeout_secs, DRAIN_TIMEOUT),
            idle_timeout: fields.idle_timeout_secs.and_then(nonzero_seconds),
            half_closed_timeout: fields.half_closed_timeout_secs.and_then(nonzero_seconds),
            ack_timeout: fields
                .ack_timeout_secs
                .map_or(Some(ACK_TIMEOUT), nonzero_seconds),
            congestion_controller: fields.congestion_controller,
            udp_idle_timeout: fields
                .udp_idle_timeout_secs
                .map_or(UDP_IDLE_TIMEOUT, |secs| {
                    Duration::from_secs(secs.get().into())
                }),
        }
    }
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

const MIB: u64 = 1024 * 1024;

/// Room for about 48,500 streams at the smallest window, or 46 at the largest.
const MEMORY_BUDGET: u64 = 200 * MIB;

/// The default budget is at most one part in so many of the memory: buffers must not be what the kernel ends the process
/// for, which has sockets and sessions besides.
const SHARE: u64 = 4;

/// Twice what most NATs keep a UDP mapping, so that this end isn't the one that forgets first.
const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A hub hears within a minute that an idle edge is gone, and an idle tunnel of eight sessions takes less than 5 MB a
/// day (bench, `idle`).
const KEEPALIVE: Duration = Duration::from_secs(45);

/// As late as keepalive finds a dead peer on an idle stream.
const ACK_TIMEOUT: Duration = Duration::from_secs(120);

/// A NAT or router that restarts is back by then; a person gives up about as late.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that init systems and orchestrators grant between asking and killing.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parse_hub;

    #[test]
    fn the_default_budget_is_at_most_a_quarter_of_the_memory() {
        let default = parse_hub(&json!({})).unwrap().engine;
        for (memory, mib) in [
            (None, 200),
            (Some(8_192 * MIB), 200),
            (Some(800 * MIB), 200),
            (Some(512 * MIB), 128),
            (Some(0), 1),
        ] {
            assert_eq!(default.budget(memory), mib * MIB, "of {memory:?}");
        }
        // One that was asked for is taken as it is.
        let own = parse_hub(&json!({"memoryBudgetMiB": 300})).unwrap().engine;
        assert_eq!(own.budget(Some(512 * MIB)), 300 * MIB);
    }
}
