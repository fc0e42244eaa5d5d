//! The messages there and back, at their limits, and as garbage.

use std::time::Duration;

use proptest::prelude::*;

use super::super::message::encode_message;
use super::*;
use crate::fixture::golden;
use crate::wire::tlv::write_tlv;

#[test]
fn golden_bytes() {
    let keys = keys(SECRET);
    let hello = hello();
    assert_eq!(hello.encode().unwrap(), golden("hello"));
    assert_eq!(Hello::decode(&golden("hello")), Ok(hello.clone()));
    for (transport, name) in [
        (Transport::TcpTls, "transcriptTcpTls"),
        (Transport::Quic, "transcriptQuic"),
    ] {
        let transcript = Transcript::new(PROTOCOL_VERSION, transport, &EKM, &golden("hello"));
        let expected = <[u8; 32]>::try_from(golden(name)).unwrap();
        assert_eq!(transcript.as_bytes(), &expected);
    }

    let (edge, sent) = start(&hello, &keys, &EKM);
    assert_eq!(sent, golden("helloMessage"));
    let authenticated = authenticate(&sent, &known()).unwrap();
    let answer = authenticated.welcome_message(&welcome()).unwrap();
    assert_eq!(answer, golden("welcomeMessage"));
    let consumed = answer.len();
    assert_eq!(
        edge.handle(&answer),
        Ok(EdgeProgress::Welcomed {
            welcome: welcome(),
            consumed
        })
    );

    let overloaded = Refused {
        code: RefuseCode::Overloaded,
        retry_after: Some(Duration::from_millis(1500)),
    };
    assert_eq!(
        Refused::new(RefuseCode::AuthFailed).message(),
        golden("refusedAuthFailed")
    );
    assert_eq!(overloaded.message(), golden("refusedOverloaded"));
}

#[test]
fn messages_may_arrive_byte_by_byte_and_leave_what_follows() {
    let (edge, sent) = start(&hello(), &keys(SECRET), &EKM);
    let hub = HubHandshake::new(&EKM, Transport::TcpTls);
    for length in 0..sent.len() {
        let progress = hub.handle(&sent[..length], |_| panic!("looked up too early"));
        assert!(matches!(progress, Ok(HubProgress::NeedMore)));
    }
    let followed = [sent.as_slice(), b"frames"].concat();
    let HubProgress::Authenticated {
        edge: authenticated,
        consumed,
    } = hub.handle(&followed, |_| known()).unwrap()
    else {
        panic!("the hub didn't authenticate");
    };
    assert_eq!(consumed, sent.len());

    let answer = authenticated.welcome_message(&welcome()).unwrap();
    for length in 0..answer.len() {
        assert_eq!(edge.handle(&answer[..length]), Ok(EdgeProgress::NeedMore));
    }
    let followed = [answer.as_slice(), b"frames"].concat();
    let consumed = answer.len();
    assert_eq!(
        edge.handle(&followed),
        Ok(EdgeProgress::Welcomed {
            welcome: welcome(),
            consumed
        })
    );
}

#[test]
fn message_is_judged_by_its_first_bytes() {
    let hub = HubHandshake::new(&EKM, Transport::TcpTls);
    let judge = |bytes: &[u8]| hub.handle(bytes, |_| known()).unwrap_err();
    assert_eq!(judge(b"G"), HandshakeError::UnknownKind(b'G'));
    assert_eq!(
        judge(&[2]),
        HandshakeError::UnexpectedKind(MessageKind::Welcome)
    );
    assert_eq!(judge(&[1, 0x03, 0xfe]), HandshakeError::TooLong(1025));
    assert_eq!(judge(&[1, 0xff, 0xff]), HandshakeError::TooLong(65_538));
    assert_eq!(
        judge(&[1, 0, 0]),
        HandshakeError::Malformed("there is no room for a proof")
    );
    assert_eq!(decode_message(&[1, 0x03, 0xfd]), Ok(None));

    let (edge, _) = start(&hello(), &keys(SECRET), &EKM);
    assert_eq!(
        edge.handle(&[1]),
        Err(HandshakeError::UnexpectedKind(MessageKind::Hello))
    );
}

#[test]
fn longest_message_passes_and_one_byte_more_does_not() {
    let room = MAX_MESSAGE - 3;
    let longest = encode_message(MessageKind::Hello, &[&vec![0; room]]).unwrap();
    assert_eq!(decode_message(&longest).unwrap().unwrap().1, MAX_MESSAGE);
    let result = encode_message(MessageKind::Hello, &[&vec![0; room + 1]]);
    assert_eq!(result, Err(HandshakeError::TooLong(MAX_MESSAGE + 1)));
}

#[test]
fn unknown_extensions_are_skipped_and_known_ones_come_once() {
    let plain = hello().encode().unwrap();
    let mut extended = plain.clone();
    write_tlv(&mut extended, 0xbeef, b"later").unwrap();
    assert_eq!(Hello::decode(&extended), Ok(hello()));
    let mut twice = plain;
    write_tlv(&mut twice, extension::SOFTWARE_VERSION, b"0.1.0").unwrap();
    assert_eq!(
        Hello::decode(&twice),
        Err(HandshakeError::Malformed("an extension comes twice"))
    );
}

#[test]
fn software_version_is_short_printable_text() {
    for (version, ok) in [
        ("v".repeat(64), true),
        ("v".repeat(65), false),
        ("1\n2".into(), false),
        ("ü".into(), false),
    ] {
        assert_eq!(Hello { version, ..hello() }.encode().is_ok(), ok);
    }
    let mut bytes = hello().encode().unwrap();
    *bytes.last_mut().unwrap() = b'\n';
    assert!(Hello::decode(&bytes).is_err());
}

#[test]
fn refusal_reaches_the_edge_with_its_code_and_a_bounded_delay() {
    let (edge, _) = start(&hello(), &keys(SECRET), &EKM);
    for code in REFUSE_CODES {
        let refused = Refused {
            code,
            retry_after: Some(Duration::from_secs(2)),
        };
        assert_eq!(
            edge.handle(&refused.message()),
            Err(HandshakeError::Refused(refused))
        );
    }
    let forged = [3, 0, 5, 6, 0xff, 0xff, 0xff, 0xff];
    let refused = Refused {
        code: RefuseCode::Draining,
        retry_after: Some(MAX_RETRY_AFTER),
    };
    assert_eq!(edge.handle(&forged), Err(HandshakeError::Refused(refused)));
    assert_eq!(
        edge.handle(&[3, 0, 5, 99, 0, 0, 0, 0]),
        Err(HandshakeError::UnknownRefusal(99))
    );
}

proptest! {
    #[test]
    fn hello_encode_decode_identity(
        hello in any_hello(), resume_timeout_secs in any::<Option<u32>>(), sessions_wanted in any::<Option<u16>>(),
    ) {
        let hello = Hello { resume_timeout_secs, sessions_wanted, ..hello };
        prop_assert_eq!(Hello::decode(&hello.encode().unwrap()), Ok(hello.clone()));
        let (_, sent) = start(&hello, &keys(SECRET), &EKM);
        prop_assert!(sent.len() <= MAX_MESSAGE);
        prop_assert_eq!(&authenticate(&sent, &known()).unwrap().hello, &hello);
    }

    #[test]
    fn welcome_encode_decode_identity(welcome in any_welcome(), resume_timeout_secs in any::<Option<u32>>()) {
        let welcome = Welcome { resume_timeout_secs, ..welcome };
        prop_assert_eq!(Welcome::decode(&welcome.encode().unwrap()), Ok(welcome));
    }

    #[test]
    fn random_bytes_never_panic(kind in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
        let _ = decode_message(&bytes);
        let _ = Hello::decode(&bytes);
        let _ = Welcome::decode(&bytes);
        let _ = Refused::decode(&bytes);
        let _ = Call::decode(&bytes);
        let mut framed = vec![kind];
        framed.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&bytes);
        if let Ok(Some((message, consumed))) = decode_message(&framed) {
            prop_assert_eq!(message.kind() as u8 + 1, kind);
            prop_assert!(consumed <= MAX_MESSAGE && consumed == framed.len());
        }
    }

    #[test]
    fn changed_messages_never_panic_once_their_proof_is_passed_over(
        at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        for bytes in [hello().encode().unwrap(), welcome().encode().unwrap()] {
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] = to;
            changed.truncate(cut.index(bytes.len() + 1));
            let _ = Hello::decode(&changed);
            let _ = Welcome::decode(&changed);
        }
    }
}

const REFUSE_CODES: [RefuseCode; 7] = [
    RefuseCode::AuthFailed,
    RefuseCode::InstanceConflict,
    RefuseCode::UnsupportedVersion,
    RefuseCode::UnsupportedFeature,
    RefuseCode::Overloaded,
    RefuseCode::Draining,
    RefuseCode::TooManySessions,
];

fn any_hello() -> impl Strategy<Value = Hello> {
    let resume = any::<Option<([u8; 16], u32, u64)>>().prop_map(|resume| {
        resume.map(|(session, attempt, received)| Resume {
            session: SessionId(session),
            attempt,
            received,
        })
    });
    let name = ("[a-zA-Z0-9äß ._-]{1,60}", "[ -~]{0,64}");
    (name, any::<([u8; 16], u16, u64, u64, u32, bool)>(), resume).prop_map(
        |((id, version), fixed, resume)| {
            let (instance, session_ordinal, required, optional, initial_credit, replaces_instance) =
                fixed;
            Hello {
                protocol_version: PROTOCOL_VERSION,
                edge_id: EdgeId::new(&id).unwrap(),
                instance: InstanceId(instance),
                session_ordinal,
                required: Features::from_bits(required),
                optional: Features::from_bits(optional),
                resume,
                initial_credit,
                replaces_instance,
                resume_timeout_secs: None,
                sessions_wanted: None,
                version,
            }
        },
    )
}

fn any_welcome() -> impl Strategy<Value = Welcome> {
    let outcome = prop_oneof![
        Just(SessionOutcome::New),
        Just(SessionOutcome::SessionLost),
        any::<u64>().prop_map(|received| SessionOutcome::Resumed { received }),
    ];
    let address = any::<Option<(std::net::IpAddr, u16)>>().prop_map(|address| {
        address.map(|(ip, port)| std::net::SocketAddr::new(ip.to_canonical(), port))
    });
    (
        any::<[u8; 16]>(),
        outcome,
        1u16..,
        any::<(u32, u64)>(),
        "[ -~]{0,64}",
        address,
    )
        .prop_map(
            |(
                session,
                outcome,
                max_sessions,
                (initial_credit, features),
                version,
                observed_address,
            )| Welcome {
                session: SessionId(session),
                outcome,
                max_sessions,
                initial_credit,
                features: Features::from_bits(features),
                version,
                observed_address,
                resume_timeout_secs: None,
            },
        )
}
