//! Conclusions about an edge's live tunnel.

use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::reasons::PortState;
use remoteingress_config::status::{ConnectedEdge, UnreachableEdge};
use std::time::Duration;

/// Ports that a check names.
const MAX_NAMES: usize = 8;
/// Less than this isn't measured well.
const SHORTEST: Duration = Duration::from_millis(1);
/// A segment on most ways.
const SEGMENT: u64 = 1_400;
/// Less than this is no pattern.
const MANY_LOST: u64 = 10;
/// More than this share is felt.
const LOST_PERCENT: u64 = 2;
/// Below this a page takes long.
const FEW_MBIT: f64 = 1.0;
/// Every stream waits this long once or twice before its first byte.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(500);

/// What moved in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Payload that arrived.
    pub bytes: u64,
    /// From the first byte to the last one.
    pub time: Duration,
}

impl Moved {
    fn mbit_per_sec(&self) -> f64 {
        // One read that brings all takes no time.
        let time = self.time.max(SHORTEST).as_secs_f64();
        self.bytes as f64 * 8.0 / time / 1_000_000.0
    }
}

/// What the connection has lost so far on its way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathLoss {
    /// Over QUIC: packets.
    Lost {
        /// Those that were lost.
        lost: u64,
        /// All that were sent.
        sent: u64,
    },
    /// Over TCP: segments that were sent again.
    Repeated(u64),
}

impl PathLoss {
    /// The loss since an earlier look at the same connection.
    pub fn since(self, before: Self) -> Option<Self> {
        match (self, before) {
            (Self::Lost { lost, sent }, Self::Lost { lost: l, sent: s }) => Some(Self::Lost {
                lost: lost.checked_sub(l)?,
                sent: sent.checked_sub(s)?,
            }),
            (Self::Repeated(now), Self::Repeated(before)) => {
                Some(Self::Repeated(now.checked_sub(before)?))
            }
            _ => None,
        }
    }
}

/// The loss during a test that has moved this much to the edge.
pub fn loss(loss: Option<PathLoss>, there: Option<Moved>) -> Check {
    let name = CheckName::Loss;
    let (lost, sent, seen) = match loss {
        None => return Check::ok(name, "not known: the connection has changed"),
        Some(PathLoss::Lost { lost, sent }) => {
            let seen = format!("{lost} of {sent} packets to the edge were lost during the test");
            (lost, sent, seen)
        }
        Some(PathLoss::Repeated(repeated)) => {
            let sent = there.map_or(0, |there| there.bytes) / SEGMENT;
            let seen =
                format!("{repeated} segments to the edge were sent again during the test (TCP)");
            (repeated, sent, seen)
        }
    };
    // Some are lost when a sender looks for the limit of the way.
    if lost >= MANY_LOST && lost.saturating_mul(100) > sent.saturating_mul(LOST_PERCENT) {
        let advice = "look for a full or bad link on the way; over TCP each loss stops all streams of a session, so try transportMode quic";
        return Check::warning(name, seen, advice);
    }
    Check::ok(name, seen)
}

/// The edge is connected.
pub fn session(edge: &ConnectedEdge) -> Check {
    let ConnectedEdge {
        remote_address,
        version,
        sessions,
        active_streams,
        ..
    } = edge;
    let (transport, dialled_by) = (edge.transport.as_str(), edge.dialled_by.as_str());
    let seen = format!(
        "version {version} at {remote_address} over {transport}, dialled by the {dialled_by}: {sessions} sessions, {active_streams} streams"
    );
    Check::ok(CheckName::Session, seen)
}

/// The edge isn't connected.
pub fn no_session(unreachable: Option<&UnreachableEdge>) -> Check {
    let (seen, advice) = match unreachable {
        Some(edge) => (
            format!("not connected: {}: {}", edge.code.as_str(), edge.reason),
            "see docs/errors.md for the code; run the doctor with the hub's configuration",
        ),
        None => (
            "not connected".to_owned(),
            "check that the edge runs; run the doctor at the edge with its token",
        ),
    };
    Check::failure(CheckName::Session, seen, advice)
}

/// The ports as the edge has told them last.
pub fn ports(ports: &[PortStatus]) -> Check {
    let name = CheckName::Ports;
    let count = |state| ports.iter().filter(|port| port.state == state).count();
    let (bound, draining) = (count(PortState::Bound), count(PortState::Draining));
    let failed: Vec<String> = ports.iter().filter_map(failure).collect();
    if ports.is_empty() {
        return Check::ok(name, "the edge has told of no ports");
    }
    let mut seen = format!("{bound} open");
    if draining > 0 {
        seen.push_str(&format!(", {draining} draining"));
    }
    if failed.is_empty() {
        return Check::ok(name, seen);
    }
    let more = failed.len().saturating_sub(MAX_NAMES);
    let named: Vec<String> = failed.iter().take(MAX_NAMES).cloned().collect();
    seen.push_str(&format!(", {} failed: {}", failed.len(), named.join("; ")));
    if more > 0 {
        seen.push_str(&format!("; and {more} more"));
    }
    let advice =
        "free these ports on the edge, or allow the edge to open them; it tries again by itself";
    Check::failure(name, seen, advice)
}

fn failure(port: &PortStatus) -> Option<String> {
    let is_failed = port.state == PortState::Failed;
    let (protocol, number) = (port.protocol.as_str(), port.port);
    is_failed.then(|| match &port.error {
        Some(error) => format!("{protocol} {number}: {}", error.message),
        None => format!("{protocol} {number}"),
    })
}

/// The time to the edge and back: as the session knows it, and as a byte on a stream takes it.
pub fn round_trip(session: Option<Duration>, echo: Option<Duration>) -> Check {
    let name = CheckName::RoundTrip;
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1_000.0);
    let seen = match (session, echo) {
        (Some(session), Some(echo)) => format!(
            "{} of the session, {} of a byte on a stream",
            millis(session),
            millis(echo)
        ),
        (Some(session), None) => format!("{} of the session", millis(session)),
        (None, Some(echo)) => format!("{} of a byte on a stream", millis(echo)),
        (None, None) => {
            let advice = "test again: the session may have just begun";
            return Check::warning(name, "not known yet", advice);
        }
    };
    let longest = session.max(echo);
    if longest.is_some_and(|time| time > LONG_ROUND_TRIP) {
        let advice = "each new connection waits that long at least; put the edge nearer, or look for a queue on the way";
        return Check::warning(name, seen, advice);
    }
    Check::ok(name, seen)
}

/// What one stream moves in the direction of this check.
pub fn throughput(name: CheckName, moved: Option<Moved>) -> Check {
    let Some(moved) = moved.filter(|moved| moved.bytes > 0) else {
        let advice = "other traffic may leave it no room, or the tunnel has just been interrupted: test again";
        return Check::warning(name, "nothing arrived in time", advice);
    };
    let (rate, mib) = (moved.mbit_per_sec(), moved.bytes as f64 / 1_048_576.0);
    let seen = format!(
        "{rate:.1} Mbit/s of one stream in the last tier ({mib:.1} MiB in {:.2} s)",
        moved.time.as_secs_f64()
    );
    if rate < FEW_MBIT {
        let advice = "if the tunnel was quiet meanwhile, the way is that slow: look at loss and round trip, and at the edge's network";
        return Check::warning(name, seen, advice);
    }
    Check::ok(name, seen)
}

/// The edge can't take part in a test of its throughput.
pub fn too_old(version: &str) -> Vec<Check> {
    let seen = format!("not tested: the edge's version {version} knows no self-test");
    both(&seen, "update the edge to version 0.3.0 or later")
}

/// The test of throughput didn't come off.
pub fn untested(problem: &str) -> Vec<Check> {
    let seen = format!("not tested: {problem}");
    both(
        &seen,
        "test again; if it fails again, look at the log of the edge",
    )
}

fn both(seen: &str, advice: &str) -> Vec<Check> {
    let names = [CheckName::ThroughputToEdge, CheckName::ThroughputFromEdge];
    let names = names.into_iter();
    names
        .map(|name| Check::warning(name, seen, advice))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::doctor::CheckState;

    #[test]
    fn more_than_two_percent_lost_is_a_warning() {
        let lost = |lost, sent| PathLoss::Lost { lost, sent };
        let moved = Some(Moved {
            bytes: 1_400_000,
            time: Duration::from_secs(1),
        });
        for (seen, state) in [
            (lost(0, 1_000).since(lost(0, 0)), CheckState::Ok),
            (lost(20, 1_000).since(lost(0, 0)), CheckState::Ok),
            (
                lost(121, 2_000).since(lost(100, 1_000)),
                CheckState::Warning,
            ),
            (lost(9, 10).since(lost(0, 0)), CheckState::Ok),
            (lost(0, 0).since(lost(1, 1)), CheckState::Ok),
            (lost(1, 1).since(PathLoss::Repeated(0)), CheckState::Ok),
            (Some(PathLoss::Repeated(20)), CheckState::Ok),
            (Some(PathLoss::Repeated(21)), CheckState::Warning),
        ] {
            assert_eq!(loss(seen, moved).state, state, "{seen:?}");
        }
    }

    #[test]
    fn throughput_is_told_in_mbit_per_second() {
        let name = CheckName::ThroughputToEdge;
        let moved = |bytes, ms| {
            let time = Duration::from_millis(ms);
            Some(Moved { bytes, time })
        };
        for (moved, state, word) in [
            (moved(2_500_000, 2_000), CheckState::Ok, "10.0 Mbit/s"),
            (moved(100_000, 2_000), CheckState::Warning, "0.4 Mbit/s"),
            (moved(1_000, 0), CheckState::Ok, "8.0 Mbit/s"),
            (moved(0, 0), CheckState::Warning, "nothing"),
            (None, CheckState::Warning, "nothing"),
        ] {
            let check = throughput(name, moved);
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.seen.contains(word), "{}", check.seen);
        }
        assert!(
            too_old("0.2.0")
                .iter()
                .all(|check| check.seen.contains("0.2.0"))
        );
    }
    use remoteingress_config::port_status::PortError;
    use remoteingress_config::reasons::{PortErrorCode, Protocol};

    fn port(number: u16, state: PortState) -> PortStatus {
        let error = (state == PortState::Failed).then(|| PortError {
            code: PortErrorCode::AddressInUse,
            message: "in use".to_owned(),
        });
        PortStatus {
            protocol: Protocol::Tcp,
            port: number,
            bind_address: None,
            state,
            error,
        }
    }

    #[test]
    fn a_failed_port_is_a_failure_and_only_some_are_named() {
        let open = [port(443, PortState::Bound), port(80, PortState::Draining)];
        let check = ports(&open);
        assert_eq!(check.state, CheckState::Ok);
        assert_eq!(check.seen, "1 open, 1 draining");
        let failed: Vec<_> = (1..=10).map(|n| port(n, PortState::Failed)).collect();
        let check = ports(&failed);
        assert_eq!(check.state, CheckState::Failure);
        assert!(check.seen.starts_with("0 open, 10 failed: tcp 1: in use; "));
        assert!(
            check.seen.ends_with("tcp 8: in use; and 2 more"),
            "{}",
            check.seen
        );
        assert_eq!(ports(&[]).state, CheckState::Ok);
    }

    #[test]
    fn a_long_round_trip_is_a_warning() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (session, echo, state, word) in [
            (ms(1), ms(2), CheckState::Ok, "2.00 ms of a byte"),
            (ms(1), None, CheckState::Ok, "1.00 ms of the session"),
            (ms(1), ms(501), CheckState::Warning, "501.00 ms"),
            (None, None, CheckState::Warning, "not known"),
        ] {
            let check = round_trip(session, echo);
            assert_eq!(check.state, state);
            assert!(check.seen.contains(word), "{}", check.seen);
        }
    }

    #[test]
    fn an_edge_that_is_away_is_a_failure_with_the_last_reason() {
        let check = no_session(None);
        assert_eq!(check.state, CheckState::Failure);
        assert!(check.advice.is_some_and(|advice| advice.contains("doctor")));
    }
}
