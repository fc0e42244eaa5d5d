//! Metrics of the tunnel of an edge, which both ends have.

use super::families::{About, Labels, counters, gauges};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::reasons::{PortState, Protocol, Transport, UdpDropReason};
use remoteingress_config::status::{
    ConnectedEdge, EdgeStatus, QueuedBytes, SessionsByTransport, StreamsByTransport, UdpStatus,
};
use std::collections::BTreeSet;
use std::fmt;

/// Failed ports that are named; `ports` counts them all.
const MAX_FAILED: usize = 50;

const CONNECTED: About = About::new(
    "edge_connected",
    "1 while the edge has a session with the hub, 0 while an allowed edge has none",
);
const SESSIONS: About = About::new("sessions", "Sessions that have a connection");
const RESUMES: About = About::new(
    "resumes",
    "Sessions that went on with their streams over a new connection",
);
const ACTIVE_STREAMS: About = About::new("active_streams", "Streams that are open now");
const STREAMS: About = About::new("streams", "Streams that were opened");
const BYTES: About = About::of(
    "stream_payload",
    Unit::Bytes,
    "Payload of streams: in is towards targets, out is towards clients",
);
const ACTIVE_FLOWS: About = About::new(
    "active_flows",
    "Client addresses with UDP datagrams of late",
);
const DATAGRAMS: About = About::new(
    "datagrams",
    "UDP datagrams that were passed on: in is towards targets, out is towards clients",
);
const DROPPED: About = About::new(
    "datagrams_dropped",
    "UDP datagrams that went no further, of edges with UDP ports",
);
const ROUND_TRIP: About = About::of(
    "round_trip",
    Unit::Seconds,
    "Round trip between edge and hub",
);
const QUEUED: About = About::of(
    "queued",
    Unit::Bytes,
    "Bytes that wait at this end to be sent into the tunnel",
);
const PORTS: About = About::new("ports", "Ports of the edge");
const PORT_FAILED: About = About::new(
    "port_failed",
    "1 for a port that couldn't be opened, with the code of the cause; at most 50 ports are named",
);

/// The common part of the status of both ends.
pub(super) struct Tunnel<'a> {
    edge: &'a str,
    sessions: SessionsByTransport,
    resumed: u64,
    active_streams: StreamsByTransport,
    total_streams: u64,
    bytes_in: u64,
    bytes_out: u64,
    rtt_ms: Option<f64>,
    queued: QueuedBytes,
    ports: &'a [PortStatus],
    udp: &'a UdpStatus,
}

impl<'a> From<&'a ConnectedEdge> for Tunnel<'a> {
    fn from(edge: &'a ConnectedEdge) -> Self {
        Self {
            edge: edge.edge_id.as_str(),
            sessions: edge.sessions_by_transport,
            resumed: edge.resumed,
            active_streams: edge.active_streams_by_transport,
            total_streams: edge.total_streams,
            bytes_in: edge.bytes_in,
            bytes_out: edge.bytes_out,
            rtt_ms: edge.rtt_ms,
            queued: edge.queued_bytes,
            ports: &edge.ports,
            udp: &edge.udp,
        }
    }
}

impl<'a> Tunnel<'a> {
    /// As the edge of this id sees it.
    pub(super) fn of_edge(status: &'a EdgeStatus, edge: &'a str) -> Self {
        Self {
            edge,
            sessions: status.sessions_by_transport,
            resumed: status.resumed,
            active_streams: status.active_streams_by_transport,
            total_streams: status.total_streams,
            bytes_in: status.bytes_in,
            bytes_out: status.bytes_out,
            rtt_ms: status.rtt_ms,
            queued: status.queued_bytes,
            ports: &status.ports,
            udp: &status.udp,
        }
    }

    fn with<V>(&self, name: &'static str, label: &'static str, value: V) -> (Labels<'a, 2>, V) {
        ([("edge", self.edge), (name, label)], value)
    }

    /// Its drops would be many lines of 0 otherwise.
    fn has_udp(&self) -> bool {
        let is_udp = |port: &PortStatus| port.protocol == Protocol::Udp;
        !self.udp.dropped.is_empty() || self.ports.iter().any(is_udp)
    }

    fn dropped(&self) -> impl Iterator<Item = (Labels<'a, 2>, u64)> {
        let reasons = UdpDropReason::ALL.iter().filter(|_| self.has_udp());
        reasons.map(|reason| {
            let count = self.udp.dropped.get(reason).copied().unwrap_or_default();
            self.with("reason", reason.as_str(), count)
        })
    }

    fn queued(&self) -> [(Labels<'a, 2>, usize); 4] {
        [
            self.with("tier", "control", self.queued.control),
            self.with("tier", "datagrams", self.queued.datagrams),
            self.with("tier", "data", self.queued.data),
            self.with("tier", "sustained", self.queued.sustained),
        ]
    }

    /// A port on several addresses counts once for each.
    fn ports(&self) -> impl Iterator<Item = (Labels<'a, 3>, usize)> {
        let mut counts = [[0_usize; PortState::ALL.len()]; Protocol::ALL.len()];
        for port in self.ports {
            let of_protocol = counts.get_mut(port.protocol as usize);
            if let Some(count) = of_protocol.and_then(|own| own.get_mut(port.state as usize)) {
                *count += 1;
            }
        }
        let edge = self.edge;
        Protocol::ALL
            .iter()
            .zip(counts)
            .flat_map(move |(protocol, own)| {
                PortState::ALL.iter().zip(own).map(move |(state, count)| {
                    let (protocol, state) = (protocol.as_str(), state.as_str());
                    let labels = [("edge", edge), ("protocol", protocol), ("state", state)];
                    (labels, count)
                })
            })
    }
}

/// Whether each edge is connected.
pub(super) fn encode_connected<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    edges: impl IntoIterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let edges = edges.into_iter();
    gauges(
        encoder,
        &CONNECTED,
        edges.map(|(id, is)| ([("edge", id)], is)),
    )
}

/// All of each tunnel.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, tunnels: &[Tunnel<'_>]) -> fmt::Result {
    encode_streams(encoder, tunnels)?;
    encode_datagrams(encoder, tunnels)?;
    let round_trips = tunnels.iter().filter_map(|tunnel| {
        let millis = tunnel.rtt_ms?;
        Some(([("edge", tunnel.edge)], millis / 1_000.0))
    });
    gauges(encoder, &ROUND_TRIP, round_trips)?;
    gauges(encoder, &QUEUED, tunnels.iter().flat_map(Tunnel::queued))?;
    gauges(encoder, &PORTS, tunnels.iter().flat_map(Tunnel::ports))?;
    encode_failed(encoder, tunnels)
}

fn encode_streams(encoder: &mut DescriptorEncoder<'_>, tunnels: &[Tunnel<'_>]) -> fmt::Result {
    let [tcp_tls, quic] = [Transport::TcpTls, Transport::Quic].map(Transport::as_str);
    let sessions = tunnels.iter().flat_map(|tunnel| {
        let SessionsByTransport {
            tcp_tls: over_tls,
            quic: over_quic,
        } = tunnel.sessions;
        [
            tunnel.with("transport", tcp_tls, over_tls),
            tunnel.with("transport", quic, over_quic),
        ]
    });
    gauges(encoder, &SESSIONS, sessions)?;
    let resumes = tunnels.iter();
    let resumes = resumes.map(|tunnel| ([("edge", tunnel.edge)], tunnel.resumed));
    counters(encoder, &RESUMES, resumes)?;
    let active = tunnels.iter().flat_map(|tunnel| {
        let StreamsByTransport {
            tcp_tls: over_tls,
            quic: over_quic,
        } = tunnel.active_streams;
        [
            tunnel.with("transport", tcp_tls, over_tls),
            tunnel.with("transport", quic, over_quic),
        ]
    });
    gauges(encoder, &ACTIVE_STREAMS, active)?;
    let streams = |tunnel: &Tunnel<'_>| tunnel.total_streams;
    let total = tunnels
        .iter()
        .map(|tunnel| ([("edge", tunnel.edge)], streams(tunnel)));
    counters(encoder, &STREAMS, total)?;
    let bytes = tunnels.iter().flat_map(|tunnel| {
        [
            tunnel.with("direction", "in", tunnel.bytes_in),
            tunnel.with("direction", "out", tunnel.bytes_out),
        ]
    });
    counters(encoder, &BYTES, bytes)
}

fn encode_datagrams(encoder: &mut DescriptorEncoder<'_>, tunnels: &[Tunnel<'_>]) -> fmt::Result {
    let flows = tunnels
        .iter()
        .map(|tunnel| ([("edge", tunnel.edge)], tunnel.udp.active_flows));
    gauges(encoder, &ACTIVE_FLOWS, flows)?;
    let datagrams = tunnels.iter().flat_map(|tunnel| {
        [
            tunnel.with("direction", "in", tunnel.udp.datagrams_in),
            tunnel.with("direction", "out", tunnel.udp.datagrams_out),
        ]
    });
    counters(encoder, &DATAGRAMS, datagrams)?;
    counters(encoder, &DROPPED, tunnels.iter().flat_map(Tunnel::dropped))
}

/// Of each edge the first failed port comes before the second of any: one with thousands hides no other.
fn encode_failed(encoder: &mut DescriptorEncoder<'_>, tunnels: &[Tunnel<'_>]) -> fmt::Result {
    let mut failed = BTreeSet::new();
    for tunnel in tunnels {
        // Without its address a port may be there twice, and no sample may.
        let of_edge = tunnel.ports.iter().filter_map(|port| {
            let code = port.error.as_ref()?.code.as_str();
            Some((port.protocol.as_str(), port.port, code))
        });
        let of_edge: BTreeSet<_> = of_edge.take(4 * MAX_FAILED).collect();
        let ranked = of_edge.into_iter().take(MAX_FAILED).enumerate();
        failed.extend(ranked.map(|(rank, port)| (rank, tunnel.edge, port)));
    }
    let ports: Vec<(&str, &str, String, &str)> = failed
        .into_iter()
        .take(MAX_FAILED)
        .map(|(_, edge, (protocol, port, code))| (edge, protocol, port.to_string(), code))
        .collect();
    let samples = ports.iter().map(|(edge, protocol, port, code)| {
        let labels = [
            ("edge", *edge),
            ("protocol", *protocol),
            ("port", port.as_str()),
            ("code", *code),
        ];
        (labels, 1_u64)
    });
    gauges(encoder, &PORT_FAILED, samples)
}
