//! The dial gate: one worker asks for all. While it isn't known whether the peer accepts the secret, attempts go one
//! after another, because a peer blocks an address after a few wrong proofs (`maxAuthFailuresPerIp`).
//!
//! ```text
//!            Accepted                     Refused
//! Unknown ─────────────► Accepted    * ─────────────► Refused ── Accepted ──► Accepted
//!    ▲                      │                        │
//!    ├──────── Lost ────────┘                        │
//!    └──────────────────── Proved ───────────────────┘
//! ```

use super::action::{Dial, Verdict};
use super::failure::Failure;
use std::time::{Duration, Instant};

/// A wrong proof isn't followed by another one within this, whatever the attempt is for: a session that is lost while
/// another attempt of the worker was refused would be dialled for at once.
const FRESH: Duration = Duration::from_secs(15);

/// The peer's last word on the secret, and who may find out the next one. An uplink's workers share it.
#[derive(Debug, Default)]
pub struct DialGate {
    answer: Answer,
    is_taken: bool,
}

#[derive(Clone, Debug, Default)]
enum Answer {
    /// None yet, or none since a connection was lost.
    #[default]
    Unknown,
    Accepted,
    Refused(Failure, Instant),
}

/// The right to make an attempt. It goes back to [`DialGate::end`] after the attempt's verdict.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Others may try at the same time: the peer accepts the secret.
    Beside,
    /// Others wait until this attempt is over.
    Alone,
}

impl DialGate {
    /// A turn, unless another attempt has to end first.
    pub fn turn(&mut self) -> Option<Turn> {
        if matches!(self.answer, Answer::Accepted) {
            return Some(Turn::Beside);
        }
        if self.is_taken {
            return None;
        }
        self.is_taken = true;
        Some(Turn::Alone)
    }

    /// An attempt is over. Gives whether those who wait may ask again.
    pub fn end(&mut self, turn: Turn) -> bool {
        let was_alone = turn == Turn::Alone;
        self.is_taken &= !was_alone;
        was_alone
    }

    /// Refuses an attempt that would only repeat a wrong proof: after a refusal the first worker alone asks again, for a
    /// new session, and not at once. A trial would be a knock beside its own.
    pub fn admit(&self, now: Instant, dial: Dial, is_first: bool) -> Result<(), Failure> {
        let Answer::Refused(failure, at) = &self.answer else {
            return Ok(());
        };
        if !is_first || !matches!(dial, Dial::New) {
            return Err(failure.clone());
        }
        let left = FRESH.saturating_sub(now.saturating_duration_since(*at));
        if left.is_zero() {
            return Ok(());
        }
        Err(Failure {
            retry_after: Some(left),
            ..failure.clone()
        })
    }

    /// The refusal of the secret, if that is the last the peer said.
    pub fn refusal(&self) -> Option<&Failure> {
        match &self.answer {
            Answer::Refused(failure, _) => Some(failure),
            Answer::Unknown | Answer::Accepted => None,
        }
    }

    /// This end has another secret: the last word on the old one says nothing of it.
    pub fn forget(&mut self) {
        self.answer = Answer::Unknown;
    }

    /// The peer has spoken, or a connection was lost.
    pub fn handle(&mut self, now: Instant, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted => self.answer = Answer::Accepted,
            Verdict::Refused(failure) => self.answer = Answer::Refused(failure.clone(), now),
            Verdict::Heard => {
                if matches!(self.answer, Answer::Unknown) {
                    self.answer = Answer::Accepted;
                }
            }
            Verdict::Proved => {
                if matches!(self.answer, Answer::Refused(..)) {
                    self.answer = Answer::Unknown;
                }
            }
            Verdict::Lost => {
                if matches!(self.answer, Answer::Accepted) {
                    self.answer = Answer::Unknown;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::error::ErrorCode;
    use remoteingress_proto::handshake::SessionId;

    const RESUME: Dial = Dial::Resume {
        session: SessionId([7; 16]),
        attempt: 1,
    };

    fn refusal() -> Failure {
        Failure {
            is_auth_failure: true,
            ..Failure::new(ErrorCode::AuthFailed, "no")
        }
    }

    #[test]
    fn attempts_go_one_after_another_until_the_secret_is_accepted() {
        let (mut gate, now) = (DialGate::default(), crate::any_instant());
        assert_eq!(gate.turn(), Some(Turn::Alone));
        assert_eq!(gate.turn(), None);
        assert!(gate.end(Turn::Alone));
        assert_eq!(gate.turn(), Some(Turn::Alone));
        gate.handle(now, &Verdict::Accepted);
        assert_eq!(gate.turn(), Some(Turn::Beside));
        assert_eq!(gate.turn(), Some(Turn::Beside));
        assert!(!gate.end(Turn::Beside));
        gate.handle(now, &Verdict::Lost);
        // The first attempt of all is still on its way.
        assert_eq!(gate.turn(), None);
        assert!(gate.end(Turn::Alone));
        assert_eq!(gate.turn(), Some(Turn::Alone));
    }

    #[test]
    fn after_a_refusal_only_the_first_worker_asks_again_and_only_for_a_new_session() {
        let (mut gate, now) = (DialGate::default(), crate::any_instant());
        for (dial, is_first) in [(Dial::New, true), (Dial::New, false), (RESUME, true)] {
            assert_eq!(gate.admit(now, dial, is_first), Ok(()));
        }
        gate.handle(now, &Verdict::Refused(refusal()));
        assert_eq!(gate.refusal(), Some(&refusal()));
        let before = now + FRESH - Duration::from_millis(1);
        let soon = Failure {
            retry_after: Some(Duration::from_millis(1)),
            ..refusal()
        };
        assert_eq!(gate.admit(before, Dial::New, true), Err(soon));
        gate.handle(before, &Verdict::Heard);
        assert_eq!(gate.refusal(), Some(&refusal()), "a late packet is no word");
        let after = now + FRESH;
        assert_eq!(gate.admit(after, Dial::New, true), Ok(()));
        assert_eq!(gate.admit(after, Dial::New, false), Err(refusal()));
        assert_eq!(gate.admit(after, RESUME, true), Err(refusal()));
        assert_eq!(gate.admit(after, Dial::Trial, true), Err(refusal()));
        gate.handle(after, &Verdict::Lost);
        assert_eq!(gate.admit(after, Dial::New, false), Err(refusal()));
        gate.handle(after, &Verdict::Accepted);
        assert_eq!(gate.admit(after, RESUME, false), Ok(()));
        assert_eq!(gate.refusal(), None);
    }

    #[test]
    fn a_refusal_for_another_reason_ends_that_of_the_secret() {
        let (mut gate, now) = (DialGate::default(), crate::any_instant());
        gate.handle(now, &Verdict::Refused(refusal()));
        gate.handle(now, &Verdict::Proved);
        assert_eq!(gate.refusal(), None);
        assert_eq!(gate.admit(now, Dial::New, false), Ok(()));
        // It says nothing of the next attempt, and is no reason to let all dial at once.
        assert_eq!(gate.turn(), Some(Turn::Alone));
        assert_eq!(gate.turn(), None);
    }
}
