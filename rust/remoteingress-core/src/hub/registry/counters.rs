//! Counts of one edge's sessions, and of the streams and flows that they have open, on all workers.

use crate::udp_counters::UdpCounters;
use remoteingress_proto::flow::FlowCount;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Counts of one edge, shared by the workers that have its sessions.
#[derive(Debug, Default)]
pub struct EdgeCounters {
    /// Streams that live.
    pub streams: AtomicUsize,
    /// Those of them whose targets are being dialled.
    pub dials: AtomicUsize,
    /// Sessions that were resumed with their streams, so far.
    pub resumed: AtomicU64,
    /// UDP flows that live.
    pub flows: Arc<FlowCount>,
    /// Datagrams of all its flows.
    pub udp: UdpCounters,
}
