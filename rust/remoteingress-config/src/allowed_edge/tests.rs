//! Allowed edges: defaults, every refusal, and what a new set changes.

use serde_json::json;

use super::*;
use crate::target::TargetPath;

fn edges(list: Value) -> Result<Vec<AllowedEdge>, CodedError> {
    parse_edges(&json!({ "edges": list }), false)
}

fn error(list: Value) -> String {
    edges(list).unwrap_err().to_string()
}

#[test]
fn defaults() {
    let edge = edges(json!([{"id": "a", "secret": "canary-0123456789"}]))
        .unwrap()
        .remove(0);
    assert!(edge.tcp.is_empty() && edge.udp.is_empty() && edge.next_secret.is_none());
    assert_eq!(edge.stun_interval, Some(Duration::from_secs(300)));
    assert_eq!(edge.client_address_policy, ClientAddressPolicy::Any);
    assert!(edge.warnings(true).is_empty());
    assert!(!format!("{edge:?}").contains("canary"));
    let off = edges(
        json!([{"id": "a", "secret": "s", "stunIntervalSecs": 0, "clientAddressPolicy": "public"}]),
    );
    let off = off.unwrap().remove(0);
    assert_eq!(
        (off.stun_interval, off.client_address_policy),
        (None, ClientAddressPolicy::Public)
    );
}

#[test]
fn every_fault_has_its_path() {
    let with = |field: &str, value: Value| {
        let mut edge = json!({"id": "b", "secret": "canary"});
        edge[field] = value;
        json!([{"id": "a", "secret": "canary"}, edge])
    };
    for (list, expected) in [
        (with("id", json!("")), "edges[1].id: must not be empty"),
        (
            with("id", json!("x\n")),
            "edges[1].id: must not contain control characters",
        ),
        (
            with("id", json!("x".repeat(129))),
            "edges[1].id: must be at most 128 bytes long",
        ),
        (
            with("id", json!(7)),
            "edges[1].id: must be a string, not integer `7`",
        ),
        (
            with("id", json!("a")),
            "edges[1].id: \"a\" is the id of edges[0] too; every edge needs its own",
        ),
        (
            with("secret", json!("")),
            "edges[1].secret: must be a string that is not empty",
        ),
        (
            with("secret", json!(31337)),
            "edges[1].secret: must be a string that is not empty",
        ),
        (
            with("secret", json!(["canary"])),
            "edges[1].secret: must be a string that is not empty",
        ),
        (
            with("nextSecret", json!("")),
            "edges[1].nextSecret: must be a string that is not empty",
        ),
        (
            with("nextsecret", json!("canary")),
            "edges[1].nextsecret: is not a known field; expected one of `id`, `secret`, `nextSecret`, `listenPorts`, `listenPortsUdp`, `stunIntervalSecs`, `clientAddressPolicy`, `region`, `dial`",
        ),
        (
            with("stunIntervalSecs", json!(-1)),
            "edges[1].stunIntervalSecs: must be a whole number from 0 to 4294967295, not integer `-1`",
        ),
        (
            with("clientAddressPolicy", json!("private")),
            "edges[1].clientAddressPolicy: must be `any` or `public`",
        ),
        (
            with("listenPorts", json!(443)),
            "edges[1].listenPorts: must be a list, not integer `443`",
        ),
        (
            with(
                "listenPorts",
                json!([80, {"port": "3000-3010", "targetPort": 65530}]),
            ),
            "edges[1].listenPorts[1].targetPort: 11 ports from 65530 on end beyond 65535; use a lower first target",
        ),
        (
            with("listenPorts", json!([80, "79-81"])),
            "edges[1].listenPorts[1]: 79-81 overlaps 80, which is edges[1].listenPorts[0]; a port has one target, unless each entry has a bindAddress of its own",
        ),
        (
            with("listenPortsUdp", json!([0])),
            "edges[1].listenPortsUdp[0]: port 0 can't be listened on or dialled; use 1 to 65535",
        ),
        (json!([{"id": "a"}]), "edges[0].secret: is missing"),
        (
            json!(["canary"]),
            "edges[0]: must be an object, not a string",
        ),
        (json!("canary"), "edges: must be a list, not a string"),
    ] {
        assert_eq!(error(list), format!("E_INVALID_CONFIG: {expected}"));
    }
    assert_eq!(
        parse_edges(&json!({}), false).unwrap_err().to_string(),
        "E_INVALID_CONFIG: edges: is missing"
    );
}

#[test]
fn tcp_and_udp_share_the_room_but_not_the_numbers() {
    let list = |tcp: Vec<u16>, udp: &[&str]| json!([{"id": "a", "secret": "s", "listenPorts": tcp, "listenPortsUdp": udp}]);
    let text = error(list((1..=4_096).collect(), &["1"]));
    assert_eq!(
        text,
        "E_INVALID_CONFIG: edges[0].listenPortsUdp[0]: an edge has at most 4096 of these, TCP and UDP together; \
         write neighbours as a range"
    );
    // Either protocol has every port.
    let both = edges(list((1..=4_095).collect(), &["1-65535"])).unwrap();
    assert_eq!(both[0].udp.port_count(), 65_535);
    assert!(edges(list((1..=4_096).collect(), &[])).is_ok());
}

#[test]
fn a_weak_secret_is_named_with_its_risk_but_not_quoted() {
    let list = json!([{"id": "a", "secret": "canary", "nextSecret": "canary"}, {"id": "b", "secret": "0123456789abcdef"}]);
    let edges = edges(list).unwrap();
    let warnings = edges[0].warnings(true);
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].starts_with("edge \"a\": secret has fewer than 16 bytes"),
        "{}",
        warnings[0]
    );
    assert!(
        warnings[1].contains("nextSecret")
            && warnings[1].contains("man in the middle")
            && warnings[1].contains("createSecret")
    );
    assert!(!warnings.concat().contains("canary"));
    assert!(edges[1].warnings(true).is_empty());
    let never = edges[1].warnings(false).concat();
    assert!(never.starts_with("edge \"b\": it has no dial"), "{never}");
}

#[test]
fn a_list_in_parts_is_the_same_as_at_once() {
    let part = |edges: Value| json!({"set": 1, "edges": edges});
    let all = json!([{"id": "a", "secret": "s", "listenPorts": [80]}, {"id": "b", "secret": "s"}]);
    let mut list = EdgeList::default();
    for edge in all.as_array().unwrap() {
        list.add(&part(json!([edge])), false).unwrap();
    }
    let fault = |edges: Value| {
        let mut list = EdgeList::default();
        list.add(&part(all.clone()), false).unwrap();
        list.add(&part(edges), false).unwrap_err().message
    };
    assert_eq!(list.into_edges(), edges(all.clone()).unwrap());
    assert_eq!(
        fault(json!([{"id": "c", "secret": "s"}, {"id": "b", "secret": "s"}])),
        "edges[3].id: \"b\" is the id of edges[1] too; every edge needs its own"
    );
    let special = json!([{"id": "c", "secret": "s", "listenPorts": [{"port": 80, "targetHost": "169.254.169.254"}]}]);
    assert!(fault(special).starts_with("edges[2].listenPorts[0].targetHost: "));
    let shape =
        json!([{"id": "c", "secret": "s"}, {"id": "d", "secret": "s", "listenPorts": [70_000]}]);
    assert!(fault(shape).starts_with("edges[3].listenPorts[0]: "));
    assert!(fault(json!([{"id": "c"}])).starts_with("edges[2].secret: "));
    assert!(fault(json!({})).starts_with("edges: "));
}

#[test]
fn udp_ports_have_idle_timeouts_of_their_own_and_tcp_ports_have_none() {
    let edges = |list: &str, port: Value| {
        let mut edge = json!({"id": "a", "secret": "0123456789abcdef"});
        edge[list] = json!([port]);
        edges(json!([edge]))
    };
    let port = json!({"port": "53-54", "udpIdleTimeoutSecs": 600});
    let edge = &edges("listenPortsUdp", port.clone()).unwrap()[0];
    let (range, _) = edge
        .udp
        .target(54, std::net::Ipv4Addr::LOCALHOST.into())
        .unwrap();
    assert_eq!(range.udp_idle_timeout, Some(Duration::from_secs(600)));
    let error = edges("listenPorts", port).unwrap_err().to_string();
    let expected =
        "E_INVALID_CONFIG: edges[0].listenPorts[0].udpIdleTimeoutSecs: is for listenPortsUdp";
    assert!(error.starts_with(expected), "{error}");
    assert!(
        edges(
            "listenPortsUdp",
            json!({"port": 53, "udpIdleTimeoutSecs": 0})
        )
        .is_err()
    );
}

#[test]
fn a_tcp_port_may_go_to_a_unix_socket_and_to_nothing_else_then() {
    let edges = |list: &str, port: Value| {
        let mut edge = json!({"id": "a", "secret": "0123456789abcdef"});
        edge[list] = json!([port]);
        edges(json!([edge]))
    };
    let port = json!({"port": "80-81", "targetPath": "/run/app.sock"});
    let edge = &edges("listenPorts", port.clone()).unwrap()[0];
    let (range, _) = edge
        .tcp
        .target(81, std::net::Ipv4Addr::LOCALHOST.into())
        .unwrap();
    let path = range.target_path.as_ref().map(TargetPath::as_str);
    assert_eq!(path, Some("/run/app.sock"));
    let refused = |list: &str, port: Value| edges(list, port).unwrap_err().to_string();
    let error = refused("listenPortsUdp", port.clone());
    let expected = "E_INVALID_CONFIG: edges[0].listenPortsUdp[0].targetPath: is for listenPorts";
    assert!(error.starts_with(expected), "{error}");
    for (field, value) in [("targetHost", json!("10.0.0.1")), ("targetPort", json!(80))] {
        let mut port = port.clone();
        port[field] = value;
        let error = refused("listenPorts", port);
        let expected = "E_INVALID_CONFIG: edges[0].listenPorts[0].targetPath: is instead of";
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(edges("listenPorts", json!({"port": 80, "targetPath": "app.sock"})).is_err());
}

#[test]
fn an_edge_that_the_hub_dials() {
    let read = |dial: Value| {
        let entry = json!({"id": "a", "secret": "canary", "dial": dial});
        parse_edges(&json!({"edges": [entry]}), false)
    };
    let plain = read(json!({"host": "edge.example.com"})).unwrap();
    let expected = EdgeDial {
        host: Host::new("edge.example.com").unwrap(),
        port: 8443,
        transport_mode: TransportMode::TcpTls,
        quic: QuicTimes::of(None, None),
        route: DialRoute::default(),
        pin: None,
    };
    assert_eq!(plain[0].dial, Some(expected));
    let full = json!({
        "host": "h", "transportMode": "quicWithFallback", "quicProbeIntervalSecs": 2, "quicStableSecs": 3,
        "proxy": "socks5://u@proxy.test:1080", "proxyPasswordFile": "/f", "sourceAddress": "192.0.2.1",
    });
    let edges = read(full).unwrap();
    let dial = edges[0].dial.as_ref().unwrap();
    assert_eq!(dial.quic.probe_interval, Duration::from_secs(2));
    assert_eq!(dial.quic.stable, Duration::from_secs(3));
    assert_eq!(dial.route.source_address, Some([192, 0, 2, 1].into()));
    assert_eq!(dial.mode(), TransportMode::TcpTls);
    let warnings = edges[0].warnings(true).concat();
    assert!(warnings.contains("dial.transportMode: QUIC"), "{warnings}");
    for (dial, expected) in [
        (json!({}), "edges[0].dial.host: is missing"),
        (
            json!({"host": "h", "port": 0}),
            "edges[0].dial.port: port 0",
        ),
        (
            json!({"host": "h:1"}),
            "edges[0].dial.host: must be a DNS name or an IP address alone",
        ),
        (
            json!({"host": "h", "pin": "canary"}),
            "edges[0].dial.pin: must be a SHA-256 hash",
        ),
        (
            json!({"host": "h", "proxy": "canary"}),
            "edges[0].dial.proxy: must be http://host:port",
        ),
        (
            json!({"host": "h", "proxy": "http://p:1", "transportMode": "quic"}),
            "edges[0].dial.transportMode: QUIC doesn't go through a proxy",
        ),
        (
            json!({"host": "h", "proxyPasswordFile": "/canary"}),
            "edges[0].dial.proxyPasswordFile: is for a proxy",
        ),
        (
            json!({"host": "h", "sourceAddress": "::"}),
            "edges[0].dial.sourceAddress: must be an address of this machine",
        ),
        (
            json!({"host": "h", "hubHost": "h"}),
            "edges[0].dial.hubHost: is not a known field",
        ),
    ] {
        let error = read(dial).unwrap_err();
        assert!(error.message.starts_with(expected), "{error}");
        assert!(!error.message.contains("canary"), "{error}");
    }
}
