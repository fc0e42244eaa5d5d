//! One connection from its first byte to the acceptor's decision: carries out what the pure entrance says (D4, D7).

use super::acceptor::{Acceptor, Admitted, Proved};
use crate::FEATURES;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::tls::TlsError;
use remoteingress_core::entrance::{Action, Entrance, Failure, Refusal, Terms};
use remoteingress_proto::handshake::{HandshakeError, MAX_MESSAGE, SessionId};
use remoteingress_proto::token::edge_id::EdgeId;
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
    /// This end has dialled: nobody's failures are counted.
    is_called: bool,
    refusal: Option<Refusal>,
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
            is_called: false,
            refusal: None,
        }
    }

    /// A connection that this end has dialled.
    pub(super) fn called(acceptor: &'a A, peer: SocketAddr) -> Self {
        Self {
            is_called: true,
            ..Self::new(acceptor, peer)
        }
    }

    /// Reason why the peer was refused, if it was.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
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
    ) -> Result<Option<Entered<A>>, ConnectionError> {
        let transport = connection.transport();
        let blocked = Cell::new(None);
        let is_blocked = |edge: &EdgeId| {
            let now = Instant::now().into_std();
            let left = self.acceptor.guard().blocked(now, self.peer.ip(), edge);
            blocked.set(left);
            left.is_some()
        };
        let parse = |received: &[u8]| {
            self.acceptor
                .authenticate(received, ekm, transport, is_blocked)
        };
        let proved = prove(&mut connection, parse).await;
        let proved = match blocked.get() {
            Some(left) => Err(Failed::Blocked(left)),
            None => proved,
        };
        self.settle(connection, proved).await
    }

    /// Has the acceptor decide on a peer that has proved the secret, or hasn't.
    pub(super) async fn settle(
        &mut self,
        connection: Connection,
        proved: Result<Box<A::Peer>, Failed>,
    ) -> Result<Option<Entered<A>>, ConnectionError> {
        let peer = match proved {
            Ok(peer) => {
                let (edge, offer) = self.acceptor.identify(&peer);
                self.entrance.handle_authenticated(edge, offer);
                Some(peer)
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
        Ok(self.decide(connection, peer).await)
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

    /// Carries out the entrance's actions. Only a peer whose proof held is decided on.
    async fn decide(
        &mut self,
        connection: Connection,
        proved: Option<Box<A::Peer>>,
    ) -> Option<Entered<A>> {
        let (acceptor, peer) = (self.acceptor, self.peer);
        while let Some(action) = self.entrance.poll_action() {
            let now = Instant::now().into_std();
            match action {
                Action::CountFailure(_) | Action::ForgetFailures(_) if self.is_called => {}
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
                    let decision = acceptor.decide(proved.as_deref()?);
                    self.entrance.handle_decision(now, decision);
                }
                Action::Ping(sessions) => self.ping(&sessions).await,
                Action::Evict { instance } => {
                    acceptor.evict(acceptor.identify(proved.as_deref()?).0, instance);
                }
                Action::Admit(place) => {
                    return Some(Admitted {
                        connection,
                        peer: proved?,
                        address: peer,
                        place,
                        line: None,
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
    async fn refuse(&mut self, mut connection: Connection, refusal: Refusal) {
        let peer = Some(self.peer.ip());
        self.acceptor.count_refusal(refusal.reason, peer);
        self.refusal = Some(refusal.clone());
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

/// A connection that was let in.
pub(super) type Entered<A> = Admitted<<A as Acceptor>::Place, Connection, <A as Acceptor>::Peer>;

/// Has the peer prove the secret; `parse` looks at all that it has sent so far.
pub(super) async fn prove<E>(
    connection: &mut Connection,
    mut parse: impl FnMut(&[u8]) -> Result<Proved<E>, HandshakeError>,
) -> Result<Box<E>, Failed> {
    let parse = |received: &[u8]| parse(received).map_err(Failed::Handshake);
    connection.receive(MAX_MESSAGE, parse).await
}

/// Reason why a peer isn't authenticated.
pub(super) enum Failed {
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
