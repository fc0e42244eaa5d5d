//! A hub that calls its edge: the message, who may send it, and what others learn.

use proptest::prelude::*;

use super::super::message::encode_message;
use super::super::proof::count::hmacs_of;
use super::*;
use crate::fixture::golden;
use crate::wire::tlv::write_tlv;

const FILLER: [u8; 32] = [0xa5; 32];

fn call() -> Call {
    Call {
        protocol_version: PROTOCOL_VERSION,
        hub_epoch: HubEpoch(sequence(0x30)),
        session_ordinal: 2,
        is_trial: true,
    }
}

fn message(call: &Call, secret: &str, next: Option<&str>, ekm: &[u8; 32]) -> Vec<u8> {
    let next = next.map(keys);
    call.message(&keys(secret), next.as_ref(), ekm, Transport::TcpTls, FILLER)
        .unwrap()
}

fn answer(sent: &[u8], secret: &str) -> Result<CallProgress, HandshakeError> {
    CallHandshake::new(&EKM, Transport::TcpTls).handle(sent, &keys(secret))
}

fn called(sent: &[u8]) -> CallProgress {
    CallProgress::Called {
        call: call(),
        consumed: sent.len(),
    }
}

#[test]
fn golden_bytes() {
    assert_eq!(keys(SECRET).call_key().as_slice(), golden("callKey"));
    assert_eq!(call().encode(), golden("call"));
    assert_eq!(Call::decode(&golden("call")), Ok(call()));
    let sent = message(&call(), SECRET, None, &EKM);
    assert_eq!(sent, golden("callMessage"));
    let wanting = Hello {
        sessions_wanted: Some(8),
        ..hello()
    };
    assert_eq!(wanting.encode().unwrap(), golden("helloOfCalledEdge"));
}

#[test]
fn either_secret_of_the_hub_is_enough_and_one_hmac_tells() {
    let single = message(&call(), SECRET, None, &EKM);
    let both = message(&call(), "old", Some(SECRET), &EKM);
    for (sent, secret) in [(&single, SECRET), (&both, SECRET), (&both, "old")] {
        let (hmacs, result) = hmacs_of(|| answer(sent, secret));
        assert_eq!((hmacs, result), (1, Ok(called(sent))));
    }
    assert_eq!(single.len(), both.len(), "a rotation shows");
}

#[test]
fn a_wrong_secret_another_connection_and_another_transport_are_refused_alike() {
    let right = message(&call(), SECRET, None, &EKM);
    let over_quic = CallHandshake::new(&EKM, Transport::Quic);
    for result in [
        answer(&message(&call(), "wrong", Some("wrong too"), &EKM), SECRET),
        answer(&message(&call(), SECRET, None, &OTHER_EKM), SECRET),
        over_quic.handle(&right, &keys(SECRET)),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error, HandshakeError::AuthFailed { claimed: None });
        let refusal = error.refusal().unwrap().message();
        assert_eq!(refusal, golden("refusedAuthFailed"));
    }
}

#[test]
fn no_other_proof_of_the_secret_makes_a_call() {
    let keys = keys(SECRET);
    let bytes = call().encode();
    let transcript = Transcript::new(PROTOCOL_VERSION, Transport::TcpTls, &EKM, &bytes);
    for proof in [
        edge_proof(&keys, &transcript),
        hub_proof(&keys, &transcript, &[]),
    ] {
        let parts = [&bytes[..], proof.as_bytes(), proof.as_bytes()];
        let forged = encode_message(MessageKind::Call, &parts).unwrap();
        assert!(matches!(
            answer(&forged, SECRET),
            Err(HandshakeError::AuthFailed { .. })
        ));
    }
    // Nor does a Call's proof, or a filler, pass for a Hello's.
    let sent = message(&call(), SECRET, None, &EKM);
    let hub = HubHandshake::new(&EKM, Transport::TcpTls);
    let result = hub.handle(&sent, |_| known());
    assert_eq!(
        result.unwrap_err(),
        HandshakeError::UnexpectedKind(MessageKind::Call)
    );
}

#[test]
fn every_changed_byte_of_a_call_fails_but_for_the_place_that_isnt_used() {
    let sent = message(&call(), SECRET, None, &EKM);
    for at in 0..sent.len() - PROOF_LENGTH {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = sent.clone();
            changed[at] ^= change;
            assert!(
                !matches!(answer(&changed, SECRET), Ok(CallProgress::Called { .. })),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_stranger_that_sends_anything_but_a_call_gets_no_answer() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        &[0],
        &[1, 0, 0],
        &[2],
        &[4, 0xff, 0xff],
        &[4, 0, 0],
        &[4, 0, 63],
    ] {
        let refusal = match answer(bytes, SECRET) {
            Ok(progress) => {
                assert_eq!(progress, CallProgress::NeedMore);
                None
            }
            Err(error) => error.refusal(),
        };
        assert_eq!(refusal, None, "{bytes:?}");
    }
}

#[test]
fn a_call_of_another_version_is_refused_only_after_its_proof() {
    let later = Call {
        protocol_version: 2,
        ..call()
    };
    let error = answer(&message(&later, SECRET, None, &EKM), SECRET).unwrap_err();
    assert_eq!(error, HandshakeError::UnsupportedCall(2));
    assert_eq!(
        error.refusal().map(|refused| refused.code),
        Some(RefuseCode::UnsupportedVersion)
    );
    let error = answer(&message(&later, "wrong", None, &EKM), SECRET).unwrap_err();
    assert_eq!(error, HandshakeError::AuthFailed { claimed: None });
}

#[test]
fn only_a_hub_that_has_called_takes_a_refusal() {
    let refused = Refused::new(RefuseCode::Draining);
    let sent = refused.message();
    let called = HubHandshake::called(&EKM, Transport::TcpTls);
    assert_eq!(
        called.handle(&sent, |_| known()).unwrap_err(),
        HandshakeError::Refused(refused)
    );
    let accepted = HubHandshake::new(&EKM, Transport::TcpTls);
    assert_eq!(
        accepted.handle(&sent, |_| known()).unwrap_err(),
        HandshakeError::UnexpectedKind(MessageKind::Refused)
    );
}

#[test]
fn unknown_extensions_of_a_call_are_skipped() {
    let mut extended = call().encode();
    write_tlv(&mut extended, 0xbeef, b"later").unwrap();
    assert_eq!(Call::decode(&extended), Ok(call()));
    extended.pop();
    assert!(Call::decode(&extended).is_err());
}

proptest! {
    #[test]
    fn call_encode_decode_identity(
        epoch in any::<[u8; 16]>(), session_ordinal in any::<u16>(), is_trial in any::<bool>(),
        filler in any::<[u8; 32]>(),
    ) {
        let call = Call { protocol_version: PROTOCOL_VERSION, hub_epoch: HubEpoch(epoch), session_ordinal, is_trial };
        prop_assert_eq!(Call::decode(&call.encode()), Ok(call));
        let sent = call.message(&keys(SECRET), None, &EKM, Transport::TcpTls, filler).unwrap();
        prop_assert!(sent.len() <= MAX_MESSAGE);
        for length in 0..sent.len() {
            prop_assert_eq!(answer(&sent[..length], SECRET), Ok(CallProgress::NeedMore));
        }
        let followed = [sent.as_slice(), b"frames"].concat();
        prop_assert_eq!(answer(&followed, SECRET), Ok(CallProgress::Called { call, consumed: sent.len() }));
    }

    #[test]
    fn random_bytes_never_panic_and_are_never_a_call(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
        let mut framed = vec![4];
        framed.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&bytes);
        for received in [&bytes, &framed] {
            let is_call = matches!(answer(received, SECRET), Ok(CallProgress::Called { .. }));
            prop_assert!(!is_call);
        }
    }
}
