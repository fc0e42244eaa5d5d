//! News about the tunnel to a hub: that it is up or down, or goes over another transport.

use remoteingress_config::error::ErrorCode;
use remoteingress_proto::handshake::Transport;

/// The state of the tunnel to one hub, as it was told last, and the workers that take part.
#[derive(Debug)]
pub struct Connectivity {
    phase: Phase,
    /// The transport of new streams, as it was told last.
    transport: Option<Transport>,
    /// Workers that keep a session: the first ones.
    started_workers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was told yet.
    New,
    Up,
    Down(ErrorCode),
}

/// Something that follows. Actions are carried out in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// This worker keeps a session from now on.
    Start(usize),
    /// New streams go over another transport: an event.
    TransportChanged(Transport),
    /// The tunnel is up: an event.
    Connected,
    /// No session takes streams, for the reason that was told last: an event.
    Disconnected,
    /// The hub knows this edge no longer: its clients are better refused than held.
    ClosePorts,
}

/// A session that the hub has let in, or hears again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionUp {
    /// The transport of the session's connection.
    pub transport: Transport,
    /// New sessions use this transport, too: one that only finishes its streams may come back over the other.
    pub is_chosen: bool,
    /// The sessions that the hub allows this edge.
    pub max_sessions: usize,
}

impl Connectivity {
    /// Nothing is known; the first worker dials.
    pub fn new() -> Self {
        Self {
            phase: Phase::New,
            transport: None,
            started_workers: 1,
        }
    }

    /// A session is up, of an edge with this many workers.
    pub fn up(&mut self, session: SessionUp, workers: usize) -> Vec<Action> {
        let SessionUp {
            transport,
            is_chosen,
            max_sessions,
        } = session;
        let wanted = max_sessions.min(workers);
        let mut actions: Vec<Action> = (self.started_workers..wanted).map(Action::Start).collect();
        self.started_workers = self.started_workers.max(wanted);
        if is_chosen {
            let before = self.transport.replace(transport);
            if before.is_some_and(|before| before != transport) {
                actions.push(Action::TransportChanged(transport));
            }
        }
        if self.phase != Phase::Up {
            self.phase = Phase::Up;
            actions.push(Action::Connected);
        }
        actions
    }

    /// A session or an attempt carries nothing, for this reason, while this many workers have a live session.
    /// An outage is told once, and again when its reason is another one.
    pub fn down(&mut self, reason: ErrorCode, live: usize) -> Vec<Action> {
        if live > 0 || self.phase == Phase::Down(reason) {
            return Vec::new();
        }
        self.phase = Phase::Down(reason);
        let mut actions = vec![Action::Disconnected];
        if reason == ErrorCode::AuthFailed {
            actions.push(Action::ClosePorts);
        }
        actions
    }
}

impl Default for Connectivity {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: usize = 4;

    fn session(transport: Transport) -> SessionUp {
        SessionUp {
            transport,
            is_chosen: true,
            max_sessions: 1,
        }
    }

    #[test]
    fn the_first_session_is_news_and_the_next_ones_are_not() {
        let mut tunnel = Connectivity::new();
        let quic = session(Transport::Quic);
        assert_eq!(tunnel.up(quic, WORKERS), [Action::Connected]);
        assert_eq!(tunnel.up(quic, WORKERS), []);
    }

    #[test]
    fn an_outage_is_told_once_and_again_for_another_reason() {
        let mut tunnel = Connectivity::new();
        let (unreachable, overloaded) = (ErrorCode::HubUnreachable, ErrorCode::Overloaded);
        let told = tunnel.down(unreachable, 0);
        assert_eq!(told, [Action::Disconnected], "before any session");
        assert_eq!(tunnel.down(unreachable, 0), []);
        assert_eq!(tunnel.down(overloaded, 0), [Action::Disconnected]);
        tunnel.up(session(Transport::TcpTls), WORKERS);
        assert_eq!(tunnel.down(overloaded, 1), [], "another session is live");
        assert_eq!(
            tunnel.down(overloaded, 0),
            [Action::Disconnected],
            "a new outage for the old reason"
        );
        let again = tunnel.up(session(Transport::TcpTls), WORKERS);
        assert_eq!(again, [Action::Connected]);
    }

    #[test]
    fn an_edge_that_the_hub_knows_no_longer_closes_its_ports() {
        let mut tunnel = Connectivity::new();
        let reason = ErrorCode::AuthFailed;
        let actions = [Action::Disconnected, Action::ClosePorts];
        assert_eq!(tunnel.down(reason, 0), actions);
        assert_eq!(tunnel.down(reason, 0), []);
    }

    #[test]
    fn workers_start_as_the_hub_allows_sessions_and_each_one_once() {
        let mut tunnel = Connectivity::new();
        let allowed = |max_sessions| SessionUp {
            max_sessions,
            ..session(Transport::Quic)
        };
        let started = |actions: Vec<Action>| -> Vec<usize> {
            let worker = |action| {
                if let Action::Start(worker) = action {
                    Some(worker)
                } else {
                    None
                }
            };
            actions.into_iter().filter_map(worker).collect()
        };
        assert_eq!(started(tunnel.up(allowed(3), WORKERS)), [1, 2]);
        assert!(started(tunnel.up(allowed(2), WORKERS)).is_empty());
        assert_eq!(started(tunnel.up(allowed(64), WORKERS)), [3]);
    }

    #[test]
    fn another_transport_is_news_only_if_new_streams_use_it() {
        let mut tunnel = Connectivity::new();
        tunnel.up(session(Transport::Quic), WORKERS);
        let leftover = SessionUp {
            is_chosen: false,
            ..session(Transport::TcpTls)
        };
        assert_eq!(tunnel.up(leftover, WORKERS), []);
        let fallen = tunnel.up(session(Transport::TcpTls), WORKERS);
        assert_eq!(fallen, [Action::TransportChanged(Transport::TcpTls)]);
        assert_eq!(tunnel.up(session(Transport::TcpTls), WORKERS), []);
    }
}
