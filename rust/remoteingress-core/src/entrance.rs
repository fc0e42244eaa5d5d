//! The way in of one connection: from its handshake to a place at the acceptor, or to a refusal (D4, D7).
//!
//! The acceptor is the end that was dialled, the peer the end that dialled. A shell owns the connection. It hands the
//! machine what happens ([`Entrance::handle_authenticated`] and its neighbours), and after each of these carries out the
//! [`Action`]s of [`Entrance::poll_action`], in their order, until there is none. [`Entrance::poll_timeout`] says when
//! [`Entrance::handle_timeout`] is due.
//!
//! ```text
//!              proof fails ─────────────────────────────────────► refused
//! proving ──── proof holds ───► deciding ─── no ────────────────► refused
//!                                │    ▲  └── yes ───────────────► admitted
//!                       conflict │    │ none answers: evict
//!                                ▼    │
//!                               pinging ──── one answers ───────► refused
//! ```

#[cfg(test)]
mod doctor_tests;
mod failures;
pub mod guard;
pub mod reason;
#[cfg(test)]
mod tests;

use reason::Reason;
use remoteingress_config::reasons::TunnelRefusalReason;
use remoteingress_proto::handshake::{HandshakeError, InstanceId, RefuseCode, Refused, SessionId};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::{FeatureOffer, Features, negotiate};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An instance that is to make room for another must answer within this (D7).
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest time for an answer: a TCP segment that is lost once is there after 200 ms and a round trip.
const SHORTEST_PING: Duration = Duration::from_millis(500);
/// Round trips for an answer: a path that loses packets may need several tries.
const PING_ROUND_TRIPS: u32 = 10;
/// A connection doesn't wait for ever, even where `handshakeTimeoutSecs` is off.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60);
/// Time after which a peer may ask again that came before the acceptor was told its edges: a program that starts a hub
/// tells it them next.
const NOT_READY_RETRY: Duration = Duration::from_millis(500);

/// Time after which a blocked peer may ask again: its operator may have put it right, and tries of a blocked one cost little.
const BLOCKED_RETRY: Duration = Duration::from_secs(15);

/// The time for a session's sign of life, by its round trip as far as that is known. A session that has none by then is
/// gone: its edge was killed, and waits as another instance to be let in.
pub fn ping_timeout(round_trip: Option<Duration>) -> Duration {
    round_trip.map_or(PING_TIMEOUT, |round_trip| {
        (round_trip * PING_ROUND_TRIPS).clamp(SHORTEST_PING, PING_TIMEOUT)
    })
}

/// The acceptor's terms, the same for every peer.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// From accept to the acceptor's decision; absent where the limit is off.
    pub handshake_timeout: Option<Duration>,
    /// The acceptor's features.
    pub offer: FeatureOffer,
}

/// The acceptor's answer to a peer whose proof held. `P` is a place: all that an admitted connection gets there.
#[derive(Debug)]
pub enum Decision<P> {
    /// The peer may come in.
    Admit(P),
    /// It may not, and is told why.
    Refuse(RefuseCode),
    /// Only if the instance that is connected doesn't answer any more.
    Conflict(Conflict),
}

/// Another instance of the peer's edge is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its address.
    pub other: SocketAddr,
    /// Its run of the edge.
    pub instance: InstanceId,
    /// Its sessions, each with the worker that has it.
    pub sessions: Vec<(usize, SessionId)>,
}

/// The shell's next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Count a wrong proof against the peer's address and the id that it claimed.
    CountFailure(Option<EdgeId>),
    /// The proof held: forget the failures of this id at the peer's address.
    ForgetFailures(EdgeId),
    /// Ask the acceptor, and hand its answer to [`Entrance::handle_decision`].
    Decide,
    /// Ask all of these sessions at once, each on the worker that has it, for a sign of life. An answer after
    /// [`Entrance::poll_timeout`] changes nothing.
    Ping(Vec<(usize, SessionId)>),
    /// Cut all sessions of this instance of the peer's edge.
    Evict {
        /// The instance that didn't answer.
        instance: InstanceId,
    },
    /// Hand the connection to its place.
    Admit(P),
    /// Count the refusal, report it, answer the peer, and close the connection.
    Refuse(Refusal),
    /// Count the reason, and drop the connection without a word.
    Abandon(Reason),
}

/// Reason why a peer is refused, and who learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason under which it is counted.
    pub reason: Reason,
    /// The answer; a peer that doesn't speak the protocol gets none.
    pub answer: Option<Refused>,
    /// The event; absent while the acceptor knows no edges, since that says nothing about the peer.
    pub event: Option<RefusedPeer>,
}

/// The peer that was refused, as the acceptor's operator is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPeer {
    /// The edge that it is, or only claims to be.
    pub edge: Option<EdgeId>,
    /// Its address.
    pub address: SocketAddr,
    /// The reason that the operator is told.
    pub reason: TunnelRefusalReason,
    /// The address of the instance that keeps it out.
    pub other: Option<SocketAddr>,
}

/// The way a connection ended before it was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It took longer than the acceptor waits.
    TimedOut,
    /// It was closed or lost, or its TLS or QUIC failed.
    Broken,
}

/// The state machine of one connection on its way in.
#[derive(Debug)]
pub struct Entrance<P> {
    peer: SocketAddr,
    offer: FeatureOffer,
    deadline: Instant,
    phase: Phase,
    actions: VecDeque<Action<P>>,
}

#[derive(Debug)]
enum Phase {
    /// The peer has yet to prove the secret.
    Proving,
    /// The proof held, and the acceptor is asked.
    Deciding { edge: EdgeId },
    /// The sessions of another instance are asked for a sign of life.
    Pinging {
        edge: EdgeId,
        conflict: Conflict,
        until: Instant,
    },
    /// The shell hands the connection over, or tells the peer why not.
    Decided,
    /// Nothing follows any more.
    Over,
}

impl<P> Entrance<P> {
    /// A connection that came now, from this address.
    pub fn new(now: Instant, peer: SocketAddr, terms: Terms) -> Self {
        Self {
            peer,
            offer: terms.offer,
            deadline: now + terms.handshake_timeout.unwrap_or(LONGEST_HANDSHAKE),
            phase: Phase::Proving,
            actions: VecDeque::new(),
        }
    }

    /// The peer has proved an edge's secret and offers these features.
    pub fn handle_authenticated(&mut self, edge: &EdgeId, theirs: FeatureOffer) {
        if !matches!(self.phase, Phase::Proving) {
            return;
        }
        if let Err(unsupported) = negotiate(self.offer, theirs) {
            let told = TunnelRefusalReason::UnsupportedFeature;
            let counted = if theirs.required.contains(Features::NEVER) {
                Reason::Doctor
            } else {
                told.into()
            };
            return self.refuse(Refusal {
                reason: counted,
                answer: HandshakeError::UnsupportedFeature(unsupported).refusal(),
                event: Some(RefusedPeer {
                    edge: Some(edge.clone()),
                    address: self.peer,
                    reason: told,
                    other: None,
                }),
            });
        }
        self.phase = Phase::Deciding { edge: edge.clone() };
        self.actions.push_back(Action::ForgetFailures(edge.clone()));
        self.actions.push_back(Action::Decide);
    }

    /// The handshake has failed. `knows_edges` is false until the acceptor was told for the first time which edges may
    /// come.
    pub fn handle_handshake_error(&mut self, error: &HandshakeError, knows_edges: bool) {
        if !matches!(self.phase, Phase::Proving) {
            return;
        }
        match error {
            // The peer may be an allowed edge: it must neither give up for long nor be blocked.
            HandshakeError::AuthFailed { .. } if !knows_edges => self.refuse(Refusal {
                reason: Reason::NotReady,
                answer: Some(Refused {
                    retry_after: Some(NOT_READY_RETRY),
                    ..Refused::new(RefuseCode::Overloaded)
                }),
                event: None,
            }),
            HandshakeError::AuthFailed { claimed } => {
                self.actions
                    .push_back(Action::CountFailure(claimed.clone()));
                self.refuse_handshake(TunnelRefusalReason::AuthFailed, claimed.as_ref(), error);
            }
            HandshakeError::UnsupportedVersion { edge_id, .. } => {
                self.refuse_handshake(
                    TunnelRefusalReason::UnsupportedVersion,
                    Some(edge_id),
                    error,
                );
            }
            HandshakeError::UnsupportedCall(_) => {
                self.refuse_handshake(TunnelRefusalReason::UnsupportedVersion, None, error);
            }
            HandshakeError::UnsupportedFeature(_) => {
                self.refuse_handshake(TunnelRefusalReason::UnsupportedFeature, None, error);
            }
            HandshakeError::TooLong(_)
            | HandshakeError::UnknownKind(_)
            | HandshakeError::UnexpectedKind(_)
            | HandshakeError::Malformed(_)
            | HandshakeError::HubProofFailed
            | HandshakeError::Refused(_)
            | HandshakeError::UnknownRefusal(_) => {
                self.refuse_handshake(TunnelRefusalReason::Protocol, None, error)
            }
        }
    }

    /// The id that the peer claims is blocked at its address for so long; its proof wasn't looked at.
    pub fn handle_blocked(&mut self, left: Duration) {
        if !matches!(self.phase, Phase::Proving) {
            return;
        }
        self.refuse(Refusal {
            reason: guard::Refusal::Blocked.into(),
            answer: Some(Refused {
                retry_after: Some(left.min(BLOCKED_RETRY)),
                ..Refused::new(RefuseCode::Overloaded)
            }),
            event: None,
        });
    }

    /// The acceptor's answer to [`Action::Decide`].
    pub fn handle_decision(&mut self, now: Instant, decision: Decision<P>) {
        let Phase::Deciding { edge } = &self.phase else {
            return;
        };
        let edge = edge.clone();
        match decision {
            Decision::Admit(place) => {
                self.phase = Phase::Decided;
                self.actions.push_back(Action::Admit(place));
            }
            Decision::Refuse(code) => self.refuse_edge(edge, code, None),
            Decision::Conflict(conflict) => {
                let until = now + PING_TIMEOUT;
                let sessions = conflict.sessions.clone();
                self.phase = Phase::Pinging {
                    edge,
                    conflict,
                    until,
                };
                self.actions.push_back(Action::Ping(sessions));
            }
        }
    }

    /// One of the pinged sessions has heard from its edge.
    pub fn handle_pong(&mut self) {
        if let Phase::Pinging { edge, conflict, .. } = &self.phase {
            let (edge, other) = (edge.clone(), conflict.other);
            self.refuse_edge(edge, RefuseCode::InstanceConflict, Some(other));
        }
    }

    /// None of the pinged sessions can answer any more: all of them are gone.
    pub fn handle_pings_lost(&mut self) {
        if let Phase::Pinging { edge, conflict, .. } = &self.phase {
            let (edge, instance) = (edge.clone(), conflict.instance);
            self.evict(edge, instance);
        }
    }

    /// The connection can't go on.
    pub fn handle_failure(&mut self, failure: Failure) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.phase = Phase::Over;
        self.actions.push_back(Action::Abandon(match failure {
            Failure::TimedOut => Reason::HandshakeTimeout,
            Failure::Broken => Reason::HandshakeFailed,
        }));
    }

    /// Does what is due. The shell stops what it does for this connection once [`Self::deadline`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline {
            return self.handle_failure(Failure::TimedOut);
        }
        if let Phase::Pinging { until, .. } = self.phase
            && now >= until
        {
            self.handle_pings_lost();
        }
    }

    /// The next action; none until something else happens.
    pub fn poll_action(&mut self) -> Option<Action<P>> {
        self.actions.pop_front()
    }

    /// Time at which [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Proving | Phase::Deciding { .. } | Phase::Decided => Some(self.deadline),
            Phase::Pinging { until, .. } => Some(until.min(self.deadline)),
            Phase::Over => None,
        }
    }

    /// Time at which the connection must have been decided on. It never moves.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Asks again after the instance is gone: another one that waited may have come in by then.
    fn evict(&mut self, edge: EdgeId, instance: InstanceId) {
        self.phase = Phase::Deciding { edge };
        self.actions.push_back(Action::Evict { instance });
        self.actions.push_back(Action::Decide);
    }

    fn refuse_handshake(
        &mut self,
        reason: TunnelRefusalReason,
        edge: Option<&EdgeId>,
        error: &HandshakeError,
    ) {
        let event = Some(RefusedPeer {
            edge: edge.cloned(),
            address: self.peer,
            reason,
            other: None,
        });
        self.refuse(Refusal {
            reason: reason.into(),
            answer: error.refusal(),
            event,
        });
    }

    fn refuse_edge(&mut self, edge: EdgeId, code: RefuseCode, other: Option<SocketAddr>) {
        let event = TunnelRefusalReason::of(code).map(|reason| RefusedPeer {
            edge: Some(edge),
            address: self.peer,
            reason,
            other,
        });
        self.refuse(Refusal {
            reason: code.into(),
            answer: Some(Refused::new(code)),
            event,
        });
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.phase = Phase::Decided;
        self.actions.push_back(Action::Refuse(refusal));
    }
}
