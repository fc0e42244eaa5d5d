//! One session of the end that dials, from its first Hello to its end, over one connection after another (D3, D13).
//!
//! ```text
//!             Early                Welcome
//! new, Away ─────────► Early ──────────────────► Live
//!     ▲ │                │      Welcome           │
//!     │ └────────────────┼───────────────────────►│
//!     │                  │                        │
//!     └── Ended ─────────┴──────── Ended ─────────┘      if another connection may go on with it
//!
//! any ── Ended, Expired, Failed (the secret), Unusable, Drained ──► Over
//! ```
//!
//! A session in `Early` sends frames, and so takes streams; but it proves nothing of the peer: until the Welcome it
//! neither begins the delays anew nor extends the time in which the session can be resumed.

use super::action::{Action, Dial, Down, GiveUp, News, Verdict, failed, wait};
use super::backoff::Backoff;
use super::failure::{Ends, Failure};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_proto::handshake::{SessionId, SessionOutcome, Transport};
use remoteingress_proto::mux::SILENT;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The policy of one session: the next step after each end of a connection, and the news for others.
#[derive(Debug)]
pub struct Association {
    ends: Ends,
    /// Known from the first Welcome on.
    id: Option<SessionId>,
    transport: Transport,
    phase: Phase,
    /// It takes the new streams of its worker.
    is_current: bool,
    /// Attempts to resume it, since it began.
    attempt: u32,
    backoff: Backoff,
    /// The time at which it is given up; counted from the first loss since the last Welcome.
    expires: Option<Instant>,
    retry_after: Option<Duration>,
    /// The longest wait of its streams for a peer that has never let it in.
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Early { since: Instant },
    Live { since: Instant },
    Over,
}

/// Something that happens to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection was made for it, and frames go ahead of the Welcome.
    Early(Transport),
    /// The peer has let it in over a connection of this transport.
    Welcome {
        /// The transport of the connection that brought the Welcome.
        transport: Transport,
        /// The id under which the peer knows it.
        session: SessionId,
        /// The fate of the session that was asked for.
        outcome: SessionOutcome,
    },
    /// Its connection has ended.
    Ended {
        /// The reason.
        ending: Ending,
        /// Streams that another connection would save.
        streams: usize,
        /// The time at which the session would give itself up, if it has one.
        deadline: Option<Instant>,
    },
    /// The time that it waited for has come.
    Due,
    /// The attempt that it asked for has failed.
    Failed(Failure),
    /// The attempt that it asked for has succeeded, but the session can't go on over the connection.
    Unusable,
    /// The time of [`Association::expires`] has come.
    Expired,
    /// Nothing is left to do in it.
    Drained,
    /// The peer accepts no new streams in it.
    GoAway {
        /// Another instance has taken this one's place.
        is_replaced: bool,
        /// The shortest time until the peer wants to be asked for another session.
        retry_after: Duration,
    },
    /// Nothing was heard of the peer for too long, over a connection that may still recover.
    Silent,
    /// The peer is heard again.
    Heard,
    /// Another session takes its worker's new streams; this one finishes its own.
    Superseded,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer has answered Hello with a refusal.
    Refused(Failure),
    /// It was lost, or no Welcome came in time.
    Lost {
        /// The reason in words.
        message: String,
        /// The peer broke the protocol, so that the session can't go on either.
        is_violation: bool,
        /// The peer doesn't know the connection: it was restarted.
        is_reset: bool,
    },
}

impl Association {
    /// A session that is about to begin over a connection of this transport.
    ///
    /// Streams that were sent ahead of a Welcome wait for `patience` at most for a peer that lets the session in: they are
    /// clients without a session like those outside, which the edge holds.
    pub fn new(ends: Ends, transport: Transport, patience: Duration) -> Self {
        Self {
            ends,
            id: None,
            transport,
            phase: Phase::Away,
            is_current: true,
            attempt: 0,
            backoff: Backoff::default(),
            expires: None,
            retry_after: None,
            patience,
        }
    }

    /// Takes an input at `now`; gives what is to be done, in this order. `random` is uniform in 0..1 and spreads waits.
    pub fn handle(&mut self, input: Input, now: Instant, random: f64) -> Vec<Action> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        match input {
            Input::Early(transport) => {
                self.transport = transport;
                self.phase = Phase::Early { since: now };
                self.tell_if_current([News::Live(true)])
            }
            Input::Welcome {
                transport,
                session,
                outcome,
            } => self.welcome(transport, session, outcome, now),
            Input::Ended {
                ending,
                streams,
                deadline,
            } => self.ended(&ending, streams, deadline, now, random),
            Input::Due => self.due(),
            Input::Failed(failure) => {
                let mut actions = vec![failed(&failure)];
                if failure.is_auth_failure {
                    self.retry_after = failure.retry_after;
                    actions.push(self.give_up(GiveUp::Refused));
                } else {
                    actions.push(self.pause(failure.retry_after, now, random));
                }
                actions
            }
            Input::Unusable => vec![self.give_up(GiveUp::Unusable)],
            Input::Expired => vec![self.give_up(GiveUp::Expired)],
            Input::Drained => {
                self.phase = Phase::Over;
                let mut actions = self.tell_if_current([News::Live(false)]);
                actions.push(Action::Close);
                actions
            }
            Input::GoAway {
                is_replaced,
                retry_after,
            } => self.go_away(is_replaced, retry_after),
            Input::Silent => self.silent(),
            Input::Heard => {
                let mut actions = vec![Action::Tell(News::Verdict(Verdict::Heard))];
                let news = [News::Live(true), News::Up { is_resumed: true }];
                actions.extend(self.tell_if_current(news));
                actions
            }
            Input::Superseded => self.supersede(),
        }
    }

    /// The transport of its connection, or of the last one.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// It takes the new streams of its worker.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// The peer has let it in, over any of its connections.
    pub fn is_known(&self) -> bool {
        self.id.is_some()
    }

    /// Its Welcome is to come, and frames go ahead of it.
    #[cfg(test)]
    fn is_early(&self) -> bool {
        matches!(self.phase, Phase::Early { .. })
    }

    /// The time at which it is given up, while it has no connection that the peer has let in.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// The shortest time until the peer wants to be asked for another session, once this one is over.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn welcome(
        &mut self,
        transport: Transport,
        session: SessionId,
        outcome: SessionOutcome,
        now: Instant,
    ) -> Vec<Action> {
        self.transport = transport;
        if outcome == SessionOutcome::SessionLost {
            self.attempt = 0;
        }
        self.id = Some(session);
        self.expires = None;
        let is_resumed = matches!(outcome, SessionOutcome::Resumed { .. });
        let mut actions = vec![Action::Tell(News::Verdict(Verdict::Accepted))];
        let since = match self.phase {
            Phase::Early { since } => since,
            Phase::Away | Phase::Live { .. } | Phase::Over => {
                actions.extend(self.tell_if_current([News::Live(true)]));
                now
            }
        };
        // Last: whoever hears of it finds the session live, and can send over it.
        actions.push(Action::Tell(News::Up { is_resumed }));
        self.phase = Phase::Live { since };
        actions
    }

    fn ended(
        &mut self,
        ending: &Ending,
        streams: usize,
        deadline: Option<Instant>,
        now: Instant,
        random: f64,
    ) -> Vec<Action> {
        let before = std::mem::replace(&mut self.phase, Phase::Away);
        let mut actions = self.tell_if_current([News::Live(false)]);
        let hint = match ending {
            Ending::Refused(failure) => {
                let verdict = Verdict::of_failure(failure).unwrap_or(Verdict::Lost);
                actions.push(Action::Tell(News::Verdict(verdict)));
                actions.push(failed(failure));
                failure.retry_after
            }
            Ending::Lost {
                message,
                is_violation,
                is_reset,
            } => {
                actions.push(Action::Tell(News::Verdict(Verdict::Lost)));
                if let Phase::Live { since } = before {
                    self.backoff.connected(since);
                } else if self.transport == Transport::Quic {
                    let peer = self.ends.peer;
                    let reason = format!("the {peer}'s Welcome didn't come over QUIC");
                    actions.push(Action::Tell(News::FallBack(reason)));
                }
                actions.push(Action::Tell(lost(message, *is_violation)));
                if *is_reset {
                    actions.push(Action::Tell(News::PeerRestarted));
                }
                None
            }
        };
        // Without streams a new session is as good, and its first ones needn't wait for the peer's word on whether it
        // knows the old one.
        if streams > 0 && self.can_go_on(ending) {
            // It counts from the first loss, however often the peer refuses meanwhile.
            let deadline = deadline.unwrap_or(now);
            let deadline = if self.is_known() {
                deadline
            } else {
                deadline.min(now + self.patience)
            };
            self.expires.get_or_insert(deadline);
            actions.push(self.pause(hint, now, random));
        } else {
            self.retry_after = hint.or(self.retry_after);
            let is_refusal = matches!(ending, Ending::Refused(failure) if failure.is_auth_failure);
            actions.push(self.give_up(if is_refusal {
                GiveUp::Refused
            } else {
                GiveUp::NotResumable
            }));
        }
        actions
    }

    /// Another connection may go on with it, after one that ended so.
    fn can_go_on(&self, ending: &Ending) -> bool {
        match ending {
            // The peer has looked at nothing: all of it can go out again.
            Ending::Refused(failure) => !failure.is_auth_failure,
            // A session over QUIC lives as long as its connection, which outlives changes of address. The peer may have
            // carried out what went ahead of a Welcome that never came: in another session it must not go out again.
            Ending::Lost { is_violation, .. } => {
                !is_violation && self.transport == Transport::TcpTls && self.is_known()
            }
        }
    }

    fn due(&mut self) -> Vec<Action> {
        let dial = match self.id {
            Some(session) => {
                self.attempt = self.attempt.saturating_add(1);
                Dial::Resume {
                    session,
                    attempt: self.attempt,
                }
            }
            None => Dial::New,
        };
        vec![Action::Tell(News::Reconnecting), Action::Dial(dial)]
    }

    fn go_away(&mut self, is_replaced: bool, retry_after: Duration) -> Vec<Action> {
        self.retry_after = Some(retry_after);
        let mut actions = self.tell_if_current([News::Live(false)]);
        if is_replaced {
            let own = self.ends.own;
            let message = format!(
                "another {own} with this id has taken over (replaceInstance); stop one of them"
            );
            actions.push(Action::Tell(News::Down {
                error: CodedError::new(ErrorCode::InstanceConflict, message),
                cause: Down::Replaced,
            }));
        }
        actions
    }

    /// The peer may have ended it meanwhile, because it accepts the secret no longer: nobody dials beside others on the
    /// strength of its Welcome.
    fn silent(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::Tell(News::Verdict(Verdict::Lost))];
        actions.extend(self.tell_if_current([
            News::Live(false),
            News::FallBack(SILENT.to_owned()),
            News::Down {
                error: CodedError::new(ErrorCode::HubUnreachable, SILENT),
                cause: Down::Silent,
            },
        ]));
        actions
    }

    fn supersede(&mut self) -> Vec<Action> {
        let takes_streams = matches!(self.phase, Phase::Early { .. } | Phase::Live { .. });
        let mut actions = self.tell_if_current([News::Live(false)]);
        // One that has never had a connection says nothing of its worker: another session may be live there.
        actions.retain(|_| takes_streams);
        self.is_current = false;
        actions
    }

    fn pause(&mut self, hint: Option<Duration>, now: Instant, random: f64) -> Action {
        wait(now, self.backoff.next_delay(now, random, hint))
    }

    fn give_up(&mut self, why: GiveUp) -> Action {
        self.phase = Phase::Over;
        Action::GiveUp(why)
    }

    fn tell_if_current<const N: usize>(&self, news: [News; N]) -> Vec<Action> {
        let news = news.into_iter().filter(|_| self.is_current);
        news.map(Action::Tell).collect()
    }
}

fn lost(message: &str, is_violation: bool) -> News {
    let (code, cause) = if is_violation {
        (ErrorCode::Protocol, Down::Violation)
    } else {
        (ErrorCode::HubUnreachable, Down::Lost)
    };
    News::Down {
        error: CodedError::new(code, message),
        cause,
    }
}
