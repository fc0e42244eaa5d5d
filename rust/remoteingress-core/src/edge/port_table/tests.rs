//! What changes from one generation to the next.

use super::*;
use remoteingress_proto::control::ConfigPort;
use remoteingress_proto::handshake::HubEpoch;

fn config(ports: &[(u16, u16, Option<&str>)]) -> Config {
    let ports = ports.iter().map(|(first, last, bind)| ConfigPort {
        protocol: Protocol::Tcp,
        first: *first,
        last: *last,
        bind_address: bind.map(|text| text.parse().expect("address")),
        udp_idle_secs: None,
        is_shared: false,
    });
    Config {
        epoch: HubEpoch([0; 16]),
        generation: 1,
        ports: ports.collect(),
        stun_interval_secs: 0,
        max_streams: 0,
    }
}

fn tcp(port: u16) -> PortKey {
    PortKey {
        protocol: Protocol::Tcp,
        port,
        address: None,
    }
}

fn on(port: u16, address: &str) -> PortKey {
    PortKey {
        address: Some(address.parse().expect("address")),
        ..tcp(port)
    }
}

/// A port on several addresses.
fn shared(port: u16, addresses: &[&str]) -> Config {
    let addresses = addresses.iter();
    let ports: Vec<_> = addresses
        .map(|address| (port, port, Some(*address)))
        .collect();
    let mut config = config(&ports);
    for port in &mut config.ports {
        port.is_shared = true;
    }
    config
}

fn bind(port: u16, range_ports: u16) -> Change {
    Change::Bind {
        key: tcp(port),
        replaces: None,
        is_beside_own: false,
        range_ports,
    }
}

fn bind_at(key: PortKey, replaces: Option<u64>, is_beside_own: bool) -> Change {
    Change::Bind {
        key,
        replaces: replaces.map(ListenerId),
        is_beside_own,
        range_ports: 1,
    }
}

fn close(key: PortKey, listener: u64) -> Change {
    let listener = ListenerId(listener);
    Change::Close { key, listener }
}

#[test]
fn only_what_differs_is_touched() {
    let mut table = PortTable::default();
    let changes = table.apply(&config(&[(80, 81, None)])).expect("valid");
    assert_eq!(changes, [bind(80, 2), bind(81, 2)]);
    assert_eq!(
        (table.bound(tcp(80)), table.bound(tcp(81))),
        (ListenerId(1), ListenerId(2))
    );
    assert_eq!(
        table.apply(&config(&[(81, 81, None), (80, 80, None)])),
        Ok(vec![])
    );
    let changes = table.apply(&config(&[(81, 82, None)])).expect("valid");
    assert_eq!(
        changes,
        [
            Change::Close {
                key: tcp(80),
                listener: ListenerId(1)
            },
            bind(82, 2)
        ]
    );
    let changes = table
        .apply(&config(&[(81, 81, Some("127.0.0.1"))]))
        .expect("valid");
    let Some(change @ Change::Bind { replaces, .. }) = changes.first() else {
        panic!("{changes:?}")
    };
    assert_eq!(*replaces, Some(ListenerId(2)));
    // Its successor can't be bound yet: it stays open, and is closed with the port.
    let now = crate::any_instant();
    let key = on(81, "127.0.0.1");
    table.failed(now, key, PortFailure::AddressInUse, String::new());
    assert_eq!(table.due(now + FIRST_RETRY), [*change]);
    let changes = table.apply(&config(&[])).expect("valid");
    assert_eq!(changes, [close(key, 2)]);
}

#[test]
fn a_port_on_one_address_leaves_that_of_another_alone() {
    let (a, b, c) = ("192.0.2.1", "192.0.2.2", "2001:db8::1");
    let mut table = PortTable::default();
    let changes = table.apply(&config(&[(443, 443, Some(a))])).expect("valid");
    assert_eq!(changes, [bind_at(on(443, a), None, false)]);
    table.bound(on(443, a));
    let changes = table.apply(&shared(443, &[a, b])).expect("valid");
    assert_eq!(changes, [bind_at(on(443, b), None, false)]);
    table.bound(on(443, b));
    assert!(table.iter().all(|(_, port)| port.is_shared()));
    let changes = table.apply(&shared(443, &[c, b])).expect("valid");
    assert_eq!(changes, [bind_at(on(443, c), Some(1), true)]);
    table.bound(on(443, c));
    let changes = table.apply(&config(&[(443, 443, Some(b))])).expect("valid");
    assert_eq!(changes, [close(on(443, c), 3)]);
    assert!(table.iter().all(|(_, port)| !port.is_shared()));
    let place = Place::of(443);
    assert!(table.contains(Protocol::Tcp, place) && !table.contains(Protocol::Udp, place));
}

#[test]
fn a_port_on_all_addresses_gives_way_to_some_of_them_and_the_reverse() {
    let (a, b) = ("192.0.2.1", "192.0.2.2");
    let mut table = PortTable::default();
    table.apply(&config(&[(443, 443, None)])).expect("valid");
    table.bound(tcp(443));
    let changes = table.apply(&shared(443, &[a, b])).expect("valid");
    // The other may be open until its worker has heard of its end.
    let binds = [
        bind_at(on(443, a), Some(1), true),
        bind_at(on(443, b), None, true),
    ];
    assert_eq!(changes, binds);
    table.bound(on(443, a));
    table.bound(on(443, b));
    let changes = table.apply(&config(&[(443, 443, None)])).expect("valid");
    assert_eq!(
        changes,
        [close(on(443, b), 3), bind_at(tcp(443), Some(2), true)]
    );
}

#[test]
fn a_port_is_there_twice_only_where_both_are_shared() {
    let mut table = PortTable::default();
    let (a, b) = ("192.0.2.1", "192.0.2.2");
    for ports in [[None, Some(a)], [Some(a), Some(b)]] {
        let ports = ports.map(|address| (443, 443, address));
        let refused = table.apply(&config(&ports));
        assert!(matches!(refused, Err(Refused::Overlap(_))), "{refused:?}");
    }
    let refused = table.apply(&shared(443, &[a, a]));
    assert_eq!(refused, Err(Refused::Overlap(on(443, a))));
}

#[test]
fn single_ports_and_short_ranges_are_bound_first_also_when_they_failed() {
    let (mut table, now) = (PortTable::default(), crate::any_instant());
    let ports = |changes: &[Change]| {
        let port = |change: &Change| match change {
            Change::Bind { key, .. } | Change::Close { key, .. } => key.port,
        };
        changes.iter().map(port).collect::<Vec<_>>()
    };
    let ranges = [
        (100, 102, None),
        (20, 21, None),
        (900, 900, None),
        (443, 443, None),
        (1, 2, None),
    ];
    let changes = table.apply(&config(&ranges)).expect("valid");
    let order = [900, 443, 20, 21, 1, 2, 100, 101, 102];
    assert_eq!(ports(&changes), order);
    for port in order {
        table.failed(now, tcp(port), PortFailure::DescriptorLimit, String::new());
    }
    assert_eq!((table.bound_count(), table.unbound_count()), (0, 9));
    assert_eq!(ports(&table.due(now + FIRST_RETRY)), order);
    table.bound(tcp(20));
    assert_eq!((table.bound_count(), table.unbound_count()), (1, 8));
    // The widest range is the first one now.
    let ranges = [(1, 1, None), (900, 999, None), (20, 20, None)];
    let changes = table.apply(&config(&ranges)).expect("valid");
    let changed: Vec<u16> = (901..=999).collect();
    assert_eq!(ports(&changes), changed);
    assert_eq!(ports(&table.due(now + FIRST_RETRY)), [1, 900]);
    assert_eq!((table.bound_count(), table.unbound_count()), (1, 101));
}

#[test]
fn every_port_there_is_is_a_table() {
    let mut table = PortTable::default();
    let changes = table.apply(&config(&[(1, u16::MAX, None)]));
    assert_eq!(changes.expect("valid").len(), 65_535);
    for port in 1..=u16::MAX {
        table.bound(tcp(port));
    }
    assert_eq!((table.bound_count(), table.unbound_count()), (65_535, 0));
    assert_eq!(table.clear().len(), 65_535);
    assert_eq!((table.bound_count(), table.unbound_count()), (0, 0));
}

#[test]
fn an_invalid_generation_changes_nothing() {
    let mut table = PortTable::default();
    table.apply(&config(&[(80, 80, None)])).expect("valid");
    table.bound(tcp(80));
    let overlap = config(&[(90, 95, None), (95, 95, None)]);
    assert_eq!(table.apply(&overlap), Err(Refused::Overlap(tcp(95))));
    assert_eq!(table.bound_count(), 1);
}

#[test]
fn one_number_may_be_a_port_of_either_protocol() {
    let mut table = PortTable::default();
    let mut both = config(&[(53, 53, None), (53, 53, None)]);
    both.ports[1].protocol = Protocol::Udp;
    let changes = table.apply(&both).expect("no overlap");
    assert_eq!(changes.len(), 2);
    let listener = table.bound(tcp(53));
    both.ports.remove(0);
    let changes = table.apply(&both).expect("valid");
    let key = tcp(53);
    assert_eq!(changes, [Change::Close { key, listener }]);
}

#[test]
fn a_failed_port_is_tried_after_1_2_4_up_to_30_seconds() {
    let (mut table, mut now) = (PortTable::default(), crate::any_instant());
    table.apply(&config(&[(80, 80, None)])).expect("valid");
    let mut pauses = Vec::new();
    for _ in 0..7 {
        table.failed(now, tcp(80), PortFailure::AddressInUse, String::new());
        let at = table.next_retry().expect("failed");
        pauses.push((at - now).as_secs());
        assert_eq!(table.due(at - Duration::from_millis(1)), []);
        assert_eq!(table.due(at), [bind(80, 1)]);
        now = at;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    table.bound(tcp(80));
    assert_eq!(table.next_retry(), None);
}
