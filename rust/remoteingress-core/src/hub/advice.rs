//! What a hub's operator reads about connections, edges and streams that were refused.

use crate::refusal_warnings::Advice;
use remoteingress_config::reasons::{HubRefusalReason, UdpDropReason};

/// The line for a reason; absent where it has one of its own where it occurs.
pub fn of_refusals(reason: HubRefusalReason) -> Option<Advice> {
    use Advice::{Notice, Warning};
    use HubRefusalReason as Reason;
    Some(match reason {
        Reason::MaxPreAuth => Warning(
            "tunnel connections were refused: as many as may haven't proved a secret yet; raise limits.maxPreAuth if edges are kept out",
        ),
        Reason::MaxPreAuthPerIp => Warning(
            "tunnel connections were refused: as many as may of their address haven't proved a secret yet; raise limits.maxPreAuthPerIp, or list the network in limits.exempt",
        ),
        Reason::HandshakesPerIpPerSec => Warning(
            "tunnel connections were refused: they come too fast from their address; raise limits.handshakesPerIpPerSec and limits.handshakesPerIpBurst, or list the network in limits.exempt",
        ),
        Reason::HandshakeTimeout => Notice(
            "tunnel connections were closed: no secret was proved within limits.handshakeTimeoutSecs; on the internet these are scanners",
        ),
        Reason::HandshakeFailed => Notice(
            "tunnel connections have failed before a secret was proved: they weren't of edges, or of edges that don't accept this hub's key",
        ),
        Reason::NotReady => {
            Notice("edges were asked to come back: updateAllowedEdges hasn't been called yet")
        }
        Reason::Draining => Notice("edges were refused: this hub is about to stop"),
        Reason::AuthFailed => Warning(
            "edges were refused: their id is unknown or their secret wrong; see edgeRejected, and give the edge a new token or list it",
        ),
        Reason::InstanceConflict => Warning(
            "edges were refused: another one with the same id is connected; stop one, or set its replaceInstance",
        ),
        Reason::UnsupportedVersion | Reason::UnsupportedFeature => Warning(
            "edges were refused: their version and the hub's don't fit; update the older one",
        ),
        Reason::Protocol => Warning(
            "peers were refused: they broke the protocol; if they are edges of yours, update hub and edge to one version",
        ),
        Reason::TooManySessions => Warning(
            "sessions of edges were refused: they have as many as they may; raise maxSessionsPerEdge",
        ),
        Reason::MaxStreams => {
            Warning("streams were refused: the hub has as many as it may; raise limits.maxStreams")
        }
        Reason::MaxStreamsPerEdge => Warning(
            "streams were refused: their edge has as many as it may; raise limits.maxStreamsPerEdge",
        ),
        Reason::MaxPendingDialsPerEdge => Warning(
            "streams were refused: as many targets of their edge are being dialled as may be; see if the targets answer, or raise limits.maxPendingDialsPerEdge",
        ),
        Reason::BadHeader => Warning(
            "streams were refused: their header makes no sense; update hub and edge to one version",
        ),
        Reason::UnknownListener => Warning(
            "streams were refused: their port has no target; after a change of the ports this ends by itself",
        ),
        Reason::ClientRefused => {
            Warning("streams were refused: clientAddressPolicy forbids their client's address")
        }
        Reason::AdminConnections => Warning(
            "connections of the admin server were refused: their address or all have as many as may be; keep strangers away from admin.listen by a firewall, or let it be a unix socket",
        ),
        Reason::MaxAuthFailuresPerIp
        | Reason::Descriptors
        | Reason::Overloaded
        | Reason::PoolEmpty
        | Reason::PoolFull
        | Reason::NoHealthyTarget
        | Reason::RetriesExhausted
        | Reason::RetryBudget
        | Reason::TargetRefused
        | Reason::TargetUnreachable => return None,
    })
}

/// The same for datagrams of flows beyond a limit.
pub fn of_flows(reason: UdpDropReason) -> Option<&'static str> {
    (reason == UdpDropReason::MaxFlowsPerEdge).then_some(
        "datagrams were dropped: their edge has as many UDP flows as it may; raise limits.maxUdpFlowsPerEdge",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_limit_that_is_counted() {
        for reason in HubRefusalReason::ALL {
            let word = reason.as_str();
            let is_limit = word.starts_with("max") || word.starts_with("handshakesPer");
            if let Some(Advice::Warning(advice)) = of_refusals(*reason) {
                assert!(
                    !is_limit || advice.contains(&format!("limits.{word}")),
                    "{word}: {advice}"
                );
            } else {
                // A block has a line of its own, which says whom it is about.
                assert!(!is_limit || *reason == HubRefusalReason::MaxAuthFailuresPerIp);
            }
        }
        let advice = of_flows(UdpDropReason::MaxFlowsPerEdge).unwrap();
        assert!(advice.contains("limits.maxUdpFlowsPerEdge"));
    }
}
