//! Counts of the streams and flows that one edge's sessions have open on all workers.

use crate::udp_counters::UdpCounters;
use remoteingress_proto::flow::FlowCount;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Counts of one edge, shared by the workers that have its sessions.
#[derive(Debug, Default)]
pub struct EdgeCounters {
    /// Streams that live.
    pub streams: AtomicUsize,
    /// Those of them whose targets are being dialled.
    pub dials: AtomicUsize,
    /// UDP flows that live.
    pub flows: Arc<FlowCount>,
    /// Datagrams of all its flows.
    pub udp: UdpCounters,
}
