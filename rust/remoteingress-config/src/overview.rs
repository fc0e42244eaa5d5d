//! What the admin server shows besides the status: what runs here, and the allowed edges as they are configured.

use std::net::IpAddr;

use remoteingress_proto::token::{edge_id::EdgeId, host::Host, pin::Pin};
use serde::{Deserialize, Serialize};

use crate::{
    AllowedEdge, AllowedEdgesChange, ClientAddressPolicy, EdgeDial, PortMap, RegionName,
    TcpProxyProtocol, TransportMode, UdpProxyProtocol,
    commands::EdgesRemoved,
    name::Name,
    status::{ConnectedEdge, EdgeStatus, HubStatus, UnreachableEdge},
    words::words,
};

words! {
    /// What a process runs.
    Role {
        /// A hub.
        Hub = "hub",
        /// An edge.
        Edge = "edge",
    }
}

words! {
    /// Who has said how an allowed edge is to be.
    Origin {
        /// The configuration file.
        File = "file",
        /// A change over REST.
        Rest = "rest",
        /// The program that drives this process over the management interface.
        Program = "program",
    }

    /// How long a change over REST is kept.
    Kept {
        /// In `stateDir`, over restarts.
        StateDir = "stateDir",
        /// Until the process ends: the hub has no `stateDir`.
        UntilRestart = "untilRestart",
        /// Until the program that drives this process says something else, or the process ends.
        UntilProgram = "untilProgram",
    }
}

impl Kept {
    /// The rule, in a sentence for whoever has made the change.
    pub fn truth(self) -> &'static str {
        match self {
            Self::StateDir => {
                "kept in stateDir over restarts, until this edge's entry in the configuration file changes: from then on the file counts"
            }
            Self::UntilRestart => {
                "kept until the process ends, because the hub has no stateDir, or until this edge's entry in the configuration file changes and SIGHUP reads it"
            }
            Self::UntilProgram => {
                "kept until the program that drives this process changes this edge or replaces the whole set, or the process ends; that program isn't told"
            }
        }
    }
}

/// Answer to `PUT /api/v1/edges/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgePut {
    /// What has changed.
    #[serde(flatten)]
    pub change: AllowedEdgesChange,
    /// True if the edge is new and the body had no secret, so that one was made; `POST …/token` gives the token with it.
    pub secret_made: bool,
    /// How long the change is kept.
    pub kept: Kept,
    /// The same as a sentence.
    pub truth: String,
}

/// Answer to `DELETE /api/v1/edges/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeDeleted {
    /// What has changed.
    #[serde(flatten)]
    pub change: EdgesRemoved,
    /// How long the change is kept.
    pub kept: Kept,
    /// The same as a sentence.
    pub truth: String,
}

/// Answer to `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overview {
    /// What this process runs.
    pub role: Role,
    /// Software version.
    pub version: String,
    /// Time of the start.
    ///
    /// Unit: ms since 1970
    pub started_at: u64,
    /// Status of the hub; null at an edge.
    pub hub: Option<HubStatus>,
    /// Status of the edge; null at a hub.
    pub edge: Option<EdgeStatus>,
}

/// Answer to `GET /api/v1/edges`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgesShown {
    /// The allowed edges, by id.
    pub edges: Vec<EdgeShown>,
}

/// Answer to `GET /api/v1/edges/{id}`: an allowed edge and its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeShown {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub id: EdgeId,
    /// The edge as it is configured.
    pub config: AllowedEdgeShown,
    /// Who has said so.
    pub origin: Origin,
    /// State of its tunnel; null while it isn't connected.
    pub connected: Option<ConnectedEdge>,
    /// Why the hub doesn't reach it; null unless the hub dials it in vain.
    pub unreachable: Option<UnreachableEdge>,
}

/// An allowed edge without its secrets, in the shape in which it is configured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AllowedEdgeShown {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    id: EdgeId,
    listen_ports: Vec<PortShown<TcpProxyProtocol>>,
    listen_ports_udp: Vec<PortShown<UdpProxyProtocol>>,
    stun_interval_secs: u64,
    client_address_policy: ClientAddressPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<RegionName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dial: Option<DialShown>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PortShown{P}"))]
#[serde(rename_all = "camelCase")]
struct PortShown<P> {
    port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    target_host: Option<Host>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp_idle_timeout_secs: Option<u64>,
}

/// The proxy has no login here, and its password file isn't named.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct DialShown {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    host: Host,
    port: u16,
    transport_mode: TransportMode,
    quic_probe_interval_secs: u64,
    quic_stable_secs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pin: Option<Pin>,
}

impl From<&AllowedEdge> for AllowedEdgeShown {
    fn from(allowed: &AllowedEdge) -> Self {
        // Named one by one: a new field is shown, or left out on purpose.
        let AllowedEdge {
            id,
            secret: _,
            next_secret: _,
            tcp,
            udp,
            stun_interval,
            client_address_policy,
            region,
            dial,
        } = allowed;
        Self {
            id: id.clone(),
            listen_ports: ports(tcp),
            listen_ports_udp: ports(udp),
            stun_interval_secs: stun_interval.map_or(0, |interval| interval.as_secs()),
            client_address_policy: *client_address_policy,
            region: region.clone(),
            dial: dial.as_ref().map(DialShown::from),
        }
    }
}

fn ports<P: Copy>(map: &PortMap<P>) -> Vec<PortShown<P>> {
    let ranges = map.ranges().iter().chain(map.shared());
    ranges
        .map(|range| PortShown {
            port: range.span().to_string(),
            target_host: range.target_host.clone(),
            target_port: (range.target_path.is_none() && range.pool.is_none())
                .then_some(range.target_port),
            target_path: range
                .target_path
                .as_ref()
                .map(|path| path.as_str().to_owned()),
            proxy_protocol: range
                .pool
                .as_ref()
                .is_none_or(|pool| pool.says_header)
                .then_some(range.proxy_protocol),
            pool: range.pool.as_ref().map(|pool| pool.name.clone()),
            bind_address: range.bind_address,
            udp_idle_timeout_secs: range.udp_idle_timeout.map(|timeout| timeout.as_secs()),
        })
        .collect()
}

impl From<&EdgeDial> for DialShown {
    fn from(dial: &EdgeDial) -> Self {
        let EdgeDial {
            host,
            port,
            transport_mode,
            quic,
            route,
            pin,
        } = dial;
        Self {
            host: host.clone(),
            port: *port,
            transport_mode: *transport_mode,
            quic_probe_interval_secs: quic.probe_interval.as_secs(),
            quic_stable_secs: quic.stable.as_secs(),
            proxy: route.proxy.as_ref().map(ToString::to_string),
            source_address: route.source_address,
            pin: *pin,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::parse_edges;

    fn shown(edge: &Value) -> Value {
        let edges = parse_edges(&json!({ "edges": [edge] }), false).unwrap();
        json!(AllowedEdgeShown::from(&edges[0]))
    }

    #[test]
    fn an_edge_is_shown_as_it_may_be_written_again_but_without_secrets() {
        let edge = json!({
            "id": "a", "secret": "canary-0123456789", "nextSecret": "canary-9876543210", "stunIntervalSecs": 0,
            "listenPorts": [
                443,
                {"port": "3000-3010", "targetHost": "web.test", "targetPort": 4000, "proxyProtocol": "none"},
                {"port": 80, "targetPath": "/run/web.sock"},
            ],
            "listenPortsUdp": [{"port": 53, "udpIdleTimeoutSecs": 7, "bindAddress": "192.0.2.1"}],
            "dial": {"host": "edge.test", "proxy": "socks5://canary:canary@proxy.test:1080"},
        });
        let once = shown(&edge);
        assert!(!once.to_string().contains("canary"), "{once}");
        assert_eq!(
            once["listenPorts"][0],
            json!({"port": "80", "targetPath": "/run/web.sock", "proxyProtocol": "v1"})
        );
        assert_eq!(once["dial"]["proxy"], "proxy.test:1080");
        let mut again = once.clone();
        again["secret"] = json!("another-0123456789");
        again["dial"]["proxy"] = json!("socks5://proxy.test:1080");
        assert_eq!(shown(&again), once);
    }
}
