//! Which transport new sessions use with `quicWithFallback`, and when QUIC is tried again. Pure (D13, threats A4.3).

use remoteingress_config::TransportMode;
use remoteingress_proto::handshake::Transport;
use std::time::{Duration, Instant};

/// QUIC is tried at least this often (D13).
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
/// A fallback that comes so soon after a return counts as one outage with the last: the pauses go on growing.
const RELAPSE: Duration = Duration::from_secs(600);

/// What carries new streams, and why if it isn't what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub transport: Transport,
    pub reason: Option<String>,
}

impl Choice {
    /// What an edge begins with.
    pub fn first(mode: TransportMode) -> Self {
        let transport = match mode {
            TransportMode::TcpTls => Transport::TcpTls,
            TransportMode::Quic | TransportMode::QuicWithFallback => Transport::Quic,
        };
        Self {
            transport,
            reason: None,
        }
    }

    pub fn fallback(reason: String) -> Self {
        Self {
            transport: Transport::TcpTls,
            reason: Some(reason),
        }
    }

    pub fn recovered() -> Self {
        Self {
            transport: Transport::Quic,
            reason: Some("QUIC works again".to_owned()),
        }
    }
}

/// When QUIC is tried while tcpTls carries the tunnel.
#[derive(Debug)]
pub struct ProbeSchedule {
    first: Duration,
    interval: Duration,
    recovered_at: Option<Instant>,
}

impl ProbeSchedule {
    pub fn new(first: Duration) -> Self {
        Self {
            first,
            interval: first,
            recovered_at: None,
        }
    }

    /// QUIC has failed.
    pub fn fell_back(&mut self, now: Instant) {
        let relapsed = |at: Instant| now.saturating_duration_since(at) < RELAPSE;
        if self.recovered_at.take().is_some_and(relapsed) {
            self.failed();
        } else {
            self.interval = self.first;
        }
    }

    /// A probe has failed.
    pub fn failed(&mut self) {
        self.interval = (self.interval * 2).min(LONGEST_INTERVAL.max(self.first));
    }

    /// QUIC carries new streams again.
    pub fn recovered(&mut self, now: Instant) {
        self.recovered_at = Some(now);
    }

    /// How long to wait before the next probe: many edges must not probe at once. `random` is uniform in 0..1.
    pub fn delay(&self, random: f64) -> Duration {
        self.interval.mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn probes_come_less_and_less_often() {
        let now = crate::any_instant();
        let mut schedule = ProbeSchedule::new(MINUTE);
        schedule.fell_back(now);
        let mut delays = Vec::new();
        for _ in 0..6 {
            delays.push(schedule.delay(0.0).as_secs());
            schedule.failed();
        }
        assert_eq!(delays, [60, 120, 240, 480, 600, 600]);
        assert_eq!(schedule.delay(1.0).as_secs(), 720);
    }

    #[test]
    fn a_relapse_makes_the_next_probe_later_and_a_new_outage_does_not() {
        let now = crate::any_instant();
        let mut schedule = ProbeSchedule::new(MINUTE);
        schedule.fell_back(now);
        schedule.recovered(now);
        schedule.fell_back(now + MINUTE);
        assert_eq!(schedule.delay(0.0), 2 * MINUTE);
        schedule.recovered(now + MINUTE);
        schedule.fell_back(now + 20 * MINUTE);
        assert_eq!(schedule.delay(0.0), MINUTE);
    }

    #[test]
    fn each_mode_has_its_first_choice() {
        for (mode, transport) in [
            (TransportMode::TcpTls, Transport::TcpTls),
            (TransportMode::Quic, Transport::Quic),
            (TransportMode::QuicWithFallback, Transport::Quic),
        ] {
            assert_eq!(Choice::first(mode).transport, transport);
        }
        assert_eq!(Choice::fallback(String::new()).transport, Transport::TcpTls);
        assert_eq!(Choice::recovered().transport, Transport::Quic);
    }
}
