//! Control messages there and back, at their limits, and as garbage.

use proptest::prelude::*;

use super::message::{KIND_APPLIED, KIND_CONFIG};
use super::*;
use crate::fixture::golden;
use crate::handshake::HubEpoch;
use crate::wire::features::Features;
use crate::wire::header::{Protocol, TestNonce};
use crate::wire::tlv::{UnexpectedEnd, write_tlv};
use std::net::IpAddr;

mod many_ports;
mod several_addresses;

#[test]
fn golden_bytes() {
    let refused = ControlMessage::Applied(Applied {
        outcome: ApplyOutcome::Refused(ApplyRefusal {
            code: RefusalCode::InvalidConfig,
            message: "overlap".into(),
        }),
        ..applied(Vec::new())
    });
    let address = ControlMessage::PublicAddress("203.0.113.9".parse().unwrap());
    let self_test = ControlMessage::SelfTest(SelfTest {
        nonce: TestNonce(std::array::from_fn(|at| u8::try_from(at).unwrap())),
        millis: 2_000,
        bytes: 1 << 20,
    });
    let states = vec![
        state(Protocol::Tcp, 80, PortStatus::Bound),
        state(Protocol::Tcp, 81, PortStatus::Bound),
        state(Protocol::Tcp, 82, PortStatus::Bound),
        state(Protocol::Tcp, 443, failed("in use")),
        state(Protocol::Udp, 53, PortStatus::Draining),
    ];
    let ports = vec![
        port(Protocol::Tcp, 443, 443, None),
        port(Protocol::Tcp, 20_000, 20_100, Some("192.0.2.1")),
        port(Protocol::Tcp, 8080, 8080, Some("192.0.2.1")),
        port(Protocol::Udp, 53, 53, Some("2001:db8::1")),
    ];
    let shared = vec![
        shared(Protocol::Tcp, "192.0.2.1", None),
        shared(Protocol::Udp, "2001:db8::1", Some(60)),
    ];
    let shared_states = vec![
        state_at(Protocol::Tcp, 443, "192.0.2.1", PortStatus::Bound),
        state_at(Protocol::Udp, 443, "2001:db8::1", failed("in use")),
    ];
    for (message, name) in [
        (ControlMessage::Config(config(ports)), "config"),
        (ControlMessage::Config(config(shared)), "configShared"),
        (ControlMessage::Applied(applied(states)), "applied"),
        (
            ControlMessage::Applied(applied(shared_states)),
            "appliedShared",
        ),
        (refused, "appliedRefused"),
        (address, "publicAddress"),
        (self_test, "selfTest"),
    ] {
        assert_eq!(message.encode().unwrap(), [golden(name)], "{name}");
        assert_eq!(
            ControlAssembler::new().handle(&golden(name)),
            Ok(Some(message)),
            "{name}"
        );
    }
}

#[test]
fn most_ports_pass_one_by_one_with_a_long_bind_address() {
    let ports = (1..=4096).map(|number| port(Protocol::Tcp, number, number, Some("2001:db8::1")));
    let message = ControlMessage::Config(config(ports.collect()));
    assert_eq!(there_and_back(&message), Ok(message));
}

#[test]
fn reversed_or_zero_port_is_refused_by_both_ends() {
    for (first, last) in [(0, 5), (6, 5)] {
        let message = ControlMessage::Config(config(vec![port(Protocol::Tcp, first, last, None)]));
        assert!(matches!(message.encode(), Err(ControlError::Malformed(_))));
        let mut body = golden("config")[2..34].to_vec();
        body.extend_from_slice(&[0, 1, 6]);
        body.extend_from_slice(&u16::to_be_bytes(first));
        body.extend_from_slice(&u16::to_be_bytes(last));
        body.push(0);
        let read = ControlMessage::decode(KIND_CONFIG, &body);
        assert!(matches!(read, Err(ControlError::Malformed(_))));
    }
}

#[test]
fn bound_range_takes_one_entry() {
    let states: Vec<_> = (1..=4096)
        .map(|port| state(Protocol::Tcp, port, PortStatus::Bound))
        .collect();
    let frames = ControlMessage::Applied(applied(states)).encode().unwrap();
    assert_eq!(frames.concat().len(), 2 + 25 + 2 + 6);
}

#[test]
fn longest_failure_message_passes_and_a_longer_one_is_refused() {
    for (length, fits) in [
        (MAX_FAILURE_MESSAGE, true),
        (MAX_FAILURE_MESSAGE + 1, false),
    ] {
        let mut body = golden("appliedRefused")[2..28].to_vec();
        body.push(u8::try_from(length).unwrap());
        body.extend(vec![b'x'; length]);
        assert_eq!(ControlMessage::decode(KIND_APPLIED, &body).is_ok(), fits);
    }
}

#[test]
fn frames_are_full_and_none_is_too_long() {
    let ports = (0..1000)
        .map(|i| port(Protocol::Tcp, 2 * i + 1, 2 * i + 1, None))
        .collect();
    let frames = ControlMessage::Config(config(ports)).encode().unwrap();
    let (last, full) = frames.split_last().unwrap();
    assert!(!full.is_empty() && full.iter().all(|frame| frame.len() == MAX_CONTROL_PAYLOAD));
    assert!(last.len() <= MAX_CONTROL_PAYLOAD);
    let too_long = vec![0; MAX_CONTROL_PAYLOAD + 1];
    assert_eq!(
        ControlAssembler::new().handle(&too_long),
        Err(ControlError::FrameTooLong)
    );
}

#[test]
fn timeouts_of_udp_ports_are_told_in_an_extension_that_an_older_edge_skips() {
    let timed = |first, last, seconds| ConfigPort {
        udp_idle_secs: Some(seconds),
        ..port(Protocol::Udp, first, last, None)
    };
    let mut sent = config(vec![
        timed(5_000, 5_010, 600),
        port(Protocol::Tcp, 5_000, 5_010, None),
        timed(53, 53, 60),
        timed(443, 444, 60),
        timed(7_000, 7_000, 60),
    ]);
    let body = sent.encode().unwrap();
    let [mut plain, mut extension] = [body.clone(), Vec::new()];
    extension.extend_from_slice(&[0, 1, 0, 24]);
    for (first, last, seconds) in [
        (53_u16, 444_u16, 60_u32),
        (5_000, 5_010, 600),
        (7_000, 7_000, 60),
    ] {
        extension.extend_from_slice(&first.to_be_bytes());
        extension.extend_from_slice(&last.to_be_bytes());
        extension.extend_from_slice(&seconds.to_be_bytes());
    }
    plain.truncate(body.len() - extension.len());
    assert!(body.ends_with(&extension));
    let read = |body: &[u8]| ControlMessage::decode(KIND_CONFIG, body).unwrap();
    assert_eq!(read(&body), Some(ControlMessage::Config(sent.clone())));
    for port in &mut sent.ports {
        port.udp_idle_secs = None;
    }
    assert_eq!(sent.encode().unwrap(), plain);
    assert_eq!(read(&plain), Some(ControlMessage::Config(sent)));
}

#[test]
fn timeouts_that_are_zero_or_out_of_order_are_refused() {
    let body = config(vec![port(Protocol::Udp, 1, 9, None)])
        .encode()
        .unwrap();
    let with = |timeouts: &[(u16, u16, u32)]| {
        let mut body = body.clone();
        body.extend_from_slice(&[0, 1, 0, u8::try_from(timeouts.len() * 8).unwrap()]);
        for (first, last, seconds) in timeouts {
            body.extend_from_slice(&first.to_be_bytes());
            body.extend_from_slice(&last.to_be_bytes());
            body.extend_from_slice(&seconds.to_be_bytes());
        }
        ControlMessage::decode(KIND_CONFIG, &body)
    };
    assert!(with(&[(1, 4, 1), (5, 9, 2)]).is_ok());
    assert!(with(&[(1, 4, 0)]).is_err());
    assert!(with(&[(4, 1, 1)]).is_err());
    assert!(with(&[(1, 4, 1), (4, 9, 2)]).is_err());
    let mut cut = body.clone();
    cut.extend_from_slice(&[0, 1, 0, 7, 0, 1, 0, 4, 0, 0, 0]);
    assert!(ControlMessage::decode(KIND_CONFIG, &cut).is_err());
}

#[test]
fn the_longest_configuration_fits() {
    let ports = (1..=4_096).map(|i| {
        let number = u16::try_from(2 * i).unwrap();
        let address = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number % 4]);
        ConfigPort {
            bind_address: Some(address),
            ..port(Protocol::Tcp, number, number, None)
        }
    });
    let message = ControlMessage::Config(config(ports.collect()));
    let mut assembler = ControlAssembler::new();
    let mut received = None;
    for frame in message.encode().unwrap() {
        assert_eq!(received, None);
        received = assembler.handle(&frame).unwrap();
    }
    assert_eq!(received, Some(message));
}

#[test]
fn message_that_never_ends_is_an_error() {
    for kind in [KIND_CONFIG, 0xee] {
        let mut assembler = ControlAssembler::new();
        let mut frame = vec![kind, 1];
        frame.resize(2 + 1000, 0);
        let whole = MAX_CONTROL_MESSAGE / 1000;
        for _ in 0..whole {
            assert_eq!(assembler.handle(&frame), Ok(None));
        }
        frame.truncate(2 + MAX_CONTROL_MESSAGE % 1000);
        assert_eq!(assembler.handle(&frame), Ok(None));
        assert_eq!(assembler.handle(&[kind, 1, 0]), Err(ControlError::TooLong));
    }
}

#[test]
fn empty_part_that_says_more_follows_is_an_error() {
    let result = ControlAssembler::new().handle(&[KIND_CONFIG, 1]);
    assert_eq!(result, Err(ControlError::Malformed("empty part")));
}

#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    let mut assembler = ControlAssembler::new();
    assert_eq!(assembler.handle(&[KIND_CONFIG, 1, 0]), Ok(None));
    assert_eq!(
        assembler.handle(&golden("publicAddress")),
        Err(ControlError::Interrupted)
    );
}

#[test]
fn unknown_type_and_unknown_extension_are_skipped() {
    let mut assembler = ControlAssembler::new();
    assert_eq!(assembler.handle(&[0xee, 0]), Ok(None));
    assert_eq!(assembler.handle(&[0xee, 1, 1, 2, 3]), Ok(None));
    assert_eq!(assembler.handle(&[0xee, 0, 4, 5]), Ok(None));
    for name in ["config", "applied", "publicAddress"] {
        let plain = assembler.handle(&golden(name)).unwrap();
        assert!(plain.is_some());
        let mut extended = golden(name);
        write_tlv(&mut extended, 0xbeef, b"later").unwrap();
        assert_eq!(assembler.handle(&extended), Ok(plain));
        extended.pop();
        assert_eq!(
            assembler.handle(&extended),
            Err(ControlError::End(UnexpectedEnd))
        );
    }
}

#[test]
fn codes_have_the_names_of_the_contract() {
    let names = [
        PortFailure::AddressInUse,
        PortFailure::PermissionDenied,
        PortFailure::NotAllowed,
        PortFailure::BindFailed,
        PortFailure::DescriptorLimit,
    ]
    .map(PortFailure::as_str);
    assert_eq!(
        names,
        [
            "addressInUse",
            "permissionDenied",
            "portNotAllowed",
            "bindFailed",
            "descriptorLimit"
        ]
    );
}

proptest! {
    #[test]
    fn encode_decode_identity(message in any_message()) {
        prop_assert_eq!(there_and_back(&message), Ok(message));
    }

    #[test]
    fn random_bytes_never_panic(
        payloads in prop::collection::vec((0u8..5, 0u8..3, prop::collection::vec(any::<u8>(), 0..80)), 0..20)
    ) {
        let mut assembler = ControlAssembler::new();
        for (kind, flags, part) in payloads {
            if assembler.handle(&[&[kind, flags], part.as_slice()].concat()).is_err() {
                break;
            }
        }
    }

    #[test]
    fn changed_messages_never_panic(
        message in any_message(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut frames = message.encode().unwrap();
        let frame = at.index(frames.len());
        let byte = at.index(frames[frame].len());
        frames[frame][byte] = to;
        let mut assembler = ControlAssembler::new();
        for frame in frames {
            if assembler.handle(&frame).is_err() {
                break;
            }
        }
    }
}

fn there_and_back(message: &ControlMessage) -> Result<ControlMessage, ControlError> {
    let frames = message.encode()?;
    let (last, others) = frames.split_last().unwrap();
    let mut assembler = ControlAssembler::new();
    for frame in others {
        assert_eq!(assembler.handle(frame)?, None);
    }
    Ok(assembler.handle(last)?.unwrap())
}

fn epoch() -> HubEpoch {
    HubEpoch(std::array::from_fn(|i| 0x30 + u8::try_from(i).unwrap()))
}

fn config(ports: Vec<ConfigPort>) -> Config {
    Config {
        epoch: epoch(),
        generation: 42,
        ports,
        stun_interval_secs: 300,
        max_streams: 16_384,
    }
}

fn port(protocol: Protocol, first: u16, last: u16, bind_address: Option<&str>) -> ConfigPort {
    let bind_address = bind_address.map(|address| address.parse().unwrap());
    ConfigPort {
        protocol,
        first,
        last,
        bind_address,
        udp_idle_secs: None,
        is_shared: false,
    }
}

fn applied(states: Vec<PortState>) -> Applied {
    Applied {
        epoch: epoch(),
        generation: 42,
        outcome: ApplyOutcome::Applied(states),
    }
}

fn state(protocol: Protocol, port: u16, status: PortStatus) -> PortState {
    PortState {
        protocol,
        port,
        address: None,
        status,
    }
}

fn state_at(protocol: Protocol, port: u16, address: &str, status: PortStatus) -> PortState {
    PortState {
        address: address.parse().ok().map(Box::new),
        ..state(protocol, port, status)
    }
}

/// Port 443 on one of several addresses.
fn shared(protocol: Protocol, address: &str, udp_idle_secs: Option<u32>) -> ConfigPort {
    ConfigPort {
        udp_idle_secs,
        is_shared: true,
        ..port(protocol, 443, 443, Some(address))
    }
}

fn failed(message: &str) -> PortStatus {
    PortStatus::Failed {
        code: PortFailure::AddressInUse,
        message: message.into(),
    }
}

fn any_message() -> impl Strategy<Value = ControlMessage> {
    let protocol = || any::<bool>().prop_map(|udp| if udp { Protocol::Udp } else { Protocol::Tcp });
    let address = || any::<IpAddr>().prop_map(|address| address.to_canonical());
    let bind = prop_oneof![
        Just(None),
        Just(Some("192.0.2.1".parse().unwrap())),
        address().prop_map(Some),
    ];
    let port = (protocol(), 1u16..=60_000, 0u16..10, bind, any::<bool>()).prop_map(
        |(protocol, first, more, bind_address, may_be_shared)| ConfigPort {
            protocol,
            first,
            last: first + more,
            bind_address,
            udp_idle_secs: None,
            is_shared: may_be_shared && bind_address.is_some(),
        },
    );
    let config = (
        any::<([u8; 16], u64, u32, u32)>(),
        prop::collection::vec(port, 0..300),
    )
        .prop_map(
            |((epoch, generation, stun_interval_secs, max_streams), mut ports)| {
                ports.sort_by_key(|port| port.is_shared);
                let epoch = HubEpoch(epoch);
                ControlMessage::Config(Config {
                    epoch,
                    generation,
                    ports,
                    stun_interval_secs,
                    max_streams,
                })
            },
        );
    let status = prop_oneof![
        4 => Just(PortStatus::Bound),
        1 => Just(PortStatus::Draining),
        1 => "\\PC{0,40}".prop_map(|message| PortStatus::Failed { code: PortFailure::BindFailed, message: message.into() }),
    ];
    let place = prop_oneof![
        2 => Just(None),
        1 => Just(Some("192.0.2.1".parse().unwrap())),
        1 => address().prop_map(Some),
    ];
    let state = (protocol(), 1u16..40, place, status);
    let state = state.prop_map(|(protocol, port, address, status)| PortState {
        protocol,
        port,
        address: address.map(Box::new),
        status,
    });
    let states = prop::collection::vec(state, 0..300).prop_map(|mut states| {
        states.sort_by_key(PortState::address);
        ApplyOutcome::Applied(states)
    });
    let outcome = prop_oneof![
        4 => states,
        1 => "\\PC{0,40}".prop_map(|message| {
            ApplyOutcome::Refused(ApplyRefusal { code: RefusalCode::NotSupported, message })
        }),
    ];
    let applied = (any::<([u8; 16], u64)>(), outcome).prop_map(|((epoch, generation), outcome)| {
        ControlMessage::Applied(Applied {
            epoch: HubEpoch(epoch),
            generation,
            outcome,
        })
    });
    prop_oneof![
        config,
        applied,
        address().prop_map(ControlMessage::PublicAddress)
    ]
}
