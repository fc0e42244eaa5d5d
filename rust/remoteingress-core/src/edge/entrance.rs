//! An edge's limits as its entrance takes them, where its hub dials, and the entrance's reasons in the edge's words.

use crate::entrance::guard::{Limits, Refusal};
use crate::entrance::reason::Reason;
use remoteingress_config::EdgeLimits;
use remoteingress_config::reasons::{EdgeRefusalReason, TunnelRefusalReason};

impl From<&EdgeLimits> for Limits {
    fn from(limits: &EdgeLimits) -> Self {
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

impl From<Reason> for EdgeRefusalReason {
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
            Reason::Overloaded | Reason::NotReady => Self::Overloaded,
            Reason::Doctor => Self::Protocol,
            Reason::Peer(reason) => match reason {
                TunnelRefusalReason::AuthFailed => Self::AuthFailed,
                TunnelRefusalReason::InstanceConflict => Self::InstanceConflict,
                TunnelRefusalReason::UnsupportedVersion => Self::UnsupportedVersion,
                TunnelRefusalReason::UnsupportedFeature | TunnelRefusalReason::Protocol => {
                    Self::Protocol
                }
                TunnelRefusalReason::Draining => Self::Draining,
                TunnelRefusalReason::TooManySessions => Self::TooManySessions,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::handshake::RefuseCode;

    #[test]
    fn a_refusal_is_counted_by_the_word_that_the_hub_is_told() {
        for code in [
            RefuseCode::AuthFailed,
            RefuseCode::InstanceConflict,
            RefuseCode::UnsupportedVersion,
            RefuseCode::Draining,
            RefuseCode::TooManySessions,
        ] {
            let counted = EdgeRefusalReason::from(Reason::from(code));
            assert_eq!(counted.as_str(), code.as_str());
        }
    }
}
