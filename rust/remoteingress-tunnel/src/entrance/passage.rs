//! One connection from its first byte to the acceptor's decision: carries out what the pure entrance says (D4, D7).

use super::acceptor::{Acceptor, Admitted};
use crate::FEATURES;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::tls::TlsError;
use remoteingress_core::entrance::{Action, Entrance, Failure, Refusal, Terms};
use remoteingress_proto::handshake::{
    AuthenticatedEdge, Candidates, HandshakeError, HubHandshake, HubProgress, MAX_MESSAGE,
    SessionId,
};
use remoteingress_proto::wire::features::{FeatureOffer, Features};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// Features of this end.
const OFFER: FeatureOffer = FeatureOffer {
    required: Features::NONE,
    optional: FEATURES,
};

/// A connection on its way in.
pub(super) struct Passage<'a, A: Acceptor> {
    acceptor: &'a A,
    peer: SocketAddr,
    entrance: Entrance<A::Place>,
}

impl<'a, A: Acceptor> Passage<'a, A> {
    /// A connection that came now.
    pub(super) fn new(acceptor: &'a A, peer: SocketAddr) -> Self {
        let terms = Terms {
            handshake_timeout: acceptor.handshake_timeout(),
            offer: OFFER,
        };
        Self {
            acceptor,
            peer,
            entrance: Entrance::new(Instant::now().into_std(), peer, terms),
        }
    }

    /// Time at which the connection must have been decided on.
    pub(super) fn deadline(&self) -> Instant {
        self.entrance.deadline().into()
    }

    /// Has the peer prove the secret and the acceptor decide; None if the peer was refused.
    pub(super) async fn enter(
        &mut self,
        mut connection: Connection,
        ekm: &[u8; 32],
    ) -> Result<Option<Admitted<A::Place>>, ConnectionError> {
        let edge = match self.authenticate(&mut connection, ekm).await {
            Ok(edge) => {
                let hello = &edge.hello;
                self.entrance
                    .handle_authenticated(&hello.edge_id, hello.offer());
                Some(edge)
            }
            Err(Failed::Handshake(error)) => {
                self.entrance
                    .handle_handshake_error(&error, self.acceptor.knows_edges());
                None
            }
            Err(Failed::Blocked(left)) => {
                self.entrance.handle_blocked(left);
                None
            }
            Err(Failed::Connection(error)) => return Err(error),
        };
        Ok(self.decide(connection, edge).await)
    }

    /// Counts a connection that has failed or took too long.
    pub(super) fn finish(mut self, passed: Result<Result<(), ConnectionError>, Elapsed>) {
        match passed {
            Ok(Ok(())) => return,
            // TLS has the same deadline.
            Ok(Err(ConnectionError::Tls(TlsError::TimedOut))) | Err(_) => {
                self.entrance.handle_failure(Failure::TimedOut);
            }
            Ok(Err(error)) => {
                tracing::debug!(address = %self.peer, %error, "handshake failed");
                self.entrance.handle_failure(Failure::Broken);
            }
        }
        while let Some(action) = self.entrance.poll_action() {
            if let Action::Abandon(reason) = action {
                self.acceptor.count_refusal(reason, Some(self.peer.ip()));
            }
        }
    }

    async fn authenticate(
        &self,
        connection: &mut Connection,
        ekm: &[u8; 32],
    ) -> Result<Box<AuthenticatedEdge>, Failed> {
        let handshake = HubHandshake::new(ekm, connection.transport());
        let blocked = Cell::new(None);
        let parse = |received: &[u8]| {
            let lookup = |edge: &_| {
                let now = Instant::now().into_std();
                let left = self.acceptor.guard().blocked(now, self.peer.ip(), edge);
                blocked.set(left);
                // The same work, so that only the answer tells.
                let candidates = self.acceptor.candidates(edge);
                left.map_or(candidates, |_| Candidates::unknown())
            };
            Ok(match handshake.handle(received, lookup)? {
                HubProgress::NeedMore => None,
                HubProgress::Authenticated { edge, consumed } => Some((edge, consumed)),
            })
        };
        let received = connection.receive(MAX_MESSAGE, parse).await;
        match blocked.get() {
            Some(left) => Err(Failed::Blocked(left)),
            None => received,
        }
    }

    /// Carries out the entrance's actions. Only an edge whose proof held is decided on.
    async fn decide(
        &mut self,
        connection: Connection,
        edge: Option<Box<AuthenticatedEdge>>,
    ) -> Option<Admitted<A::Place>> {
        let (acceptor, peer) = (self.acceptor, self.peer);
        while let Some(action) = self.entrance.poll_action() {
            let now = Instant::now().into_std();
            match action {
                Action::CountFailure(claimed) => {
                    let mut guard = acceptor.guard();
                    let block = guard.failed(now, peer.ip(), claimed.as_ref());
                    drop(guard);
                    if let Some(block) = block {
                        acceptor.report_block(&block);
                    }
                }
                Action::ForgetFailures(edge) => {
                    acceptor.guard().succeeded(now, peer.ip(), &edge);
                }
                Action::Decide => {
                    let decision = acceptor.decide(edge.as_deref()?);
                    self.entrance.handle_decision(now, decision);
                }
                Action::Ping(sessions) => self.ping(&sessions).await,
                Action::Evict { instance } => {
                    acceptor.evict(&edge.as_ref()?.hello.edge_id, instance);
                }
                Action::Admit(place) => {
                    return Some(Admitted {
                        connection,
                        edge: edge?,
                        address: peer,
                        place,
                    });
                }
                Action::Refuse(refusal) => {
                    self.refuse(connection, refusal).await;
                    return None;
                }
                Action::Abandon(reason) => {
                    acceptor.count_refusal(reason, Some(peer.ip()));
                    return None;
                }
            }
        }
        None
    }

    /// Asks all of these sessions for a sign of life, and waits for the first one until the entrance's time has come.
    async fn ping(&mut self, sessions: &[(usize, SessionId)]) {
        let (first, mut answer) = mpsc::channel::<()>(1);
        for (worker, session) in sessions {
            let (tell, told) = oneshot::channel();
            self.acceptor.ping(*worker, *session, tell);
            let first = first.clone();
            spawn_local(async move {
                if told.await.is_ok() {
                    // One answer is enough.
                    let _ = first.try_send(());
                }
            });
        }
        drop(first);
        let due = self.entrance.poll_timeout();
        let due = due.map_or_else(Instant::now, Instant::from_std);
        match timeout_at(due, answer.recv()).await {
            Ok(Some(())) => self.entrance.handle_pong(),
            Ok(None) => self.entrance.handle_pings_lost(),
            Err(_) => self.entrance.handle_timeout(due.into_std()),
        }
    }

    /// Tells the operator and the peer, and ends the connection in order, so that the answer arrives.
    async fn refuse(&self, mut connection: Connection, refusal: Refusal) {
        let peer = Some(self.peer.ip());
        self.acceptor.count_refusal(refusal.reason, peer);
        if let Some(event) = refusal.event {
            self.acceptor.report(event);
        }
        let Some(answer) = refusal.answer else {
            return;
        };
        // The peer may be gone already.
        if connection.send(&answer.message()).await.is_ok() {
            connection.close().await;
        }
    }
}

/// Reason why a peer isn't authenticated.
enum Failed {
    Connection(ConnectionError),
    /// The id is blocked at this address for so long.
    Blocked(Duration),
    Handshake(HandshakeError),
}

impl From<ConnectionError> for Failed {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<HandshakeError> for Failed {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}
