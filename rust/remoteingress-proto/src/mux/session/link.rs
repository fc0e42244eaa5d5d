//! The connection under a session: whether there is one, whether the peer is alive, and how long to wait for another.

use crate::mux::carrier::Carrier;
use crate::mux::config::SessionConfig;
use crate::mux::error::SessionError;
use crate::mux::keepalive::{Keepalive, Unasked};
use std::time::{Duration, Instant};

/// A longer one is cut to this, so that adding it to a time can't overflow (chosen by intuition).
const LONGEST_RESUME_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug)]
enum Phase {
    Attached(Keepalive),
    Away {
        /// The session is lost then.
        until: Instant,
    },
}

/// A sign of life, or of what came, beside the session's numbered frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Answers the peer's PING of this nonce.
    Pong(u64),
    /// Everything that came so far has come.
    Ack,
    /// Asks for a PONG of this nonce.
    Ping(u64),
}

/// One connection after the other, or none for a while.
#[derive(Debug)]
pub(super) struct Link {
    phase: Phase,
    resume_timeout: Duration,
    /// Longest time between two PINGs.
    keepalive: Duration,
    /// On lanes: the owner knows that nothing is heard.
    is_silent: bool,
    /// The last measured round trip, maybe of an earlier connection.
    rtt: Option<Duration>,
}

impl Link {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        let keepalive = config.role.asks_after(config.keepalive);
        Self {
            phase: Phase::Attached(Keepalive::new(now, keepalive)),
            keepalive,
            resume_timeout: config.resume_timeout.min(LONGEST_RESUME_TIMEOUT),
            is_silent: false,
            rtt: None,
        }
    }

    #[inline]
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached(_))
    }

    /// A new connection takes over.
    pub(super) fn attach(&mut self, now: Instant) {
        self.phase = Phase::Attached(Keepalive::new(now, self.keepalive));
    }

    /// The connection is gone; false if there was none.
    pub(super) fn detach(&mut self, now: Instant) -> bool {
        let was_attached = self.is_attached();
        if was_attached {
            let until = now + self.resume_timeout;
            self.phase = Phase::Away { until };
        }
        was_attached
    }

    /// Counts from the next loss on.
    pub(super) fn set_resume_timeout(&mut self, timeout: Duration) {
        self.resume_timeout = timeout.min(LONGEST_RESUME_TIMEOUT);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    #[inline]
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Anything at all has come; whether the owner believed the peer silent.
    #[inline]
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        let Phase::Attached(keepalive) = &mut self.phase else {
            return false;
        };
        keepalive.heard(now);
        std::mem::take(&mut self.is_silent)
    }

    /// True if nothing was heard for a while, maybe since nothing was asked.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Attached(keepalive) if keepalive.is_stale(now))
    }

    /// The session is used; says whether it has a connection.
    pub(super) fn used(&mut self, now: Instant) -> bool {
        if let Phase::Attached(keepalive) = &mut self.phase {
            keepalive.used(now);
        }
        self.is_attached()
    }

    /// The session has streams, or frames that aren't acknowledged; or not any more.
    #[inline]
    pub(super) fn set_busy(&mut self, now: Instant, is_busy: bool) {
        if let Phase::Attached(keepalive) = &mut self.phase {
            keepalive.set_busy(now, is_busy);
        }
    }

    /// A PING is due at once.
    pub(super) fn ping_now(&mut self) {
        if let Phase::Attached(keepalive) = &mut self.phase {
            keepalive.ping_now();
        }
    }

    /// True while a PING has no answer.
    pub(super) fn awaits_pong(&self) -> bool {
        matches!(&self.phase, Phase::Attached(keepalive) if keepalive.awaits_pong())
    }

    /// A numbered frame has come: an ACK is to follow.
    #[inline]
    pub(super) fn received_numbered(&mut self, now: Instant, bytes: usize, carrier: Carrier) {
        if let Phase::Attached(keepalive) = &mut self.phase {
            keepalive.received_numbered(now, bytes, carrier);
        }
    }

    /// A PING has come, or else a PONG; false if there were too many of the first, or if the second answers nothing.
    pub(super) fn received_signal(&mut self, now: Instant, is_ping: bool, nonce: u64) -> bool {
        if is_ping {
            self.received_ping(now, nonce)
        } else {
            self.received_pong(now, nonce)
        }
    }

    /// A PING has come; false if there were too many.
    fn received_ping(&mut self, now: Instant, nonce: u64) -> bool {
        match &mut self.phase {
            Phase::Attached(keepalive) => keepalive.received_ping(now, nonce),
            Phase::Away { .. } => true,
        }
    }

    /// A PONG has come, which may tell the round trip; false if it answers nothing.
    fn received_pong(&mut self, now: Instant, nonce: u64) -> bool {
        let Phase::Attached(keepalive) = &mut self.phase else {
            return true;
        };
        match keepalive.received_pong(now, nonce) {
            Ok(rtt) => {
                self.rtt = rtt.or(self.rtt);
                true
            }
            Err(Unasked) => false,
        }
    }

    /// The next signal that is due. An ACK waits until `may_ack`.
    #[inline]
    pub(super) fn next_signal(
        &mut self,
        now: Instant,
        carrier: Carrier,
        may_ack: impl FnOnce() -> bool,
    ) -> Option<Signal> {
        let Phase::Attached(keepalive) = &mut self.phase else {
            return None;
        };
        if !keepalive.is_due(now, carrier) {
            return None;
        }
        if let Some(nonce) = keepalive.take_pong() {
            return Some(Signal::Pong(nonce));
        }
        if may_ack() && keepalive.take_ack(now) {
            return Some(Signal::Ack);
        }
        keepalive.take_ping(now, carrier).map(Signal::Ping)
    }

    /// Something is due then; `others` is what waits for a time while there is a connection.
    #[inline]
    pub(super) fn next_timeout(
        &self,
        carrier: Carrier,
        others: Option<Instant>,
    ) -> Option<Instant> {
        match &self.phase {
            Phase::Attached(keepalive) => {
                let next = keepalive.next_timeout(self.is_silent, carrier);
                next.into_iter().chain(others).min()
            }
            Phase::Away { until } => Some(*until),
        }
    }

    /// Time has passed; whether the owner is to be told, once, that nothing is heard any more.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        carrier: Carrier,
    ) -> Result<bool, SessionError> {
        match &self.phase {
            Phase::Attached(keepalive) if keepalive.is_dead(now, carrier) => match carrier {
                Carrier::Ordered => Err(SessionError::PeerSilent),
                Carrier::Lanes => Ok(!std::mem::replace(&mut self.is_silent, true)),
            },
            Phase::Away { until } if now >= *until => Err(SessionError::ResumeExpired),
            Phase::Attached(_) | Phase::Away { .. } => Ok(false),
        }
    }
}
