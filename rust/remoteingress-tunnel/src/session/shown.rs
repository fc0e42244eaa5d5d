//! The streams of a session as somebody sees them who only looks.

use super::local_session::LocalSession;
use remoteingress_config::reasons::{Protocol, Transport};
use remoteingress_config::streams::{StreamStatus, StreamTier, WaitsFor};
use remoteingress_core::stream::Wait;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::mux::tier::Tier;
use remoteingress_proto::token::edge_id::EdgeId;
use std::time::{Duration, Instant};

/// What those who look know besides the session.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The edge of the session.
    pub edge: &'a EdgeId,
    /// The transport of the session.
    pub transport: Transport,
    /// The party at the sockets of this end.
    pub at_sockets: WaitsFor,
    /// The time now.
    pub now: Instant,
    /// The same in milliseconds since 1970.
    pub unix_millis: u64,
}

/// The time of an age before `unix_millis`, in milliseconds since 1970.
pub fn before(unix_millis: u64, age: Duration) -> u64 {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    unix_millis.saturating_sub(millis)
}

/// Ages and serials of the streams that have facts.
pub fn ages(local: &LocalSession, now: Instant) -> Vec<(Duration, u64, StreamKey)> {
    let faces = local.faces();
    let known = faces.values().map(|face| face.vitals());
    let known = known.filter(|vitals| vitals.facts().is_some());
    known
        .map(|vitals| (vitals.age(now), vitals.serial(), vitals.key()))
        .collect()
}

/// A stream that has facts, as it is now.
pub fn show(local: &LocalSession, look: &Look<'_>, key: StreamKey) -> Option<StreamStatus> {
    let id = local.stream_name(key);
    let faces = local.faces();
    let vitals = faces.get(&key)?.vitals();
    let facts = vitals.facts()?;
    let session = local.session();
    let view = session.view(key)?;
    let is_up = session.is_attached() && session.is_welcome();
    let waits_for = match vitals.life().waits() {
        _ if !is_up => Some(WaitsFor::Tunnel),
        None => None,
        Some(Wait::Dial) => Some(WaitsFor::Dial),
        Some(Wait::Socket) => Some(look.at_sockets),
        Some(Wait::Tunnel) if view.has_credit => Some(WaitsFor::Link),
        Some(Wait::Tunnel) => Some(WaitsFor::Window),
    };
    let (inward, outward) = vitals.moved();
    let (bytes_in, bytes_out) = if look.at_sockets == WaitsFor::Target {
        (outward, inward)
    } else {
        (inward, outward)
    };
    Some(StreamStatus {
        id,
        serial: Some(vitals.serial()),
        edge_id: look.edge.clone(),
        protocol: Protocol::Tcp,
        client_address: facts.client(),
        port: facts.listener().port(),
        listener_ip: facts.listener().ip(),
        target: facts.target().map(str::to_owned),
        transport: look.transport,
        opened_at: before(look.unix_millis, vitals.age(look.now)),
        bytes_in,
        bytes_out,
        tier: Some(match view.tier {
            Tier::Data => StreamTier::Data,
            Tier::Sustained => StreamTier::Sustained,
        }),
        waits_for,
    })
}
