//! A hub's limits as its entrance takes them, and the entrance's reasons in the hub's words.

use crate::entrance::guard::{Limits, Refusal};
use crate::entrance::reason::Reason;
use remoteingress_config::HubLimits;
use remoteingress_config::reasons::HubRefusalReason;

impl From<&HubLimits> for Limits {
    fn from(limits: &HubLimits) -> Self {
        Self {
            max_pre_auth: limits.max_pre_auth,
            max_pre_auth_per_ip: limits.max_pre_auth_per_ip,
            handshakes_per_ip_per_sec: limits.handshakes_per_ip_per_sec,
            handshakes_per_ip_burst: limits.handshakes_per_ip_burst,
            max_auth_failures_per_ip: limits.max_auth_failures_per_ip,
            exempt: limits.exempt.clone(),
        }
    }
}

impl From<Reason> for HubRefusalReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Guard(refusal) => match refusal {
                Refusal::PreAuth => Self::MaxPreAuth,
                Refusal::PreAuthPerIp => Self::MaxPreAuthPerIp,
                Refusal::HandshakesPerIp => Self::HandshakesPerIpPerSec,
                Refusal::Blocked => Self::MaxAuthFailuresPerIp,
            },
            Reason::Descriptors => Self::Descriptors,
            Reason::HandshakeTimeout => Self::HandshakeTimeout,
            Reason::HandshakeFailed => Self::HandshakeFailed,
            Reason::NotReady => Self::NotReady,
            Reason::Overloaded => Self::Overloaded,
            Reason::Doctor => Self::UnsupportedFeature,
            Reason::Peer(reason) => reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::handshake::RefuseCode;

    #[test]
    fn a_refusal_is_counted_by_the_word_that_the_peer_is_told() {
        for code in [
            RefuseCode::AuthFailed,
            RefuseCode::InstanceConflict,
            RefuseCode::UnsupportedVersion,
            RefuseCode::UnsupportedFeature,
            RefuseCode::Overloaded,
            RefuseCode::Draining,
            RefuseCode::TooManySessions,
        ] {
            let counted = HubRefusalReason::from(Reason::from(code));
            assert_eq!(counted.as_str(), code.as_str());
        }
    }
}
