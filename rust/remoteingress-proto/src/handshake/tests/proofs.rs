//! The proofs of both ends, and what those who sit between or pretend can't do.

use super::super::message::encode_message;
use super::super::proof::count::hmacs_of;
use super::*;
use crate::fixture::golden;
use crate::wire::features::{FeatureOffer, negotiate};

#[test]
fn keys_are_those_of_hkdf() {
    let keys = keys(SECRET);
    assert_eq!(keys.edge_key().as_slice(), golden("edgeKey"));
    assert_eq!(keys.hub_key().as_slice(), golden("hubKey"));
}

#[test]
fn proof_replayed_on_another_connection_fails() {
    let (_, sent) = start(&hello(), &keys(SECRET), &EKM);
    let hub = HubHandshake::new(&OTHER_EKM, Transport::TcpTls);
    assert_auth_failed(hub.handle(&sent, |_| known()));
}

#[test]
fn proof_made_on_tls_fails_on_quic() {
    let (_, sent) = start(&hello(), &keys(SECRET), &EKM);
    let hub = HubHandshake::new(&EKM, Transport::Quic);
    assert_auth_failed(hub.handle(&sent, |_| known()));
}

#[test]
fn man_in_the_middle_between_two_connections_can_forward_neither_proof() {
    let (edge, sent) = start(&hello(), &keys(SECRET), &EKM);
    let hub = HubHandshake::new(&OTHER_EKM, Transport::TcpTls);
    assert_auth_failed(hub.handle(&sent, |_| known()));

    // Even a Welcome that the real hub made for another connection with the same Hello is worth nothing.
    let (_, elsewhere) = start(&hello(), &keys(SECRET), &OTHER_EKM);
    let HubProgress::Authenticated {
        edge: authenticated,
        ..
    } = hub.handle(&elsewhere, |_| known()).unwrap()
    else {
        panic!("the hub didn't authenticate");
    };
    let answer = authenticated.welcome_message(&welcome()).unwrap();
    assert_eq!(edge.handle(&answer), Err(HandshakeError::HubProofFailed));
}

#[test]
fn edge_proof_sent_back_as_the_hub_proof_fails() {
    let keys = keys(SECRET);
    let (edge, sent) = start(&hello(), &keys, &EKM);
    let Some((Message::Hello(proven), _)) = decode_message(&sent).unwrap() else {
        panic!("no Hello")
    };
    let reflected = encode_message(
        MessageKind::Welcome,
        &[&welcome().encode().unwrap(), proven.proof.as_bytes()],
    )
    .unwrap();
    assert_eq!(edge.handle(&reflected), Err(HandshakeError::HubProofFailed));
}

#[test]
fn wrong_secret_and_unknown_edge_are_answered_alike_with_two_hmacs() {
    let (_, right) = start(&hello(), &keys(SECRET), &EKM);
    let (_, wrong) = start(&hello(), &keys("wrong"), &EKM);
    let with_next = Candidates::new(keys("other"), Some(keys("another")));
    let cases = [
        (&right, Candidates::unknown()),
        (&wrong, Candidates::unknown()),
        (&wrong, known()),
        (&wrong, Candidates::new(keys(SECRET), Some(keys("next")))),
        (&right, with_next),
    ];
    for (sent, candidates) in cases {
        let (hmacs, result) = hmacs_of(|| authenticate(sent, &candidates));
        assert_eq!(hmacs, 2);
        let error = result.unwrap_err();
        let claimed = Some(EdgeId::new("edge-nyc-01").unwrap());
        assert_eq!(error, HandshakeError::AuthFailed { claimed });
        assert_eq!(
            error.refusal().unwrap().message(),
            golden("refusedAuthFailed")
        );
    }
}

#[test]
fn good_proof_costs_two_hmacs_as_well() {
    let (_, sent) = start(&hello(), &keys(SECRET), &EKM);
    for candidates in [known(), Candidates::new(keys("old"), Some(keys(SECRET)))] {
        let (hmacs, result) = hmacs_of(|| authenticate(&sent, &candidates));
        assert!(result.is_ok());
        assert_eq!(hmacs, 2);
    }
}

#[test]
fn dummy_keys_open_no_door() {
    let (_, sent) = start(&hello(), &ProofKeys::dummy(), &EKM);
    assert!(authenticate(&sent, &Candidates::unknown()).is_err());
    assert!(authenticate(&sent, &known()).is_err());
}

#[test]
fn next_secret_is_accepted_and_answered_with_its_own_keys() {
    let (edge, sent) = start(&hello(), &keys("next"), &EKM);
    let both = Candidates::new(keys(SECRET), Some(keys("next")));
    let authenticated = authenticate(&sent, &both).unwrap();
    assert_eq!(authenticated.candidate, Candidate::Next);
    assert_eq!(authenticated.keys, keys("next"));
    let answer = authenticated.welcome_message(&welcome()).unwrap();
    assert!(matches!(
        edge.handle(&answer),
        Ok(EdgeProgress::Welcomed { .. })
    ));
}

#[test]
fn hub_with_another_secret_is_not_believed() {
    let (edge, _) = start(&hello(), &keys(SECRET), &EKM);
    let (_, for_fake) = start(&hello(), &keys("fake"), &EKM);
    let fake = authenticate(&for_fake, &Candidates::new(keys("fake"), None)).unwrap();
    let answer = fake.welcome_message(&welcome()).unwrap();
    assert_eq!(edge.handle(&answer), Err(HandshakeError::HubProofFailed));
}

#[test]
fn every_changed_byte_of_a_hello_or_its_proof_fails() {
    let (_, sent) = start(&hello(), &keys(SECRET), &EKM);
    for at in 0..sent.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = sent.clone();
            changed[at] ^= change;
            let hub = HubHandshake::new(&EKM, Transport::TcpTls);
            let result = hub.handle(&changed, |_| known());
            assert!(
                !matches!(result, Ok(HubProgress::Authenticated { .. })),
                "byte {at}"
            );
            if at >= 3 {
                assert_auth_failed(result);
            }
        }
    }
}

#[test]
fn every_changed_byte_of_a_welcome_or_its_proof_is_detected() {
    let (edge, sent) = start(&hello(), &keys(SECRET), &EKM);
    let answer = authenticate(&sent, &known())
        .unwrap()
        .welcome_message(&welcome())
        .unwrap();
    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        assert!(
            !matches!(edge.handle(&changed), Ok(EdgeProgress::Welcomed { .. })),
            "byte {at}"
        );
        if at >= 3 {
            assert_eq!(
                edge.handle(&changed),
                Err(HandshakeError::HubProofFailed),
                "byte {at}"
            );
        }
    }
}

#[test]
fn other_protocol_version_is_told_only_after_a_good_proof() {
    let newer = Hello {
        protocol_version: 2,
        ..hello()
    };
    let (_, sent) = start(&newer, &keys(SECRET), &EKM);
    let error = authenticate(&sent, &known()).unwrap_err();
    let edge_id = EdgeId::new("edge-nyc-01").unwrap();
    assert_eq!(
        error,
        HandshakeError::UnsupportedVersion { edge_id, theirs: 2 }
    );
    assert_eq!(
        error.refusal(),
        Some(Refused::new(RefuseCode::UnsupportedVersion))
    );

    let error = authenticate(&sent, &Candidates::unknown()).unwrap_err();
    assert_eq!(error.refusal(), Some(Refused::new(RefuseCode::AuthFailed)));
}

#[test]
fn hello_that_cannot_be_read_is_an_unknown_edge() {
    for hello in [
        b"".as_slice(),
        b"\0\x01\0",
        b"\0\x01\x02\xff\xff",
        b"\0\x01\x09short",
    ] {
        let sent = encode_message(MessageKind::Hello, &[hello, &[0; 32]]).unwrap();
        let hub = HubHandshake::new(&EKM, Transport::TcpTls);
        let (hmacs, result) = hmacs_of(|| hub.handle(&sent, |_| panic!("there is no id")));
        assert_eq!(hmacs, 2);
        assert_eq!(
            result.unwrap_err(),
            HandshakeError::AuthFailed { claimed: None }
        );
    }
}

#[test]
fn unreadable_rest_after_a_good_proof_is_closed_without_an_answer() {
    let mut bytes = hello().encode().unwrap();
    bytes.push(0);
    let transcript = Transcript::new(PROTOCOL_VERSION, Transport::TcpTls, &EKM, &bytes);
    let proof = edge_proof(&keys(SECRET), &transcript);
    let sent = encode_message(MessageKind::Hello, &[&bytes, proof.as_bytes()]).unwrap();
    let error = authenticate(&sent, &known()).unwrap_err();
    assert!(matches!(error, HandshakeError::Malformed(_)));
    assert_eq!(error.refusal(), None);
}

#[test]
fn welcome_must_answer_what_was_asked() {
    let asked = hello();
    let fresh = Hello {
        resume: None,
        ..hello()
    };
    let other = SessionId([9; 16]);
    let lost = Welcome {
        outcome: SessionOutcome::SessionLost,
        session: other,
        ..welcome()
    };
    let new = Welcome {
        outcome: SessionOutcome::New,
        session: other,
        ..welcome()
    };
    let unoffered = Welcome {
        features: Features::from_bits(0b1001),
        ..welcome()
    };
    let too_few = Welcome {
        features: Features::NONE,
        ..welcome()
    };
    let cases = [
        (&asked, welcome(), true),
        (
            &asked,
            Welcome {
                session: other,
                ..welcome()
            },
            false,
        ),
        (&asked, lost.clone(), true),
        (
            &asked,
            Welcome {
                session: welcome().session,
                ..lost.clone()
            },
            false,
        ),
        (&asked, new.clone(), false),
        (&fresh, new, true),
        (&fresh, lost, false),
        (&fresh, welcome(), false),
        (&asked, unoffered, false),
        (&asked, too_few, false),
    ];
    for (hello, welcome, accepted) in cases {
        let (edge, sent) = start(hello, &keys(SECRET), &EKM);
        let answer = authenticate(&sent, &known())
            .unwrap()
            .welcome_message(&welcome)
            .unwrap();
        match edge.handle(&answer) {
            Ok(EdgeProgress::Welcomed { .. }) => assert!(accepted, "{welcome:?}"),
            other => assert!(
                !accepted && matches!(other, Err(HandshakeError::Malformed(_))),
                "{welcome:?}"
            ),
        }
    }
}

#[test]
fn unsupported_feature_becomes_its_refusal() {
    let theirs = FeatureOffer {
        required: Features::from_bits(1 << 9),
        optional: Features::NONE,
    };
    let error = negotiate(FeatureOffer::default(), theirs).unwrap_err();
    let refusal = HandshakeError::from(error).refusal();
    assert_eq!(refusal, Some(Refused::new(RefuseCode::UnsupportedFeature)));
}

#[test]
fn authenticated_edge_moves_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<AuthenticatedEdge>();
    assert_send::<Candidates>();
    assert_send::<EdgeHandshake>();
}

#[test]
fn nothing_that_holds_a_key_prints_it() {
    let (edge, sent) = start(&hello(), &keys(SECRET), &EKM);
    let hub = HubHandshake::new(&EKM, Transport::TcpTls);
    let authenticated = authenticate(&sent, &known()).unwrap();
    let printed = format!("{edge:?} {hub:?} {authenticated:?} {:?}", known());
    let first_bytes = |bytes: &[u8]| format!("{}, {}, {}", bytes[0], bytes[1], bytes[2]);
    for bytes in [
        golden("edgeKey"),
        golden("hubKey"),
        golden("transcriptTcpTls"),
        EKM.to_vec(),
    ] {
        assert!(!printed.contains(&first_bytes(&bytes)), "{printed}");
    }
}
