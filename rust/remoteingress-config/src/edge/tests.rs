//! The edge's configuration: defaults, every field, every refusal.

use std::time::Duration;

use serde_json::json;

use super::*;

const PIN: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
/// `{"hubHost":"hub.example.com","hubPort":443,"edgeId":"e","secret":"canary-0123456789"}`
const TOKEN: &str = "eyJodWJIb3N0IjoiaHViLmV4YW1wbGUuY29tIiwiaHViUG9ydCI6NDQzLCJlZGdlSWQiOiJlIiwic2VjcmV0IjoiY2FuYXJ5LTAxMjM0NTY3ODkifQ";

fn with(more: Value) -> Value {
    let mut params = json!({"hubHost": "hub.example.com", "edgeId": "e", "secret": "canary"});
    for (field, value) in more.as_object().unwrap() {
        params[field] = value.clone();
    }
    params
}

/// The hub that an edge dials.
fn hub(edge: &EdgeConfig) -> (&str, u16) {
    let HubAccess::Dial { host, port, .. } = &edge.access else {
        panic!("{edge:?}")
    };
    (host.as_str(), *port)
}

#[test]
fn an_edge_that_listens_for_its_hub() {
    let listening = json!({
        "listenTunnel": {"port": 8443, "bindAddress": "::1"}, "edgeId": "e", "secret": "canary-0123456789",
        "stateDir": "/var/lib/edge",
    });
    let edge = parse_edge(&listening).unwrap();
    let expected = HubAccess::Listen {
        port: 8443,
        bind_address: Some("::1".parse().unwrap()),
        state_dir: Some("/var/lib/edge".into()),
    };
    assert_eq!(edge.access, expected);
    assert_eq!(edge.warnings(), Vec::<String>::new());
    let fault = |more: Value| {
        let mut params = listening.clone();
        for (field, value) in more.as_object().unwrap() {
            params[field] = value.clone();
        }
        params
    };
    assert_refused([
        (
            fault(json!({"hubHost": "h"})),
            "hubHost: must not be given together with listenTunnel",
        ),
        (
            fault(json!({"hubPins": [PIN]})),
            "hubPins: must not be given together with listenTunnel",
        ),
        (
            fault(json!({"transportMode": "quic"})),
            "transportMode: is for an edge that dials",
        ),
        (
            fault(json!({"verifyHostname": "h"})),
            "verifyHostname: is for an edge that dials",
        ),
        (
            fault(json!({"listenTunnel": {"port": 0}})),
            "listenTunnel.port: port 0",
        ),
        (
            fault(json!({"listenTunnel": {"port": 1, "host": "h"}})),
            "listenTunnel.host: is not a known field",
        ),
        (
            fault(json!({"stateDir": ""})),
            "stateDir: must not be empty",
        ),
        (
            json!({"listenTunnel": {"port": 1}, "secret": "canary"}),
            "edgeId: is missing",
        ),
        (
            json!({"token": TOKEN, "listenTunnel": {"port": 1}}),
            "listenTunnel: must not be given together with a token",
        ),
    ]);
}

#[test]
fn defaults() {
    let edge = parse_edge(&with(json!({}))).unwrap();
    assert_eq!(
        (hub(&edge), edge.edge_id.as_str()),
        (("hub.example.com", 8443), "e")
    );
    assert_eq!(edge.secret.expose(), "canary");
    assert!(edge.bind_address.is_none());
    assert!(matches!(
        &edge.access,
        HubAccess::Dial { pins, verify_hostname: None, .. } if pins.is_empty()
    ));
    assert_eq!(edge.allowed_ports, AllowedPorts::every_port());
    assert_eq!(edge.engine.resume_timeout, Duration::from_secs(30));
    assert_eq!(edge.engine.keepalive, Duration::from_secs(45));
    assert!(!edge.replace_instance);
    assert_eq!(edge.stun_servers[0].to_string(), "stun.cloudflare.com:3478");
    assert_eq!(edge.limits, EdgeLimits::default());
    assert!(!format!("{edge:?}").contains("canary"));
}

#[test]
fn every_field_is_read() {
    let edge = parse_edge(&json!({
        "hubHost": "[::1]", "hubPort": 1, "edgeId": "e", "secret": "canary", "hubPins": [PIN],
        "verifyHostname": "hub.example.com", "transportMode": "tcpTls", "bindAddress": "::",
        "allowedPorts": {"tcp": [443], "udp": ["53-54"]}, "workers": 2, "memoryBudgetMiB": 16,
        "resumeTimeoutSecs": 1, "drainTimeoutSecs": 2, "idleTimeoutSecs": 3, "halfClosedTimeoutSecs": 4, "ackTimeoutSecs": 5,
        "replaceInstance": true, "stunServers": ["[::1]:3478", "192.0.2.7:1"],
        "limits": {
            "maxConnections": 1, "maxConnectionsPerListener": 2, "maxConnectionsPerIp": 3,
            "newConnectionsPerIpPerSec": 4, "newConnectionsPerIpBurst": 5, "maxHeldClients": 6, "holdTimeoutSecs": 7,
        },
    }))
    .unwrap();
    assert_eq!(
        (hub(&edge).1, edge.engine.workers, edge.replace_instance),
        (1, 2, true)
    );
    assert!(edge.allowed_ports.tcp.contains(443) && !edge.allowed_ports.tcp.contains(80));
    assert!(edge.allowed_ports.udp.contains(54));
    assert_eq!(edge.engine.idle_timeout, Some(Duration::from_secs(3)));
    assert_eq!(edge.engine.ack_timeout, Some(Duration::from_secs(5)));
    assert_eq!(edge.limits.hold_timeout, Some(Duration::from_secs(7)));
    let servers: Vec<String> = edge.stun_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["[::1]:3478", "192.0.2.7:1"]);
}

#[test]
fn a_token_gives_what_it_holds() {
    let edge = parse_edge(&json!({"token": format!("{TOKEN}\n"), "stunServers": []})).unwrap();
    assert_eq!(
        (hub(&edge), edge.edge_id.as_str()),
        (("hub.example.com", 443), "e")
    );
    assert_eq!(edge.secret.expose(), "canary-0123456789");
    assert!(edge.stun_servers.is_empty());
    let error = parse_edge(&json!({"token": &TOKEN[1..]}))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("E_INVALID_TOKEN: the token "), "{error}");
}

/// Each of the configurations is refused with a message that begins so, and holds no secret.
fn assert_refused(faults: impl IntoIterator<Item = (Value, &'static str)>) {
    for (params, expected) in faults {
        let error = parse_edge(&params).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("E_INVALID_CONFIG: {expected}")),
            "{error}"
        );
        assert!(!error.message.contains("canary"), "{error}");
    }
}

#[test]
fn a_fault_in_what_names_the_hub_has_its_path() {
    assert_refused([
        (
            json!({}),
            "token: is missing; give it, or hubHost, edgeId and secret",
        ),
        (
            json!({"hubHost": "h", "secret": "canary"}),
            "edgeId: is missing",
        ),
        (
            json!({"edgeId": "e", "secret": "canary"}),
            "hubHost: is missing",
        ),
        (json!({"hubHost": "h", "edgeId": "e"}), "secret: is missing"),
        (
            json!({"token": TOKEN, "hubHost": "h"}),
            "hubHost: must not be given together with a token",
        ),
        (
            json!({"token": TOKEN, "hubPort": 1}),
            "hubPort: must not be given together with a token",
        ),
        (
            json!({"token": TOKEN, "edgeId": "e"}),
            "edgeId: must not be given together with a token",
        ),
        (
            json!({"token": TOKEN, "secret": "canary"}),
            "secret: must not be given together with a token",
        ),
        (
            json!({"token": TOKEN, "hubPins": [PIN]}),
            "hubPins: must not be given together with a token",
        ),
        (
            json!({"token": ["canary"]}),
            "token: must be a string that is not empty",
        ),
        (
            with(json!({"hubHost": "hub:8443"})),
            "hubHost: must be a DNS name or an IP address alone",
        ),
        (with(json!({"hubPort": 0})), "hubPort: port 0"),
        (
            with(json!({"hubPort": 65536})),
            "hubPort: 65536 is beyond the last port",
        ),
        (
            with(json!({"hubPort": "443"})),
            "hubPort: must be a port from 1 to 65535, not a string",
        ),
        (with(json!({"edgeId": ""})), "edgeId: must not be empty"),
        (
            with(json!({"secret": ""})),
            "secret: must be a string that is not empty",
        ),
        (
            with(json!({"hubPins": []})),
            "hubPins: must hold 1 to 4 pins",
        ),
        (
            with(json!({"hubPins": [PIN, PIN, PIN, PIN, PIN]})),
            "hubPins: must hold 1 to 4 pins",
        ),
        (
            with(json!({"hubPins": [PIN, "canary"]})),
            "hubPins[1]: must be a SHA-256 hash as 43 characters",
        ),
    ]);
}

#[test]
fn a_fault_in_a_setting_has_its_path() {
    assert_refused([
        (
            with(json!({"verifyHostname": true})),
            "verifyHostname: must be a string",
        ),
        (
            with(json!({"transportMode": "udp"})),
            "transportMode: must be one of `tcpTls`, `quic`, `quicWithFallback`",
        ),
        (with(json!({"bindAddress": "eth0"})), "bindAddress: "),
        (with(json!({"sourceAddress": "eth0"})), "sourceAddress: "),
        (
            with(json!({"hubProxy": "canary"})),
            "hubProxy: must be http://host:port",
        ),
        (
            with(json!({"hubProxy": "http://p:1", "transportMode": "quic"})),
            "transportMode: QUIC doesn't go through a proxy",
        ),
        (
            with(json!({"allowedPorts": [443]})),
            "allowedPorts: must be an object",
        ),
        (
            with(json!({"allowedPorts": {"tcp": [443, "5-1"]}})),
            "allowedPorts.tcp[1]: the range 5-1 is reversed",
        ),
        (
            with(json!({"stunServers": "x:1"})),
            "stunServers: must be a list",
        ),
        (
            with(json!({"stunServers": ["stun.example.com"]})),
            "stunServers[0]: must be host:port",
        ),
        (
            with(json!({"stunServers": ["::1:3478"]})),
            "stunServers[0]: must be host:port",
        ),
        (
            with(json!({"stunServers": ["x:0"]})),
            "stunServers[0]: must be host:port",
        ),
        (
            with(json!({"stunServers": ["x:+1"]})),
            "stunServers[0]: must be host:port",
        ),
        (
            with(json!({"limits": {"maxStreams": 1}})),
            "limits.maxStreams: is not a known field",
        ),
        (
            with(json!({"tunnelPort": 1})),
            "tunnelPort: is not a known field",
        ),
    ]);
}

#[test]
fn transport_modes() {
    for (word, mode) in [
        ("tcpTls", TransportMode::TcpTls),
        ("quic", TransportMode::Quic),
        ("quicWithFallback", TransportMode::QuicWithFallback),
    ] {
        let edge = parse_edge(&with(json!({"transportMode": word}))).unwrap();
        assert_eq!(edge.transport_mode, mode);
        assert_eq!(edge.quic.probe_interval.as_secs(), 60);
    }
    let fields =
        json!({"quicProbeIntervalSecs": 2, "quicStableSecs": 1, "congestionController": "bbr"});
    let edge = parse_edge(&with(fields)).unwrap();
    assert_eq!(
        (
            edge.quic.probe_interval.as_secs(),
            edge.quic.stable.as_secs()
        ),
        (2, 1)
    );
    assert_eq!(edge.engine.congestion_controller, CongestionController::Bbr);
    assert_eq!(
        parse_edge(&with(json!({}))).unwrap().transport_mode,
        TransportMode::TcpTls
    );
}

#[test]
fn a_weak_secret_is_a_warning_unless_the_hub_is_verified() {
    let warnings = |more: Value| parse_edge(&with(more)).unwrap().warnings();
    assert!(warnings(json!({}))[0].contains("createSecret"));
    assert!(!warnings(json!({})).concat().contains("canary"));
    assert!(warnings(json!({"hubPins": [PIN]})).is_empty());
    assert!(warnings(json!({"verifyHostname": "hub.example.com"})).is_empty());
    assert!(warnings(json!({"secret": "canary-0123456789"})).is_empty());
}
