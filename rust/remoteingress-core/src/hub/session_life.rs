//! The life of a session at the hub: connected, away, connected again, and why it ends (D3).
//!
//! ```text
//! welcoming ─── welcomed ──► connected ─── cut, drained, violation ──► ended
//!   │    ▲                    │      │
//!   │    └─ newer attempt ────┤      │ lost
//!   │                         │      ▼
//!   └──── edge gave up ───────┴──►  away ─── cut, too late ──────────► ended
//! ```
//!
//! A newer attempt also takes an away session back to welcoming; one that can't be resumed ends it.

use remoteingress_proto::mux::stream::AbortCode;
use std::time::Instant;

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The edge waits for its Welcome on a connection.
    Welcoming {
        /// The session was away, and is until then if the edge gives up.
        away_until: Option<Instant>,
    },
    /// The session is driven over a connection.
    Connected,
    /// The edge may come back.
    Away {
        /// Then it is too late.
        until: Instant,
    },
    /// Nothing follows any more.
    Ended(End),
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The code with which its streams end.
    pub code: AbortCode,
    /// The last word on the connection.
    pub farewell: Farewell,
}

/// The last word to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The connection is dropped, or was lost.
    Nothing,
    /// The connection is closed in order.
    Close,
    /// Another instance of the edge has taken over.
    Replaced,
}

/// The outlook after a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The edge may come back to the session.
    MayResume,
    /// The edge broke the protocol.
    Violation,
    /// Nothing was left to do.
    Parted,
}

/// The next step for a connection that is to resume the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The edge has made a later attempt already: drop the connection.
    Stale,
    /// Welcome the edge, and go on.
    Resume,
    /// Too much is missing: the edge gets a new session on this connection, and this one has ended.
    Replace,
}

/// The state machine of one session. Its connections belong to the shell.
#[derive(Debug)]
pub struct SessionLife {
    phase: Phase,
    attempt: u32,
}

impl Default for SessionLife {
    fn default() -> Self {
        Self::new()
    }
}

impl SessionLife {
    /// A session on its first connection.
    pub fn new() -> Self {
        Self {
            phase: Phase::Welcoming { away_until: None },
            attempt: 0,
        }
    }

    /// State of the session.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// True if an attempt to resume comes after all that were made so far. An older one changes nothing.
    pub fn is_newer(&self, attempt: u32) -> bool {
        attempt > self.attempt && !matches!(self.phase, Phase::Ended(_))
    }

    /// The Welcome is sent.
    pub fn handle_welcomed(&mut self) {
        if let Phase::Welcoming { .. } = self.phase {
            self.phase = Phase::Connected;
        }
    }

    /// The edge took no Welcome. `expires` is when the session ends without a connection.
    pub fn handle_gave_up(&mut self, expires: Instant) {
        if let Phase::Welcoming { away_until } = self.phase {
            let until = away_until.unwrap_or(expires);
            self.phase = Phase::Away { until };
        }
    }

    /// The connection was lost. `expires` is when the session ends without one.
    pub fn handle_lost(&mut self, loss: Loss, expires: Instant) {
        if self.phase != Phase::Connected {
            return;
        }
        match loss {
            Loss::Violation => self.end(AbortCode::TunnelLost, Farewell::Nothing),
            Loss::Parted => self.end(AbortCode::Ended, Farewell::Nothing),
            Loss::MayResume => self.phase = Phase::Away { until: expires },
        }
    }

    /// A connection has come to resume the session, whichever phase it is in. `can_resume`: both ends still have every
    /// frame that the other lacks.
    pub fn handle_attempt(&mut self, attempt: u32, can_resume: bool) -> Attempt {
        if !self.is_newer(attempt) {
            return Attempt::Stale;
        }
        self.attempt = attempt;
        if !can_resume {
            self.end(AbortCode::TunnelLost, Farewell::Nothing);
            return Attempt::Replace;
        }
        let away_until = match self.phase {
            Phase::Away { until } => Some(until),
            Phase::Welcoming { away_until } => away_until,
            Phase::Connected | Phase::Ended(_) => None,
        };
        self.phase = Phase::Welcoming { away_until };
        Attempt::Resume
    }

    /// The hub ends the session.
    pub fn handle_cut(&mut self, is_replaced: bool) {
        let farewell = if is_replaced && self.phase == Phase::Connected {
            Farewell::Replaced
        } else {
            Farewell::Nothing
        };
        // Whoever waited for the edge has lost it, whatever ends the wait: another instance, for instance.
        let code = match self.phase {
            Phase::Away { .. } => AbortCode::TunnelLost,
            Phase::Welcoming { .. } | Phase::Connected | Phase::Ended(_) => AbortCode::Ended,
        };
        self.end(code, farewell);
    }

    /// No stream is left, and none comes any more.
    pub fn handle_drained(&mut self) {
        self.end(AbortCode::Ended, Farewell::Close);
    }

    /// Ends a session that was away for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Away { until } = self.phase
            && now >= until
        {
            self.end(AbortCode::TunnelLost, Farewell::Nothing);
        }
    }

    fn end(&mut self, code: AbortCode, farewell: Farewell) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(End { code, farewell });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;
    use std::time::Duration;

    const KEPT: Duration = Duration::from_secs(30);

    #[test]
    fn an_edge_that_gives_up_before_its_welcome_may_come_back_until_the_session_expires() {
        let now = any_instant();
        let mut life = SessionLife::new();
        life.handle_gave_up(now + KEPT);
        assert_eq!(life.phase(), Phase::Away { until: now + KEPT });
        life.handle_timeout(now + KEPT - Duration::from_millis(1));
        assert_eq!(life.phase(), Phase::Away { until: now + KEPT });
        life.handle_timeout(now + KEPT);
        assert_eq!(
            life.phase(),
            ended(AbortCode::TunnelLost, Farewell::Nothing)
        );
    }

    #[test]
    fn a_lost_connection_can_be_resumed_and_a_failed_attempt_doesnt_prolong_the_wait() {
        let now = any_instant();
        let mut life = connected();
        life.handle_lost(Loss::MayResume, now + KEPT);
        assert_eq!(life.handle_attempt(1, true), Attempt::Resume);
        life.handle_gave_up(now + KEPT * 2);
        assert_eq!(life.phase(), Phase::Away { until: now + KEPT });
        assert_eq!(life.handle_attempt(2, true), Attempt::Resume);
        life.handle_welcomed();
        assert_eq!(life.phase(), Phase::Connected);
    }

    #[test]
    fn a_newer_attempt_takes_a_live_connection_over_and_an_older_one_changes_nothing() {
        let now = any_instant();
        let mut life = connected();
        assert_eq!(life.handle_attempt(7, true), Attempt::Resume);
        life.handle_welcomed();
        for stale in [0, 6, 7] {
            assert!(!life.is_newer(stale));
            assert_eq!(life.handle_attempt(stale, true), Attempt::Stale);
            assert_eq!(life.handle_attempt(stale, false), Attempt::Stale);
        }
        assert_eq!(life.phase(), Phase::Connected);
        assert_eq!(life.handle_attempt(8, true), Attempt::Resume);
        life.handle_gave_up(now + KEPT);
        assert_eq!(life.phase(), Phase::Away { until: now + KEPT });
    }

    #[test]
    fn a_session_that_lacks_frames_is_replaced_connected_or_away() {
        let now = any_instant();
        let mut away = connected();
        away.handle_lost(Loss::MayResume, now + KEPT);
        for mut life in [connected(), away] {
            assert_eq!(life.handle_attempt(1, false), Attempt::Replace);
            assert_eq!(
                life.phase(),
                ended(AbortCode::TunnelLost, Farewell::Nothing)
            );
            assert_eq!(life.handle_attempt(2, true), Attempt::Stale);
        }
    }

    #[test]
    fn a_violation_and_a_goodbye_end_the_session_with_its_connection() {
        for (loss, code) in [
            (Loss::Violation, AbortCode::TunnelLost),
            (Loss::Parted, AbortCode::Ended),
        ] {
            let mut life = connected();
            life.handle_lost(loss, any_instant() + KEPT);
            assert_eq!(life.phase(), ended(code, Farewell::Nothing));
        }
    }

    #[test]
    fn a_cut_edge_is_told_only_that_another_instance_took_over_and_only_while_connected() {
        let mut cut = connected();
        cut.handle_cut(false);
        assert_eq!(cut.phase(), ended(AbortCode::Ended, Farewell::Nothing));
        let mut replaced = connected();
        replaced.handle_cut(true);
        assert_eq!(
            replaced.phase(),
            ended(AbortCode::Ended, Farewell::Replaced)
        );
        let mut away = connected();
        away.handle_lost(Loss::MayResume, any_instant() + KEPT);
        away.handle_cut(true);
        assert_eq!(
            away.phase(),
            ended(AbortCode::TunnelLost, Farewell::Nothing)
        );
    }

    #[test]
    fn a_drained_session_is_closed_in_order_and_stays_ended() {
        let now = any_instant();
        let mut life = connected();
        life.handle_drained();
        life.handle_cut(true);
        life.handle_lost(Loss::MayResume, now + KEPT);
        life.handle_timeout(now + KEPT);
        life.handle_welcomed();
        assert_eq!(life.phase(), ended(AbortCode::Ended, Farewell::Close));
    }

    fn connected() -> SessionLife {
        let mut life = SessionLife::new();
        life.handle_welcomed();
        life
    }

    fn ended(code: AbortCode, farewell: Farewell) -> Phase {
        Phase::Ended(End { code, farewell })
    }
}
