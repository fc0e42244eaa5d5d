//! The configuration in force, as the admin server shows it: in the shape in which it is written, with its defaults, and
//! without its secrets. A [`Secret`] can't be serialized, so none gets here but as `[redacted]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use remoteingress_proto::token::{edge_id::EdgeId, host::Host, pin::Pin, secret::Secret};
use serde::{Serialize, Serializer};

use crate::{
    AccessLogConfig, AdminConfig, AdminToken, AllowedEdge, AllowedPorts, CongestionController,
    DialRoute, EdgeConfig, EdgeLimits, EngineSettings, GeoConfig, HubAccess, HubConfig, HubLimits,
    LogFormat, ProxyPassword, QuicTimes, RegionName, RoutingDbConfig, TlsConfig, TlsSource,
    TransportMode,
    overview::{AllowedEdgeShown, Role},
    pools::Pools,
};

/// Stands in place of each secret that is given.
pub const HIDDEN: &str = "[redacted]";

/// A secret that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hidden;

impl From<&Secret> for Hidden {
    fn from(_: &Secret) -> Self {
        Self
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Hidden {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hidden".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "const": HIDDEN })
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Answer to `GET /api/v1/config`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigShown {
    /// What this process runs.
    pub role: Role,
    /// Configuration of the hub; null at an edge.
    pub hub: Option<HubShown>,
    /// Configuration of the edge; null at a hub.
    pub edge: Option<EdgeConfigShown>,
}

/// A hub's configuration without its secrets.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HubShown {
    listen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_port: Option<u16>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    target_host: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsShown>,
    edges: Vec<AllowedEdgeShown>,
    #[serde(skip_serializing_if = "Pools::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "std::collections::BTreeMap<String, crate::pools::PoolConfig>")
    )]
    pools: Pools,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<RegionName>,
    geo: GeoConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_db: Option<RoutingDbConfig>,
    #[serde(flatten)]
    engine: EngineShown,
    connect_timeout_secs: u64,
    max_sessions_per_edge: u16,
    allow_special_targets: bool,
    limits: HubLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<AdminShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_log: Option<AccessLogShown>,
}

impl HubShown {
    /// A hub's configuration, with the edges that are allowed now.
    pub fn new<'a>(config: &HubConfig, edges: impl Iterator<Item = &'a AllowedEdge>) -> Self {
        // Named one by one: a new field is shown, or left out on purpose.
        let HubConfig {
            listens,
            tunnel_port,
            target_host,
            bind_address,
            state_dir,
            tls,
            edges: _,
            pools,
            region,
            geo,
            routing_db,
            engine,
            connect_timeout,
            max_sessions_per_edge,
            allow_special_targets,
            limits,
            log_format,
            admin,
            access_log,
        } = config;
        Self {
            listen: *listens,
            tunnel_port: listens.then_some(*tunnel_port),
            target_host: target_host.clone(),
            bind_address: *bind_address,
            state_dir: state_dir.clone(),
            tls: tls.as_ref().map(TlsShown::from),
            edges: edges.map(AllowedEdgeShown::from).collect(),
            pools: pools.clone(),
            region: region.clone(),
            geo: geo.clone(),
            routing_db: routing_db.clone(),
            engine: EngineShown::from(engine),
            connect_timeout_secs: connect_timeout.as_secs(),
            max_sessions_per_edge: *max_sessions_per_edge,
            allow_special_targets: *allow_special_targets,
            limits: limits.clone(),
            log_format: *log_format,
            admin: admin.as_ref().map(AdminShown::from),
            access_log: access_log.as_ref().map(AccessLogShown::from),
        }
    }
}

/// An edge's configuration without its secrets. One that was given as a token is shown in its parts.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeConfigShown {
    #[serde(flatten)]
    access: AccessShown,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    edge_id: EdgeId,
    secret: Hidden,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_address: Option<IpAddr>,
    allowed_ports: AllowedPorts,
    #[serde(flatten)]
    engine: EngineShown,
    replace_instance: bool,
    stun_servers: Vec<String>,
    limits: EdgeLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<AdminShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_log: Option<AccessLogShown>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, rename_all_fields = "camelCase")]
enum AccessShown {
    Dial {
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        hub_host: Host,
        hub_port: u16,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
        hub_pins: Vec<Pin>,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
        verify_hostname: Option<Host>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hub_proxy: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hub_proxy_password_file: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_address: Option<IpAddr>,
        transport_mode: TransportMode,
        quic_probe_interval_secs: u64,
        quic_stable_secs: u64,
    },
    Listen {
        listen_tunnel: ListenShown,
        #[serde(skip_serializing_if = "Option::is_none")]
        state_dir: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ListenShown {
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_address: Option<IpAddr>,
}

impl AccessShown {
    fn new(access: &HubAccess, transport_mode: TransportMode, quic: QuicTimes) -> Self {
        match access {
            HubAccess::Dial {
                host,
                port,
                pins,
                verify_hostname,
                route,
            } => {
                let (hub_proxy, hub_proxy_password_file) = proxy(route);
                Self::Dial {
                    hub_host: host.clone(),
                    hub_port: *port,
                    hub_pins: pins.clone(),
                    verify_hostname: verify_hostname.clone(),
                    hub_proxy,
                    hub_proxy_password_file,
                    source_address: route.source_address,
                    transport_mode,
                    quic_probe_interval_secs: quic.probe_interval.as_secs(),
                    quic_stable_secs: quic.stable.as_secs(),
                }
            }
            HubAccess::Listen {
                port,
                bind_address,
                state_dir,
            } => Self::Listen {
                listen_tunnel: ListenShown {
                    port: *port,
                    bind_address: *bind_address,
                },
                state_dir: state_dir.clone(),
            },
        }
    }
}

/// The URL of the proxy without its login, and the file of its password.
fn proxy(route: &DialRoute) -> (Option<String>, Option<PathBuf>) {
    let Some(proxy) = &route.proxy else {
        return (None, None);
    };
    let scheme = proxy.kind.scheme();
    match &proxy.login {
        None => (Some(format!("{scheme}://{proxy}")), None),
        Some(login) => {
            let file = match &login.password {
                ProxyPassword::Given(_) => None,
                ProxyPassword::File(path) => Some(path.clone()),
            };
            (Some(format!("{scheme}://{HIDDEN}@{proxy}")), file)
        }
    }
}

impl From<&EdgeConfig> for EdgeConfigShown {
    fn from(config: &EdgeConfig) -> Self {
        let EdgeConfig {
            access,
            edge_id,
            secret,
            transport_mode,
            quic,
            bind_address,
            allowed_ports,
            engine,
            replace_instance,
            stun_servers,
            limits,
            log_format,
            admin,
            access_log,
        } = config;
        Self {
            access: AccessShown::new(access, *transport_mode, *quic),
            edge_id: edge_id.clone(),
            secret: Hidden::from(secret),
            bind_address: *bind_address,
            allowed_ports: allowed_ports.clone(),
            engine: EngineShown::from(engine),
            replace_instance: *replace_instance,
            stun_servers: stun_servers.iter().map(ToString::to_string).collect(),
            limits: limits.clone(),
            log_format: *log_format,
            admin: admin.as_ref().map(AdminShown::from),
            access_log: access_log.as_ref().map(AccessLogShown::from),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct EngineShown {
    workers: usize,
    #[serde(rename = "memoryBudgetMiB", skip_serializing_if = "Option::is_none")]
    memory_budget_mib: Option<u64>,
    resume_timeout_secs: u64,
    keepalive_secs: u64,
    drain_timeout_secs: u64,
    idle_timeout_secs: u64,
    half_closed_timeout_secs: u64,
    ack_timeout_secs: u64,
    congestion_controller: CongestionController,
    udp_idle_timeout_secs: u64,
}

impl From<&EngineSettings> for EngineShown {
    fn from(engine: &EngineSettings) -> Self {
        let EngineSettings {
            workers,
            memory_budget,
            resume_timeout,
            keepalive,
            drain_timeout,
            idle_timeout,
            half_closed_timeout,
            ack_timeout,
            congestion_controller,
            udp_idle_timeout,
        } = engine;
        let or_off = |time: &Option<Duration>| time.map_or(0, |time| time.as_secs());
        Self {
            workers: *workers,
            memory_budget_mib: memory_budget.map(|bytes| bytes / (1_024 * 1_024)),
            resume_timeout_secs: resume_timeout.as_secs(),
            keepalive_secs: keepalive.as_secs(),
            drain_timeout_secs: drain_timeout.as_secs(),
            idle_timeout_secs: or_off(idle_timeout),
            half_closed_timeout_secs: or_off(half_closed_timeout),
            ack_timeout_secs: or_off(ack_timeout),
            congestion_controller: *congestion_controller,
            udp_idle_timeout_secs: udp_idle_timeout.as_secs(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct TlsShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_pem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_pem: Option<Hidden>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    pin: bool,
}

impl From<&TlsConfig> for TlsShown {
    fn from(tls: &TlsConfig) -> Self {
        let TlsConfig { source, pin } = tls;
        let none = Self {
            cert_pem: None,
            key_pem: None,
            cert_file: None,
            key_file: None,
            pin: *pin,
        };
        match source {
            // Some write the key into the same text as the certificate.
            TlsSource::Pem { cert: _, key } => Self {
                cert_pem: Some(HIDDEN.to_owned()),
                key_pem: Some(Hidden::from(key)),
                ..none
            },
            TlsSource::Files { cert, key } => Self {
                cert_file: Some(cert.clone()),
                key_file: Some(key.clone()),
                ..none
            },
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct AdminShown {
    listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Hidden>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    allowed_hosts: Vec<Host>,
}

impl From<&AdminConfig> for AdminShown {
    fn from(admin: &AdminConfig) -> Self {
        let AdminConfig {
            listen,
            token,
            allowed_hosts,
        } = admin;
        let (token, token_file) = match token {
            None => (None, None),
            Some(AdminToken::Given(token)) => (Some(Hidden::from(token)), None),
            Some(AdminToken::File(path)) => (None, Some(path.clone())),
        };
        Self {
            listen: listen.to_string(),
            token,
            token_file,
            allowed_hosts: allowed_hosts.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct AccessLogShown {
    path: PathBuf,
    sample: f64,
}

impl From<&AccessLogConfig> for AccessLogShown {
    fn from(log: &AccessLogConfig) -> Self {
        let AccessLogConfig { file, sample } = log;
        Self {
            path: file.clone().unwrap_or_else(|| "stderr".into()),
            sample: *sample,
        }
    }
}

#[cfg(test)]
mod tests;
