//! Conclusions about the other end of the tunnel and the way there.

use remoteingress_config::TransportMode;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_proto::handshake::{HandshakeError, RefuseCode, Refused, Transport};
use remoteingress_proto::token::pin::Pin;
use std::time::Duration;

/// The packets in which QUIC begins, with their headers over IPv6 (RFC 9000 section 14): 1,200 and 48 bytes.
const QUIC_PACKET: u32 = 1_248;
/// Every stream waits this long once or twice before its first byte.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(500);

/// The other end, and how its key is known.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The word for it: `hub` or `edge`.
    pub word: &'a str,
    /// Where it is, as `host:port`.
    pub place: &'a str,
    /// The transports that the configuration uses.
    pub mode: TransportMode,
    /// Its key is compared with a pin.
    pub has_pins: bool,
    /// Its certificate's name is verified.
    pub has_name: bool,
}

/// An attempt to connect to it, which has ended with its TLS or QUIC handshake.
pub type Attempt<'a, T> = Result<T, &'a CodedError>;

/// An answer that says nothing about the way, but about the key.
pub fn is_wrong_key(error: &CodedError) -> bool {
    matches!(
        error.code,
        ErrorCode::HubPinMismatch | ErrorCode::EdgePinMismatch
    )
}

/// The tunnel port over this transport.
pub fn reach(peer: Peer<'_>, transport: Transport, attempt: Attempt<'_, ()>) -> Check {
    let (name, over, advice) = match transport {
        Transport::TcpTls => (
            CheckName::Tcp,
            "TCP",
            "check that it runs, its host and port, and firewalls in between",
        ),
        Transport::Quic => (
            CheckName::Quic,
            "QUIC (UDP)",
            "check that firewalls let UDP through to the same port, and its answers back",
        ),
    };
    let Peer {
        word, place, mode, ..
    } = peer;
    let error = match attempt {
        Ok(()) => return Check::ok(name, format!("the {word} at {place} answers over {over}")),
        Err(error) if is_wrong_key(error) => {
            let seen = format!("{place} answers over {over}, with another key");
            return Check::ok(name, seen);
        }
        Err(error) => error,
    };
    let seen = format!("{place} over {over}: {error}");
    match (transport, mode) {
        (Transport::Quic, TransportMode::TcpTls) => {
            let seen = format!("{seen}; transportMode is tcpTls, which doesn't need it");
            Check::ok(name, seen)
        }
        (Transport::Quic, TransportMode::QuicWithFallback) => {
            let advice = format!("the tunnel falls back to TLS over TCP; {advice}");
            Check::warning(name, seen, advice)
        }
        (Transport::TcpTls, TransportMode::Quic) => {
            let advice = format!("transportMode quic doesn't need it; {advice}");
            Check::warning(name, seen, advice)
        }
        _ => Check::failure(name, seen, advice),
    }
}

/// The key that it shows.
pub fn pin(peer: Peer<'_>, attempt: Attempt<'_, Option<Pin>>) -> Option<Check> {
    let (name, Peer { word, .. }) = (CheckName::Pin, peer);
    let shown = match attempt {
        Ok(shown) => shown.map_or_else(|| "unknown".to_owned(), |pin| pin.to_string()),
        Err(error) if is_wrong_key(error) => {
            let seen = format!(
                "the {word} at {} has another key than the pinned one",
                peer.place
            );
            let advice = format!(
                "if the {word}'s key has changed on purpose, make a new token or correct the pin; otherwise somebody else answers there"
            );
            return Some(Check::failure(name, seen, advice));
        }
        Err(_) => return None,
    };
    Some(if peer.has_pins {
        Check::ok(name, format!("the {word} has the pinned key, {shown}"))
    } else if peer.has_name {
        let seen = format!("the {word}'s certificate has the verified name; its pin is {shown}");
        Check::ok(name, seen)
    } else if word == "hub" {
        Check::warning(
            name,
            format!("the hub's key isn't checked; its pin is {shown}"),
            "give the hub a stateDir and the edge a new token, which carries the pin, or set hubPins or verifyHostname",
        )
    } else {
        let seen = format!("the {word}'s key isn't pinned, only its secret is; its pin is {shown}");
        Check::ok(name, seen)
    })
}

/// The answer to a Hello that requires a feature which nobody has: the hub checks the proof first.
pub fn proof(answer: Result<(), &HandshakeError>) -> Check {
    let name = CheckName::Proof;
    let refused = match answer {
        Ok(()) => return Check::ok(name, "the hub accepts this edge's id and secret"),
        Err(HandshakeError::Refused(Refused { code, .. })) => *code,
        Err(error) => {
            let seen = format!("the hub's answer makes no sense: {error}");
            return Check::warning(name, seen, "update hub and edge to one version");
        }
    };
    let unknown = |seen: &str, advice: &str| {
        Check::warning(name, format!("{seen}: the secret wasn't checked"), advice)
    };
    match refused {
        RefuseCode::UnsupportedFeature => {
            Check::ok(name, "the hub accepts this edge's id and secret")
        }
        RefuseCode::AuthFailed => Check::failure(
            name,
            "the hub doesn't know this edge's id, or its secret is another one",
            "check that the hub lists the edge, and give the edge a new token; a wrong secret counts towards the hub's maxAuthFailuresPerIp",
        ),
        RefuseCode::UnsupportedVersion => Check::failure(
            name,
            "hub and edge speak different versions of the protocol",
            "update the older one",
        ),
        RefuseCode::Overloaded => unknown(
            "the hub is overloaded, isn't ready, or has blocked this edge's id for a while after wrong secrets",
            "try again after a minute; the hub's log says why",
        ),
        RefuseCode::Draining => unknown("the hub is about to stop", "try again when it runs"),
        RefuseCode::InstanceConflict | RefuseCode::TooManySessions => Check::ok(
            name,
            "the hub accepts this edge's secret, and has it connected",
        ),
    }
}

/// The time to the other end and back.
pub fn round_trip(time: Duration) -> Check {
    let name = CheckName::RoundTrip;
    let seen = format!("{:.2} ms", time.as_secs_f64() * 1_000.0);
    if time < LONG_ROUND_TRIP {
        return Check::ok(name, seen);
    }
    let advice = "each new stream waits for it; look for a nearer place or a less loaded line";
    Check::warning(name, seen, advice)
}

/// The route's MTU as the kernel knows it, and the payload of a TCP segment there, in bytes. Where the kernel hasn't
/// learned of a smaller one, it is the network interface's: nothing is sent to try it.
pub fn path_mtu(packet: u32, segment: u32) -> Check {
    let name = CheckName::PathMtu;
    let seen = format!(
        "the route's MTU is {packet} bytes as the kernel knows it, with TCP segments of {segment}"
    );
    if packet >= QUIC_PACKET {
        return Check::ok(name, seen);
    }
    let advice = format!(
        "QUIC needs {QUIC_PACKET}: raise the MTU of the tunnel or VPN on the way, or use transportMode tcpTls"
    );
    Check::warning(name, seen, advice)
}

/// A name, and the number of its addresses or the resolver's answer. `is_needed` is false for what the tunnel can do
/// without.
pub fn name(host: &str, found: Result<usize, String>, is_needed: bool) -> Check {
    let name = CheckName::NameResolution;
    match found {
        Ok(1) => Check::ok(name, format!("{host} has an address")),
        Ok(count) => Check::ok(name, format!("{host} has {count} addresses")),
        Err(problem) => {
            let seen = format!("{host}: {problem}");
            let advice =
                "check the name, and that this machine's name servers answer (/etc/resolv.conf)";
            if is_needed {
                Check::failure(name, seen, advice)
            } else {
                Check::warning(name, seen, advice)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::doctor::CheckState;

    const PEER: Peer<'_> = Peer {
        word: "hub",
        place: "hub.test:8443",
        mode: TransportMode::TcpTls,
        has_pins: true,
        has_name: false,
    };

    fn error(code: ErrorCode) -> CodedError {
        CodedError::new(code, "as it is")
    }

    #[test]
    fn a_transport_that_isnt_used_may_fail() {
        let failed = error(ErrorCode::HubUnreachable);
        use CheckState::{Failure, Ok, Warning};
        use TransportMode::{Quic, QuicWithFallback, TcpTls};
        for (mode, tcp, quic) in [
            (TcpTls, Failure, Ok),
            (QuicWithFallback, Failure, Warning),
            (Quic, Warning, Failure),
        ] {
            let peer = Peer { mode, ..PEER };
            let state = |transport| reach(peer, transport, Err(&failed)).state;
            assert_eq!(state(Transport::TcpTls), tcp, "{mode:?}");
            assert_eq!(state(Transport::Quic), quic, "{mode:?}");
            assert_eq!(reach(peer, Transport::Quic, Result::Ok(())).state, Ok);
        }
    }

    #[test]
    fn a_wrong_key_is_a_matter_of_the_pin_alone() {
        let wrong = error(ErrorCode::HubPinMismatch);
        let check = reach(PEER, Transport::TcpTls, Err(&wrong));
        assert_eq!(check.state, CheckState::Ok, "{check:?}");
        let check = pin(PEER, Err(&wrong)).expect("a check");
        assert_eq!(check.state, CheckState::Failure);
        assert!(check.seen.contains("hub.test:8443"), "{check:?}");
        let silent = error(ErrorCode::HubUnreachable);
        assert_eq!(pin(PEER, Err(&silent)), None, "nothing was seen of its key");
    }

    #[test]
    fn a_key_that_nobody_checks_is_warned_of() {
        let unchecked = Peer {
            has_pins: false,
            ..PEER
        };
        let named = Peer {
            has_name: true,
            ..unchecked
        };
        let edge = Peer {
            word: "edge",
            ..unchecked
        };
        for (peer, state) in [
            (PEER, CheckState::Ok),
            (named, CheckState::Ok),
            (unchecked, CheckState::Warning),
            (edge, CheckState::Ok),
        ] {
            assert_eq!(pin(peer, Ok(None)).map(|check| check.state), Some(state));
        }
    }

    #[test]
    fn the_refusal_of_a_feature_shows_that_the_proof_was_right() {
        use CheckState::{Failure, Ok, Warning};
        for (code, state) in [
            (RefuseCode::UnsupportedFeature, Ok),
            (RefuseCode::AuthFailed, Failure),
            (RefuseCode::UnsupportedVersion, Failure),
            (RefuseCode::Overloaded, Warning),
            (RefuseCode::Draining, Warning),
            (RefuseCode::InstanceConflict, Ok),
            (RefuseCode::TooManySessions, Ok),
        ] {
            let refused = HandshakeError::Refused(Refused::new(code));
            assert_eq!(proof(Err(&refused)).state, state, "{code:?}");
        }
        assert_eq!(proof(Result::Ok(())).state, Ok);
        let nonsense = HandshakeError::UnknownKind(9);
        assert_eq!(proof(Err(&nonsense)).state, Warning);
    }

    #[test]
    fn ways_are_judged_by_what_quic_and_people_need() {
        let check = path_mtu(1_500, 1_448);
        assert_eq!(check.state, CheckState::Ok);
        assert!(check.seen.contains("as the kernel knows it"), "{check:?}");
        assert_eq!(path_mtu(1_247, 1_195).state, CheckState::Warning);
        let millis = Duration::from_millis;
        assert_eq!(round_trip(millis(499)).seen, "499.00 ms");
        assert_eq!(round_trip(millis(500)).state, CheckState::Warning);
    }

    #[test]
    fn names_that_the_tunnel_can_do_without_are_warned_of() {
        let problem = || Err("no such name".to_owned());
        assert_eq!(name("a.test", Ok(2), true).seen, "a.test has 2 addresses");
        assert_eq!(name("a.test", problem(), true).state, CheckState::Failure);
        assert_eq!(name("a.test", problem(), false).state, CheckState::Warning);
    }
}
