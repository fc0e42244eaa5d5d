//! A failed attempt to reach the peer: its code, the advice to the operator, and the time of the next attempt.

use crate::entrance::reason::Reason;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::reasons::TunnelRefusalReason;
use remoteingress_proto::handshake::{HandshakeError, RefuseCode, Refused};
use std::time::Duration;

/// The shortest time to the next attempt after a wrong secret or a session too many: the peer blocks an address after
/// 5 wrong proofs in 60 s (`maxAuthFailuresPerIp`), and others may share the address.
const PATIENT_RETRY: Duration = Duration::from_secs(15);

/// The words for both ends in what an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The end that dials, for instance "edge".
    pub own: &'static str,
    /// The end that accepts, for instance "hub".
    pub peer: &'static str,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code and the advice for the operator.
    pub error: CodedError,
    /// The shortest time until the next attempt that the peer asked for, or that its refusal implies.
    pub retry_after: Option<Duration>,
    /// The peer doesn't know this end's id or its secret.
    pub is_auth_failure: bool,
}

impl Failure {
    /// A failure that the peer has said nothing about.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::from(CodedError::new(code, message))
    }

    /// The failure that an answer to Hello means.
    pub fn of_handshake(error: &HandshakeError, ends: Ends) -> Self {
        if let HandshakeError::Refused(refused) = error {
            return Self::refused(refused, ends);
        }
        let code = if matches!(error, HandshakeError::HubProofFailed) {
            ErrorCode::AuthFailed
        } else {
            ErrorCode::Protocol
        };
        let peer = ends.peer;
        Self::new(
            code,
            format!("the {peer}'s answer can't be trusted: {error}"),
        )
    }

    fn refused(refused: &Refused, Ends { own, peer }: Ends) -> Self {
        let (code, advice) = match refused.code {
            RefuseCode::AuthFailed => (
                ErrorCode::AuthFailed,
                format!(
                    "the {peer} doesn't accept this {own} id and secret; check the token and that the {peer} lists the {own}"
                ),
            ),
            RefuseCode::InstanceConflict => (
                ErrorCode::InstanceConflict,
                format!("another {own} with this id is connected; stop it, or set replaceInstance"),
            ),
            RefuseCode::UnsupportedVersion | RefuseCode::UnsupportedFeature => (
                ErrorCode::Protocol,
                format!("{peer} and {own} have versions that don't fit; update the older one"),
            ),
            RefuseCode::Overloaded => (
                ErrorCode::Overloaded,
                format!(
                    "the {peer} is overloaded, or has blocked this {own}'s id at this address for a while after wrong proofs; its log says which"
                ),
            ),
            RefuseCode::Draining => (
                ErrorCode::HubUnreachable,
                format!("the {peer} is about to stop"),
            ),
            RefuseCode::TooManySessions => (
                ErrorCode::Overloaded,
                format!("the {peer} allows this {own} fewer sessions (maxSessionsPerEdge)"),
            ),
        };
        Self::implied(CodedError::new(code, advice), *refused)
    }

    fn implied(error: CodedError, refused: Refused) -> Self {
        let is_auth_failure = refused.code == RefuseCode::AuthFailed;
        let is_surplus = refused.code == RefuseCode::TooManySessions;
        let implied = (is_auth_failure || is_surplus).then_some(PATIENT_RETRY);
        Self {
            error,
            retry_after: refused.retry_after.or(implied),
            is_auth_failure,
        }
    }

    /// The failure that an edge's answer to a Call means.
    pub fn of_call(error: &HandshakeError) -> Self {
        let HandshakeError::Refused(refused) = error else {
            let message = format!("the edge's answer can't be trusted: {error}");
            return Self::new(ErrorCode::Protocol, message);
        };
        let (code, advice) = match refused.code {
            RefuseCode::AuthFailed => (
                ErrorCode::AuthFailed,
                "the edge doesn't accept this hub's secret; give the edge a token of this hub",
            ),
            RefuseCode::InstanceConflict => (
                ErrorCode::InstanceConflict,
                "another hub has the edge; stop it, or give each hub an edge of its own",
            ),
            RefuseCode::UnsupportedVersion | RefuseCode::UnsupportedFeature => (
                ErrorCode::Protocol,
                "hub and edge have versions that don't fit; update the older one",
            ),
            RefuseCode::Overloaded => (
                ErrorCode::Overloaded,
                "the edge is overloaded, or has blocked this hub's address for a while after wrong proofs; its log says which",
            ),
            RefuseCode::Draining => (ErrorCode::EdgeUnreachable, "the edge is about to stop"),
            RefuseCode::TooManySessions => {
                (ErrorCode::Overloaded, "the edge wants fewer sessions now")
            }
        };
        Self::implied(CodedError::new(code, advice), *refused)
    }

    /// The failure that it means to let an edge not in that was called and has answered.
    pub fn of_answer(reason: Option<Reason>) -> Self {
        let (code, advice, is_auth_failure) = match reason {
            Some(Reason::Peer(TunnelRefusalReason::AuthFailed)) => (
                ErrorCode::AuthFailed,
                "it isn't this edge that answers: its id or its secret is another one; check dial and the edge's token",
                true,
            ),
            Some(Reason::Peer(TunnelRefusalReason::InstanceConflict)) => (
                ErrorCode::InstanceConflict,
                "another edge with this id is connected; stop it, or set replaceInstance",
                false,
            ),
            Some(Reason::Peer(TunnelRefusalReason::TooManySessions)) => (
                ErrorCode::Overloaded,
                "the edge has as many sessions as it may (maxSessionsPerEdge)",
                false,
            ),
            Some(Reason::Peer(TunnelRefusalReason::Draining)) => (
                ErrorCode::EdgeUnreachable,
                "this hub is about to stop",
                false,
            ),
            Some(_) | None => (
                ErrorCode::Protocol,
                "the edge's answer makes no sense; update the older one of both ends",
                false,
            ),
        };
        Self {
            retry_after: is_auth_failure.then_some(PATIENT_RETRY),
            is_auth_failure,
            ..Self::new(code, advice)
        }
    }

    /// The same failure, after which the next attempt waits as after a wrong secret.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            retry_after: Some(PATIENT_RETRY),
            ..self
        }
    }

    /// The same failure in the words of a hub that has dialled an edge.
    #[must_use]
    pub fn towards_edge(mut self) -> Self {
        for (towards_hub, towards_edge) in [
            (ErrorCode::HubUnreachable, ErrorCode::EdgeUnreachable),
            (ErrorCode::HubPinMismatch, ErrorCode::EdgePinMismatch),
        ] {
            if self.error.code == towards_hub {
                self.error.code = towards_edge;
            }
        }
        self
    }

    /// The peer has said nothing, so that another transport may reach it.
    pub fn is_unreachable(&self) -> bool {
        let codes = [ErrorCode::HubUnreachable, ErrorCode::EdgeUnreachable];
        codes.contains(&self.error.code) && self.retry_after.is_none()
    }
}

impl From<CodedError> for Failure {
    fn from(error: CodedError) -> Self {
        Self {
            error,
            retry_after: None,
            is_auth_failure: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        own: "edge",
        peer: "hub",
    };

    fn refusal(code: RefuseCode, retry_after: Option<Duration>) -> Failure {
        let refused = Refused { code, retry_after };
        Failure::of_handshake(&HandshakeError::Refused(refused), ENDS)
    }

    #[test]
    fn every_refusal_has_its_code_and_the_time_of_the_next_attempt() {
        let patient = Some(PATIENT_RETRY);
        for (refused, code, retry_after, is_auth_failure) in [
            (RefuseCode::AuthFailed, ErrorCode::AuthFailed, patient, true),
            (
                RefuseCode::InstanceConflict,
                ErrorCode::InstanceConflict,
                None,
                false,
            ),
            (
                RefuseCode::UnsupportedVersion,
                ErrorCode::Protocol,
                None,
                false,
            ),
            (
                RefuseCode::UnsupportedFeature,
                ErrorCode::Protocol,
                None,
                false,
            ),
            (RefuseCode::Overloaded, ErrorCode::Overloaded, None, false),
            (RefuseCode::Draining, ErrorCode::HubUnreachable, None, false),
            (
                RefuseCode::TooManySessions,
                ErrorCode::Overloaded,
                patient,
                false,
            ),
        ] {
            let failure = refusal(refused, None);
            let found = (
                failure.error.code,
                failure.retry_after,
                failure.is_auth_failure,
            );
            assert_eq!(found, (code, retry_after, is_auth_failure), "{refused:?}");
            let asked = Some(Duration::from_secs(1));
            assert_eq!(refusal(refused, asked).retry_after, asked, "{refused:?}");
        }
    }

    #[test]
    fn another_transport_is_tried_only_where_the_peer_has_said_nothing() {
        assert!(Failure::new(ErrorCode::HubUnreachable, "no answer").is_unreachable());
        assert!(!Failure::new(ErrorCode::HubPinMismatch, "another key").is_unreachable());
        let asked = Some(Duration::from_secs(1));
        assert!(!refusal(RefuseCode::Draining, asked).is_unreachable());
        assert!(!refusal(RefuseCode::Overloaded, None).is_unreachable());
    }

    #[test]
    fn a_hub_that_is_blocked_is_told_where_to_look() {
        let refused = Refused {
            code: RefuseCode::Overloaded,
            retry_after: Some(Duration::from_secs(60)),
        };
        let failure = Failure::of_call(&HandshakeError::Refused(refused));
        assert_eq!(failure.retry_after, refused.retry_after);
        let advice = failure.error.message;
        assert!(advice.contains("blocked this hub's address"), "{advice}");
        assert!(advice.contains("log"), "{advice}");
    }

    #[test]
    fn an_answer_without_the_secret_is_no_refusal_of_ours() {
        let failure = Failure::of_handshake(&HandshakeError::HubProofFailed, ENDS);
        assert_eq!(failure.error.code, ErrorCode::AuthFailed);
        assert!(!failure.is_auth_failure);
        let failure = Failure::of_handshake(&HandshakeError::UnknownKind(9), ENDS);
        assert_eq!(failure.error.code, ErrorCode::Protocol);
    }
}
