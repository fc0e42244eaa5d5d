//! The configuration of an edge.

use std::{
    fmt,
    net::IpAddr,
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use remoteingress_proto::token::{
    ConnectionToken, edge_id::EdgeId, host::Host, pin::Pin, secret::Secret,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{
    allowed_ports::AllowedPorts,
    decode,
    edge_entry::weak_secret_warning,
    engine::{CongestionController, EngineFields, EngineSettings},
    hub::TUNNEL_PORT,
    limits::EdgeLimits,
    ports::Port,
};
use crate::error::CodedError;

#[derive(Clone, Debug)]
pub struct EdgeConfig {
    pub hub_host: Host,
    pub hub_port: u16,
    pub edge_id: EdgeId,
    pub secret: Secret,
    /// One of them is the hub's; none: its key isn't checked, only the proof.
    pub hub_pins: Vec<Pin>,
    /// The name that the hub's certificate from a public authority must bear.
    pub verify_hostname: Option<Host>,
    pub transport_mode: TransportMode,
    /// With `quicWithFallback`, on tcpTls: QUIC is tried after this, then less and less often.
    pub quic_probe_interval: Duration,
    /// For so long QUIC must hold before new streams use it again.
    pub quic_stable: Duration,
    /// Absent: 0.0.0.0 and ::.
    pub bind_address: Option<IpAddr>,
    pub allowed_ports: AllowedPorts,
    pub engine: EngineSettings,
    /// Another instance of the same edge that runs now gives way.
    pub replace_instance: bool,
    /// None: the public address isn't looked up.
    pub stun_servers: Vec<StunServer>,
    pub limits: EdgeLimits,
}

impl EdgeConfig {
    /// What is accepted but shouldn't stay, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let hub_is_verified = !self.hub_pins.is_empty() || self.verify_hostname.is_some();
        if self.secret.is_weak() && !hub_is_verified {
            vec![weak_secret_warning("secret")]
        } else {
            Vec::new()
        }
    }
}

/// Written `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    pub host: Host,
    pub port: u16,
}

impl StunServer {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // Without brackets the last part of an IPv6 address would be taken for the port.
        let host = Host::new(host)
            .ok()
            .filter(|host| !host.as_str().contains(':') || host.as_str().starts_with('['))?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0 && !text.contains('+'))?;
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

/// The object as the user wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EdgeFields {
    token: Option<Secret>,
    hub_host: Option<Host>,
    hub_port: Option<Port>,
    edge_id: Option<EdgeId>,
    secret: Option<Secret>,
    hub_pins: Option<Vec<Pin>>,
    verify_hostname: Option<Host>,
    #[serde(default)]
    transport_mode: TransportMode,
    quic_probe_interval_secs: Option<NonZeroU16>,
    quic_stable_secs: Option<NonZeroU16>,
    bind_address: Option<IpAddr>,
    allowed_ports: Option<AllowedPorts>,
    workers: Option<NonZeroU16>,
    #[serde(rename = "memoryBudgetMiB")]
    memory_budget_mib: Option<NonZeroU32>,
    resume_timeout_secs: Option<u32>,
    drain_timeout_secs: Option<u32>,
    idle_timeout_secs: Option<u32>,
    half_closed_timeout_secs: Option<u32>,
    udp_idle_timeout_secs: Option<NonZeroU32>,
    #[serde(default)]
    congestion_controller: CongestionController,
    #[serde(default)]
    replace_instance: bool,
    stun_servers: Option<Vec<StunServer>>,
    #[serde(default)]
    limits: EdgeLimits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TransportMode {
    #[default]
    TcpTls,
    Quic,
    /// QUIC where it gets through, else tcpTls; back to QUIC when that works again.
    QuicWithFallback,
}

/// Where the hub is and what is shared with it: the fields that a token holds.
struct HubAccess {
    hub_host: Host,
    hub_port: u16,
    edge_id: EdgeId,
    secret: Secret,
    hub_pins: Vec<Pin>,
}

impl EdgeFields {
    fn check(mut self) -> Result<EdgeConfig, CodedError> {
        let access = self.hub_access()?;
        let stun_servers = match self.stun_servers {
            Some(servers) => servers,
            None => StunServer::parse(STUN_SERVER).into_iter().collect(),
        };
        Ok(EdgeConfig {
            hub_host: access.hub_host,
            hub_port: access.hub_port,
            edge_id: access.edge_id,
            secret: access.secret,
            hub_pins: access.hub_pins,
            verify_hostname: self.verify_hostname,
            transport_mode: self.transport_mode,
            quic_probe_interval: self
                .quic_probe_interval_secs
                .map_or(QUIC_PROBE_INTERVAL, |secs| {
                    Duration::from_secs(secs.get().into())
                }),
            quic_stable: self
                .quic_stable_secs
                .map_or(QUIC_STABLE, |secs| Duration::from_secs(secs.get().into())),
            bind_address: self.bind_address,
            allowed_ports: self.allowed_ports.unwrap_or_else(AllowedPorts::every_port),
            engine: EngineSettings::from(EngineFields {
                workers: self.workers,
                memory_budget_mib: self.memory_budget_mib,
                resume_timeout_secs: self.resume_timeout_secs,
                drain_timeout_secs: self.drain_timeout_secs,
                idle_timeout_secs: self.idle_timeout_secs,
                half_closed_timeout_secs: self.half_closed_timeout_secs,
                congestion_controller: self.congestion_controller,
                udp_idle_timeout_secs: self.udp_idle_timeout_secs,
            }),
            replace_instance: self.replace_instance,
            stun_servers,
            limits: self.limits,
        })
    }

    fn hub_access(&mut self) -> Result<HubAccess, CodedError> {
        if let Some(token) = self.token.take() {
            return self.access_by_token(&token);
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
        Ok(HubAccess {
            hub_host: self.hub_host.take().ok_or_else(missing("hubHost"))?,
            hub_port: self.hub_port.map_or(TUNNEL_PORT, |port| port.0),
            edge_id: self.edge_id.take().ok_or_else(missing("edgeId"))?,
            secret: self.secret.take().ok_or_else(missing("secret"))?,
            hub_pins,
        })
    }

    fn access_by_token(&self, token: &Secret) -> Result<HubAccess, CodedError> {
        let given = [
            ("hubHost", self.hub_host.is_some()),
            ("hubPort", self.hub_port.is_some()),
            ("edgeId", self.edge_id.is_some()),
            ("secret", self.secret.is_some()),
            ("hubPins", self.hub_pins.is_some()),
        ];
        if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
            return Err(CodedError::invalid_config(
                field,
                "must not be given together with a token, which holds it",
            ));
        }
        let ConnectionToken {
            hub_host,
            hub_port,
            edge_id,
            secret,
            hub_pins,
            extra: _,
        } = ConnectionToken::decode(token.expose())?;
        Ok(HubAccess {
            hub_host,
            hub_port,
            edge_id,
            secret,
            hub_pins,
        })
    }
}

/// A path that has failed is tried with a real handshake this much later for the first time (D13).
const QUIC_PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// Longer than QUIC's idle timeout of 30 s would let a path flap (D13).
const QUIC_STABLE: Duration = Duration::from_secs(30);

/// Answers on IPv4 and IPv6 and is free to use.
const STUN_SERVER: &str = "stun.cloudflare.com:3478";

#[cfg(test)]
mod tests;
