//! Metrics of an edge alone.

use super::families::{About, counters, gauge};
use super::tunnel::Tunnel;
use super::{common, tunnel};
use prometheus_client::encoding::DescriptorEncoder;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::status::EdgeStatus;
use remoteingress_proto::token::edge_id::EdgeId;
use std::fmt;

const RECONNECTS: About = About::new(
    "reconnects",
    "Attempts to resume a session after its connection was lost",
);
const HELD: About = About::new("held_clients", "Clients that wait for the hub");

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    status: &EdgeStatus,
    id: &EdgeId,
) -> fmt::Result {
    common::encode_own(
        encoder,
        status.memory_budget,
        status.events_dropped,
        status.access_log_lost,
    )?;
    let (all, as_str) = (EdgeRefusalReason::ALL, EdgeRefusalReason::as_str);
    common::encode_refusals(encoder, all, as_str, &status.rejected)?;
    let edge = id.as_str();
    tunnel::encode_connected(encoder, [(edge, u64::from(status.connected))])?;
    counters(
        encoder,
        &RECONNECTS,
        [([("edge", edge)], status.reconnects)],
    )?;
    gauge(encoder, &HELD, status.held_clients)?;
    tunnel::encode(encoder, &[Tunnel::of_edge(status, edge)])
}
