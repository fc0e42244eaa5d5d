//! Accepts tunnel connections off the workers: TLS and proof with a deadline, then to the worker that shall have it (D1, D4).

use super::guard::Guard;
use super::registry::{Admission, Applicant};
use super::state::{Command, HubState, Incoming};
use crate::net::exhaustion::Exhaustion;
use crate::net::socket_options::{reset_on_close, tune_tunnel};
use crate::tunnel::connection::Connection;
use crate::tunnel::driver::ConnectionError;
use crate::tunnel::tls::{self, ServerTls, TlsError};
use remoteingress_proto::edge_id::EdgeId;
use remoteingress_proto::features::{FeatureOffer, Features, negotiate};
use remoteingress_proto::handshake::{
    AuthenticatedEdge, HandshakeError, HubHandshake, HubProgress, InstanceId, MAX_MESSAGE,
    RefuseCode, Refused, SessionId, Transport,
};
use serde_json::json;
use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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
    optional: Features::RESUME,
};

struct Acceptor {
    state: Arc<HubState>,
    tls: ServerTls,
    guard: RefCell<Guard>,
}

/// Runs until it is told to stop, or nobody is left to tell it.
pub(crate) async fn run(
    state: Arc<HubState>,
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    mut stop: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let guard = RefCell::new(Guard::new(
        state.config.limits.clone(),
        Instant::now().into_std(),
    ));
    let acceptor = Rc::new(Acceptor { state, tls, guard });
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn_local(acceptor.clone().listen(listener));
            }
            Err(error) => tracing::error!(%error, "failed to watch the tunnel port"),
        }
    }
    let stopped = stop.recv().await;
    tasks.shutdown().await;
    if let Some(stopped) = stopped {
        // Whoever asked may not wait any more.
        let _ = stopped.send(());
    }
}

impl Acceptor {
    async fn listen(self: Rc<Self>, listener: tokio::net::TcpListener) {
        let mut exhaustion = Exhaustion::new();
        loop {
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    let Some(pause) = exhaustion.failed(Instant::now(), &error) else {
                        continue;
                    };
                    self.state.refusals.count("descriptors");
                    if pause.is_news {
                        tracing::warn!(%error, "no more tunnel connections can be accepted for now");
                    }
                    sleep(pause.length).await;
                    continue;
                }
            };
            exhaustion.accepted();
            if let Err(refusal) = self
                .guard
                .borrow_mut()
                .admit(Instant::now().into_std(), address.ip())
            {
                self.state.refusals.count(refusal.as_str());
                // Fails only on a socket that is gone.
                let _ = reset_on_close(&tcp);
                continue;
            }
            let acceptor = self.clone();
            spawn_local(async move {
                acceptor.welcome(tcp, address).await;
                acceptor.guard.borrow_mut().release(address.ip());
            });
        }
    }

    async fn welcome(&self, tcp: tokio::net::TcpStream, address: SocketAddr) {
        let limit = self
            .state
            .config
            .limits
            .handshake_timeout
            .unwrap_or(LONGEST_HANDSHAKE);
        let deadline = Instant::now() + limit;
        match timeout_at(deadline, self.handshake(tcp, address, deadline)).await {
            Ok(Ok(())) => {}
            // TLS has the same deadline.
            Ok(Err(ConnectionError::Tls(TlsError::TimedOut))) | Err(_) => {
                self.state.refusals.count("handshakeTimeout");
            }
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "handshake failed");
                self.state.refusals.count("handshakeFailed");
            }
        }
    }

    async fn handshake(
        &self,
        mut tcp: tokio::net::TcpStream,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        tune_tunnel(&tcp)?;
        let mut tls = tls::accept(&mut tcp, &self.tls, deadline).await?;
        let Some(ekm) = tls.take_exported_key() else {
            return Err(ConnectionError::Closed);
        };
        let mut connection = Connection::new(tcp, tls);
        let handshake = HubHandshake::new(&ekm, Transport::TcpTls);
        let authenticated = connection
            .receive(MAX_MESSAGE, |received| {
                let lookup = |edge: &_| self.state.registry().candidates(edge);
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
                self.reject(&mut connection, address, None, &error).await;
                return Ok(());
            }
        };
        if let Err(unsupported) = negotiate(OFFER, edge.hello.offer()) {
            let error = HandshakeError::UnsupportedFeature(unsupported);
            let id = Some(&edge.hello.edge_id);
            self.reject(&mut connection, address, id, &error).await;
            return Ok(());
        }
        self.guard.borrow_mut().succeeded(address.ip());
        self.admit(connection, edge, address).await
    }

    /// Answers a failed proof, or a good one of a version that doesn't fit.
    async fn reject(
        &self,
        connection: &mut Connection,
        address: SocketAddr,
        proven: Option<&EdgeId>,
        error: &HandshakeError,
    ) {
        let (edge, reason) = match error {
            HandshakeError::AuthFailed { .. } if !self.state.registry().is_told => {
                // It may well be an edge of ours: it must neither give up for long nor be blocked.
                self.state.refusals.count("notReady");
                let refused = Refused {
                    retry_after: Some(NOT_READY_RETRY),
                    ..Refused::new(RefuseCode::Overloaded)
                };
                // The peer may be gone already.
                let _ = connection.send(&refused.message()).await;
                return;
            }
            HandshakeError::AuthFailed { claimed } => {
                self.guard
                    .borrow_mut()
                    .failed(Instant::now().into_std(), address.ip());
                (claimed.as_ref(), "authFailed")
            }
            HandshakeError::UnsupportedVersion { edge_id, .. } => {
                (Some(edge_id), "unsupportedVersion")
            }
            HandshakeError::UnsupportedFeature(_) => (proven, "unsupportedFeature"),
            HandshakeError::TooLong(_)
            | HandshakeError::UnknownKind(_)
            | HandshakeError::UnexpectedKind(_)
            | HandshakeError::Malformed(_)
            | HandshakeError::HubProofFailed
            | HandshakeError::Refused(_)
            | HandshakeError::UnknownRefusal(_) => (None, "protocol"),
        };
        self.state.refusals.count(reason);
        let data =
            json!({ "edgeId": edge, "remoteAddress": address.to_string(), "reason": reason });
        self.state.events.emit("edgeRejected", &data);
        if let Some(refused) = error.refusal() {
            // The peer may be gone already.
            let _ = connection.send(&refused.message()).await;
        }
    }

    async fn admit(
        &self,
        mut connection: Connection,
        edge: Box<AuthenticatedEdge>,
        address: SocketAddr,
    ) -> Result<(), ConnectionError> {
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
                    let connection = connection.detach()?;
                    let incoming = Incoming {
                        connection,
                        edge,
                        address,
                        entry,
                        counters,
                    };
                    if let Some(worker) = self.state.worker(worker) {
                        // A worker that has ended drops it.
                        let _ = worker.send(Command::Connection(Box::new(incoming)));
                    }
                    return Ok(());
                }
                Admission::No(code) => {
                    let data = json!({
                        "edgeId": edge.hello.edge_id, "remoteAddress": address.to_string(),
                        "reason": code.as_str(),
                    });
                    self.state.events.emit("edgeRejected", &data);
                    break code;
                }
                Admission::Conflict {
                    other,
                    instance,
                    sessions,
                } => {
                    if self.answers(&sessions).await {
                        let data = json!({
                            "edgeId": edge.hello.edge_id, "remoteAddress": address.to_string(),
                            "reason": "instanceConflict", "otherAddress": other.to_string(),
                        });
                        self.state.events.emit("edgeRejected", &data);
                        break RefuseCode::InstanceConflict;
                    }
                    // Then once more: another one that waited may have come in by now.
                    self.evict(&edge, instance);
                }
            }
        };
        self.state.refusals.count(code.as_str());
        connection.send(&Refused::new(code).message()).await
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
