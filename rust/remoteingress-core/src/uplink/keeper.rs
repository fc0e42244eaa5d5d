//! A worker's place in the tunnel: after one session comes the next, for ever (D13).
//!
//! The keeper decides when to dial for a new session. The fate of a session that lives is decided by its
//! [`Association`](super::association::Association).

use super::action::{Action, Dial, failed, wait};
use super::backoff::Backoff;
use super::failure::Failure;
use std::time::{Duration, Instant};

/// The policy of one worker's attempts at new sessions.
#[derive(Debug)]
pub struct Keeper {
    /// It asks again for all workers after the peer has refused the secret.
    is_first: bool,
    backoff: Backoff,
    connected_at: Option<Instant>,
    is_leaving: bool,
}

/// Something that happens to a worker's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The worker begins, or the time that it waited for has come.
    Due {
        /// The refusal of the secret, if that is the last the peer said.
        refusal: Option<Failure>,
    },
    /// Some worker has a session that takes streams.
    OthersLive,
    /// The attempt has failed.
    Failed(Failure),
    /// The attempt has succeeded, or another one has that was made over another transport.
    Connected,
    /// The connection was of no use from the first moment.
    Unusable,
    /// The session is over, or takes no new streams.
    Ended {
        /// The peer has let it in, over any of its connections.
        was_known: bool,
        /// The shortest time until the peer wants to be asked for another session.
        retry_after: Option<Duration>,
    },
}

impl Keeper {
    /// The place of the first worker, or of another.
    pub fn new(is_first: bool) -> Self {
        Self {
            is_first,
            backoff: Backoff::default(),
            connected_at: None,
            is_leaving: false,
        }
    }

    /// This end leaves: no session is begun any more, not even over the connection of an attempt that is under way.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Takes an input at `now`; gives what is to be done, in this order. `random` is uniform in 0..1 and spreads waits.
    pub fn handle(&mut self, input: Input, now: Instant, random: f64) -> Vec<Action> {
        if self.is_leaving {
            return vec![Action::Close];
        }
        match input {
            Input::Due {
                refusal: Some(refusal),
            } if !self.is_first => vec![failed(&refusal), Action::WaitForOthers],
            Input::Due { .. } | Input::OthersLive => vec![Action::Dial(Dial::New)],
            // Something cuts at once: without a wait this would be a storm of attempts, each one with a proof.
            Input::Unusable => vec![wait(now, self.backoff.next_delay(now, random, None))],
            Input::Failed(failure) => {
                let delay = self.backoff.next_delay(now, random, failure.retry_after);
                vec![failed(&failure), wait(now, delay)]
            }
            Input::Connected => {
                self.connected_at = Some(now);
                Vec::new()
            }
            Input::Ended {
                was_known,
                retry_after,
            } => {
                // One that was never let in says nothing of the peer's health.
                if let Some(at) = self.connected_at.take().filter(|_| was_known) {
                    self.backoff.connected(at);
                }
                vec![wait(now, self.backoff.next_delay(now, random, retry_after))]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::action::{Down, News};
    use remoteingress_config::error::ErrorCode;

    fn unreachable() -> Failure {
        Failure::new(ErrorCode::HubUnreachable, "no answer")
    }

    fn refusal() -> Failure {
        Failure {
            is_auth_failure: true,
            retry_after: Some(Duration::from_secs(15)),
            ..Failure::new(ErrorCode::AuthFailed, "no")
        }
    }

    fn ended(was_known: bool) -> Input {
        Input::Ended {
            was_known,
            retry_after: None,
        }
    }

    /// The length of the wait that ends these actions.
    fn delay(now: Instant, actions: &[Action]) -> Duration {
        let Some(Action::Wait { until }) = actions.last() else {
            panic!("{actions:?}")
        };
        *until - now
    }

    #[test]
    fn a_failed_attempt_is_told_and_the_next_one_comes_after_a_wait() {
        let (mut keeper, now) = (Keeper::new(true), crate::any_instant());
        let due = Input::Due { refusal: None };
        let dial = [Action::Dial(Dial::New)];
        assert_eq!(keeper.handle(due.clone(), now, 1.0), dial);
        let told = Action::Tell(News::Down {
            error: unreachable().error,
            cause: Down::Attempt,
        });
        for millis in [500, 1_000, 2_000, 4_000] {
            let actions = keeper.handle(Input::Failed(unreachable()), now, 1.0);
            assert_eq!(actions.first(), Some(&told));
            assert_eq!(delay(now, &actions), Duration::from_millis(millis));
        }
        assert_eq!(keeper.handle(due, now, 1.0), dial);
    }

    #[test]
    fn after_a_refusal_others_than_the_first_wait_until_a_session_lives() {
        let now = crate::any_instant();
        let refused = Input::Due {
            refusal: Some(refusal()),
        };
        let dial = [Action::Dial(Dial::New)];
        assert_eq!(
            Keeper::new(true).handle(refused.clone(), now, 0.5),
            dial,
            "the first asks for all"
        );
        let mut other = Keeper::new(false);
        let actions = other.handle(refused, now, 0.5);
        assert_eq!(actions, [failed(&refusal()), Action::WaitForOthers]);
        assert_eq!(other.handle(Input::OthersLive, now, 0.5), dial);
    }

    #[test]
    fn a_session_that_lived_is_followed_at_once_and_one_never_let_in_is_not() {
        let start = crate::any_instant();
        let later = start + Duration::from_secs(5);
        for (was_known, millis) in [(true, 0), (false, 500)] {
            let mut keeper = Keeper::new(true);
            assert_eq!(keeper.handle(Input::Connected, start, 1.0), []);
            let actions = keeper.handle(ended(was_known), later, 1.0);
            assert_eq!(delay(later, &actions), Duration::from_millis(millis));
        }
    }

    #[test]
    fn sessions_that_are_never_let_in_come_less_and_less_often() {
        let (mut keeper, mut now) = (Keeper::new(true), crate::any_instant());
        let mut delays = Vec::new();
        for _ in 0..8 {
            keeper.handle(Input::Connected, now, 1.0);
            now += Duration::from_secs(5);
            let delay = delay(now, &keeper.handle(ended(false), now, 1.0));
            delays.push(delay.as_millis());
            now += delay;
        }
        assert_eq!(
            delays,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
    }

    #[test]
    fn the_peers_wish_for_a_later_session_is_kept() {
        let (mut keeper, now) = (Keeper::new(true), crate::any_instant());
        keeper.handle(Input::Connected, now, 0.0);
        let input = Input::Ended {
            was_known: true,
            retry_after: Some(Duration::from_secs(15)),
        };
        let later = now + Duration::from_secs(60);
        let actions = keeper.handle(input, later, 0.0);
        assert_eq!(delay(later, &actions), Duration::from_secs(15));
    }

    #[test]
    fn connections_of_no_use_come_less_and_less_often() {
        let (mut keeper, now) = (Keeper::new(true), crate::any_instant());
        let delays = [(); 4].map(|()| {
            keeper.handle(Input::Connected, now, 1.0);
            let actions = keeper.handle(Input::Unusable, now, 1.0);
            delay(now, &actions).as_millis()
        });
        assert_eq!(delays, [500, 1_000, 2_000, 4_000]);
    }

    #[test]
    fn an_end_that_leaves_begins_no_session_whatever_was_under_way() {
        let now = crate::any_instant();
        let refusal = Some(refusal());
        for input in [
            Input::Due { refusal: None },
            Input::Due { refusal },
            Input::OthersLive,
            Input::Connected,
            Input::Unusable,
            Input::Failed(unreachable()),
            ended(true),
        ] {
            let mut keeper = Keeper::new(false);
            keeper.leave();
            let actions = keeper.handle(input.clone(), now, 0.5);
            assert_eq!(actions, [Action::Close], "{input:?}");
        }
    }
}
