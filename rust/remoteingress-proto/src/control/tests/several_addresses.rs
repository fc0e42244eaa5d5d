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
    let short = applied(states.clone()).encode().unwrap();
    let at = |port, address| state_at(Protocol::Tcp, port, address, PortStatus::Bound);
    states.extend([at(443, "192.0.2.1"), at(444, "192.0.2.1"), at(443, "::1")]);
    let message = ControlMessage::Applied(applied(states.clone()));
    assert_eq!(there_and_back(&message), Ok(message));
    assert!(applied(states).encode().unwrap().starts_with(&short));
}

#[test]
fn as_many_failed_ports_on_several_addresses_are_told_as_fit() {
    // With 19 bytes for each address and 6 for each port.
    for (ports, per_address, told) in [(4_096, 4, 4_096), (4_096, 1, 2_621), (8_000, 8_000, 8_000)]
    {
        let states = (0..ports).map(|i| PortState {
            address: Some(Box::new([0xfd00, 0, 0, 0, 0, 0, 0, i / per_address].into())),
            ..state(Protocol::Tcp, i % per_address + 1, failed(&"x".repeat(200)))
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
