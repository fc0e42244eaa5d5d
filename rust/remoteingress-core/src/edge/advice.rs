//! What an edge's operator reads about clients that were refused.

use remoteingress_config::reasons::{EdgeRefusalReason, UdpDropReason};

/// Which limit or fault it was, and what to do; absent for a reason that has a line of its own where it occurs.
pub fn of_clients(reason: EdgeRefusalReason) -> Option<&'static str> {
    use EdgeRefusalReason as Reason;
    Some(match reason {
        Reason::MaxConnections => {
            "clients were refused: the edge has as many as it may; raise limits.maxConnections, or the process's descriptor limit (LimitNOFILE)"
        }
        Reason::MaxConnectionsPerListener => {
            "clients were refused: a port has as many as it may; raise limits.maxConnectionsPerListener"
        }
        Reason::MaxConnectionsPerIp => {
            "clients were refused: their address has as many connections as it may; raise limits.maxConnectionsPerIp or limits.maxConnections, or list the network in limits.exempt"
        }
        Reason::NewConnectionsPerIpPerSec => {
            "clients were refused: connections come too fast from their address; raise limits.newConnectionsPerIpPerSec and limits.newConnectionsPerIpBurst, or list the network in limits.exempt"
        }
        Reason::MaxStreamsPerEdge => {
            "clients were refused: the edge has as many streams as its hub allows; raise limits.maxStreamsPerEdge of the hub"
        }
        Reason::NoSession => {
            "clients were refused: no session to the hub was live within limits.holdTimeoutSecs, or limits.maxHeldClients waited already; see why the hub isn't reached, or raise them"
        }
        Reason::Overloaded => {
            "clients were refused: the memory budget is used up or a worker takes no more; raise memoryBudgetMiB"
        }
        Reason::Descriptors => return None,
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
            let Some(advice) = of_clients(*reason) else {
                assert_eq!(*reason, EdgeRefusalReason::Descriptors);
                continue;
            };
            let is_limit = reason.as_str().starts_with("max") || reason.as_str().starts_with("new");
            let field = format!("limits.{}", reason.as_str());
            assert!(!is_limit || advice.contains(&field), "{field}: {advice}");
        }
        for (reason, advice) in FLOWS {
            assert!(advice.contains(&format!("limits.{}", reason.as_str())));
        }
    }
}
