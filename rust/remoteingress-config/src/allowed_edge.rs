//! One edge as the hub knows it, and what a new set of them changes.

use std::{collections::HashMap, net::IpAddr, num::NonZeroU16, path::PathBuf, time::Duration};

use remoteingress_proto::token::{edge_id::EdgeId, host::Host, pin::Pin, secret::Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "schema")]
use super::ports::PortShape;
use super::{
    decode,
    limits::nonzero_seconds,
    ports::{PoolOfPort, Port, PortMap, PortSpec, Room, TcpProxyProtocol, UdpProxyProtocol},
    route::{DialRoute, RouteFields, RoutePaths},
    tunnel::{QuicTimes, TUNNEL_PORT, TransportMode},
};
use crate::{error::CodedError, geo::RegionName, pools::Pools, target::check_target};

/// An allowed edge. Two are equal when they mean the same, however their ports were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedEdge {
    /// The edge's name.
    pub id: EdgeId,
    /// The secret that the edge proves.
    pub secret: Secret,
    /// The secret that follows; both are good meanwhile.
    pub next_secret: Option<Secret>,
    /// Its TCP ports.
    pub tcp: PortMap<TcpProxyProtocol>,
    /// Its UDP ports.
    pub udp: PortMap<UdpProxyProtocol>,
    /// Interval at which the edge looks up its public address.
    pub stun_interval: Option<Duration>,
    /// Client addresses that the hub accepts from it.
    pub client_address_policy: ClientAddressPolicy,
    /// Region in which it is.
    pub region: Option<RegionName>,
    /// Where the hub dials it. Absent: the edge dials.
    pub dial: Option<EdgeDial>,
}

/// How a hub dials an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeDial {
    /// Where the edge is.
    pub host: Host,
    /// The edge's tunnel port.
    pub port: u16,
    /// How the tunnel's transport is chosen.
    pub transport_mode: TransportMode,
    /// When QUIC is tried and trusted again after a fallback.
    pub quic: QuicTimes,
    /// The way there.
    pub route: DialRoute,
    /// The edge's key. Absent: any key of an edge that proves the secret.
    pub pin: Option<Pin>,
}

impl EdgeDial {
    /// The rule by which the transport is chosen on this way.
    pub fn mode(&self) -> TransportMode {
        self.route.mode(self.transport_mode)
    }

    fn warning(&self) -> Option<String> {
        let fields = ["dial.transportMode", "dial.proxy"];
        self.route.warning(self.transport_mode, fields)
    }
}

/// Clients that an edge may let in, by their address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ClientAddressPolicy {
    /// Every client.
    #[default]
    Any,
    /// Clients with a public address only: a private, loopback or link-local one may be trusted by targets.
    Public,
}

impl AllowedEdge {
    /// Warnings about what is accepted but shouldn't stay, one sentence each.
    pub fn warnings(&self, hub_listens: bool) -> Vec<String> {
        let never =
            "it has no dial, and this hub doesn't listen (listen is false), so it can't connect";
        let secrets = [
            ("secret", Some(&self.secret)),
            ("nextSecret", self.next_secret.as_ref()),
        ];
        secrets
            .into_iter()
            .filter(|(_, secret)| secret.is_some_and(Secret::is_weak))
            .map(|(field, _)| weak_secret_warning(field))
            .chain(self.dial.as_ref().and_then(EdgeDial::warning))
            .chain((!hub_listens && self.dial.is_none()).then(|| never.to_owned()))
            .map(|warning| format!("edge {:?}: {warning}", self.id))
            .collect()
    }
}

/// Refuses edges of which a port names a pool that isn't among `pools`. Where targets come of a database of others a pool
/// may have none yet.
///
/// # Errors
/// The first such port, by its path; the list of edges is the field `edges`.
pub fn check_pools_of(
    edges: &[AllowedEdge],
    pools: &Pools,
    has_routing_db: bool,
) -> Result<(), CodedError> {
    if has_routing_db {
        return Ok(());
    }
    for (index, edge) in edges.iter().enumerate() {
        let tcp = edge.tcp.pools().map(|pool| (pool, "listenPorts"));
        let udp = edge.udp.pools().map(|pool| (pool, "listenPortsUdp"));
        let unknown = |pool: &PoolOfPort| !pools.contains_key(&pool.name);
        if let Some((pool, list)) = tcp.chain(udp).find(|(pool, _)| unknown(pool)) {
            let problem = format!(
                "a port names the pool {:?}, which isn't among pools; add it there first",
                pool.name
            );
            return Err(CodedError::invalid_config(
                format_args!("edges[{index}].{list}"),
                problem,
            ));
        }
    }
    Ok(())
}

/// Edge ids, by what a change of the allowed edges did to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowedEdgesChange {
    /// Edges that are allowed now and weren't before.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub added: Vec<EdgeId>,
    /// Edges that aren't allowed any more: they are cut within a second.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub removed: Vec<EdgeId>,
    /// Edges of which something has changed.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub changed: Vec<EdgeId>,
    /// Edges that were named and are as before.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub unchanged: Vec<EdgeId>,
}

/// Reads the parameters of `updateAllowedEdges` and `upsertEdges`: `{edges: [...]}`.
pub fn parse_edges(
    params: &Value,
    allow_special_targets: bool,
) -> Result<Vec<AllowedEdge>, CodedError> {
    check_all(decode::<EdgesParams>(params)?.edges, allow_special_targets)
}

/// The number of the set to which the parameters of `addAllowedEdges` belong: `{set, edges: [...]}`.
pub fn set_of_part(params: &Value) -> Result<u32, CodedError> {
    let number = params.get("set").and_then(Value::as_u64);
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(set) => Ok(set),
        None => decode::<EdgesPartParams>(params).map(|part| part.set),
    }
}

/// A list of edges that grows by parts and is the same as if it had come at once: no id occurs twice, and faults are
/// told by the index in the whole list.
#[derive(Debug, Default)]
pub struct EdgeList {
    entries: Vec<AllowedEdge>,
    places: HashMap<EdgeId, usize>,
}

impl EdgeList {
    /// Adds the edges in the parameters of `addAllowedEdges`. After an error the list is of no use.
    pub fn add(&mut self, params: &Value, allow_special_targets: bool) -> Result<(), CodedError> {
        let part = decode::<EdgesPartParams>(params).map_err(|error| self.in_the_whole(error))?;
        self.extend(part.edges, allow_special_targets)
    }

    /// A fault in the shape of a part, told by the index in the whole list.
    fn in_the_whole(&self, error: CodedError) -> CodedError {
        let place = error.message.strip_prefix("edges[");
        let Some((index, rest)) = place.and_then(|place| place.split_once(']')) else {
            return error;
        };
        match index.parse::<usize>() {
            Ok(index) => CodedError::new(
                error.code,
                format!("edges[{}]{rest}", index + self.entries.len()),
            ),
            Err(_) => error,
        }
    }

    /// The whole list.
    pub fn into_edges(self) -> Vec<AllowedEdge> {
        self.entries
    }

    fn extend(
        &mut self,
        list: Vec<EdgeFields>,
        allow_special_targets: bool,
    ) -> Result<(), CodedError> {
        for fields in list {
            let index = self.entries.len();
            let path = format!("edges[{index}]");
            if let Some(earlier) = self.places.insert(fields.id.clone(), index) {
                let problem = format!(
                    "{:?} is the id of edges[{earlier}] too; every edge needs its own",
                    fields.id
                );
                return Err(CodedError::invalid_config(
                    format_args!("{path}.id"),
                    problem,
                ));
            }
            self.entries
                .push(fields.check(&path, allow_special_targets)?);
        }
        Ok(())
    }
}

/// Parameters of `addAllowedEdges`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct EdgesPartParams {
    /// Number of the set, from `beginAllowedEdges`.
    set: u32,
    /// Edges that the set has besides those of its other parts.
    edges: Vec<EdgeFields>,
}

/// Parameters of `updateAllowedEdges` and `upsertEdges`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct EdgesParams {
    /// Edges that may connect: `updateAllowedEdges` takes the whole set, `upsertEdges` those that are new or changed.
    edges: Vec<EdgeFields>,
}

/// An edge that a hub allows: its secret, and the ports that it opens.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "AllowedEdge"))]
pub(super) struct EdgeFields {
    /// Name of the edge in tokens, events, status and PROXY v2 headers.
    ///
    /// Unit: bytes · Range: 1 to 128 bytes of UTF-8 without control characters
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    id: EdgeId,
    /// Secret that the edge must prove to know. `createSecret()` or `remoteingress-bin secret` make a good one; fewer
    /// than 16 bytes work with a warning.
    ///
    /// Unit: bytes · Range: not empty
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::SecretText"))]
    secret: Secret,
    /// Second secret that is valid beside `secret`, for a [rotation](../SECURITY.md#rotating-a-secret) that cuts
    /// nothing.
    ///
    /// Unit: bytes · Default: none · Range: not empty
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    next_secret: Option<Secret>,
    /// TCP ports that this edge opens: any number of them, in at most 4,096 entries, TCP and UDP together. Long ranges
    /// need [descriptors](operations.md#many-ports).
    ///
    /// Default: `[]` · Range: [port specifications](#port-specification)
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<PortShape<TcpProxyProtocol>>")
    )]
    listen_ports: Vec<PortSpec<TcpProxyProtocol>>,
    /// UDP ports that this edge opens, see [udp.md](udp.md).
    ///
    /// Default: `[]` · Range: [port specifications](#port-specification)
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<PortShape<UdpProxyProtocol>>")
    )]
    listen_ports_udp: Vec<PortSpec<UdpProxyProtocol>>,
    /// Pause between two lookups of the edge's public address by STUN. 0 turns them off.
    ///
    /// Unit: s · Default: 300
    stun_interval_secs: Option<u32>,
    /// `"public"` refuses streams and flows whose client address, as the edge reports it, is private, loopback,
    /// link-local or otherwise not public.
    ///
    /// Default: `"any"`
    #[serde(default)]
    client_address_policy: ClientAddressPolicy,
    /// Region in which the edge is: targets of pools with the strategy `"geo"` that are in it come after those in the
    /// client's region, and before all others.
    ///
    /// Default: the hub's `region` · Range: [a region](pools.md#regions)
    region: Option<RegionName>,
    /// Lets the hub dial this edge, which has `listenTunnel` then, instead of waiting for it: see
    /// [A hub behind CGNAT](operations.md#a-hub-behind-cgnat). A change of it ends the sessions that the edge has.
    ///
    /// Default: none: the edge dials · Range: [how a hub dials](#dial)
    dial: Option<DialFields>,
}

/// How a hub dials an edge.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "EdgeDial"))]
pub(super) struct DialFields {
    /// Host of the edge. A name is looked up at every attempt to connect.
    ///
    /// Range: name or IP address
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    host: Host,
    /// Port on which the edge listens for its hub.
    ///
    /// Unit: port · Default: 8443
    #[cfg_attr(feature = "schema", schemars(with = "Option<NonZeroU16>"))]
    port: Option<Port>,
    /// Transport of the tunnel, see [Transports](operations.md#transports).
    ///
    /// Default: `"tcpTls"`
    #[serde(default)]
    transport_mode: TransportMode,
    /// With `"quicWithFallback"`, the pause after a fallback before QUIC is tried again. It doubles after each attempt
    /// that fails, up to 10 min.
    ///
    /// Unit: s · Default: 60
    quic_probe_interval_secs: Option<NonZeroU16>,
    /// With `"quicWithFallback"`, the time for which QUIC must hold before new streams use it again.
    ///
    /// Unit: s · Default: 30
    quic_stable_secs: Option<NonZeroU16>,
    /// Proxy through which the edge is dialled: HTTP CONNECT or SOCKS5, see
    /// [Through a proxy](operations.md#through-a-proxy). In user and password special characters are written as `%xx`.
    /// It carries `"tcpTls"` only.
    ///
    /// Default: none · Range: `http://` or `socks5://`, then `user:password@` if need be, then `host:port`
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    proxy: Option<Secret>,
    /// File with the password of the user that `proxy` names, in place of one in the URL. It is read at every attempt to
    /// connect; a line end after the password is ignored.
    ///
    /// Default: none · Range: path, not empty
    proxy_password_file: Option<PathBuf>,
    /// Address of the hub's machine from which the edge, or its proxy, is dialled.
    ///
    /// Default: the system's choice · Range: IP address
    source_address: Option<IpAddr>,
    /// base64url SHA-256 hash of the edge's public key, which must be the one that the edge shows. Without it any key is
    /// taken from an edge that proves the secret.
    ///
    /// Default: none · Range: 43 characters
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pin: Option<Pin>,
}

impl DialFields {
    fn check(self, path: &str) -> Result<EdgeDial, CodedError> {
        let fields = RouteFields {
            proxy: self.proxy,
            password_file: self.proxy_password_file,
            source_address: self.source_address,
        };
        let paths = RoutePaths {
            proxy: format!("{path}.proxy"),
            password_file: format!("{path}.proxyPasswordFile"),
            source_address: format!("{path}.sourceAddress"),
            transport_mode: format!("{path}.transportMode"),
        };
        let route = fields.check(&paths, &self.host, self.transport_mode)?;
        Ok(EdgeDial {
            host: self.host,
            port: self.port.map_or(TUNNEL_PORT, |port| port.0),
            transport_mode: self.transport_mode,
            quic: QuicTimes::of(self.quic_probe_interval_secs, self.quic_stable_secs),
            route,
            pin: self.pin,
        })
    }
}

/// Checks what spans fields and edges; the list is the field `edges`.
pub(super) fn check_all(
    list: Vec<EdgeFields>,
    allow_special_targets: bool,
) -> Result<Vec<AllowedEdge>, CodedError> {
    let mut edges = EdgeList::default();
    edges.extend(list, allow_special_targets)?;
    Ok(edges.into_edges())
}

impl EdgeFields {
    fn check(self, path: &str, allow_special_targets: bool) -> Result<AllowedEdge, CodedError> {
        let (tcp_path, udp_path) = (
            format!("{path}.listenPorts"),
            format!("{path}.listenPortsUdp"),
        );
        check_targets(&self.listen_ports, allow_special_targets, &tcp_path)?;
        check_targets(&self.listen_ports_udp, allow_special_targets, &udp_path)?;
        let misplaced = |spec: &PortSpec<TcpProxyProtocol>| spec.has_udp_idle_timeout();
        if let Some(index) = self.listen_ports.iter().position(misplaced) {
            let path = format!("{tcp_path}[{index}].udpIdleTimeoutSecs");
            let problem = "is for listenPortsUdp; streams have the hub's idleTimeoutSecs";
            return Err(CodedError::invalid_config(path, problem));
        }
        let misplaced = |spec: &PortSpec<UdpProxyProtocol>| spec.has_target_path();
        if let Some(index) = self.listen_ports_udp.iter().position(misplaced) {
            let path = format!("{udp_path}[{index}].targetPath");
            let problem = "is for listenPorts; a UDP target has targetHost and targetPort";
            return Err(CodedError::invalid_config(path, problem));
        }
        let mut room = Room::of_edge();
        let tcp = PortMap::build(self.listen_ports, &tcp_path, &mut room)?;
        let udp = PortMap::build(self.listen_ports_udp, &udp_path, &mut room)?;
        Ok(AllowedEdge {
            id: self.id,
            secret: self.secret,
            next_secret: self.next_secret,
            tcp,
            udp,
            stun_interval: self
                .stun_interval_secs
                .map_or(Some(STUN_INTERVAL), nonzero_seconds),
            client_address_policy: self.client_address_policy,
            region: self.region,
            dial: self
                .dial
                .map(|dial| dial.check(&format!("{path}.dial")))
                .transpose()?,
        })
    }
}

fn check_targets<P>(
    specs: &[PortSpec<P>],
    allow_special_targets: bool,
    path: &str,
) -> Result<(), CodedError> {
    for (index, spec) in specs.iter().enumerate() {
        if let Some(host) = spec.target_host() {
            let path = format!("{path}[{index}].targetHost");
            check_target(host, allow_special_targets, path)?;
        }
    }
    Ok(())
}

pub(super) fn weak_secret_warning(field: &str) -> String {
    format!(
        "{field} has fewer than 16 bytes: where no pin is used, an active man in the middle could guess it offline; \
         make one with createSecret() or `remoteingress-bin secret`"
    )
}

/// Public addresses change seldom, and every edge asks a server of somebody else.
const STUN_INTERVAL: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
