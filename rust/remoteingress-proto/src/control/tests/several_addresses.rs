//! Ports that are there on several addresses: in extensions of their own, as many as fit.

use super::*;

#[test]
fn ports_on_several_addresses_are_told_in_an_extension_that_an_older_end_skips() {
    let mut sent = config(vec![
        port(Protocol::Tcp, 80, 80, None),
        ConfigPort {
            udp_idle_secs: Some(9),
            ..port(Protocol::Udp, 53, 53, None)
        },
        shared(Protocol::Udp, "192.0.2.1", Some(60)),
        shared(Protocol::Udp, "192.0.2.2", Some(600)),
    ]);
    let message = ControlMessage::Config(sent.clone());
    assert_eq!(there_and_back(&message), Ok(message));
    let body = sent.encode().unwrap();
    sent.ports.retain(|port| !port.is_shared);
    let plain = sent.encode().unwrap();
    let mut windows = body.windows(4);
    let place = windows.position(|bytes| bytes == [0, 2, 0, 28]).unwrap();
    assert_eq!([&body[..place], &body[place + 32..]].concat(), plain);

    let mut states = vec![state(Protocol::Tcp, 80, PortStatus::Bound)];
    let short = applied(states.clone())
        .encode(Features::MANY_PORTS)
        .unwrap();
    let at = |port, address| state_at(Protocol::Tcp, port, address, PortStatus::Bound);
    states.extend([at(443, "192.0.2.1"), at(444, "192.0.2.1"), at(443, "::1")]);
    let message = ControlMessage::Applied(applied(states.clone()));
    assert_eq!(there_and_back(&message), Ok(message));
    assert!(
        applied(states)
            .encode(Features::MANY_PORTS)
            .unwrap()
            .starts_with(&short)
    );
}

#[test]
fn as_many_failed_ports_on_several_addresses_are_told_as_fit() {
    // With 19 bytes for each address and 8 for each port.
    for (ports, per_address, told) in [
        (4_096, 4, 4_096),
        (4_096, 1, 2_427),
        (8_189, 8_189, 8_189),
        (8_190, 8_190, 8_189),
    ] {
        // No two neighbours failed for the same reason.
        let states = (0..ports).map(|i| PortState {
            address: Some(Box::new([0xfd00, 0, 0, 0, 0, 0, 0, i / per_address].into())),
            ..state(
                Protocol::Tcp,
                i % per_address + 1,
                failed(&format!("{}{}", i % 2, "x".repeat(199))),
            )
        });
        let message = ControlMessage::Applied(applied(states.collect()));
        let Ok(ControlMessage::Applied(read)) = there_and_back(&message) else {
            panic!("not read")
        };
        let ApplyOutcome::Applied(states) = read.outcome else {
            panic!("refused")
        };
        assert_eq!(states.len(), told);
    }
}

#[test]
fn ranges_on_several_addresses_take_an_entry_each() {
    let addresses = ["192.0.2.1", "192.0.2.2"];
    for (status, entry) in [(PortStatus::Bound, 6), (failed("taken"), 8 + 5)] {
        // In the order of the edge's table: every port on one address, and then on the other.
        let states: Vec<_> = (1..=u16::MAX)
            .flat_map(|port| {
                addresses.map(|address| state_at(Protocol::Udp, port, address, status.clone()))
            })
            .collect();
        let message = applied(states);
        let body = message.encode(Features::MANY_PORTS).unwrap();
        assert_eq!(body.len(), 25 + 2 + 4 + 2 * (5 + 2 + entry));
        let read = there_and_back(&ControlMessage::Applied(message.clone()));
        let Ok(ControlMessage::Applied(Applied {
            outcome: ApplyOutcome::Applied(mut read),
            ..
        })) = read
        else {
            panic!("not read")
        };
        read.sort_by_key(|state| (state.port, state.address()));
        assert_eq!(ApplyOutcome::Applied(read), message.outcome);
    }
}

#[test]
fn a_hub_with_this_and_few_ports_is_told_what_it_knows() {
    let why = PortStatus::Failed {
        code: PortFailure::DescriptorLimit,
        message: "x".repeat(200).into(),
    };
    let at = |port, address: u16| PortState {
        address: Some(Box::new([0xfd00, 0, 0, 0, 0, 0, 0, address].into())),
        ..state(Protocol::Tcp, port, why.clone())
    };
    let states = (1..=9_000).map(|port| match port % 2 {
        0 => state(Protocol::Tcp, port, why.clone()),
        _ => at(port, port),
    });
    let message = applied(states.collect());
    let body = message.encode(Features::PORT_ADDRESSES).unwrap();
    assert!(body.len() <= 96 * 1_024);
    let Ok(Some(ControlMessage::Applied(Applied {
        outcome: ApplyOutcome::Applied(read),
        ..
    }))) = ControlMessage::decode(KIND_APPLIED, &body)
    else {
        panic!("not read")
    };
    assert_eq!(
        read.iter().filter(|state| state.address.is_none()).count(),
        4_096
    );
    assert!(read.iter().any(|state| state.address.is_some()));
    assert!(read.iter().all(|state| matches!(
        &state.status,
        PortStatus::Failed {
            code: PortFailure::BindFailed,
            ..
        }
    )));
}

#[test]
fn the_state_of_a_port_is_small() {
    assert!(size_of::<PortState>() <= 40);
}

#[test]
fn a_port_on_several_addresses_needs_one() {
    let mut port = shared(Protocol::Tcp, "192.0.2.1", None);
    port.bind_address = None;
    let encoded = ControlMessage::Config(config(vec![port])).encode();
    assert!(matches!(encoded, Err(ControlError::Malformed(_))));
}
