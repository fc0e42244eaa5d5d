//! Handshakes between both ends: what the tests of their messages and of their proofs start from.

use super::*;
use crate::token::edge_id::EdgeId;
use crate::token::secret::Secret;
use crate::wire::features::Features;

mod calls;
mod messages;
mod proofs;

const SECRET: &str = "correct horse battery staple";

fn keys(secret: &str) -> ProofKeys {
    ProofKeys::derive(&Secret::new(secret.into()))
}

fn known() -> Candidates {
    Candidates::new(keys(SECRET), None)
}

fn sequence(first: u8) -> [u8; 16] {
    std::array::from_fn(|i| first + u8::try_from(i).unwrap())
}

fn hello() -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        edge_id: EdgeId::new("edge-nyc-01").unwrap(),
        instance: InstanceId(sequence(0x10)),
        session_ordinal: 3,
        required: Features::RESUME,
        optional: Features::DATAGRAM,
        resume: Some(Resume {
            session: SessionId(sequence(0x20)),
            attempt: 7,
            received: 0x0123_4567_89ab,
        }),
        initial_credit: 262_144,
        replaces_instance: true,
        resume_timeout_secs: None,
        sessions_wanted: None,
        version: "0.1.0".into(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: SessionId(sequence(0x20)),
        outcome: SessionOutcome::Resumed {
            received: 0x0bad_c0de,
        },
        max_sessions: 16,
        initial_credit: 65_536,
        features: Features::RESUME,
        version: "0.1.0".into(),
        resume_timeout_secs: None,
        observed_address: Some("198.51.100.7:40000".parse().unwrap()),
    }
}

fn start(hello: &Hello, keys: &ProofKeys, ekm: &[u8; 32]) -> (EdgeHandshake, Vec<u8>) {
    EdgeHandshake::new(hello, keys.clone(), ekm, Transport::TcpTls).unwrap()
}

fn authenticate(
    sent: &[u8],
    candidates: &Candidates,
) -> Result<Box<AuthenticatedEdge>, HandshakeError> {
    let hub = HubHandshake::new(&EKM, Transport::TcpTls);
    match hub.handle(sent, |_| candidates.clone())? {
        HubProgress::Authenticated { edge, consumed } => {
            assert_eq!(consumed, sent.len());
            Ok(edge)
        }
        HubProgress::NeedMore => panic!("the whole message was there"),
    }
}

fn assert_auth_failed(result: Result<HubProgress, HandshakeError>) {
    assert!(
        matches!(result, Err(HandshakeError::AuthFailed { .. })),
        "{result:?}"
    );
}

const EKM: [u8; 32] = {
    let mut ekm = [0; 32];
    let mut i = 0u8;
    while i < 32 {
        ekm[i as usize] = i;
        i += 1;
    }
    ekm
};
const OTHER_EKM: [u8; 32] = [0xee; 32];
