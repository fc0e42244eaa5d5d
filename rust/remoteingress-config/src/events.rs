//! The events of hub and edge. docs/events.md and TypeScript's interfaces are generated from the comments here.

use std::net::{IpAddr, SocketAddr};

use remoteingress_proto::token::{edge_id::EdgeId, pin::Pin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::ErrorCode,
    name::Name,
    pool_status::{DiscoveryState, TargetSource},
    port_status::PortStatus,
    reasons::{
        DialledBy, Feature, Protocol, StreamCloseReason, TargetDownReason, Transport,
        TunnelRefusalReason,
    },
};

/// Writes the enum of all events with their names and data.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($data:ty) = $name:literal,)+) => {
        /// An event, as its line on stdout has it: `{"event": …, "data": …}`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "event", content = "data", deny_unknown_fields)]
        pub enum Event {
            $($(#[$doc])* #[serde(rename = $name)] $variant($data),)+
        }

        impl Event {
            /// The names of all events, in the order of the documentation.
            pub const NAMES: &[&'static str] = &[$($name,)+];

            /// The event's name.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// The event's data.
            pub fn data(&self) -> Value {
                match self { $(Self::$variant(data) => json!(data),)+ }
            }
        }
    };
}

events! {
    /// The first session of an edge's tunnel is up.
    ///
    /// Of: hub
    EdgeConnected(EdgeConnected) = "edgeConnected",
    /// The last connection of an edge's tunnel is gone. Its sessions may still be resumed, with their streams.
    ///
    /// Of: hub
    EdgeDisconnected(EdgeDisconnected) = "edgeDisconnected",
    /// An edge was refused for `reason`. `edgeId` is null where it isn't known, and is only claimed, not proven, for
    /// `authFailed`; `instanceConflict` adds the address of the edge that is connected. The same edge at the same address
    /// is told of once a minute for each reason, and once while the hub drains; the status field `rejected` counts every
    /// time.
    ///
    /// Of: hub
    EdgeRejected(EdgeRejected) = "edgeRejected",
    /// An edge that this hub dials can't be reached. It comes once per outage and cause; `code` is an [error code](errors.md).
    ///
    /// Of: hub
    EdgeUnreachable(EdgeUnreachable) = "edgeUnreachable",
    /// An edge that this hub dials shows another key than before, after it has proved its secret. Unless the edge's
    /// `stateDir` was lost or moved, somebody else has its secret; `dial.pin` refuses another key.
    ///
    /// Of: hub
    EdgeKeyChanged(EdgeKeyChanged) = "edgeKeyChanged",
    /// The edge has applied a configuration of its ports; `ports` tells the [state of each](status.md#port).
    ///
    /// Of: hub
    PortsApplied(PortsApplied) = "portsApplied",
    /// The first session of the tunnel is up. `resumed` tells if it goes on with its streams from before a lost connection; those of other sessions may go on in any case.
    ///
    /// Of: edge
    TunnelConnected(TunnelConnected) = "tunnelConnected",
    /// No session is up. It comes once per outage and cause, also when the first attempt to connect fails; `code` is an
    /// [error code](errors.md).
    ///
    /// Of: edge
    TunnelDisconnected(TunnelDisconnected) = "tunnelDisconnected",
    /// With `"quicWithFallback"`, new streams use the other transport from now on. The first transport is in
    /// `tunnelConnected` instead.
    ///
    /// Of: edge
    TransportChanged(TransportChanged) = "transportChanged",
    /// The first configuration of ports since the edge started has been applied.
    ///
    /// Of: edge
    PortsAssigned(Ports) = "portsAssigned",
    /// A later configuration has been applied, a port that had failed is open now, or the last stream of a removed port
    /// has ended.
    ///
    /// Of: edge
    PortsUpdated(Ports) = "portsUpdated",
    /// STUN told a public address that wasn't known before.
    ///
    /// Of: edge
    PublicAddressDiscovered(PublicAddress) = "publicIpDiscovered",
    /// A target of a pool gets no streams for now: streams to it failed, or its checks did.
    ///
    /// Of: hub
    TargetDown(TargetDown) = "targetDown",
    /// A target takes streams again.
    ///
    /// Of: hub
    TargetUp(TargetUp) = "targetUp",
    /// Clients were refused, because their pool has no target, or isn't there. `refused` counts them since the pool's last
    /// such event: streams, and over UDP datagrams. It comes every 5 s at most.
    ///
    /// Of: hub
    PoolEmpty(PoolRefused) = "poolEmpty",
    /// The same, because all targets of the pool were full, and no place in its queue came in time.
    ///
    /// Of: hub
    PoolFull(PoolRefused) = "poolFull",
    /// The same, because no target of the pool takes streams, or those that were dialled failed.
    ///
    /// Of: hub
    PoolUnhealthy(PoolRefused) = "poolUnhealthy",
    /// A row of routing.db or a record of DNS can't be a target. It is sent once for each.
    ///
    /// Of: hub
    TargetRefused(TargetRefused) = "targetRefused",
    /// Another version of routing.db is in force.
    ///
    /// Of: hub
    RoutingReloaded(RoutingReloaded) = "routingReloaded",
    /// routing.db can't be read, for one of the reasons that [pools.md](pools.md#routingdb) lists. The earlier
    /// targets stay.
    ///
    /// Of: hub
    RoutingFailed(RoutingFailed) = "routingFailed",
    /// The name of a pool can't be looked up, or has no records. It is sent when that begins, and when the targets go after
    /// `holdSecs`; until then the earlier ones stay.
    ///
    /// Of: hub
    DiscoveryFailed(DiscoveryFailed) = "discoveryFailed",
    /// Another database of countries is in force.
    ///
    /// Of: hub
    GeoReloaded(GeoReloaded) = "geoReloaded",
    /// The database of countries can't be read, for one of the reasons that [pools.md](pools.md#geography) lists. The
    /// earlier data stay in force.
    ///
    /// Of: hub
    GeoFailed(GeoFailed) = "geoFailed",
    /// A stream was opened for a client. `port` is the listener's; the hub adds `target` as `host:port`.
    ///
    /// Of: both
    StreamOpened(StreamOpened) = "streamOpened",
    /// A stream has ended, for one of the [reasons](#reasons-of-streamclosed) below. `bytesIn` and `bytesOut` are bytes
    /// of payload.
    ///
    /// Of: both
    StreamClosed(StreamClosed) = "streamClosed",
    /// This number of events was lost, because they weren't read in time.
    ///
    /// Of: both
    EventsDropped(EventsDropped) = "eventsDropped",
    /// The process takes requests. It is the first line on stdout.
    ///
    /// Of: management interface only
    Ready(Ready) = "ready",
}

/// Data of `edgeConnected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeConnected {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Address from which the edge connected, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub remote_address: SocketAddr,
    /// Transport of the edge's first session.
    pub transport: Transport,
    /// Software version of the edge.
    pub version: String,
    /// End that has dialled.
    pub dialled_by: DialledBy,
}

/// Data of `edgeUnreachable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeUnreachable {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Code to branch on.
    pub code: ErrorCode,
    /// Cause, as a sentence.
    pub reason: String,
}

/// Data of `edgeKeyChanged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeKeyChanged {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Address of the edge, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub remote_address: SocketAddr,
    /// base64url SHA-256 of the edge's public key.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub pin: Pin,
    /// The same of the key that it showed before.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub previous_pin: Pin,
}

/// Data of `targetDown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetDown {
    /// Name of the pool.
    pub pool: Name,
    /// Id of the target.
    pub target: Name,
    /// The evidence.
    pub reason: TargetDownReason,
    /// Failures in a row.
    pub failures: u32,
}

/// Data of `targetUp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetUp {
    /// Name of the pool.
    pub pool: Name,
    /// Id of the target.
    pub target: Name,
}

/// Data of `poolEmpty`, `poolFull` and `poolUnhealthy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolRefused {
    /// Name of the pool.
    pub pool: Name,
    /// Streams, and over UDP datagrams, that were refused since the pool's last such event.
    pub refused: u64,
}

/// Data of `targetRefused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRefused {
    /// Where the target comes from.
    pub source: TargetSource,
    /// Id of the target; null if it has none.
    pub id: Option<String>,
    /// Place of its row in the table, from 1; null if it is no row.
    pub row: Option<u64>,
    /// What is wrong with it, as a sentence.
    pub reason: String,
}

/// Data of `routingReloaded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingReloaded {
    /// Number of the version.
    pub revision: u64,
    /// Rows in force.
    pub rows: u64,
    /// Rows that are new.
    pub added: u64,
    /// Rows that are gone.
    pub removed: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that are refused.
    pub refused: u64,
}

/// Data of `routingFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingFailed {
    /// Path of the file.
    pub path: String,
    /// Word to branch on.
    pub reason: String,
    /// The problem and what to do about it, as a sentence.
    pub error: String,
}

/// Data of `discoveryFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiscoveryFailed {
    /// Name of the pool.
    pub pool: Name,
    /// Name that was looked up.
    pub name: String,
    /// How far the pool's targets can be relied on.
    pub state: DiscoveryState,
    /// Cause, as a sentence.
    pub error: String,
}

/// Data of `geoReloaded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeoReloaded {
    /// Path of the file.
    pub path: String,
    /// Time at which its data were put together.
    ///
    /// Unit: ms since 1970
    pub built: u64,
    /// Networks whose country it knows.
    pub networks: u64,
}

/// Data of `geoFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeoFailed {
    /// Path of the file.
    pub path: String,
    /// Word to branch on.
    pub reason: String,
    /// The problem and what to do about it, as a sentence.
    pub error: String,
}

/// Data of `edgeDisconnected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeDisconnected {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Address from which the edge was connected, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub remote_address: SocketAddr,
    /// Cause that ended the last connection, as a sentence.
    pub reason: String,
}

/// Data of `edgeRejected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeRejected {
    /// Id that the edge claims, unproven for `authFailed`; null where it isn't known.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub edge_id: Option<EdgeId>,
    /// Address from which the edge connected, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub remote_address: SocketAddr,
    /// Reason why the edge was refused.
    pub reason: TunnelRefusalReason,
    /// Only for `instanceConflict`: address of the edge with this id that is connected, as `address:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub other_address: Option<SocketAddr>,
}

/// Data of `portsApplied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortsApplied {
    /// Id of the edge whose ports these are.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Number of the configuration; counts up with each one that the hub sends.
    pub generation: u64,
    /// Every port of the edge, with its state.
    pub ports: Vec<PortStatus>,
}

/// Data of `portsAssigned` and `portsUpdated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ports {
    /// Number of the configuration; counts up with each one that the hub sends.
    pub generation: u64,
    /// Every port of the edge, with its state.
    pub ports: Vec<PortStatus>,
}

/// Data of `tunnelConnected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TunnelConnected {
    /// Address of the hub, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub hub_address: SocketAddr,
    /// Transport of the first session.
    pub transport: Transport,
    /// True if streams from before a lost connection go on.
    pub resumed: bool,
}

/// Data of `tunnelDisconnected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TunnelDisconnected {
    /// Cause, as a sentence.
    pub reason: String,
    /// Cause, as a code to branch on.
    pub code: ErrorCode,
}

/// Data of `transportChanged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransportChanged {
    /// Transport of new streams from now on.
    pub transport: Transport,
    /// Reason for the change, as a sentence.
    pub reason: String,
}

/// Data of `publicIpDiscovered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PublicIp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicAddress {
    /// Public address of the edge, as STUN told it.
    #[serde(rename = "publicIp")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub public_address: IpAddr,
}

/// Data of `streamOpened`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamOpened {
    /// Id of the edge that the client came to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Number of the stream, unique within its process. It isn't the number that the stream has on the wire.
    #[serde(rename = "streamId")]
    pub serial: u64,
    /// Id of the stream, the same at edge and hub, in the access log and in the target's PROXY header; null where the
    /// stream had ended before the hub knew of it.
    pub id: Option<String>,
    /// Address of the client, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client_address: SocketAddr,
    /// Protocol of the listener's port.
    pub protocol: Protocol,
    /// The listener's port.
    pub port: u16,
    /// Address of the edge that the client connected to: where a port is there on several, it says which.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub listener_ip: IpAddr,
    /// Only at the hub: target of the stream, as `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only at the hub: pool and target that were chosen for the stream; absent for a port without a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<ChosenTarget>,
}

/// The target that a stream got from its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChosenTarget {
    /// Name of the pool.
    pub name: Name,
    /// Id of the target.
    pub target_id: Name,
    /// Targets that were dialled for the stream, this one among them.
    pub attempts: u32,
}

/// Data of `streamClosed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamClosed {
    /// Id of the edge that the client came to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Number of the stream, as in `streamOpened`.
    #[serde(rename = "streamId")]
    pub serial: u64,
    /// Id of the stream, as in `streamOpened`.
    pub id: Option<String>,
    /// Bytes of payload from the client towards the target.
    pub bytes_in: u64,
    /// Bytes of payload from the target towards the client.
    pub bytes_out: u64,
    /// Reason why the stream ended.
    pub reason: StreamCloseReason,
}

/// Data of `eventsDropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsDropped {
    /// Events that were lost since the last `eventsDropped`.
    pub count: u64,
}

/// Data of `ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ready {
    /// Software version of the binary.
    pub version: String,
    /// Version of the management interface. A package that knows another one must not go on.
    pub protocol_version: u16,
    /// Version of the protocol between edge and hub.
    pub wire_version: u16,
    /// Transports and protocols that the binary has.
    pub features: Vec<Feature>,
}
