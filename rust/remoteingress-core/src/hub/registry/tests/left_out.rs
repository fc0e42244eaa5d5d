//! Ports that an older edge can't have: it is told the others.

use super::*;

#[test]
fn an_edge_that_cant_carry_udp_is_told_its_other_ports() {
    let mut registry = registry(json!([
        {"id": "a", "secret": "s", "listenPorts": [80], "listenPortsUdp": [53]}
    ]));
    for (instance, features, expected) in [
        (1, Features::RESUME, vec![Protocol::Tcp]),
        (2, Features::DATAGRAM, vec![Protocol::Tcp, Protocol::Udp]),
    ] {
        let id = SessionId([instance; 16]);
        let mut new = new_session(id, "s", instance, 0);
        (new.features, new.replaces_instance) = (features, true);
        registry.session_made(&edge("a"), new).expect("known edge");
        let actions = registry.session_up(&edge("a"), id, address(), UNIX_EPOCH);
        let told = actions.iter().find_map(|action| {
            if let Action::SendConfig { config, .. } = action {
                Some(&config.ports)
            } else {
                None
            }
        });
        let protocols: Vec<Protocol> = told.unwrap().iter().map(|port| port.protocol).collect();
        assert_eq!(protocols, expected);
        let is_told = actions
            .iter()
            .any(|action| matches!(action, Action::UdpLeftOut { .. }));
        assert_eq!(is_told, expected.len() == 1);
    }
}

#[test]
fn an_edge_that_has_one_address_per_port_is_told_its_other_ports() {
    let on = |port, address| json!({"port": port, "bindAddress": address});
    let mut registry = registry(json!([{
        "id": "a", "secret": "s",
        "listenPorts": [80, on(443, "192.0.2.1"), on(443, "192.0.2.2"), on(81, "192.0.2.2")],
        "listenPortsUdp": [on(53, "192.0.2.1"), on(53, "192.0.2.2")],
    }]));
    let all = Features::DATAGRAM.union(Features::PORT_ADDRESSES);
    for (instance, features, expected) in [(1, Features::DATAGRAM, 2), (2, all, 6)] {
        let id = SessionId([instance; 16]);
        let mut new = new_session(id, "s", instance, 0);
        (new.features, new.replaces_instance) = (features, true);
        registry.session_made(&edge("a"), new).expect("known edge");
        let actions = registry.session_up(&edge("a"), id, address(), UNIX_EPOCH);
        let told = actions.iter().find_map(|action| {
            let Action::SendConfig { config, .. } = action else {
                return None;
            };
            Some(config.ports.len())
        });
        assert_eq!(told, Some(expected));
        let left_out = actions.iter().find_map(|action| {
            let Action::SharedPortsLeftOut { ports, .. } = action else {
                return None;
            };
            Some(ports.as_str())
        });
        assert_eq!(left_out, (instance == 1).then_some("tcp 443, udp 53"));
    }
}

#[test]
fn an_edge_that_knows_only_few_ports_is_told_as_many_short_ranges_first() {
    let mut registry = registry(json!([{
        "id": "a", "secret": "s", "listenPorts": ["1000-9999", 443, "20-21"], "listenPortsUdp": ["1-65535"],
    }]));
    let few = Features::DATAGRAM;
    for (number, features, expected, missing) in [
        (
            1,
            few,
            vec![(443, 443), (20, 21), (1_000, 5_092)],
            Some(70_442),
        ),
        (
            2,
            few.union(Features::MANY_PORTS),
            vec![(20, 21), (443, 443), (1_000, 9_999), (1, 65_535)],
            None,
        ),
    ] {
        let id = SessionId([number; 16]);
        let mut new = new_session(id, "s", number, 0);
        (new.features, new.replaces_instance) = (features, true);
        registry.session_made(&edge("a"), new).expect("known edge");
        let actions = registry.session_up(&edge("a"), id, address(), UNIX_EPOCH);
        let told = actions.iter().find_map(|action| {
            if let Action::SendConfig { config, .. } = action {
                Some(&config.ports)
            } else {
                None
            }
        });
        let ranges = told.unwrap().iter();
        let ranges: Vec<_> = ranges.map(|port| (port.first, port.last)).collect();
        assert_eq!(ranges, expected);
        let count = actions.iter().find_map(|action| {
            if let Action::PortsLeftOut { left_out, .. } = action {
                Some(*left_out)
            } else {
                None
            }
        });
        assert_eq!(count, missing);
    }
}

#[test]
fn of_ports_on_several_addresses_none_is_cut() {
    let on = |port, address| json!({"port": port, "bindAddress": address});
    let mut registry = registry(json!([{
        "id": "a", "secret": "s",
        "listenPorts": [
            "20000-29999", 80, on("1000-2999", "192.0.2.1"), on("1000-2999", "192.0.2.2"), on("9000-9099", "192.0.2.1"),
            on("9000-9099", "192.0.2.2"),
        ],
    }]));
    let all = Features::PORT_ADDRESSES.union(Features::MANY_PORTS);
    for (number, features, told, left_out) in [
        (1, Features::PORT_ADDRESSES, 4_096, Some(14_201 - 4_096)),
        (2, Features::NONE, 4_096, Some(10_001 - 4_096)),
        (3, all, 14_201, None),
    ] {
        let id = SessionId([number; 16]);
        let mut new = new_session(id, "s", number, 0);
        (new.features, new.replaces_instance) = (features, true);
        registry.session_made(&edge("a"), new).expect("known edge");
        let actions = registry.session_up(&edge("a"), id, address(), UNIX_EPOCH);
        let config = actions.iter().find_map(|action| {
            let Action::SendConfig { config, .. } = action else {
                return None;
            };
            Some(config)
        });
        let ports = &config.expect("told").ports;
        let count = ports
            .iter()
            .map(|port| usize::from(port.last - port.first) + 1);
        assert_eq!(count.sum::<usize>(), told, "{ports:?}");
        for port in ports.iter().filter(|port| port.is_shared) {
            let whole = [(1_000, 2_999), (9_000, 9_099)];
            assert!(whole.contains(&(port.first, port.last)), "{port:?}");
        }
        let count = actions.iter().find_map(|action| {
            let Action::PortsLeftOut { left_out, .. } = action else {
                return None;
            };
            Some(*left_out)
        });
        assert_eq!(count, left_out);
    }
}
