//! Generations of a hub and of its successors, and the ports that come and go with them.

use super::*;
use remoteingress_proto::control::ConfigPort;
use std::time::Duration;

const FIRST: HubEpoch = HubEpoch([1; 16]);
const SECOND: HubEpoch = HubEpoch([2; 16]);

fn config(epoch: HubEpoch, generation: u64, ports: &[u16]) -> Config {
    let port = |port: &u16| ConfigPort {
        protocol: Protocol::Tcp,
        first: *port,
        last: *port,
        bind_address: None,
        udp_idle_secs: None,
        is_shared: false,
    };
    Config {
        epoch,
        generation,
        ports: ports.iter().map(port).collect(),
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

/// Binds what these changes want, except the ports in `taken`.
fn carry_out(generations: &mut Generations, now: Instant, changes: Vec<Change>, taken: &[u16]) {
    for change in changes {
        let Change::Bind { key, .. } = change else {
            continue;
        };
        if taken.contains(&key.port) {
            let code = PortFailure::AddressInUse;
            generations.failed(now, key, code, "in use".to_owned());
        } else {
            generations.bound(key);
        }
    }
}

/// Takes a generation whose ports can all be bound.
fn apply(generations: &mut Generations, config: &Config) -> Vec<Told> {
    let Received::New(changes) = generations.receive(config) else {
        panic!("{config:?} is not new")
    };
    carry_out(generations, crate::any_instant(), changes, &[]);
    generations.applied(&[])
}

fn bound(port: u16) -> Reported {
    Reported {
        protocol: Protocol::Tcp,
        port,
        address: None,
        status: PortStatus::Bound,
    }
}

fn draining(port: u16) -> Reported {
    Reported {
        status: PortStatus::Draining,
        ..bound(port)
    }
}

fn operator(event: PortsEvent, generation: u64, ports: &[Reported]) -> Told {
    let ports = ports.to_vec();
    Told::Operator {
        event,
        generation,
        ports,
    }
}

fn hub(epoch: HubEpoch, generation: u64, ports: &[Reported]) -> Told {
    Told::Hub(Applied {
        epoch,
        generation,
        outcome: ApplyOutcome::Applied(ports.to_vec()),
    })
}

#[test]
fn the_first_generation_is_assigned_and_the_next_ones_are_updates() {
    let mut generations = Generations::default();
    let told = apply(&mut generations, &config(FIRST, 1, &[80]));
    let ports = [bound(80)];
    let expected = [
        operator(PortsEvent::Assigned, 1, &ports),
        hub(FIRST, 1, &ports),
    ];
    assert_eq!(told, expected);
    let told = apply(&mut generations, &config(FIRST, 2, &[80, 81]));
    let ports = [bound(80), bound(81)];
    let expected = [
        operator(PortsEvent::Updated, 2, &ports),
        hub(FIRST, 2, &ports),
    ];
    assert_eq!(told, expected);
}

#[test]
fn within_an_epoch_an_older_generation_is_ignored_and_a_new_epoch_always_wins() {
    let mut generations = Generations::default();
    apply(&mut generations, &config(FIRST, 5, &[80]));
    let old = config(FIRST, 4, &[90]);
    assert_eq!(generations.receive(&old), Received::Old);
    assert_eq!(generations.open(Protocol::Tcp).collect::<Vec<_>>(), [80]);
    let restarted = config(SECOND, 1, &[80]);
    assert_eq!(generations.receive(&restarted), Received::New(vec![]));
    assert_eq!(
        generations.applied(&[]).last(),
        Some(&hub(SECOND, 1, &[bound(80)]))
    );
}

#[test]
fn a_generation_that_comes_again_is_answered_and_is_no_event() {
    let mut generations = Generations::default();
    let same = config(FIRST, 1, &[80]);
    apply(&mut generations, &same);
    assert_eq!(generations.receive(&same), Received::Known);
    let told = generations.repeated(&[]);
    assert_eq!(told, [hub(FIRST, 1, &[bound(80)])]);
}

#[test]
fn an_invalid_generation_is_refused_whole_and_the_one_in_force_stays() {
    let mut generations = Generations::default();
    apply(&mut generations, &config(FIRST, 1, &[80]));
    let invalid = config(FIRST, 2, &[90, 90]);
    let Received::Refused(applied) = generations.receive(&invalid) else {
        panic!("port 90 is there twice")
    };
    let ApplyOutcome::Refused(refusal) = applied.outcome else {
        panic!("{applied:?}")
    };
    assert_eq!(refusal.message, "generation 2 has tcp port 90 twice");
    assert_eq!(generations.open(Protocol::Tcp).collect::<Vec<_>>(), [80]);
    let known = config(FIRST, 1, &[80]);
    assert_eq!(generations.receive(&known), Received::Known);
}

#[test]
fn a_port_that_fails_is_reported_and_told_again_only_when_it_is_bound() {
    let (mut generations, now) = (Generations::default(), crate::any_instant());
    let Received::New(changes) = generations.receive(&config(FIRST, 1, &[80, 81])) else {
        panic!("it is new")
    };
    carry_out(&mut generations, now, changes, &[81]);
    let failed = Reported {
        status: PortStatus::Failed {
            code: PortFailure::AddressInUse,
            message: "in use".into(),
        },
        ..bound(81)
    };
    let told = generations.applied(&[]);
    assert_eq!(told.last(), Some(&hub(FIRST, 1, &[bound(80), failed])));
    let retry = generations.next_retry().expect("a port has failed");
    assert_eq!(retry, now + Duration::from_secs(1));
    for taken in [&[81][..], &[]] {
        let before = generations.open_ports();
        let retry = generations.next_retry().expect("a port has failed");
        let due = generations.due(retry);
        carry_out(&mut generations, retry, due, taken);
        let told = generations.retried(before, &[]);
        let ports = [bound(80), bound(81)];
        let news = [
            operator(PortsEvent::Updated, 1, &ports),
            hub(FIRST, 1, &ports),
        ];
        let expected = if taken.is_empty() { &news[..] } else { &[] };
        assert_eq!(told, expected);
    }
}

#[test]
fn a_port_that_finishes_its_streams_is_reported_until_the_last_has_ended() {
    let mut generations = Generations::default();
    apply(&mut generations, &config(FIRST, 1, &[80, 81]));
    let Received::New(_) = generations.receive(&config(FIRST, 2, &[81])) else {
        panic!("it is new")
    };
    let with_clients = [80, 81].map(Place::of);
    let told = generations.applied(&with_clients);
    let ports = [bound(81), draining(80)];
    assert_eq!(told.last(), Some(&hub(FIRST, 2, &ports)));
    assert!(generations.has_draining());
    assert_eq!(generations.check_drained(&with_clients), []);
    let told = generations.check_drained(&[Place::of(81)]);
    let ports = [bound(81)];
    let expected = [
        operator(PortsEvent::Updated, 2, &ports),
        hub(FIRST, 2, &ports),
    ];
    assert_eq!(told, expected);
    assert!(!generations.has_draining());
}

#[test]
fn ports_of_a_hub_that_knows_the_edge_no_longer_are_closed_once_and_told_to_the_operator() {
    let mut generations = Generations::default();
    assert_eq!(generations.close(), None, "there are none");
    apply(&mut generations, &config(FIRST, 3, &[80]));
    let listener = ListenerId(1);
    let key = tcp(80);
    assert_eq!(
        generations.close(),
        Some(vec![Change::Close { key, listener }])
    );
    let told = generations.closed(&[Place::of(80)]);
    assert_eq!(told, [operator(PortsEvent::Updated, 3, &[draining(80)])]);
    assert_eq!(generations.close(), None);
    let told = generations.check_drained(&[]);
    assert_eq!(told, [operator(PortsEvent::Updated, 3, &[])]);
    // It is let in again, perhaps with the same generation.
    let again = config(FIRST, 3, &[80]);
    assert!(matches!(generations.receive(&again), Received::New(_)));
}

#[test]
fn a_report_has_room_for_every_port_before_those_that_only_finish_their_streams() {
    let mut generations = Generations::default();
    let all: Vec<u16> = (1..=4_096).collect();
    apply(&mut generations, &config(FIRST, 1, &all));
    let others: Vec<Place> = (5_000..65_000).map(Place::of).collect();
    let states = generations.states(&others);
    assert_eq!(states.len(), 4_096 + 60_000);
    assert_eq!(states.first(), Some(&bound(1)));
}

#[test]
fn a_hub_that_may_have_missed_the_ports_is_told_them_once_when_a_session_is_up() {
    let (mut generations, now) = (Generations::default(), crate::any_instant());
    assert_eq!(generations.session_up(&[]), []);
    let Received::New(changes) = generations.receive(&config(FIRST, 1, &[80])) else {
        panic!("it is new")
    };
    carry_out(&mut generations, now, changes, &[80]);
    generations.applied(&[]);
    assert_eq!(generations.session_up(&[]), [], "it was told");
    let retry = generations.next_retry().expect("a port has failed");
    let due = generations.due(retry);
    carry_out(&mut generations, retry, due, &[]);
    generations.retried(0, &[]);
    generations.hub_missed();
    let told = generations.session_up(&[Place::of(90)]);
    assert_eq!(told, [hub(FIRST, 1, &[bound(80), draining(90)])]);
    assert_eq!(generations.session_up(&[]), [], "it was told again");
}

#[test]
fn a_hub_that_may_have_missed_a_refusal_is_told_it_until_a_later_generation_is_in_force() {
    let mut generations = Generations::default();
    apply(&mut generations, &config(FIRST, 1, &[80]));
    let Received::Refused(refusal) = generations.receive(&config(FIRST, 2, &[90, 90])) else {
        panic!("port 90 is there twice")
    };
    generations.hub_missed();
    let told = generations.session_up(&[]);
    assert_eq!(
        told,
        [hub(FIRST, 1, &[bound(80)]), Told::Hub(refusal)],
        "the hub takes the answer to its last generation"
    );
    apply(&mut generations, &config(FIRST, 3, &[80]));
    generations.hub_missed();
    let told = generations.session_up(&[]);
    assert_eq!(told, [hub(FIRST, 3, &[bound(80)])]);
}

#[test]
fn a_hub_that_has_no_such_edge_any_more_is_told_nothing() {
    let mut generations = Generations::default();
    apply(&mut generations, &config(FIRST, 1, &[80]));
    generations.hub_missed();
    generations.close();
    generations.closed(&[]);
    assert_eq!(generations.session_up(&[]), []);
}

#[test]
fn only_ports_on_several_addresses_are_named_with_one() {
    let addresses = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().ok());
    let on = |count: usize| {
        let mut config = config(
            FIRST,
            u64::try_from(count).unwrap_or(0),
            &[443, 443][..count],
        );
        for (port, address) in config.ports.iter_mut().zip(addresses) {
            (port.bind_address, port.is_shared) = (address, count > 1);
        }
        config
    };
    let mut generations = Generations::default();
    let told = apply(&mut generations, &on(1));
    assert_eq!(told.last(), Some(&hub(FIRST, 1, &[bound(443)])));
    let told = apply(&mut generations, &on(2));
    let both = addresses.map(|address| Reported {
        address: address.map(Box::new),
        ..bound(443)
    });
    assert_eq!(told.last(), Some(&hub(FIRST, 2, &both)));
    assert_eq!(generations.open(Protocol::Tcp).collect::<Vec<_>>(), [443]);
    assert_eq!(generations.open_ports(), 2);
    // The first was opened when it was alone, and the second as one of two.
    let [first, second] = [addresses[0], addresses[1]].map(|address| PortKey {
        address,
        ..tcp(443)
    });
    let second = generations.place(second);
    assert_ne!(second, generations.place(first));
    assert_ne!(second, Place::of(443));
    let alone = Config {
        generation: 3,
        ..on(1)
    };
    let Received::New(_) = generations.receive(&alone) else {
        panic!("not new")
    };
    let told = generations.applied(&[Place::of(443), second]);
    let drains = Reported {
        address: addresses[1].map(Box::new),
        ..draining(443)
    };
    assert_eq!(told.last(), Some(&hub(FIRST, 3, &[bound(443), drains])));
}
