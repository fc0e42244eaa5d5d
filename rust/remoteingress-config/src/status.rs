//! The answer to `getStatus`. docs/status.md and TypeScript's interfaces are generated from the comments here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use remoteingress_proto::{
    mux::{Queued, budget::BudgetPool},
    token::{edge_id::EdgeId, pin::Pin},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::ErrorCode,
    pool_status::PoolStatus,
    port_status::PortStatus,
    reasons::{DialledBy, EdgeRefusalReason, HubRefusalReason, Transport, UdpDropReason},
};

/// Status of a hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubStatus {
    /// True while the hub answers.
    pub running: bool,
    /// True once the hub is about to stop: it takes no new streams, and ends with those that it has.
    pub draining: bool,
    /// Port on which edges connect, also where the configuration said 0. It is 0 for a hub that doesn't listen.
    ///
    /// Unit: port
    pub tunnel_port: u16,
    /// base64url SHA-256 of the hub's public key, which tokens carry; null where they carry none.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub hub_pin: Option<Pin>,
    /// [Connected edges](#connected-edge): those with a session that has a connection.
    pub connected_edges: Vec<ConnectedEdge>,
    /// [Unreachable edges](#unreachable-edge): those that this hub dials and doesn't reach.
    pub unreachable_edges: Vec<UnreachableEdge>,
    /// [Pools](#pool), by their names.
    pub pools: Vec<PoolStatus>,
    /// Clients that are bound to targets of pools with `affinity`.
    ///
    /// Unit: clients
    pub bindings: u64,
    /// State of the file that `routingDb` names; null without one.
    pub routing_db: Option<RoutingDbStatus>,
    /// State of the file that `geo.database` names; null without one.
    pub geo: Option<GeoStatus>,
    /// Connections and streams that the hub refused, see [Reasons in `rejected`](#reasons-in-rejected). A reason that
    /// hasn't occurred is absent.
    ///
    /// Unit: count by reason
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"$ref": "#/$defs/HubRefusalReason"})))]
    pub rejected: BTreeMap<HubRefusalReason, u64>,
    /// Memory that streams and their buffers have of the budget: `{ usedBytes, limitBytes }`.
    ///
    /// Unit: bytes
    pub memory_budget: MemoryBudget,
    /// Events that were lost because they weren't read in time.
    ///
    /// Unit: events
    pub events_dropped: u64,
    /// Lines of the access log that were lost because its disk was full or too slow.
    ///
    /// Unit: lines
    pub access_log_lost: u64,
}

/// State of edgeProxy's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingDbStatus {
    /// Path of the file.
    pub path: String,
    /// Number of the version in force, which counts up with each change; 0 before the first.
    pub revision: u64,
    /// Rows in force.
    ///
    /// Unit: rows
    pub rows: u64,
    /// Rows that are refused, at most 20 of them.
    pub refused: Vec<RefusedRow>,
    /// Rows that are refused.
    ///
    /// Unit: rows
    pub refused_rows: u64,
    /// Why the file can't be read, so that an earlier version stays in force; null while it can.
    pub error: Option<String>,
}

/// A row of edgeProxy's database that can't be a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedRow {
    /// Its id; null if it has none.
    pub id: Option<String>,
    /// Its place in the table, from 1.
    pub row: u64,
    /// What is wrong with it, as a sentence.
    pub reason: String,
}

/// State of the database of countries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeoStatus {
    /// Path of the file.
    pub database: String,
    /// Time at which its data were put together; null before it was read.
    ///
    /// Unit: ms since 1970
    pub built: Option<u64>,
    /// Networks whose country it knows; null before it was read.
    ///
    /// Unit: networks
    pub networks: Option<u64>,
    /// Why the file can't be read, so that earlier data stay in force; null while it can.
    pub error: Option<String>,
}

/// An edge that the hub dials and doesn't reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnreachableEdge {
    /// Id of the allowed edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Code of the last failure, see [errors](errors.md).
    pub code: ErrorCode,
    /// Cause of the last failure, as a sentence.
    pub reason: String,
    /// Proxy through which this hub dials the edge, as `host:port` without its login; null where there is none.
    pub proxy: Option<String>,
    /// Time of the first failure of the outage.
    ///
    /// Unit: ms since 1970
    pub since: u64,
}

/// An edge that has a session with a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectedEdge {
    /// Id of the allowed edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Address from which the edge connected. Over QUIC it stays the one from then, even if the edge's address changes.
    ///
    /// Unit: `address:port`
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub remote_address: SocketAddr,
    /// True while all sessions of the edge only let their streams finish: it is about to stop, or drains for another
    /// one.
    pub draining: bool,
    /// Transport of the session that came up last, which new streams use.
    pub transport: Transport,
    /// Time at which the edge's first session came up.
    ///
    /// Unit: ms since 1970
    pub connected_at: u64,
    /// Sessions with a connection, also those that only let their streams finish.
    ///
    /// Unit: sessions
    pub sessions: usize,
    /// Sessions with a connection, by the transport of it: `{ tcpTls, quic }`.
    ///
    /// Unit: sessions
    pub sessions_by_transport: SessionsByTransport,
    /// Streams that are open now.
    ///
    /// Unit: streams
    pub active_streams: usize,
    /// Streams that are open now, by transport: `{ tcpTls, quic }`. After a change of transport old streams finish on
    /// the old one.
    ///
    /// Unit: streams
    pub active_streams_by_transport: StreamsByTransport,
    /// Streams since the edge was allowed.
    ///
    /// Unit: streams
    pub total_streams: u64,
    /// Payload of streams from clients towards targets, since the edge was allowed.
    ///
    /// Unit: bytes
    pub bytes_in: u64,
    /// Payload of streams from targets towards clients, since the edge was allowed.
    ///
    /// Unit: bytes
    pub bytes_out: u64,
    /// Round trip between hub and edge; null until it has been measured.
    ///
    /// Unit: ms
    pub rtt_ms: Option<f64>,
    /// Bytes that wait here to be sent into the tunnel: `{ control, datagrams, data, sustained }`. What has been sent
    /// and isn't acknowledged yet isn't among them.
    ///
    /// Unit: bytes
    pub queued_bytes: QueuedBytes,
    /// Sessions that went on with their streams over a new connection, since the edge was allowed. Over QUIC there are
    /// none.
    ///
    /// Unit: sessions
    pub resumed: u64,
    /// Public address of the edge as STUN told it, null where it isn't known. It is a hint, and nothing is authorized
    /// by it.
    #[serde(rename = "publicIp")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub public_address: Option<IpAddr>,
    /// Software version of the edge.
    pub version: String,
    /// End that has dialled.
    pub dialled_by: DialledBy,
    /// Proxy through which this hub has dialled, as `host:port` without its login; null where there is none.
    /// `remoteAddress` is the proxy's then.
    pub proxy: Option<String>,
    /// [Ports](#port) of the edge, as it reported them.
    pub ports: Vec<PortStatus>,
    /// [Counts of UDP](#udp) of this edge, taken at the hub.
    pub udp: UdpStatus,
}

/// Status of an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeStatus {
    /// True while the edge answers.
    pub running: bool,
    /// Its own id, by which the hub allows it.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Hub that this edge dials, as `host:port` of its configuration; null where the hub dials.
    pub hub_address: Option<String>,
    /// True once the edge is about to stop: its ports are closed, and it ends with the streams that it has.
    pub draining: bool,
    /// True while a session to the hub takes new streams.
    pub connected: bool,
    /// Transport of new streams; null while there is no session.
    pub transport: Option<Transport>,
    /// Reason why `"quicWithFallback"` last changed the transport, for example `"no packet came over QUIC for
    /// 8 s"`; null before it has. With a proxy it says why QUIC isn't used at all.
    pub transport_reason: Option<String>,
    /// End that dials.
    pub dialled_by: DialledBy,
    /// Proxy through which this edge dials its hub, as `host:port` without its login; null where there is none.
    pub proxy: Option<String>,
    /// Public address of this edge as STUN told it, null where it isn't known. It is a hint, and nothing is authorized
    /// by it.
    #[serde(rename = "publicIp")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub public_address: Option<IpAddr>,
    /// Sessions with a connection, also those that only let their streams finish.
    ///
    /// Unit: sessions
    pub sessions: usize,
    /// Sessions with a connection, by the transport of it: `{ tcpTls, quic }`.
    ///
    /// Unit: sessions
    pub sessions_by_transport: SessionsByTransport,
    /// Streams that are open now.
    ///
    /// Unit: streams
    pub active_streams: usize,
    /// Streams that are open now, by transport: `{ tcpTls, quic }`. After a change of transport old streams finish on
    /// the old one.
    ///
    /// Unit: streams
    pub active_streams_by_transport: StreamsByTransport,
    /// Streams since the start.
    ///
    /// Unit: streams
    pub total_streams: u64,
    /// Payload of streams from clients towards targets, since the start.
    ///
    /// Unit: bytes
    pub bytes_in: u64,
    /// Payload of streams from targets towards clients, since the start.
    ///
    /// Unit: bytes
    pub bytes_out: u64,
    /// Round trip between edge and hub; null until it has been measured.
    ///
    /// Unit: ms
    pub rtt_ms: Option<f64>,
    /// Bytes that wait here to be sent into the tunnel: `{ control, datagrams, data, sustained }`. What has been sent
    /// and isn't acknowledged yet isn't among them.
    ///
    /// Unit: bytes
    pub queued_bytes: QueuedBytes,
    /// TCP ports that are bound now.
    ///
    /// Unit: ports
    pub listen_ports: Vec<u16>,
    /// UDP ports that are bound now.
    ///
    /// Unit: ports
    pub listen_ports_udp: Vec<u16>,
    /// All [ports](#port) that the hub assigned, with their states.
    pub ports: Vec<PortStatus>,
    /// [Counts of UDP](#udp) of this edge.
    pub udp: UdpStatus,
    /// Attempts to resume a session after its connection was lost. A session without streams isn't resumed but begun
    /// anew, which doesn't count here.
    ///
    /// Unit: attempts
    pub reconnects: u64,
    /// Attempts to resume that succeeded.
    ///
    /// Unit: sessions
    pub resumed: u64,
    /// Clients that wait for the hub right now.
    ///
    /// Unit: clients
    pub held_clients: usize,
    /// Clients that the edge itself refused, see [Reasons in `rejected`](#reasons-in-rejected). Streams that the hub
    /// refused are counted at the hub. A reason that hasn't occurred is absent.
    ///
    /// Unit: count by reason
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"$ref": "#/$defs/EdgeRefusalReason"})))]
    pub rejected: BTreeMap<EdgeRefusalReason, u64>,
    /// Memory that streams and their buffers have of the budget: `{ usedBytes, limitBytes }`.
    ///
    /// Unit: bytes
    pub memory_budget: MemoryBudget,
    /// Events that were lost because they weren't read in time.
    ///
    /// Unit: events
    pub events_dropped: u64,
    /// Lines of the access log that were lost because its disk was full or too slow.
    ///
    /// Unit: lines
    pub access_log_lost: u64,
}

/// Streams that are open now, by transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamsByTransport {
    /// Streams over TLS.
    pub tcp_tls: usize,
    /// Streams over QUIC.
    pub quic: usize,
}

/// Sessions that have a connection, by its transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionsByTransport {
    /// Sessions over TLS.
    pub tcp_tls: usize,
    /// Sessions over QUIC.
    pub quic: usize,
}

/// Bytes that wait to be sent into the tunnel, by their place in the order of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuedBytes {
    /// Control messages, which go ahead of streams.
    pub control: usize,
    /// Datagrams, each with 64 bytes beside its own. They wait for at most 500 ms.
    pub datagrams: usize,
    /// Payload of new and ordinary streams.
    pub data: usize,
    /// Payload of streams that have moved much for long: they go last, with a guaranteed share.
    pub sustained: usize,
}

impl From<Queued> for QueuedBytes {
    fn from(queued: Queued) -> Self {
        let Queued {
            control,
            datagrams,
            data,
            sustained,
        } = queued;
        Self {
            control,
            datagrams,
            data,
            sustained,
        }
    }
}

/// Memory that streams and their buffers may have, and have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryBudget {
    /// Bytes that the workers have taken of the budget; what they keep in reserve, up to 2 MiB each, is among them.
    pub used_bytes: usize,
    /// The whole budget in bytes.
    pub limit_bytes: usize,
}

impl From<&BudgetPool> for MemoryBudget {
    fn from(pool: &BudgetPool) -> Self {
        Self {
            used_bytes: pool.leased(),
            limit_bytes: pool.limit(),
        }
    }
}

/// Counts of UDP at one end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpStatus {
    /// Clients that have sent or got a datagram within `udpIdleTimeoutSecs`.
    ///
    /// Unit: flows
    pub active_flows: usize,
    /// Datagrams from clients towards targets: those that an edge read, or that a hub sent to targets.
    ///
    /// Unit: datagrams
    pub datagrams_in: u64,
    /// Datagrams from targets towards clients: those that a hub read from targets, or that an edge sent to clients.
    ///
    /// Unit: datagrams
    pub datagrams_out: u64,
    /// Datagrams that went no further, see [Reasons in `udp.dropped`](#reasons-in-udpdropped). A reason that hasn't
    /// occurred is absent.
    ///
    /// Unit: count by reason
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"$ref": "#/$defs/UdpDropReason"})))]
    pub dropped: BTreeMap<UdpDropReason, u64>,
}
