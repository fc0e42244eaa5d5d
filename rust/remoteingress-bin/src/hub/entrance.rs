//! The way in, whichever transport a connection came by: proof of the secret, then the registry's decision (D4, D7).

use super::state::{Command, HubState, Incoming};
use remoteingress_config::events::{EdgeRejected, Event};
use remoteingress_config::reasons::{HubRefusalReason, TunnelRefusalReason};
use remoteingress_core::hub::registry::{Admission, Applicant};
use remoteingress_proto::handshake::{
    AuthenticatedEdge, HandshakeError, HubHandshake, HubProgress, InstanceId, MAX_MESSAGE,
    RefuseCode, Refused, SessionId,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::{FeatureOffer, Features, negotiate};
use remoteingress_tunnel::FEATURES;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use remoteingress_tunnel::transport::tls::TlsError;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

/// An instance that is to make room for another must answer within this (D7).
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Where `handshakeTimeoutSecs` is off, a connection still doesn't wait for ever.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60);
/// When edges may ask again that came before the hub was told its edges: a program that starts a hub tells
/// them next.
const NOT_READY_RETRY: Duration = Duration::from_millis(500);
/// Which features this hub has.
const OFFER: FeatureOffer = FeatureOffer {
    required: Features::NONE,
    optional: FEATURES,
};

/// A connection that may come in, and the worker that shall have it if it can still be moved.
pub(super) struct Admitted {
    pub(super) incoming: Incoming<Connection>,
    pub(super) worker: usize,
}

/// When a connection that came now must have proved the secret.
pub(super) fn deadline(state: &HubState) -> Instant {
    let limit = state.config.limits.handshake_timeout;
    Instant::now() + limit.unwrap_or(LONGEST_HANDSHAKE)
}

/// Has the peer prove the secret; None if it was told that it may not come in.
pub(super) async fn let_in(
    state: &HubState,
    mut connection: Connection,
    ekm: &[u8; 32],
    address: SocketAddr,
) -> Result<Option<Admitted>, ConnectionError> {
    let entrance = Entrance { state };
    let handshake = HubHandshake::new(ekm, connection.transport());
    let authenticated = connection
        .receive(MAX_MESSAGE, |received| {
            let lookup = |edge: &_| state.registry().candidates(edge);
            match handshake.handle(received, lookup)? {
                HubProgress::NeedMore => Ok::<_, Failed>(None),
                HubProgress::Authenticated { edge, consumed } => Ok(Some((edge, consumed))),
            }
        })
        .await;
    let edge = match authenticated {
        Ok(edge) => edge,
        Err(Failed::Connection(error)) => return Err(error),
        Err(Failed::Handshake(error)) => {
            entrance.reject(connection, address, None, &error).await;
            return Ok(None);
        }
    };
    if let Err(unsupported) = negotiate(OFFER, edge.hello.offer()) {
        let error = HandshakeError::UnsupportedFeature(unsupported);
        let id = Some(&edge.hello.edge_id);
        entrance.reject(connection, address, id, &error).await;
        return Ok(None);
    }
    state.guard().succeeded(address.ip());
    entrance.admit(connection, edge, address).await
}

/// Counts how a handshake failed, if it did.
pub(super) fn count_failure(
    state: &HubState,
    address: SocketAddr,
    result: Result<Result<(), ConnectionError>, Elapsed>,
) {
    match result {
        Ok(Ok(())) => {}
        // TLS has the same deadline.
        Ok(Err(ConnectionError::Tls(TlsError::TimedOut))) | Err(_) => {
            state.refusals.count(HubRefusalReason::HandshakeTimeout);
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "handshake failed");
            state.refusals.count(HubRefusalReason::HandshakeFailed);
        }
    }
}

struct Entrance<'a> {
    state: &'a HubState,
}

impl Entrance<'_> {
    /// Answers a failed proof, or a good one of a version that doesn't fit.
    async fn reject(
        &self,
        connection: Connection,
        address: SocketAddr,
        proven: Option<&EdgeId>,
        error: &HandshakeError,
    ) {
        let (edge, reason) = match error {
            HandshakeError::AuthFailed { .. } if !self.state.registry().is_told => {
                // It may well be an edge of ours: it must neither give up for long nor be blocked.
                self.state.refusals.count(HubRefusalReason::NotReady);
                let refused = Refused {
                    retry_after: Some(NOT_READY_RETRY),
                    ..Refused::new(RefuseCode::Overloaded)
                };
                refuse(connection, &refused).await;
                return;
            }
            HandshakeError::AuthFailed { claimed } => {
                self.state
                    .guard()
                    .failed(Instant::now().into_std(), address.ip());
                (claimed.as_ref(), TunnelRefusalReason::AuthFailed)
            }
            HandshakeError::UnsupportedVersion { edge_id, .. } => {
                (Some(edge_id), TunnelRefusalReason::UnsupportedVersion)
            }
            HandshakeError::UnsupportedFeature(_) => {
                (proven, TunnelRefusalReason::UnsupportedFeature)
            }
            HandshakeError::TooLong(_)
            | HandshakeError::UnknownKind(_)
            | HandshakeError::UnexpectedKind(_)
            | HandshakeError::Malformed(_)
            | HandshakeError::HubProofFailed
            | HandshakeError::Refused(_)
            | HandshakeError::UnknownRefusal(_) => (None, TunnelRefusalReason::Protocol),
        };
        self.state.refusals.count(reason);
        self.tell(edge, address, reason, None);
        if let Some(refused) = error.refusal() {
            refuse(connection, &refused).await;
        }
    }

    /// Sends `edgeRejected`.
    fn tell(
        &self,
        edge: Option<&EdgeId>,
        address: SocketAddr,
        reason: TunnelRefusalReason,
        other: Option<SocketAddr>,
    ) {
        let event = Event::EdgeRejected(EdgeRejected {
            edge_id: edge.cloned(),
            remote_address: address,
            reason,
            other_address: other,
        });
        self.state.events.emit(&event);
    }

    async fn admit(
        &self,
        connection: Connection,
        edge: Box<AuthenticatedEdge>,
        address: SocketAddr,
    ) -> Result<Option<Admitted>, ConnectionError> {
        let code = loop {
            let applicant = Applicant {
                edge: &edge.hello.edge_id,
                keys: &edge.keys,
                instance: edge.hello.instance,
                ordinal: edge.hello.session_ordinal,
                resume: edge.hello.resume.as_ref().map(|resume| resume.session),
                replaces_instance: edge.hello.replaces_instance,
            };
            let loads: Vec<usize> = self
                .state
                .gauges
                .iter()
                .map(|gauge| gauge.streams())
                .collect();
            let admission = self.state.registry().admit(&applicant, &loads);
            match admission {
                Admission::Yes {
                    worker,
                    entry,
                    counters,
                } => {
                    let incoming = Incoming {
                        connection,
                        edge,
                        address,
                        entry,
                        counters,
                    };
                    return Ok(Some(Admitted { incoming, worker }));
                }
                Admission::No(code) => {
                    if let Some(reason) = TunnelRefusalReason::of(code) {
                        self.tell(Some(&edge.hello.edge_id), address, reason, None);
                    }
                    break code;
                }
                Admission::Conflict {
                    other,
                    instance,
                    sessions,
                } => {
                    if self.answers(&sessions).await {
                        let reason = TunnelRefusalReason::InstanceConflict;
                        self.tell(Some(&edge.hello.edge_id), address, reason, Some(other));
                        break RefuseCode::InstanceConflict;
                    }
                    // Then once more: another one that waited may have come in by now.
                    self.evict(&edge, instance);
                }
            }
        };
        self.state.refusals.count(code);
        refuse(connection, &Refused::new(code)).await;
        Ok(None)
    }

    fn evict(&self, edge: &AuthenticatedEdge, instance: InstanceId) {
        let id = &edge.hello.edge_id;
        self.state
            .change(|registry| ((), registry.evict(id, instance)));
    }

    /// Whether any of these sessions hears from its edge in time.
    async fn answers(&self, sessions: &[(usize, SessionId)]) -> bool {
        let (answered, mut answer) = mpsc::channel::<()>(1);
        for (worker, session) in sessions {
            let Some(worker) = self.state.worker(*worker) else {
                continue;
            };
            let (tell, told) = oneshot::channel();
            let probe = Command::Probe {
                session: *session,
                answered: tell,
            };
            if worker.send(probe).is_ok() {
                let answered = answered.clone();
                spawn_local(async move {
                    if told.await.is_ok() {
                        // One answer is enough.
                        let _ = answered.try_send(());
                    }
                });
            }
        }
        drop(answered);
        matches!(timeout(PROBE_TIMEOUT, answer.recv()).await, Ok(Some(())))
    }
}

/// Tells the peer why, and ends the connection in order, so that the answer arrives.
async fn refuse(mut connection: Connection, refused: &Refused) {
    // The peer may be gone already.
    if connection.send(&refused.message()).await.is_ok() {
        connection.close().await;
    }
}

enum Failed {
    Connection(ConnectionError),
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
