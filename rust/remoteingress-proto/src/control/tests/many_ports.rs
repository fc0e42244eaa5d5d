//! As many ports as there are, in few entries where they are alike, and fewer for an older end.

use super::*;

#[test]
fn most_ports_pass_and_one_more_does_not() {
    let mut ports = vec![
        port(Protocol::Tcp, 1, u16::MAX, None),
        port(Protocol::Udp, 1, u16::MAX, None),
    ];
    let message = ControlMessage::Config(config(ports.clone()));
    assert_eq!(there_and_back(&message), Ok(message));
    ports.push(port(Protocol::Udp, 1, 1, None));
    let message = ControlMessage::Config(config(ports));
    assert_eq!(message.encode(), Err(ControlError::TooManyPorts));

    // The same, not asked for by our own encoder.
    let every = [0x06, 0x00, 0x01, 0xff, 0xff, 0x00];
    let body = [
        golden("config")[2..34].to_vec(),
        vec![0, 3],
        every.repeat(3),
    ]
    .concat();
    assert_eq!(
        ControlMessage::decode(KIND_CONFIG, &body),
        Err(ControlError::TooManyPorts)
    );
}

#[test]
fn most_port_states_pass_and_one_more_does_not() {
    let bound = |protocol| (1..=u16::MAX).map(move |port| state(protocol, port, PortStatus::Bound));
    let every = || bound(Protocol::Tcp).chain(bound(Protocol::Udp));
    let message = ControlMessage::Applied(applied(every().collect()));
    assert_eq!(there_and_back(&message), Ok(message));
    let more = every().chain(bound(Protocol::Tcp).take(1)).collect();
    let message = ControlMessage::Applied(applied(more));
    assert_eq!(message.encode(), Err(ControlError::TooManyPorts));

    let every = [1, 6, 0, 1, 0xff, 0xff];
    let failed = [4, 6, 0, 1, 0xff, 0xff, 1, 0];
    for (count, entry) in [(2, every.as_slice()), (2, failed.as_slice())] {
        for more in [0, 1] {
            let mut body = golden("applied")[2..27].to_vec();
            body.extend_from_slice(&[0, count + more]);
            body.extend_from_slice(&entry.repeat(usize::from(count + more)));
            let read = ControlMessage::decode(KIND_APPLIED, &body);
            assert_eq!(read.is_ok(), more == 0, "{entry:?}");
        }
    }
}

#[test]
fn as_many_entries_as_can_be_counted_are_told() {
    // Bound and failed ports take turns: no two share an entry.
    let turns = |protocol| {
        let status = |port| match port % 2 {
            0 => PortStatus::Bound,
            _ => failed("taken"),
        };
        (1..=u16::MAX).map(move |port| state(protocol, port, status(port)))
    };
    let states: Vec<_> = turns(Protocol::Tcp).chain(turns(Protocol::Udp)).collect();
    let message = ControlMessage::Applied(applied(states.clone()));
    let Ok(ControlMessage::Applied(read)) = there_and_back(&message) else {
        panic!("not read")
    };
    let ApplyOutcome::Applied(read) = read.outcome else {
        panic!("refused")
    };
    assert_eq!(read.len(), 65_535);
    let same = |(read, sent): (&PortState, &PortState)| {
        (read.port, read.protocol) == (sent.port, sent.protocol)
    };
    assert!(read.iter().zip(&states).all(same));
}

#[test]
fn ports_that_failed_alike_take_one_entry() {
    let why = PortStatus::Failed {
        code: PortFailure::DescriptorLimit,
        message: "411 of 1024".into(),
    };
    let states: Vec<_> = (1..=u16::MAX)
        .map(|port| state(Protocol::Udp, port, why.clone()))
        .collect();
    let message = ControlMessage::Applied(applied(states));
    let frames = message.encode().unwrap();
    assert_eq!(frames.concat().len(), 2 + 25 + 2 + 8 + 11);
    assert_eq!(there_and_back(&message), Ok(message));
}

#[test]
fn an_older_hub_is_told_what_it_knows() {
    let why = PortStatus::Failed {
        code: PortFailure::DescriptorLimit,
        message: "411 of 1024".into(),
    };
    let known = PortStatus::Failed {
        code: PortFailure::BindFailed,
        message: "411 of 1024".into(),
    };
    let states = |status: &PortStatus, last| {
        let states = (1..=last).map(|port| state(Protocol::Tcp, port, status.clone()));
        ControlMessage::Applied(applied(states.collect()))
    };
    let frames = states(&why, 9_000).encode_for(Features::NONE).unwrap();
    let mut assembler = ControlAssembler::new();
    let mut read = None;
    for frame in &frames {
        assert_eq!(read, None);
        read = assembler.handle(frame).unwrap();
    }
    let Some(ControlMessage::Applied(Applied {
        outcome: ApplyOutcome::Applied(read),
        ..
    })) = read
    else {
        panic!("not read")
    };
    assert!(frames.concat().len() <= 100 * 1_024);
    assert_eq!(read.len(), 8_192);
    let code = |port: &PortState| match &port.status {
        PortStatus::Failed { code, .. } => Some(*code),
        PortStatus::Bound | PortStatus::Draining => None,
    };
    assert!(
        read.iter()
            .all(|port| code(port) == code(&state(Protocol::Tcp, 1, known.clone())))
    );
    // The first entry is one port of state 3.
    assert_eq!(frames[0][2 + 25 + 2], 3);
}

#[test]
fn when_every_port_fails_every_code_arrives_and_messages_as_far_as_they_fit() {
    let long = "failed to bind: ".to_owned() + &"é".repeat(200);
    // Each for a reason of its own.
    let reason = |port| format!("{long}{port}").split_off(usize::from(port % 2) * 2);
    let states: Vec<_> = (1..=4096)
        .map(|port| state(Protocol::Tcp, port, failed(&reason(port))))
        .collect();
    let message = ControlMessage::Applied(applied(states));
    let Ok(ControlMessage::Applied(read)) = there_and_back(&message) else {
        panic!("not read")
    };
    let ApplyOutcome::Applied(states) = read.outcome else {
        panic!("refused")
    };
    assert_eq!(states.len(), 4096);
    let mut lengths = states.iter().enumerate().map(|(i, state)| {
        assert_eq!(usize::from(state.port), i + 1);
        let PortStatus::Failed {
            code: PortFailure::AddressInUse,
            message,
        } = &state.status
        else {
            panic!("{state:?}");
        };
        assert!(reason(state.port).starts_with(&**message));
        message.len()
    });
    assert_eq!(lengths.next(), Some(MAX_FAILURE_MESSAGE));
    assert_eq!(lengths.next_back(), Some(0));
    assert!(lengths.sum::<usize>() > 60_000);
}
