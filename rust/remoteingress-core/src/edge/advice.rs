//! What an edge's operator reads about clients, and callers at the tunnel port, that were refused.

use crate::refusal_warnings::Advice;
use remoteingress_config::reasons::{EdgeRefusalReason, UdpDropReason};

/// Which limit or fault it was, and what to do; absent for a reason that has a line of its own where it occurs.
pub fn of_refusals(reason: EdgeRefusalReason) -> Option<Advice> {
    use Advice::{Notice, Warning};
    use EdgeRefusalReason as Reason;
    Some(match reason {
        Reason::MaxConnections => Warning(
            "clients were refused: the edge has as many as it may; raise limits.maxConnections, or the process's descriptor limit (LimitNOFILE)",
        ),
        Reason::MaxConnectionsPerListener => Warning(
            "clients were refused: a port has as many as it may; raise limits.maxConnectionsPerListener",
        ),
        Reason::MaxConnectionsPerIp => Warning(
            "clients were refused: their address has as many connections as it may; raise limits.maxConnectionsPerIp or limits.maxConnections, or list the network in limits.exempt",
        ),
        Reason::NewConnectionsPerIpPerSec => Warning(
            "clients were refused: connections come too fast from their address; raise limits.newConnectionsPerIpPerSec and limits.newConnectionsPerIpBurst, or list the network in limits.exempt",
        ),
        Reason::MaxStreamsPerEdge => Warning(
            "clients were refused: the edge has as many streams as its hub allows; raise limits.maxStreamsPerEdge of the hub",
        ),
        Reason::NoSession => Warning(
            "clients were refused: no session to the hub was live within limits.holdTimeoutSecs, or limits.maxHeldClients waited already; see why the hub isn't reached, or raise them",
        ),
        Reason::Overloaded => Warning(
            "clients were refused: the memory budget is used up or a worker takes no more; raise memoryBudgetMiB",
        ),
        Reason::MaxPreAuth => Warning(
            "callers at the tunnel port were refused: as many as may haven't proved the secret yet; raise limits.maxPreAuth if the hub is kept out",
        ),
        Reason::MaxPreAuthPerIp => Warning(
            "callers at the tunnel port were refused: as many as may of their address haven't proved the secret yet; raise limits.maxPreAuthPerIp, or list the network in limits.exempt",
        ),
        Reason::HandshakesPerIpPerSec => Warning(
            "callers at the tunnel port were refused: they come too fast from their address; raise limits.handshakesPerIpPerSec and limits.handshakesPerIpBurst, or list the network in limits.exempt",
        ),
        Reason::HandshakeTimeout => Notice(
            "callers at the tunnel port were cut off: no secret was proved within limits.handshakeTimeoutSecs; on the internet these are scanners",
        ),
        Reason::HandshakeFailed => Notice(
            "callers at the tunnel port have failed before a secret was proved: they weren't a hub, or a hub that doesn't accept this edge's key",
        ),
        Reason::AuthFailed => Warning(
            "callers at the tunnel port were refused: their secret is wrong; give hub and edge the same one",
        ),
        Reason::InstanceConflict => Warning(
            "callers at the tunnel port were refused: another hub is connected; stop one of them",
        ),
        Reason::UnsupportedVersion => Warning(
            "callers at the tunnel port were refused: their version and the edge's don't fit; update the older one",
        ),
        Reason::Protocol => Warning(
            "callers at the tunnel port were refused: they broke the protocol; if one is your hub, update hub and edge to one version",
        ),
        Reason::Draining => Notice("calls of the hub were refused: this edge is about to stop"),
        Reason::TooManySessions => Warning(
            "calls of the hub were refused: it asked for more sessions than this edge has workers; update hub and edge to one version",
        ),
        Reason::AdminConnections => Warning(
            "connections of the admin server were refused: their address or all have as many as may be; keep strangers away from admin.listen by a firewall, or let it be a unix socket",
        ),
        // A block has a line of its own, which says whom it is about.
        Reason::MaxAuthFailuresPerIp | Reason::Descriptors => return None,
    })
}

/// The same for datagrams of flows beyond a limit: each limit of this end.
pub const FLOWS: [(UdpDropReason, &str); 2] = [
    (
        UdpDropReason::MaxFlowsPerListener,
        "datagrams were dropped: a UDP port has as many flows as it may; raise limits.maxUdpFlowsPerListener",
    ),
    (
        UdpDropReason::MaxFlowsPerIp,
        "datagrams were dropped: a client's address has as many UDP flows as it may; raise limits.maxUdpFlowsPerIp, or list the network in limits.exempt",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_limit_that_is_counted() {
        for reason in EdgeRefusalReason::ALL {
            let word = reason.as_str();
            let starts = ["max", "new", "handshakesPer"];
            let is_limit = starts.iter().any(|start| word.starts_with(start));
            if let Some(Advice::Warning(advice)) = of_refusals(*reason) {
                let field = format!("limits.{word}");
                assert!(!is_limit || advice.contains(&field), "{field}: {advice}");
            } else {
                assert!(!is_limit || *reason == EdgeRefusalReason::MaxAuthFailuresPerIp);
            }
        }
        for (reason, advice) in FLOWS {
            assert!(advice.contains(&format!("limits.{}", reason.as_str())));
        }
    }
}
