//! The configuration of a hub.

use std::{
    net::IpAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use remoteingress_proto::token::{host::Host, secret::Secret};
use serde::Deserialize;
use serde_json::Value;

use super::{
    access_log::{AccessLogConfig, AccessLogFields},
    admin::{AdminConfig, AdminFields},
    allowed_edge::{AllowedEdge, EdgeFields, check_all, check_pools_of},
    decode,
    engine::{CongestionController, EngineFields, EngineSettings, LogFormat},
    geo::{GeoConfig, RegionName, RoutingDbConfig},
    limits::HubLimits,
    pools::{Pools, check_pools},
    tunnel::TUNNEL_PORT,
};
use crate::{error::CodedError, target::check_target};

/// The checked configuration of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// False: it only dials, and has no tunnel port.
    pub listens: bool,
    /// 0: any free port.
    pub tunnel_port: u16,
    /// Host of streams whose port names none of its own.
    pub target_host: Host,
    /// Absent: 0.0.0.0 and ::.
    pub bind_address: Option<IpAddr>,
    /// Folder in which the hub's key lasts. Absent: it lives in memory, and tokens carry no pin.
    pub state_dir: Option<PathBuf>,
    /// Absent: the hub makes its own certificate.
    pub tls: Option<TlsConfig>,
    /// The edges that may connect.
    pub edges: Vec<AllowedEdge>,
    /// Targets behind one name.
    pub pools: Pools,
    /// Where it is itself.
    pub region: Option<RegionName>,
    /// What it knows of where clients are.
    pub geo: GeoConfig,
    /// Absent: no targets of edgeProxy's database.
    pub routing_db: Option<RoutingDbConfig>,
    /// Settings that an edge has too.
    pub engine: EngineSettings,
    /// For dialling a target.
    pub connect_timeout: Duration,
    /// Sessions that one tunnel may have.
    pub max_sessions_per_edge: u16,
    /// Targets may be link-local, unspecified or multicast addresses, cloud metadata services among them.
    pub allow_special_targets: bool,
    /// Limits on what peers may cost.
    pub limits: HubLimits,
    /// How lines of the log look. Absent: text for a terminal.
    pub log_format: Option<LogFormat>,
    /// Absent: no admin server.
    pub admin: Option<AdminConfig>,
    /// Absent: no access log.
    pub access_log: Option<AccessLogConfig>,
}

impl HubConfig {
    /// Warnings about what is accepted but shouldn't stay, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = |edge: &AllowedEdge| edge.warnings(self.listens);
        self.edges.iter().flat_map(warnings).collect()
    }
}

/// Your own certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where they are.
    pub source: TlsSource,
    /// Tokens carry the key's pin.
    pub pin: bool,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// Here, as PEM text.
    Pem {
        /// The certificate, then its chain.
        cert: String,
        /// The certificate's key.
        key: Secret,
    },
    /// In files that are read again when they change.
    Files {
        /// The certificate's, with its chain.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
    },
}

/// Certificate and key of a hub: both as PEM text, or both as names of files.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "HubTls"))]
struct TlsFields {
    /// Your own certificate with its chain, as PEM text and not as a file's name, in place of the self-signed one.
    ///
    /// Default: none · Range: PEM text
    cert_pem: Option<String>,
    /// Private key of `tls.certPem`, as PEM text.
    ///
    /// Default: none · Range: PEM text, not empty
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    key_pem: Option<Secret>,
    /// The same as a file, together with `tls.keyFile`. Both are read again within 10 s of a change and at SIGHUP; files
    /// that don't fit each other are logged, and the old certificate stays. Connections that exist aren't touched.
    ///
    /// Default: none · Range: path, not empty
    cert_file: Option<PathBuf>,
    /// Private key of `tls.certFile`. Only root, the hub's user and its groups may be able to write it; a warning tells
    /// where others could read it.
    ///
    /// Default: none · Range: path, not empty
    key_file: Option<PathBuf>,
    /// Lets tokens carry the pin of the key. It is off by default, because a renewal may change the key and would make
    /// those tokens worthless.
    ///
    /// Default: `false`
    #[serde(default)]
    pin: bool,
}

impl TlsFields {
    fn check(self) -> Result<TlsConfig, CodedError> {
        let missing = |field: &str| CodedError::invalid_config(field, "is missing");
        let source = match (self.cert_pem, self.key_pem, self.cert_file, self.key_file) {
            (Some(cert), Some(key), None, None) => TlsSource::Pem { cert, key },
            (None, None, Some(cert), Some(key)) => {
                for (field, path) in [("tls.certFile", &cert), ("tls.keyFile", &key)] {
                    if path.as_os_str().is_empty() {
                        return Err(CodedError::invalid_config(field, "must not be empty"));
                    }
                }
                TlsSource::Files { cert, key }
            }
            (Some(_), None, None, None) => return Err(missing("tls.keyPem")),
            (None, Some(_), None, None) => return Err(missing("tls.certPem")),
            (None, None, Some(_), None) => return Err(missing("tls.keyFile")),
            (None, None, None, Some(_)) => return Err(missing("tls.certFile")),
            _ => {
                return Err(CodedError::invalid_config(
                    "tls",
                    "must have certPem and keyPem, or certFile and keyFile",
                ));
            }
        };
        Ok(TlsConfig {
            source,
            pin: self.pin,
        })
    }
}

/// Reads the parameters of `startHub`, which are the file of `remoteingress-bin hub` too.
pub fn parse_hub(params: &Value) -> Result<HubConfig, CodedError> {
    decode::<HubFields>(params)?.check()
}

/// Configuration of a hub. Every field has a default; times are whole seconds, and an unknown field is refused with
/// `E_INVALID_CONFIG`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "HubConfig"))]
pub(super) struct HubFields {
    /// Port on which edges connect, TCP and UDP alike. With 0 the hub takes one that is free for both;
    /// `getStatus().tunnelPort` tells it.
    ///
    /// Unit: port · Default: 8443
    tunnel_port: Option<u16>,
    /// `false` lets the hub have no tunnel port, where it dials all of its edges; `getStatus().tunnelPort` is 0 then, and
    /// `tunnelPort` and `bindAddress` aren't given. An edge without `dial` gives a warning.
    ///
    /// Default: `true`
    listen: Option<bool>,
    /// Host of every target that names none of its own: a stream for listener port p goes to `targetHost`, port p,
    /// unless the port specification says otherwise.
    ///
    /// Default: `"127.0.0.1"` · Range: name or IP address; a link-local one with its zone, as `fe80::1%eth0`
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    target_host: Option<Host>,
    /// Address of the hub's machine on which the tunnel port listens. It
    /// [needn't be there yet](operations.md#addresses-that-come-later).
    ///
    /// Default: 0.0.0.0, and :: where IPv6 exists · Range: IP address
    bind_address: Option<IpAddr>,
    /// Directory that keeps the hub's private key (`hub-key.pem`), so that tokens can carry its pin. It is made, with
    /// its parents, where it is missing; a relative path counts from the working directory. Without it the key lives in
    /// memory and tokens carry no pin. With `tls` it keeps no key. The keys of edges that the hub dials are remembered here
    /// too (`edge-keys.json`), changes of edges [over REST](admin.md#where-the-truth-lies) (`edges.json`), and the
    /// [state of pools](pools.md#changes-and-restarts) (`hub.db`).
    ///
    /// Default: none · Range: path, not empty
    state_dir: Option<PathBuf>,
    /// Your own certificate in place of the self-signed one.
    ///
    /// Default: none
    tls: Option<TlsFields>,
    /// Edges that may connect; each id may occur once. `updateAllowedEdges` and SIGHUP replace the whole list, but for
    /// [changes over REST](admin.md#where-the-truth-lies) of edges whose entry in the file is the same.
    ///
    /// Default: `[]` · Range: [allowed edges](#allowed-edge)
    #[serde(default)]
    edges: Vec<EdgeFields>,
    /// Targets behind one name, which ports choose from by `pool`: see [pools.md](pools.md). `updatePools` and SIGHUP replace
    /// the whole set; what is known of a target lasts.
    ///
    /// Default: `{}` · Range: [pools](pools.md#pool) by name, at most 1,024 of them with 10,000 targets in all
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "std::collections::BTreeMap<String, crate::pools::PoolConfig>")
    )]
    pools: Pools,
    /// Region in which the hub is, and the edges without one of their own.
    ///
    /// Default: none · Range: [a region](pools.md#regions)
    region: Option<RegionName>,
    /// Where clients are, for pools with the strategy `"geo"`.
    ///
    /// Default: see below · Range: [geography](pools.md#geography)
    #[serde(default)]
    geo: GeoConfig,
    /// Targets from edgeProxy's database.
    ///
    /// Default: none · Range: [routing.db](pools.md#routingdb)
    routing_db: Option<RoutingDbConfig>,
    /// Threads that carry streams. With more than 256 of them one worker carries all of QUIC.
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
    /// Time that a stopping hub gives running streams to finish before it resets them. 0 resets them at once.
    ///
    /// Unit: s · Default: 30
    drain_timeout_secs: Option<u32>,
    /// Deadline of a connection to a target, the lookup of its name included.
    ///
    /// Unit: s · Default: 5
    connect_timeout_secs: Option<NonZeroU32>,
    /// Ends a stream that had no byte in either direction for this long, up to 1 s late.
    ///
    /// Unit: s · Default: 0 = off
    idle_timeout_secs: Option<u32>,
    /// Ends a stream of which one direction has ended and the other had no byte for this long, up to 1 s late.
    ///
    /// Unit: s · Default: 0 = off
    half_closed_timeout_secs: Option<u32>,
    /// Resets a stream whose target has acknowledged nothing for this long while bytes wait for that, since its link has
    /// died. It is looked for eight times in this time and at most once a second, so it is found up to 15 s late by
    /// default. One that reads nothing but still answers isn't touched.
    ///
    /// Unit: s · Default: 120; 0 = off
    ack_timeout_secs: Option<u32>,
    /// Congestion control of QUIC for what this end sends; TCP has the system's. `"bbr"` goes by rate and round trip
    /// instead of loss and halves the latency on a line that loses packets ([measured](../bench/RESULTS.md)), but is
    /// experimental.
    ///
    /// Default: `"cubic"`
    #[serde(default)]
    congestion_controller: CongestionController,
    /// Ends a UDP flow that had no datagram in either direction for this long, at both ends, unless its port
    /// specification says otherwise.
    ///
    /// Unit: s · Default: 60
    udp_idle_timeout_secs: Option<NonZeroU32>,
    /// Sessions that one tunnel may have; an edge opens one per worker of its own.
    ///
    /// Unit: sessions · Default: 16
    max_sessions_per_edge: Option<NonZeroU16>,
    /// Permits targets at unspecified (0.0.0.0/8 and ::), broadcast, multicast, link-local and cloud metadata
    /// addresses. Without it such a `targetHost` is refused, and a name that leads to such an address gives
    /// `targetUnreachable`.
    ///
    /// Default: `false`
    #[serde(default)]
    allow_special_targets: bool,
    /// Bounds of what edges and strangers may cost this hub.
    ///
    /// Default: see below · Range: [limits of the hub](#limits-of-the-hub)
    #[serde(default)]
    limits: HubLimits,
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

impl HubFields {
    fn check(self) -> Result<HubConfig, CodedError> {
        if self
            .state_dir
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(CodedError::invalid_config(
                "stateDir",
                "must not be empty; leave it out to keep the key in memory",
            ));
        }
        let listens = self.listen.unwrap_or(true);
        let for_listening = [
            ("tunnelPort", self.tunnel_port.is_some()),
            ("bindAddress", self.bind_address.is_some()),
        ];
        if !listens && let Some((field, _)) = for_listening.iter().find(|(_, given)| *given) {
            let problem = "must not be given where listen is false: the hub has no tunnel port";
            return Err(CodedError::invalid_config(field, problem));
        }
        let target_host = match self.target_host {
            Some(host) => host,
            None => Host::new(TARGET_HOST)
                .map_err(|error| CodedError::invalid_config("targetHost", error))?,
        };
        check_target(&target_host, self.allow_special_targets, "targetHost")?;
        check_pools(&self.pools, "pools", self.allow_special_targets)?;
        self.geo.check()?;
        if let Some(routing_db) = &self.routing_db {
            routing_db.check()?;
        }
        let edges = check_all(self.edges, self.allow_special_targets)?;
        check_pools_of(&edges, &self.pools, self.routing_db.is_some())?;
        Ok(HubConfig {
            listens,
            tunnel_port: self.tunnel_port.unwrap_or(TUNNEL_PORT),
            target_host,
            bind_address: self.bind_address,
            state_dir: self.state_dir,
            tls: self.tls.map(TlsFields::check).transpose()?,
            log_format: self.log_format,
            admin: self.admin.map(AdminFields::check).transpose()?,
            access_log: self.access_log.map(AccessLogFields::check).transpose()?,
            edges,
            pools: self.pools,
            region: self.region,
            geo: self.geo,
            routing_db: self.routing_db,
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
            connect_timeout: self.connect_timeout_secs.map_or(CONNECT_TIMEOUT, |secs| {
                Duration::from_secs(secs.get().into())
            }),
            max_sessions_per_edge: self
                .max_sessions_per_edge
                .map_or(MAX_SESSIONS_PER_EDGE, NonZeroU16::get),
            allow_special_targets: self.allow_special_targets,
            limits: self.limits,
        })
    }
}

const TARGET_HOST: &str = "127.0.0.1";

/// A target in a private network answers in milliseconds; one lost SYN is sent again after 1 s, the second after 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One session per worker of the edge; beyond 16 cores the network is the limit.
const MAX_SESSIONS_PER_EDGE: u16 = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults() {
        let hub = parse_hub(&json!({})).unwrap();
        assert_eq!(
            (hub.tunnel_port, hub.target_host.as_str()),
            (8443, "127.0.0.1")
        );
        assert!(
            hub.bind_address.is_none()
                && hub.state_dir.is_none()
                && hub.tls.is_none()
                && hub.edges.is_empty()
        );
        assert!(hub.engine.workers >= 1);
        assert_eq!(hub.engine.memory_budget, None);
        assert_eq!(hub.log_format, None);
        assert_eq!(hub.engine.resume_timeout, Duration::from_secs(30));
        assert_eq!(hub.engine.keepalive, Duration::from_secs(45));
        assert_eq!(hub.engine.drain_timeout, Duration::from_secs(30));
        assert_eq!(
            (hub.engine.idle_timeout, hub.engine.half_closed_timeout),
            (None, None)
        );
        assert_eq!(hub.engine.ack_timeout, Some(Duration::from_secs(120)));
        assert_eq!(hub.connect_timeout, Duration::from_secs(5));
        assert_eq!(hub.max_sessions_per_edge, 16);
        assert!(!hub.allow_special_targets);
        assert_eq!(hub.limits, HubLimits::default());
    }

    #[test]
    fn every_field_is_read() {
        let hub = parse_hub(&json!({
            "tunnelPort": 0, "targetHost": "::1", "bindAddress": "127.0.0.1", "stateDir": "/var/lib/hub",
            "tls": {"certPem": "cert", "keyPem": "canary", "pin": true},
            "edges": [{"id": "a", "secret": "canary", "listenPorts": [{"port": 80, "targetHost": "169.254.169.254"}]}], "workers": 3, "memoryBudgetMiB": 1, "resumeTimeoutSecs": 0,
            "keepaliveSecs": 3,
            "drainTimeoutSecs": 1, "connectTimeoutSecs": 2, "idleTimeoutSecs": 3, "halfClosedTimeoutSecs": 4, "ackTimeoutSecs": 0,
            "maxSessionsPerEdge": 5, "allowSpecialTargets": true,
            "limits": {
                "maxPreAuth": 1, "maxPreAuthPerIp": 2, "handshakesPerIpPerSec": 3, "handshakesPerIpBurst": 4,
                "handshakeTimeoutSecs": 5, "maxAuthFailuresPerIp": 6, "maxStreams": 7, "maxStreamsPerEdge": 8,
                "maxPendingDialsPerEdge": 9,
            },
        }))
        .unwrap();
        assert_eq!(
            (
                hub.tunnel_port,
                hub.max_sessions_per_edge,
                hub.engine.workers
            ),
            (0, 5, 3)
        );
        assert_eq!(
            (hub.engine.memory_budget, hub.engine.resume_timeout),
            (Some(1_048_576), Duration::ZERO)
        );
        assert_eq!(hub.engine.half_closed_timeout, Some(Duration::from_secs(4)));
        assert_eq!(hub.engine.keepalive, Duration::from_secs(3));
        assert_eq!(hub.engine.ack_timeout, None);
        assert_eq!(hub.limits.max_pending_dials_per_edge.get(), Some(9));
        assert!(hub.tls.as_ref().is_some_and(|tls| tls.pin) && hub.allow_special_targets);
        assert_eq!(hub.warnings().len(), 1);
        assert!(!format!("{hub:?}").contains("canary"));
    }

    #[test]
    fn a_hub_that_only_dials_has_no_place_to_listen() {
        let hub = parse_hub(&json!({"listen": false})).unwrap();
        assert!(!hub.listens);
        assert!(parse_hub(&json!({"listen": true, "tunnelPort": 0})).is_ok());
        for (field, value) in [("tunnelPort", json!(0)), ("bindAddress", json!("::1"))] {
            let mut fields = json!({"listen": false});
            fields[field] = value;
            let error = parse_hub(&fields).unwrap_err();
            let expected = format!("{field}: must not be given where listen is false");
            assert!(error.message.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn every_fault_has_its_path() {
        for (params, expected) in [
            (json!({"tunnelport": 1}), "tunnelport: is not a known field"),
            (
                json!({"tunnelPort": 65536}),
                "tunnelPort: must be a whole number from 0 to 65535, not integer `65536`",
            ),
            (
                json!({"targetHost": "http://x"}),
                "targetHost: must be a DNS name or an IP address alone",
            ),
            (
                json!({"targetHost": "169.254.169.254"}),
                "targetHost: 169.254.169.254 is no target (see allowSpecialTargets)",
            ),
            (
                json!({"edges": [{"id": "a", "secret": "canary", "listenPorts": [80, {"port": 81, "targetHost": "[fe80::1]"}]}]}),
                "edges[0].listenPorts[1].targetHost: [fe80::1] is no target",
            ),
            (json!({"bindAddress": "localhost"}), "bindAddress: "),
            (json!({"stateDir": ""}), "stateDir: must not be empty"),
            (json!({"tls": {"certPem": "x"}}), "tls.keyPem: is missing"),
            (
                json!({"tls": {"certPem": "x", "keyPem": 31337}}),
                "tls.keyPem: must be a string that is not empty",
            ),
            (json!({"tls": {"certFile": "x"}}), "tls.keyFile: is missing"),
            (
                json!({"tls": {"certFile": "x", "keyFile": ""}}),
                "tls.keyFile: must not be empty",
            ),
            (
                json!({"tls": {"certFile": "x", "keyPem": "canary"}}),
                "tls: must have certPem and keyPem, or certFile and keyFile",
            ),
            (json!({"logFormat": "xml"}), "logFormat: "),
            (
                json!({"tls": {"certPem": "x", "keyPem": "canary", "pins": true}}),
                "tls.pins: is not a known field",
            ),
            (
                json!({"workers": 0}),
                "workers: must be a whole number from 1 to 65535, not integer `0`",
            ),
            (
                json!({"memoryBudgetMiB": 0}),
                "memoryBudgetMiB: must be a whole number from 1",
            ),
            (
                json!({"connectTimeoutSecs": 0}),
                "connectTimeoutSecs: must be a whole number from 1",
            ),
            (
                json!({"idleTimeoutSecs": 1.5}),
                "idleTimeoutSecs: must be a whole number from 0",
            ),
            (
                json!({"allowSpecialTargets": "yes"}),
                "allowSpecialTargets: must be true or false, not a string",
            ),
            (
                json!({"limits": {"maxStream": 1}}),
                "limits.maxStream: is not a known field",
            ),
            (
                json!({"limits": {"maxStreams": "canary"}}),
                "limits.maxStreams: must be a whole number",
            ),
            (
                json!({"edges": [{"id": "a", "secret": "canary", "listenPorts": [{"port": 0}]}]}),
                "edges[0].listenPorts[0].port: port 0",
            ),
            (json!([]), "the top level: must be an object"),
        ] {
            let error = parse_hub(&params).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("E_INVALID_CONFIG: {expected}")),
                "{error}"
            );
            assert!(
                !error.message.contains("canary") && !error.message.contains("31337"),
                "{error}"
            );
        }
    }
}
