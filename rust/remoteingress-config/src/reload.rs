//! A configuration that is read again while its hub or edge runs: what of it applies at once, and what needs a restart.
//!
//! Each field is decided upon by name, and the compiler finds one that isn't.

use std::time::Duration;

use super::{DialRoute, EdgeConfig, EngineSettings, HubAccess, HubConfig, QuicTimes};

/// The outcome of a reload.
#[derive(Clone, Debug)]
pub struct Reloaded<C> {
    /// The configuration in force from now on: the new one, but with the old values of what needs a restart.
    pub config: C,
    /// Fields that have changed and apply at once.
    pub applied: Vec<&'static str>,
    /// Fields that have changed and keep their old value until a restart.
    pub needs_restart: Vec<&'static str>,
}

#[derive(Default)]
struct Changes {
    applied: Vec<&'static str>,
    needs_restart: Vec<&'static str>,
}

impl Changes {
    fn live<T: PartialEq>(&mut self, field: &'static str, old: &T, new: T) -> T {
        if *old != new {
            self.applied.push(field);
        }
        new
    }

    fn fixed<T: PartialEq + Clone>(&mut self, field: &'static str, old: &T, new: T) -> T {
        if *old != new {
            self.needs_restart.push(field);
        }
        old.clone()
    }

    /// All but the resume timeout, about which hub and edge differ.
    fn engine(
        &mut self,
        old: &EngineSettings,
        new: EngineSettings,
        resume_timeout: Duration,
    ) -> EngineSettings {
        EngineSettings {
            workers: self.fixed("workers", &old.workers, new.workers),
            memory_budget: self.fixed("memoryBudgetMiB", &old.memory_budget, new.memory_budget),
            resume_timeout,
            keepalive: self.fixed("keepaliveSecs", &old.keepalive, new.keepalive),
            drain_timeout: self.live("drainTimeoutSecs", &old.drain_timeout, new.drain_timeout),
            idle_timeout: self.live("idleTimeoutSecs", &old.idle_timeout, new.idle_timeout),
            half_closed_timeout: self.live(
                "halfClosedTimeoutSecs",
                &old.half_closed_timeout,
                new.half_closed_timeout,
            ),
            ack_timeout: self.live("ackTimeoutSecs", &old.ack_timeout, new.ack_timeout),
            congestion_controller: self.fixed(
                "congestionController",
                &old.congestion_controller,
                new.congestion_controller,
            ),
            udp_idle_timeout: self.live(
                "udpIdleTimeoutSecs",
                &old.udp_idle_timeout,
                new.udp_idle_timeout,
            ),
        }
    }

    /// What ties an edge to its hub stays until a restart.
    fn access(&mut self, old: &HubAccess, new: HubAccess) -> HubAccess {
        match (old, new) {
            (
                HubAccess::Dial {
                    host: old_host,
                    port: old_port,
                    pins: old_pins,
                    verify_hostname: old_name,
                    route: old_route,
                },
                HubAccess::Dial {
                    host,
                    port,
                    pins,
                    verify_hostname,
                    route,
                },
            ) => HubAccess::Dial {
                host: self.fixed("hubHost", old_host, host),
                port: self.fixed("hubPort", old_port, port),
                pins: self.fixed("hubPins", old_pins, pins),
                verify_hostname: self.fixed("verifyHostname", old_name, verify_hostname),
                route: DialRoute {
                    proxy: self.fixed("hubProxy", &old_route.proxy, route.proxy),
                    source_address: self.fixed(
                        "sourceAddress",
                        &old_route.source_address,
                        route.source_address,
                    ),
                },
            },
            (
                HubAccess::Listen {
                    port: old_port,
                    bind_address: old_address,
                    state_dir: old_dir,
                },
                HubAccess::Listen {
                    port,
                    bind_address,
                    state_dir,
                },
            ) => {
                let old_listen = (*old_port, *old_address);
                let (port, bind_address) =
                    self.fixed("listenTunnel", &old_listen, (port, bind_address));
                HubAccess::Listen {
                    port,
                    bind_address,
                    state_dir: self.fixed("stateDir", old_dir, state_dir),
                }
            }
            // The other end dials.
            (old, new) => self.fixed("listenTunnel", old, new),
        }
    }

    fn into_reloaded<C>(self, config: C) -> Reloaded<C> {
        Reloaded {
            config,
            applied: self.applied,
            needs_restart: self.needs_restart,
        }
    }
}

/// What a running hub does with a new configuration. The edges are no part of it: they change by themselves.
pub fn reload_hub(old: &HubConfig, new: HubConfig) -> Reloaded<HubConfig> {
    let mut changes = Changes::default();
    // Sessions are told it as they begin, one by one.
    let resume_timeout = changes.live(
        "resumeTimeoutSecs",
        &old.engine.resume_timeout,
        new.engine.resume_timeout,
    );
    let engine = changes.engine(&old.engine, new.engine, resume_timeout);
    let config = HubConfig {
        listens: changes.fixed("listen", &old.listens, new.listens),
        tunnel_port: changes.fixed("tunnelPort", &old.tunnel_port, new.tunnel_port),
        target_host: changes.live("targetHost", &old.target_host, new.target_host),
        bind_address: changes.fixed("bindAddress", &old.bind_address, new.bind_address),
        state_dir: changes.fixed("stateDir", &old.state_dir, new.state_dir),
        tls: changes.fixed("tls", &old.tls, new.tls),
        edges: new.edges,
        pools: changes.live("pools", &old.pools, new.pools),
        region: changes.live("region", &old.region, new.region),
        geo: changes.live("geo", &old.geo, new.geo),
        routing_db: changes.live("routingDb", &old.routing_db, new.routing_db),
        engine,
        connect_timeout: changes.live(
            "connectTimeoutSecs",
            &old.connect_timeout,
            new.connect_timeout,
        ),
        max_sessions_per_edge: changes.live(
            "maxSessionsPerEdge",
            &old.max_sessions_per_edge,
            new.max_sessions_per_edge,
        ),
        allow_special_targets: changes.fixed(
            "allowSpecialTargets",
            &old.allow_special_targets,
            new.allow_special_targets,
        ),
        limits: changes.live("limits", &old.limits, new.limits),
        log_format: changes.live("logFormat", &old.log_format, new.log_format),
        admin: changes.fixed("admin", &old.admin, new.admin),
        access_log: changes.fixed("accessLog", &old.access_log, new.access_log),
    };
    changes.into_reloaded(config)
}

/// What a running edge does with a new configuration.
pub fn reload_edge(old: &EdgeConfig, new: EdgeConfig) -> Reloaded<EdgeConfig> {
    let mut changes = Changes::default();
    let resume_timeout = changes.fixed(
        "resumeTimeoutSecs",
        &old.engine.resume_timeout,
        new.engine.resume_timeout,
    );
    let config = EdgeConfig {
        access: changes.access(&old.access, new.access),
        edge_id: changes.fixed("edgeId", &old.edge_id, new.edge_id),
        secret: changes.fixed("secret", &old.secret, new.secret),
        transport_mode: changes.fixed("transportMode", &old.transport_mode, new.transport_mode),
        quic: QuicTimes {
            probe_interval: changes.fixed(
                "quicProbeIntervalSecs",
                &old.quic.probe_interval,
                new.quic.probe_interval,
            ),
            stable: changes.fixed("quicStableSecs", &old.quic.stable, new.quic.stable),
        },
        bind_address: changes.fixed("bindAddress", &old.bind_address, new.bind_address),
        allowed_ports: changes.fixed("allowedPorts", &old.allowed_ports, new.allowed_ports),
        engine: changes.engine(&old.engine, new.engine, resume_timeout),
        replace_instance: changes.fixed(
            "replaceInstance",
            &old.replace_instance,
            new.replace_instance,
        ),
        stun_servers: changes.live("stunServers", &old.stun_servers, new.stun_servers),
        limits: changes.live("limits", &old.limits, new.limits),
        log_format: changes.live("logFormat", &old.log_format, new.log_format),
        admin: changes.fixed("admin", &old.admin, new.admin),
        access_log: changes.fixed("accessLog", &old.access_log, new.access_log),
    };
    changes.into_reloaded(config)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{parse_edge, parse_hub};

    #[test]
    fn a_hub_applies_its_target_its_limits_and_its_timeouts() {
        let old = parse_hub(&json!({"tunnelPort": 1, "workers": 1})).unwrap();
        let new = json!({
            "tunnelPort": 2, "workers": 1, "targetHost": "target.test", "connectTimeoutSecs": 1,
            "resumeTimeoutSecs": 2, "drainTimeoutSecs": 3, "idleTimeoutSecs": 4, "halfClosedTimeoutSecs": 5,
            "udpIdleTimeoutSecs": 6, "maxSessionsPerEdge": 7, "limits": {"maxStreams": 8}, "stateDir": "/other",
        });
        let reloaded = reload_hub(&old, parse_hub(&new).unwrap());
        let applied = [
            "resumeTimeoutSecs",
            "drainTimeoutSecs",
            "idleTimeoutSecs",
            "halfClosedTimeoutSecs",
            "udpIdleTimeoutSecs",
            "targetHost",
            "connectTimeoutSecs",
            "maxSessionsPerEdge",
            "limits",
        ];
        assert_eq!(reloaded.applied, applied);
        assert_eq!(reloaded.needs_restart, ["tunnelPort", "stateDir"]);
        let config = reloaded.config;
        assert_eq!((config.tunnel_port, config.state_dir), (1, None));
        assert_eq!(config.target_host.as_str(), "target.test");
        assert_eq!(config.engine.resume_timeout, Duration::from_secs(2));
        assert_eq!(config.limits.max_streams.get(), Some(8));
    }

    #[test]
    fn every_other_setting_of_a_hub_is_named() {
        let fields = json!({
            "bindAddress": "127.0.0.1", "tls": {"certPem": "x", "keyPem": "y"}, "memoryBudgetMiB": 1, "workers": 70,
            "congestionController": "bbr", "allowSpecialTargets": true, "listen": false, "keepaliveSecs": 3,
            "admin": {"listen": "127.0.0.1:0"},
        });
        for (field, value) in fields.as_object().unwrap() {
            let config = Value::from_iter([(field.clone(), value.clone())]);
            let old = parse_hub(&json!({})).unwrap();
            let reloaded = reload_hub(&old, parse_hub(&config).unwrap());
            assert_eq!(reloaded.needs_restart, [field.as_str()]);
            assert!(reloaded.applied.is_empty(), "{:?}", reloaded.applied);
        }
    }

    #[test]
    fn an_edge_applies_its_limits_and_names_what_ties_it_to_its_hub() {
        let old = json!({"hubHost": "a.test", "edgeId": "e", "secret": "0123456789abcdef"});
        let new = json!({
            "hubHost": "b.test", "edgeId": "e", "secret": "another-0123456789", "resumeTimeoutSecs": 1,
            "udpIdleTimeoutSecs": 2, "limits": {"maxConnections": 3}, "stunServers": [],
        });
        let reloaded = reload_edge(&parse_edge(&old).unwrap(), parse_edge(&new).unwrap());
        assert_eq!(
            reloaded.applied,
            ["udpIdleTimeoutSecs", "stunServers", "limits"]
        );
        assert_eq!(
            reloaded.needs_restart,
            ["resumeTimeoutSecs", "hubHost", "secret"]
        );
        let HubAccess::Dial { host, .. } = reloaded.config.access else {
            panic!("{:?}", reloaded.config.access)
        };
        assert_eq!(host.as_str(), "a.test");
    }

    #[test]
    fn an_edge_that_listens_for_its_hub_keeps_its_port_and_its_key_until_a_restart() {
        let edge = |more: Value| {
            let mut fields = json!({"edgeId": "e", "secret": "0123456789abcdef"});
            let more = more.as_object().unwrap().clone();
            fields.as_object_mut().unwrap().extend(more);
            parse_edge(&fields).unwrap()
        };
        let old = edge(json!({"listenTunnel": {"port": 1}, "stateDir": "/a"}));
        let other = edge(json!({"listenTunnel": {"port": 2}, "stateDir": "/b"}));
        let reloaded = reload_edge(&old, other);
        assert_eq!(reloaded.needs_restart, ["listenTunnel", "stateDir"]);
        assert_eq!(reloaded.config.access, old.access);
        let dials = edge(json!({"hubHost": "a.test"}));
        let reloaded = reload_edge(&old, dials);
        assert_eq!(reloaded.needs_restart, ["listenTunnel"]);
        assert_eq!(reloaded.config.access, old.access);
    }
}
