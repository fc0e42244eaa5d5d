//! Port specifications: the fixtures, the map's lookups and a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use remoteingress_proto::token::host::Host;

use super::*;
use crate::decode;

#[test]
fn fixtures_give_their_ranges_or_their_path() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Vector {
        name: String,
        listen_ports: Value,
        /// The map it gives; absent where it is refused.
        ranges: Option<Value>,
        /// Those of ports that are there on several addresses; absent where there are none.
        shared: Option<Value>,
        /// The path that the error names, and a part of its text.
        path: Option<String>,
        error: Option<String>,
    }
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../test/fixtures/ports.json")).unwrap();
    for vector in vectors {
        let name = &vector.name;
        match (build(&vector.listen_ports), vector.ranges, vector.path) {
            (Ok(map), Some(ranges), None) => {
                assert_eq!(shown(map.ranges().iter()), ranges, "{name}");
                let shared = vector.shared.unwrap_or_else(|| json!([]));
                assert_eq!(shown(map.shared()), shared, "{name}");
            }
            (Err(error), None, Some(path)) => {
                let start = format!("E_INVALID_CONFIG: {path}: ");
                assert!(error.to_string().starts_with(&start), "{name}: {error}");
                assert!(
                    error.message.contains(&vector.error.unwrap()),
                    "{name}: {error}"
                );
            }
            (result, ..) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn a_port_finds_its_target() {
    let map = build(&json!([80, "1000-1009", {"port": "3000-3010", "targetPort": 4000, "targetHost": "10.0.0.5"}])).unwrap();
    let target = |port| {
        map.target(port, ANYWHERE)
            .map(|(range, target)| (range.target_host.as_ref().map(Host::as_str), target))
    };
    for (port, expected) in [
        (1, None),
        (79, None),
        (80, Some((None, 80))),
        (81, None),
        (999, None),
        (1000, Some((None, 1000))),
        (1009, Some((None, 1009))),
        (1010, None),
        (3000, Some((Some("10.0.0.5"), 4000))),
        (3010, Some((Some("10.0.0.5"), 4010))),
        (3011, None),
        (65535, None),
    ] {
        assert_eq!(target(port), expected, "{port}");
    }
    assert_eq!(map.port_count(), 22);
    assert!(build(&json!([])).unwrap().is_empty());
}

#[test]
fn a_port_on_several_addresses_has_a_target_for_each() {
    let map = build(&json!([
        {"port": "443-444", "bindAddress": "192.0.2.1", "targetPort": 9_001},
        {"port": 444, "bindAddress": "192.0.2.2", "targetPort": 9_012},
        {"port": 444, "bindAddress": "::", "targetPort": 9_003},
        {"port": 80, "bindAddress": "192.0.2.1"},
    ]))
    .unwrap();
    for (port, address, expected) in [
        (443, "192.0.2.1", Some(9_001)),
        (444, "192.0.2.1", Some(9_002)),
        (444, "::ffff:192.0.2.1", Some(9_002)),
        (444, "192.0.2.2", Some(9_012)),
        (443, "192.0.2.2", None),
        (444, "192.0.2.3", None),
        (444, "2001:db8::1", Some(9_003)),
        // There only once: as before, whatever address the edge names.
        (80, "192.0.2.2", Some(80)),
    ] {
        let found = map.target(port, address.parse().unwrap());
        let found = found.map(|(_, target)| target);
        assert_eq!(found, expected, "{port} {address}");
    }
    assert_eq!(map.port_count(), 5);
}

#[test]
fn so_many_ports_on_several_addresses_are_refused() {
    let on = |count: u32| {
        let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number);
        let entry = |number| json!({"port": 80, "bindAddress": address(number)});
        Value::Array((0..count).map(entry).collect())
    };
    assert!(build(&on(512)).is_ok());
    let error = build(&on(513)).unwrap_err();
    assert!(
        error
            .message
            .starts_with("listenPorts: has more than 512 entries"),
        "{error}"
    );
}

#[test]
fn lists_that_mean_the_same_are_equal() {
    let same = [
        json!(["80-83"]),
        json!([83, "80-82"]),
        json!([{"port": 81}, 80, {"port": "82-83", "targetPort": 82, "proxyProtocol": "v1"}]),
    ];
    for list in &same {
        assert_eq!(build(list).unwrap(), build(&same[0]).unwrap(), "{list}");
    }
    for list in [
        json!(["80-82"]),
        json!(["80-82", {"port": 83, "targetPort": 84}]),
        json!(["80-82", {"port": 83, "proxyProtocol": "v2"}]),
        json!(["80-82", {"port": 83, "bindAddress": "127.0.0.1"}]),
        json!(["80-82", {"port": 83, "targetHost": "127.0.0.1"}]),
    ] {
        assert_ne!(build(&list).unwrap(), build(&same[0]).unwrap(), "{list}");
    }
}

#[test]
fn udp_ports_have_their_own_proxy_protocol() {
    let list = json!([53, {"port": 54, "proxyProtocol": "everyDatagram"}, {"port": 55, "proxyProtocol": "none"}]);
    let map = build_as::<UdpProxyProtocol>(&list).unwrap();
    let modes: Vec<_> = map
        .ranges()
        .iter()
        .map(|range| range.proxy_protocol)
        .collect();
    assert_eq!(
        modes,
        [
            UdpProxyProtocol::FirstDatagram,
            UdpProxyProtocol::EveryDatagram,
            UdpProxyProtocol::None
        ]
    );
    let error =
        build_as::<UdpProxyProtocol>(&json!([{"port": 53, "proxyProtocol": "v2"}])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "E_INVALID_CONFIG: listenPorts[0].proxyProtocol: must be one of `firstDatagram`, `everyDatagram`, `none`"
    );
}

#[test]
fn the_4097th_entry_is_refused_where_it_stands() {
    let list = |last: u16| json!((1..=last).map(|port| 2 * port).collect::<Vec<_>>());
    assert!(build(&list(4_096)).is_ok());
    let error = build(&list(4_097)).unwrap_err();
    assert!(
        error
            .message
            .starts_with("listenPorts[4096]: an edge has at most 4096 of these"),
        "{error}"
    );
    assert_eq!(build(&json!(["1-65535"])).unwrap().port_count(), 65_535);
}

proptest! {
    /// Few distinct ports, so that overlaps, adjacency and the upper end are all common.
    #[test]
    fn agrees_with_a_naive_model(specs in prop::collection::vec((0u32..8, 0u32..6, prop::option::of(0u32..12), any::<bool>()), 0..6), high in any::<bool>()) {
        let base = if high { 65_528 } else { 1 };
        let mut model = BTreeMap::new();
        let mut refused = false;
        let mut list = Vec::new();
        for (first, length, target, v2) in specs {
            let (first, target) = (base + first, target.map(|target| base + target));
            let last = first + length;
            let mut spec = json!({"port": format!("{first}-{last}"), "proxyProtocol": if v2 { "v2" } else { "none" }});
            if let Some(target) = target {
                spec["targetPort"] = json!(target);
            }
            list.push(spec);
            for port in first..=last {
                let target_port = target.unwrap_or(first) + (port - first);
                refused |= port > 65_535 || target_port > 65_535 || model.insert(port, (target_port, v2)).is_some();
            }
        }
        match build(&Value::Array(list)) {
            Err(_) => prop_assert!(refused),
            Ok(map) => {
                prop_assert!(!refused);
                prop_assert_eq!(map.port_count(), model.len());
                for port in 0..=u16::MAX {
                    let found = map.target(port, ANYWHERE).map(|(range, target)| (u32::from(target), range.proxy_protocol == TcpProxyProtocol::V2));
                    prop_assert_eq!(found, model.get(&u32::from(port)).copied());
                }
                for pair in map.ranges().windows(2) {
                    prop_assert!(pair[0].last < pair[1].first);
                    prop_assert!(!pair[0].is_continued_by(&pair[1]));
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,12}", digits in "[0-9+-]{0,14}") {
        let _ = build(&json!([text]));
        let _ = build(&json!([{"port": digits}]));
    }
}

fn build(list: &Value) -> Result<PortMap<TcpProxyProtocol>, CodedError> {
    build_as(list)
}

fn build_as<P>(list: &Value) -> Result<PortMap<P>, CodedError>
where
    P: Copy + Default + PartialEq + for<'de> Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", bound(deserialize = "P: Deserialize<'de>"))]
    struct Holder<P> {
        listen_ports: Vec<PortSpec<P>>,
    }
    let holder: Holder<P> = decode(&json!({ "listenPorts": list }))?;
    PortMap::build(holder.listen_ports, "listenPorts", &mut Room::of_edge())
}

fn shown<'a>(ranges: impl Iterator<Item = &'a PortRange<TcpProxyProtocol>>) -> Value {
    let range = |range: &PortRange<TcpProxyProtocol>| {
        let mut value = json!({
            "first": range.first,
            "last": range.last,
            "targetPort": range.target_port,
            "proxyProtocol": match range.proxy_protocol {
                TcpProxyProtocol::V1 => "v1",
                TcpProxyProtocol::V2 => "v2",
                TcpProxyProtocol::None => "none",
            },
        });
        if let Some(host) = &range.target_host {
            value["targetHost"] = json!(host);
        }
        if let Some(address) = range.bind_address {
            value["bindAddress"] = json!(address);
        }
        value
    };
    ranges.map(range).collect()
}

/// Of a port that is there once it doesn't matter.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
