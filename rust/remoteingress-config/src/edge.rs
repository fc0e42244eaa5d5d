//! The configuration of an edge.

use std::{
    fmt,
    net::IpAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
};

use remoteingress_proto::token::{
    Access, ConnectionToken, ListenTunnel, edge_id::EdgeId, host::Host, pin::Pin, secret::Secret,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{
    access_log::{AccessLogConfig, AccessLogFields},
    admin::{AdminConfig, AdminFields},
    allowed_edge::weak_secret_warning,
    allowed_ports::AllowedPorts,
    decode,
    engine::{CongestionController, EngineFields, EngineSettings, LogFormat},
    limits::EdgeLimits,
    ports::Port,
    route::{DialRoute, RouteFields, RoutePaths, host_and_port},
    tunnel::{QuicTimes, TUNNEL_PORT, TransportMode},
};
use crate::error::CodedError;

/// The checked configuration of an edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The end that dials, and what it needs for that.
    pub access: HubAccess,
    /// The id that the hub knows.
    pub edge_id: EdgeId,
    /// The secret that the hub shares.
    pub secret: Secret,
    /// Rule by which the tunnel's transport is chosen.
    pub transport_mode: TransportMode,
    /// When QUIC is tried and trusted again after a fallback.
    pub quic: QuicTimes,
    /// Absent: 0.0.0.0 and ::.
    pub bind_address: Option<IpAddr>,
    /// The ports that the hub may have this edge open.
    pub allowed_ports: AllowedPorts,
    /// Settings that a hub has too.
    pub engine: EngineSettings,
    /// Another instance of the same edge that runs now gives way.
    pub replace_instance: bool,
    /// None: the public address isn't looked up.
    pub stun_servers: Vec<StunServer>,
    /// Limits on what clients may cost.
    pub limits: EdgeLimits,
    /// How lines of the log look. Absent: text for a terminal.
    pub log_format: Option<LogFormat>,
    /// Absent: no admin server.
    pub admin: Option<AdminConfig>,
    /// Absent: no access log.
    pub access_log: Option<AccessLogConfig>,
}

/// How an edge and its hub come together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubAccess {
    /// The edge dials.
    Dial {
        /// Where the hub is.
        host: Host,
        /// The hub's tunnel port.
        port: u16,
        /// One of them is the hub's; none: its key isn't checked, only the proof.
        pins: Vec<Pin>,
        /// The name that the hub's certificate from a public authority must bear.
        verify_hostname: Option<Host>,
        /// The way there.
        route: DialRoute,
    },
    /// The hub dials.
    Listen {
        /// The tunnel port of the edge.
        port: u16,
        /// Absent: 0.0.0.0 and ::.
        bind_address: Option<IpAddr>,
        /// Where the edge's key lasts. Absent: it is made of the secret, or, where that is short, anew at each start.
        state_dir: Option<PathBuf>,
    },
}

impl HubAccess {
    /// The hub as `host:port`, where it is known before it has dialled.
    pub fn hub_address(&self) -> Option<String> {
        match self {
            Self::Dial { host, port, .. } => Some(format!("{host}:{port}")),
            Self::Listen { .. } => None,
        }
    }
}

impl EdgeConfig {
    /// Warnings about what is accepted but shouldn't stay, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let (hub_is_verified, has_no_key) = match &self.access {
            HubAccess::Dial {
                pins,
                verify_hostname,
                ..
            } => (!pins.is_empty() || verify_hostname.is_some(), false),
            HubAccess::Listen { state_dir, .. } => {
                let can_be_derived = self.secret.withstands_guessing();
                (false, state_dir.is_none() && !can_be_derived)
            }
        };
        let mut warnings = Vec::new();
        if let HubAccess::Dial { route, .. } = &self.access {
            warnings.extend(route.warning(self.transport_mode, ["transportMode", "hubProxy"]));
        }
        if self.secret.is_weak() && !hub_is_verified {
            warnings.push(weak_secret_warning("secret"));
        }
        if has_no_key {
            warnings.push(
                "stateDir is missing and the secret is shorter than those that \"remoteingress-bin secret\" prints: this edge has another key after each start, which its hub reports and a pin refuses"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Written `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Name or address.
    pub host: Host,
    /// UDP port.
    pub port: u16,
}

impl StunServer {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = host_and_port(text)?;
        Some(Self { host, port })
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for StunServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("must be host:port, for instance stun.example.com:3478")
        })
    }
}

/// Reads the parameters of `startEdge`, which are the file of `remoteingress-bin edge` too.
pub fn parse_edge(params: &Value) -> Result<EdgeConfig, CodedError> {
    decode::<EdgeFields>(params)?.check()
}

/// Configuration of an edge: the token that its hub has made, or the token's fields, and settings that all have a
/// default. Times are whole seconds, and an unknown field is refused with `E_INVALID_CONFIG`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "EdgeConfig"))]
pub(super) struct EdgeFields {
    /// Connection token of this edge, as `createConnectionToken` or `remoteingress-bin token` give it. White space
    /// around it is ignored.
    ///
    /// Unit: characters · Default: none · Range: at most 2,048 characters
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    token: Option<Secret>,
    /// Host of the hub. A name is looked up at every attempt to connect.
    ///
    /// Default: none · Range: name or IP address; a link-local one with its zone, as `fe80::1%eth0`
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    hub_host: Option<Host>,
    /// Port on which this edge reaches the hub.
    ///
    /// Unit: port · Default: 8443
    #[cfg_attr(feature = "schema", schemars(with = "Option<NonZeroU16>"))]
    hub_port: Option<Port>,
    /// Id under which the hub knows this edge.
    ///
    /// Unit: bytes · Default: none · Range: as `id` of the allowed edge
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    edge_id: Option<EdgeId>,
    /// Secret that this edge shares with the hub.
    ///
    /// Unit: bytes · Default: none · Range: not empty
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    secret: Option<Secret>,
    /// base64url SHA-256 hashes of public keys, one of which must be the hub's. Without pins and without
    /// `verifyHostname` the hub's key isn't checked, only its proof.
    ///
    /// Default: none · Range: 1 to 4 pins of 43 characters
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    hub_pins: Option<Vec<Pin>>,
    /// Listens for the hub instead of dialling it, where the hub's entry of this edge has `dial`. The token of such an
    /// edge holds it.
    ///
    /// Default: none · Range: `{ port, bindAddress? }`
    listen_tunnel: Option<ListenFields>,
    /// Directory that keeps the private key (`edge-key.pem`) which this edge shows a hub that dials. It is made, with its
    /// parents, where it is missing. Without it the key is made of the secret and changes with that, or, where the secret
    /// has fewer than 43 characters, with each start. It isn't used by an edge that dials.
    ///
    /// Default: none · Range: path, not empty
    state_dir: Option<PathBuf>,
    /// Name that the hub's certificate must bear, with a chain to a root of the system, for certificates of a public
    /// CA. It may be given with a token; with pins both must hold.
    ///
    /// Default: none · Range: name or IP address
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    verify_hostname: Option<Host>,
    /// Proxy through which the hub is dialled: HTTP CONNECT or SOCKS5, see [Through a proxy](operations.md#through-a-proxy).
    /// In user and password special characters are written as `%xx`. It carries `"tcpTls"` only.
    ///
    /// Default: none · Range: `http://` or `socks5://`, then `user:password@` if need be, then `host:port`
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    hub_proxy: Option<Secret>,
    /// File with the password of the user that `hubProxy` names, in place of one in the URL. It is read at every attempt to
    /// connect; a line end after the password is ignored.
    ///
    /// Default: none · Range: path, not empty
    hub_proxy_password_file: Option<PathBuf>,
    /// Address of this machine from which the hub, or its proxy, is dialled.
    ///
    /// Default: the system's choice · Range: IP address
    source_address: Option<IpAddr>,
    /// Transport of the tunnel, see [Transports](operations.md#transports). An edge that listens takes those that its hub
    /// dials.
    ///
    /// Default: `"tcpTls"`
    transport_mode: Option<TransportMode>,
    /// With `"quicWithFallback"`, the pause after a fallback before QUIC is tried again. It doubles after each attempt
    /// that fails, up to 10 min.
    ///
    /// Unit: s · Default: 60
    quic_probe_interval_secs: Option<NonZeroU16>,
    /// With `"quicWithFallback"`, the time for which QUIC must hold before new streams use it again.
    ///
    /// Unit: s · Default: 30
    quic_stable_secs: Option<NonZeroU16>,
    /// Address on which listeners listen whose port specification names none. It
    /// [needn't be there yet](operations.md#addresses-that-come-later).
    ///
    /// Default: 0.0.0.0, and :: where IPv6 exists · Range: IP address
    bind_address: Option<IpAddr>,
    /// Only ports that this edge opens, whatever the hub asks. A protocol that is left out of a given object has none;
    /// entries may overlap.
    ///
    /// Default: every port · Range: `{ tcp?, udp? }`, lists of ports and ranges
    allowed_ports: Option<AllowedPorts>,
    /// Threads that carry streams; each has a session to the hub, as far as the hub's `maxSessionsPerEdge` allows.
    ///
    /// Unit: threads · Default: number of CPUs
    workers: Option<NonZeroU16>,
    /// Upper bound of all stream buffers of the process, see [Memory](operations.md#memory).
    ///
    /// Unit: MiB · Default: 200, or a quarter of the machine's or the cgroup's memory where that is less
    #[serde(rename = "memoryBudgetMiB")]
    memory_budget_mib: Option<NonZeroU32>,
    /// Time for which streams wait for a lost tunnel connection to come back; the shorter value of hub and edge counts.
    /// 0 lets them end with the connection.
    ///
    /// Unit: s · Default: 30
    resume_timeout_secs: Option<u32>,
    /// Longest time without a question whether the other end is alive, on a session that has carried nothing for a minute;
    /// others ask every 3 s. Over QUIC it is 25 s at most. See [Idle tunnels](operations.md#idle-tunnels).
    ///
    /// Unit: s · Default: 45
    keepalive_secs: Option<NonZeroU32>,
    /// Time that a stopping edge gives running streams to finish before it resets them. 0 resets them at once.
    ///
    /// Unit: s · Default: 30
    drain_timeout_secs: Option<u32>,
    /// Ends a stream that had no byte in either direction for this long, up to 1 s late.
    ///
    /// Unit: s · Default: 0 = off
    idle_timeout_secs: Option<u32>,
    /// Ends a stream of which one direction has ended and the other had no byte for this long, up to 1 s late.
    ///
    /// Unit: s · Default: 0 = off
    half_closed_timeout_secs: Option<u32>,
    /// Resets a stream whose client has acknowledged nothing for this long while bytes wait for that, since its link has
    /// died. It is looked for eight times in this time and at most once a second, so it is found up to 15 s late by
    /// default. One that reads nothing but still answers isn't touched.
    ///
    /// Unit: s · Default: 120; 0 = off
    ack_timeout_secs: Option<u32>,
    /// Ends a UDP flow that had no datagram in either direction for this long, where the hub says nothing else: one of
    /// version 0.2 or later always does.
    ///
    /// Unit: s · Default: 60
    udp_idle_timeout_secs: Option<NonZeroU32>,
    /// Congestion control of QUIC for what this end sends; TCP has the system's. `"bbr"` goes by rate and round trip
    /// instead of loss, but is experimental.
    ///
    /// Default: `"cubic"`
    #[serde(default)]
    congestion_controller: CongestionController,
    /// Takes over from another running edge with this id, where that one would otherwise win and this one be refused.
    ///
    /// Default: `false`
    #[serde(default)]
    replace_instance: bool,
    /// Servers that are asked for the edge's public address, all at once. `[]` turns the lookup off.
    ///
    /// Default: `["stun.cloudflare.com:3478"]` · Range: `host:port`, IPv6 in brackets
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    stun_servers: Option<Vec<StunServer>>,
    /// Bounds of what clients may cost this edge.
    ///
    /// Default: see below · Range: [limits of the edge](#limits-of-the-edge)
    #[serde(default)]
    limits: EdgeLimits,
    /// How lines of the log look: `"text"` for people, `"json"` for programs.
    ///
    /// Default: `"text"` where stderr is a terminal, else `"json"`
    log_format: Option<LogFormat>,
    /// Server of health, metrics, status and changes over HTTP, see [admin.md](admin.md).
    ///
    /// Default: none · Range: [admin server](#admin-server)
    admin: Option<AdminFields>,
    /// A line for each stream and flow that has ended, see [operations.md](operations.md#access-log).
    ///
    /// Default: none · Range: [access log](#access-log)
    access_log: Option<AccessLogFields>,
}

/// Where an edge listens for its hub.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "ListenTunnel"))]
pub(super) struct ListenFields {
    /// Port on which the hub reaches this edge, TCP and UDP alike.
    ///
    /// Unit: port
    #[cfg_attr(feature = "schema", schemars(with = "NonZeroU16"))]
    port: Port,
    /// Address of the edge's machine on which that port listens. It
    /// [needn't be there yet](operations.md#addresses-that-come-later).
    ///
    /// Default: 0.0.0.0, and :: where IPv6 exists · Range: IP address
    bind_address: Option<IpAddr>,
}

/// Address of the hub, and what is shared with it: the fields that a token holds.
struct Shared {
    access: Access,
    edge_id: EdgeId,
    secret: Secret,
}

impl EdgeFields {
    fn check(mut self) -> Result<EdgeConfig, CodedError> {
        let Shared {
            access,
            edge_id,
            secret,
        } = self.shared()?;
        let access = self.hub_access(access)?;
        let stun_servers = match self.stun_servers {
            Some(servers) => servers,
            None => StunServer::parse(STUN_SERVER).into_iter().collect(),
        };
        Ok(EdgeConfig {
            access,
            edge_id,
            secret,
            transport_mode: self.transport_mode.unwrap_or_default(),
            quic: QuicTimes::of(self.quic_probe_interval_secs, self.quic_stable_secs),
            bind_address: self.bind_address,
            allowed_ports: self.allowed_ports.unwrap_or_else(AllowedPorts::every_port),
            engine: EngineSettings::from(EngineFields {
                workers: self.workers,
                memory_budget_mib: self.memory_budget_mib,
                resume_timeout_secs: self.resume_timeout_secs,
                keepalive_secs: self.keepalive_secs,
                drain_timeout_secs: self.drain_timeout_secs,
                idle_timeout_secs: self.idle_timeout_secs,
                half_closed_timeout_secs: self.half_closed_timeout_secs,
                ack_timeout_secs: self.ack_timeout_secs,
                congestion_controller: self.congestion_controller,
                udp_idle_timeout_secs: self.udp_idle_timeout_secs,
            }),
            replace_instance: self.replace_instance,
            stun_servers,
            limits: self.limits,
            log_format: self.log_format,
            admin: self.admin.map(AdminFields::check).transpose()?,
            access_log: self.access_log.map(AccessLogFields::check).transpose()?,
        })
    }

    /// Adds to the access what no token holds, and refuses what is for the other end that dials.
    fn hub_access(&mut self, access: Access) -> Result<HubAccess, CodedError> {
        let listen = match access {
            Access::Dial {
                hub_host,
                hub_port,
                hub_pins,
            } => {
                let route = self.route(&hub_host)?;
                return Ok(HubAccess::Dial {
                    host: hub_host,
                    port: hub_port,
                    pins: hub_pins,
                    verify_hostname: self.verify_hostname.take(),
                    route,
                });
            }
            Access::Listen(listen) => listen,
        };
        let for_dialling = [
            ("verifyHostname", self.verify_hostname.is_some()),
            ("transportMode", self.transport_mode.is_some()),
            ("hubProxy", self.hub_proxy.is_some()),
            (
                "hubProxyPasswordFile",
                self.hub_proxy_password_file.is_some(),
            ),
            ("sourceAddress", self.source_address.is_some()),
        ];
        if let Some((field, _)) = for_dialling.iter().find(|(_, given)| *given) {
            let problem = "is for an edge that dials; this one listens, and its hub's dial decides";
            return Err(CodedError::invalid_config(field, problem));
        }
        let state_dir = self.state_dir.take();
        if state_dir
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            let problem = "must not be empty; leave it out to keep the key in memory";
            return Err(CodedError::invalid_config("stateDir", problem));
        }
        Ok(HubAccess::Listen {
            port: listen.port,
            bind_address: listen.bind_address,
            state_dir,
        })
    }

    fn route(&mut self, host: &Host) -> Result<DialRoute, CodedError> {
        let fields = RouteFields {
            proxy: self.hub_proxy.take(),
            password_file: self.hub_proxy_password_file.take(),
            source_address: self.source_address.take(),
        };
        let paths = RoutePaths {
            proxy: "hubProxy".to_owned(),
            password_file: "hubProxyPasswordFile".to_owned(),
            source_address: "sourceAddress".to_owned(),
            transport_mode: "transportMode".to_owned(),
        };
        fields.check(&paths, host, self.transport_mode.unwrap_or_default())
    }

    fn shared(&mut self) -> Result<Shared, CodedError> {
        if let Some(token) = self.token.take() {
            return self.shared_by_token(&token);
        }
        if self.listen_tunnel.is_some() {
            return self.shared_by_listener();
        }
        if self.hub_host.is_none() && self.edge_id.is_none() && self.secret.is_none() {
            return Err(CodedError::invalid_config(
                "token",
                "is missing; give it, or hubHost, edgeId and secret",
            ));
        }
        let missing = |field| {
            move || {
                CodedError::invalid_config(
                    field,
                    "is missing; give hubHost, edgeId and secret, or a token",
                )
            }
        };
        let hub_pins = match self.hub_pins.take() {
            Some(pins) if pins.is_empty() || pins.len() > Pin::MAX_PER_TOKEN => {
                return Err(CodedError::invalid_config(
                    "hubPins",
                    "must hold 1 to 4 pins; leave it out to check none",
                ));
            }
            pins => pins.unwrap_or_default(),
        };
        Ok(Shared {
            access: Access::Dial {
                hub_host: self.hub_host.take().ok_or_else(missing("hubHost"))?,
                hub_port: self.hub_port.map_or(TUNNEL_PORT, |port| port.0),
                hub_pins,
            },
            edge_id: self.edge_id.take().ok_or_else(missing("edgeId"))?,
            secret: self.secret.take().ok_or_else(missing("secret"))?,
        })
    }

    fn shared_by_listener(&mut self) -> Result<Shared, CodedError> {
        let for_dialling = [
            ("hubHost", self.hub_host.is_some()),
            ("hubPort", self.hub_port.is_some()),
            ("hubPins", self.hub_pins.is_some()),
        ];
        if let Some((field, _)) = for_dialling.iter().find(|(_, given)| *given) {
            let problem =
                "must not be given together with listenTunnel: either this edge dials or its hub";
            return Err(CodedError::invalid_config(field, problem));
        }
        let missing = |field| {
            let problem = "is missing; give listenTunnel, edgeId and secret, or a token";
            move || CodedError::invalid_config(field, problem)
        };
        let listen = self.listen_tunnel.ok_or_else(missing("listenTunnel"))?;
        Ok(Shared {
            access: Access::Listen(ListenTunnel {
                port: listen.port.0,
                bind_address: listen.bind_address,
            }),
            edge_id: self.edge_id.take().ok_or_else(missing("edgeId"))?,
            secret: self.secret.take().ok_or_else(missing("secret"))?,
        })
    }

    fn shared_by_token(&self, token: &Secret) -> Result<Shared, CodedError> {
        let given = [
            ("hubHost", self.hub_host.is_some()),
            ("hubPort", self.hub_port.is_some()),
            ("edgeId", self.edge_id.is_some()),
            ("secret", self.secret.is_some()),
            ("hubPins", self.hub_pins.is_some()),
            ("listenTunnel", self.listen_tunnel.is_some()),
        ];
        if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
            return Err(CodedError::invalid_config(
                field,
                "must not be given together with a token, which holds it",
            ));
        }
        let ConnectionToken {
            access,
            edge_id,
            secret,
            extra: _,
        } = ConnectionToken::decode(token.expose())?;
        Ok(Shared {
            access,
            edge_id,
            secret,
        })
    }
}

/// Answers on IPv4 and IPv6 and is free to use.
const STUN_SERVER: &str = "stun.cloudflare.com:3478";

#[cfg(test)]
mod tests;
