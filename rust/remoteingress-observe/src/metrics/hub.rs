//! Metrics of a hub alone.

use super::facts::Facts;
use super::families::{About, gauges, histogram};
use super::tunnel::Tunnel;
use super::{common, pools, tunnel};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_config::status::HubStatus;
use std::collections::BTreeSet;
use std::fmt;

const DIAL: About = About::of(
    "dial",
    Unit::Seconds,
    "Time from the choice of a target until it was connected",
);
const UNREACHABLE: About = About::new(
    "edge_unreachable",
    "1 for an edge that this hub dials and doesn't reach, with the code of the last failure",
);

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    facts: &Facts,
    status: &HubStatus,
) -> fmt::Result {
    common::encode_own(
        encoder,
        status.memory_budget,
        status.events_dropped,
        status.access_log_lost,
    )?;
    let (all, as_str) = (HubRefusalReason::ALL, HubRefusalReason::as_str);
    common::encode_refusals(encoder, all, as_str, &status.rejected)?;
    histogram(encoder, &DIAL, &facts.dial)?;
    let edges = status.connected_edges.iter();
    let connected: BTreeSet<&str> = edges.map(|edge| edge.edge_id.as_str()).collect();
    let is_connected = |id: &str| u64::from(connected.contains(id));
    let edges = facts.edges.iter().map(|id| id.as_str());
    tunnel::encode_connected(encoder, edges.map(|id| (id, is_connected(id))))?;
    let unreachable = status.unreachable_edges.iter().map(|edge| {
        let labels = [
            ("edge", edge.edge_id.as_str()),
            ("code", edge.code.as_str()),
        ];
        (labels, 1_u64)
    });
    gauges(encoder, &UNREACHABLE, unreachable)?;
    let tunnels: Vec<Tunnel<'_>> = status.connected_edges.iter().map(Tunnel::from).collect();
    tunnel::encode(encoder, &tunnels)?;
    pools::encode(encoder, facts, status)
}
