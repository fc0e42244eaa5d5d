//! What to do about a code of an error or a reason of a refusal: one sentence each, for the page with and without
//! script and for `ctl`.

use remoteingress_config::overview::Overview;
use serde_json::{Map, Value};

/// Names in one line; more are counted.
const NAMES_SHOWN: usize = 4;

/// Codes with which a port or a tunnel fails.
const CODES: &[(&str, &str)] = &[
    (
        "E_ADDRESS_IN_USE",
        "Stop the program that listens there, or choose another port or bindAddress.",
    ),
    (
        "E_PERMISSION_DENIED",
        "Give the edge's process CAP_NET_BIND_SERVICE, or choose a port from 1024 on.",
    ),
    (
        "E_PORT_NOT_ALLOWED",
        "Remove the port at the hub, or add it to allowedPorts at the edge.",
    ),
    (
        "E_BIND_FAILED",
        "Correct bindAddress or sourceAddress: the machine must have this address.",
    ),
    (
        "E_DESCRIPTOR_LIMIT",
        "Raise the descriptor limit of the edge's process to the one in the message.",
    ),
    (
        "E_TLS",
        "Check that host and port lead to a remoteingress and nothing in between answers in its place.",
    ),
    (
        "E_PROXY_UNREACHABLE",
        "Check the proxy's name, port and firewall, and that it runs.",
    ),
    (
        "E_PROXY_REFUSED",
        "Have the proxy's operator allow connections to the other end's host and port.",
    ),
    (
        "E_PROXY_AUTH_FAILED",
        "Correct the proxy's user and password.",
    ),
    (
        "E_EDGE_UNREACHABLE",
        "Check dial.host, dial.port and the firewall, and that the edge runs with listenTunnel.",
    ),
    (
        "E_EDGE_PIN_MISMATCH",
        "Correct dial.pin if the edge has a new key. If it has its old one, somebody else answers in its place.",
    ),
    (
        "E_HUB_UNREACHABLE",
        "Check the hub's name, port and firewall (for QUIC also UDP), and that the hub runs.",
    ),
    (
        "E_HUB_PIN_MISMATCH",
        "Make a new token if the hub has a new key. If it has its old one, somebody else answers in its place.",
    ),
    (
        "E_AUTH_FAILED",
        "Make a new token for this edge at the hub, or correct its secret there.",
    ),
    (
        "E_INSTANCE_CONFLICT",
        "Stop one of the two processes that use this edge's token.",
    ),
    ("E_PROTOCOL", "Update the older end."),
    (
        "E_OVERLOADED",
        "Wait for the hub, or raise the limit that its log names.",
    ),
];

/// Reasons in `rejected` of hub and edge.
const REASONS: &[(&str, &str)] = &[
    (
        "maxPreAuth",
        "Too many callers without a proof. Scanners at the tunnel port? Else raise maxPreAuth.",
    ),
    (
        "maxPreAuthPerIp",
        "Too many callers without a proof from one network. Edges behind one address? Raise maxPreAuthPerIp.",
    ),
    (
        "handshakesPerIpPerSec",
        "Callers come too fast from one network. Edges behind one address? Raise handshakesPerIpPerSec.",
    ),
    (
        "maxAuthFailuresPerIp",
        "Blocked for a while after wrong secrets: correct the token of the caller.",
    ),
    (
        "descriptors",
        "Raise the descriptor limit of this process (LimitNOFILE).",
    ),
    (
        "handshakeTimeout",
        "Callers that prove nothing in time: scanners, or a link that loses packets.",
    ),
    (
        "handshakeFailed",
        "Something else calls the tunnel port, or a pin is wrong. Scanners are harmless.",
    ),
    (
        "notReady",
        "Edges came before the hub knew them, and come back by themselves.",
    ),
    (
        "authFailed",
        "Unknown id or wrong secret: make a new token for the edge.",
    ),
    (
        "instanceConflict",
        "Two processes use one token: stop one of them.",
    ),
    ("unsupportedVersion", "Update the older end."),
    ("unsupportedFeature", "Update the hub."),
    (
        "protocol",
        "Update the older end; if both are alike, report it with the log.",
    ),
    ("draining", "Callers came while this end was about to stop."),
    (
        "tooManySessions",
        "Raise maxSessionsPerEdge, or start the edge with fewer workers.",
    ),
    (
        "maxStreams",
        "Raise maxStreams, or find the client that opens so many.",
    ),
    (
        "maxStreamsPerEdge",
        "Raise maxStreamsPerEdge, or find the client that opens so many.",
    ),
    (
        "maxPendingDialsPerEdge",
        "Targets answer slowly: check them, or raise maxPendingDialsPerEdge.",
    ),
    (
        "overloaded",
        "The memory budget is used up: raise it, or look for clients that don't read.",
    ),
    ("badHeader", "Update the edge."),
    (
        "unknownListener",
        "The port has no target any more; edges follow within a second.",
    ),
    (
        "clientRefused",
        "clientAddressPolicy forbids these clients.",
    ),
    (
        "targetRefused",
        "Start the target, or correct targetHost and targetPort.",
    ),
    (
        "targetUnreachable",
        "Check the target's name and firewall, and allowSpecialTargets.",
    ),
    (
        "poolEmpty",
        "Give the pool targets: under pools, in routing.db, or by DNS.",
    ),
    (
        "poolFull",
        "Add targets to the pool, raise their hardLimit, or let clients wait by queue.",
    ),
    (
        "noHealthyTarget",
        "Look at the pool's targets: each one's state says why it takes no streams.",
    ),
    (
        "retriesExhausted",
        "Start the pool's targets, or raise its retries.",
    ),
    (
        "retryBudget",
        "Too many of the pool's targets fail at once: start them.",
    ),
    (
        "adminConnections",
        "Callers of this admin server have too many connections: keep strangers away from admin.listen.",
    ),
    (
        "maxConnections",
        "Raise maxConnections, or add another edge.",
    ),
    (
        "maxConnectionsPerListener",
        "Raise maxConnectionsPerListener if these are real clients.",
    ),
    (
        "maxConnectionsPerIp",
        "One network has many clients: raise maxConnectionsPerIp if they are real.",
    ),
    (
        "newConnectionsPerIpPerSec",
        "One network opens fast: raise newConnectionsPerIpPerSec if it may.",
    ),
    (
        "noSession",
        "The hub wasn't back in time: see the events for why.",
    ),
];

/// Where a file can't be read.
pub(super) const STAYS: &str = "What was read before counts on: mend the file.";
/// Where rows are refused.
pub(super) const OF_ROWS: &str = "Correct these rows; the others count.";
/// Where DNS gives no targets.
pub(super) const OF_DISCOVERY: &str = "Check the name and its server; the targets of before stay for holdSecs, or while the server gives no answer.";

/// States of a pool's target that keep streams from it: what that means, and what to do.
const TARGETS: &[(&str, &str)] = &[
    (
        "full",
        "It has as many streams as its hardLimit lets it have: raise that, or add targets.",
    ),
    (
        "weightless",
        "Its weight is 0, so it takes no new clients: give it one.",
    ),
    (
        "drain",
        "It was told to drain and takes no new clients: activate it when it may.",
    ),
    (
        "leaving",
        "DNS names it no more: it is removed within 30 s, or stays if its record comes back.",
    ),
    (
        "dead",
        "It was told to be dead and takes no streams: activate it when it may.",
    ),
    (
        "down",
        "Its check fails, or its row has healthy 0: start it, or correct the check.",
    ),
    (
        "ejected",
        "Streams to it have failed: see that it runs; it is tried again by itself.",
    ),
    (
        "trial",
        "It was out, and is tried with one stream at a time.",
    ),
];

/// What a target's state means for new streams, and what to do; empty for `up` and for one that isn't known here.
#[must_use]
pub fn of_target(state: &str) -> &'static str {
    find(TARGETS, state)
}

/// What to do about a code; empty for one that isn't known here.
#[must_use]
pub fn of_code(code: &str) -> &'static str {
    find(CODES, code)
}

/// What to do about a reason; empty for one that isn't known here.
pub(super) fn of_reason(reason: &str) -> &'static str {
    find(REASONS, reason)
}

/// Why an edge's hub is away, as far as its events tell, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAway {
    /// The last code and its reason.
    pub seen: String,
    /// What to do.
    pub advice: &'static str,
}

impl HubAway {
    /// `disconnected` is the data of the last event `tunnelDisconnected`, if there is one.
    #[must_use]
    pub fn new(disconnected: Option<&Value>) -> Self {
        let text = |name: &str| disconnected.and_then(|data| data[name].as_str());
        let code = text("code").unwrap_or_default();
        Self {
            seen: text("reason").map_or_else(
                || "there is no session that takes streams".to_owned(),
                |reason| format!("{code}, {reason}"),
            ),
            advice: match of_code(code) {
                "" => of_code("E_HUB_UNREACHABLE"),
                known => known,
            },
        }
    }
}

/// What to do about edges that are away from a hub with this tunnel port; 0 is a hub that only dials.
#[must_use]
pub fn of_away_edges(tunnel_port: u64) -> String {
    match tunnel_port {
        0 => "Check that the edge runs and can be reached.".to_owned(),
        port => format!(
            "Check that the edge runs, and reaches this hub at port {port} (TCP; for QUIC also UDP)."
        ),
    }
}

/// All of it as JSON, for the script; that about edges that are away is `edgesAway`.
pub(super) fn all(overview: &Overview) -> Value {
    let entries = CODES.iter().chain(REASONS).chain(TARGETS);
    let entries = entries.map(|(name, advice)| ((*name).to_owned(), Value::from(*advice)));
    let mut all: Map<_, _> = entries.collect();
    if let Some(hub) = &overview.hub {
        let away = of_away_edges(hub.tunnel_port.into());
        all.insert("edgesAway".to_owned(), away.into());
    }
    Value::Object(all)
}

fn find(table: &[(&str, &'static str)], name: &str) -> &'static str {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, advice)| advice)
}

/// These names in one line; beyond four they are counted.
pub fn names(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMES_SHOWN);
    let shown = all.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    match more {
        0 => shown,
        _ => format!("{shown} and {more} more"),
    }
}

/// So many of one thing, whose name takes an s for more.
pub fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use remoteingress_config::{
        error::ErrorCode,
        pool_status::TargetState,
        reasons::{EdgeRefusalReason, HubRefusalReason, PortErrorCode},
    };

    use super::*;

    #[test]
    fn every_reason_and_every_code_of_a_port_has_advice_and_none_is_made_up() {
        let hub = HubRefusalReason::ALL.iter().map(|reason| reason.as_str());
        let edge = EdgeRefusalReason::ALL.iter().map(|reason| reason.as_str());
        for reason in hub.chain(edge) {
            assert_ne!(of_reason(reason), "", "{reason}");
        }
        for code in PortErrorCode::ALL {
            assert_ne!(of_code(code.as_str()), "", "{code:?}");
        }
        for (code, _) in CODES {
            assert!(ErrorCode::from_text(code).is_some(), "{code}");
        }
        let is_reason = |reason: &str| {
            HubRefusalReason::from_text(reason).is_some()
                || EdgeRefusalReason::from_text(reason).is_some()
        };
        for (reason, _) in REASONS {
            assert!(is_reason(reason), "{reason}");
        }
        for state in TargetState::ALL {
            let is_up = *state == TargetState::Up;
            assert_eq!(of_target(state.as_str()).is_empty(), is_up, "{state:?}");
        }
    }
}
