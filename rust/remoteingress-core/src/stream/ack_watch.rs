//! Finds a client or target whose link has died while bytes were on their way to it. The kernel would go on sending for about a
//! quarter of an hour, and keepalive waits while there is something to send.
//!
//! This isn't left to `TCP_USER_TIMEOUT`: that also ends the connection of a reader that takes nothing for so long but
//! answers each question of the kernel, such as a player that is paused.

use std::time::{Duration, Instant};

/// Looks per timeout.
const LOOKS: u8 = 8;
/// Questions to a reader without room that may be on their way at any time; a second one follows only if the first had no answer.
const MAX_PROBES: u8 = 1;

/// The kernel's figures of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckFigures {
    /// It holds bytes that it hasn't sent, or for which it has no acknowledgement.
    pub has_waiting: bool,
    /// Segments on their way.
    pub segments: u32,
    /// Questions for room without an answer.
    pub probes: u8,
    /// Since the last acknowledgement of any kind, which may be from before the bytes that wait.
    pub silence: Duration,
}

/// What is known of one socket's peer; every stream has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AckWatch {
    /// At the last look nothing waited, and nothing was written since.
    #[default]
    Settled,
    /// Something was written, and waited at as many looks in a row.
    Waiting(u8),
}

impl AckWatch {
    /// Something was written, if only an end.
    pub(super) fn handle_written(&mut self) {
        if *self == Self::Settled {
            *self = Self::Waiting(0);
        }
    }

    /// True if the kernel is to be asked for its figures.
    pub(super) fn is_waiting(self) -> bool {
        self != Self::Settled
    }

    /// A look, as [`AckLooks`] tells the time for it; true if the peer is gone.
    pub(super) fn handle_look(&mut self, timeout: Duration, figures: AckFigures) -> bool {
        let Self::Waiting(looks) = *self else {
            return false;
        };
        if !figures.has_waiting {
            *self = Self::Settled;
            return false;
        }
        *self = Self::Waiting(looks.saturating_add(1));
        let is_unanswered = figures.segments > 0 || figures.probes > MAX_PROBES;
        is_unanswered && looks >= LOOKS && figures.silence >= timeout
    }
}

/// When all sockets of a session are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckLooks(Option<Instant>);

impl AckLooks {
    /// True if it is time, which counts as a look.
    pub fn is_due(&mut self, now: Instant, timeout: Duration) -> bool {
        let is_due = self
            .0
            .is_none_or(|last| now >= last + timeout / u32::from(LOOKS));
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    const TIMEOUT: Duration = Duration::from_secs(120);

    #[test]
    fn a_peer_that_acknowledges_nothing_is_gone_after_the_timeout() {
        let mut watch = AckWatch::default();
        watch.handle_written();
        for look in 1..9 {
            assert!(!watch.handle_look(TIMEOUT, silent(15 * look)), "{look}");
        }
        assert!(watch.handle_look(TIMEOUT, silent(9 * 15)));
    }

    #[test]
    fn a_stream_that_was_idle_for_long_has_the_whole_timeout_for_its_next_byte() {
        let mut watch = AckWatch::default();
        watch.handle_written();
        for look in 1..9 {
            assert!(!watch.handle_look(TIMEOUT, silent(3_600)), "{look}");
        }
        assert!(watch.handle_look(TIMEOUT, silent(3_600)));
    }

    #[test]
    fn a_reader_without_room_lives_as_long_as_it_answers() {
        let mut watch = AckWatch::default();
        watch.handle_written();
        // The kernel asks every two minutes in the end.
        let asked = AckFigures {
            segments: 0,
            probes: 1,
            ..silent(121)
        };
        for _ in 0..1_000 {
            assert!(!watch.handle_look(TIMEOUT, asked));
        }
        let gone = AckFigures { probes: 2, ..asked };
        assert!(watch.handle_look(TIMEOUT, gone));
    }

    #[test]
    fn what_was_acknowledged_is_forgotten_until_the_next_byte() {
        let mut watch = AckWatch::default();
        assert!(!watch.is_waiting());
        watch.handle_written();
        watch.handle_written();
        assert!(watch.is_waiting());
        for _ in 0..100 {
            assert!(!watch.handle_look(TIMEOUT, silent(0)));
        }
        let settled = AckFigures {
            has_waiting: false,
            segments: 0,
            ..silent(300)
        };
        assert!(!watch.handle_look(TIMEOUT, settled));
        assert!(!watch.is_waiting());
        assert!(!watch.handle_look(TIMEOUT, silent(300)));
    }

    #[test]
    fn there_are_eight_looks_per_timeout() {
        let start = any_instant();
        let mut looks = AckLooks::default();
        let due = (0..120).filter(|second| {
            let now = start + Duration::from_secs(*second);
            looks.is_due(now, TIMEOUT)
        });
        assert_eq!(due.count(), 8);
    }

    fn silent(seconds: u64) -> AckFigures {
        AckFigures {
            has_waiting: true,
            segments: 1,
            probes: 0,
            silence: Duration::from_secs(seconds),
        }
    }
}
