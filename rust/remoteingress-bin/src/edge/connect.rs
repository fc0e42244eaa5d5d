//! One attempt to reach the hub: dial, TLS or QUIC, Hello, Welcome.

use super::gate::Turn;
use super::worker::EdgeWorker;
use remoteingress_config::TransportMode;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_os::dial::dial;
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, HandshakeError, Hello, MAX_MESSAGE, PROTOCOL_VERSION, RefuseCode,
    Resume, Transport, Welcome,
};
use remoteingress_proto::wire::features::Features;
use remoteingress_tunnel::FEATURES;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use remoteingress_tunnel::transport::tcp_tls::TcpTls;
use remoteingress_tunnel::transport::tls::{self, ExportedKey};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// From the first packet to the Welcome (D13 wants a dead hub noticed soon; 8 s is what an
/// established connection gets).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// With `quicWithFallback`: TLS is dialled this long after QUIC (D13).
const TLS_DELAY: Duration = Duration::from_secs(1);
/// With `quicWithFallback`: QUIC must have let this edge in by then (D13).
const QUIC_TIMEOUT: Duration = Duration::from_secs(5);

/// A wrong secret or a session too many is not tried again sooner: the hub blocks an address after 5
/// wrong proofs in 60 s (`maxAuthFailuresPerIp`), and other edges may share it.
const PATIENT_RETRY: Duration = Duration::from_secs(15);

/// Why an attempt failed, and when the hub wants the next.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: CodedError,
    pub(crate) retry_after: Option<Duration>,
    /// The hub doesn't know this edge or its secret.
    pub(crate) auth_failed: bool,
}

impl Failure {
    /// The hub hasn't said anything: another transport may reach it.
    fn is_unreachable(&self) -> bool {
        self.error.code == ErrorCode::HubUnreachable && self.retry_after.is_none()
    }

    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error: CodedError::new(code, message),
            retry_after: None,
            auth_failed: false,
        }
    }
}

impl From<CodedError> for Failure {
    fn from(error: CodedError) -> Self {
        Self {
            error,
            retry_after: None,
            auth_failed: false,
        }
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let message = format!("the hub ended the handshake: {error}");
        Self::new(ErrorCode::HubUnreachable, message)
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        let HandshakeError::Refused(refused) = &error else {
            let is_proof = matches!(error, HandshakeError::HubProofFailed);
            let code = if is_proof {
                ErrorCode::AuthFailed
            } else {
                ErrorCode::Protocol
            };
            return Self::new(code, format!("the hub's answer can't be trusted: {error}"));
        };
        let (code, advice) = match refused.code {
            RefuseCode::AuthFailed => (
                ErrorCode::AuthFailed,
                "the hub doesn't accept this edge id and secret; check the token and that the hub lists the edge",
            ),
            RefuseCode::InstanceConflict => (
                ErrorCode::InstanceConflict,
                "another edge with this id is connected; stop it, or set replaceInstance",
            ),
            RefuseCode::UnsupportedVersion | RefuseCode::UnsupportedFeature => (
                ErrorCode::Protocol,
                "hub and edge have versions that don't fit; update the older one",
            ),
            RefuseCode::Overloaded => (ErrorCode::Overloaded, "the hub is overloaded"),
            RefuseCode::Draining => (ErrorCode::HubUnreachable, "the hub is about to stop"),
            RefuseCode::TooManySessions => (
                ErrorCode::Overloaded,
                "the hub allows this edge fewer sessions (maxSessionsPerEdge)",
            ),
        };
        let auth_failed = refused.code == RefuseCode::AuthFailed;
        let is_surplus = refused.code == RefuseCode::TooManySessions;
        let own_retry = if auth_failed || is_surplus {
            Some(PATIENT_RETRY)
        } else {
            None
        };
        Self {
            error: CodedError::new(code, advice),
            retry_after: refused.retry_after.or(own_retry),
            auth_failed,
        }
    }
}

/// A connection to the hub that has said Hello.
pub(crate) struct Attempt {
    pub(crate) connection: Connection,
    pub(crate) answer: Answer,
    /// The credit that Hello announced.
    pub(crate) announced_credit: u32,
}

/// How far the hub is.
pub(crate) enum Answer {
    Welcome(Welcome),
    /// Its key was verified by a pin: what follows Hello may go ahead of its Welcome (D4).
    Awaited(Awaited),
}

/// A Welcome that is to come, and the turn that ends with it.
pub(crate) struct Awaited {
    pub(crate) handshake: EdgeHandshake,
    /// Others wait for theirs until it is dropped.
    pub(crate) _turn: Option<Turn>,
}

/// What an attempt is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) transport: Transport,
    /// The session to go on with.
    pub(crate) resume: Option<Resume>,
    /// Whether it need not wait for the Welcome.
    pub(crate) may_be_early: bool,
    /// It finds out whether this transport works: no other is tried instead.
    pub(crate) is_probe: bool,
}

impl Wanted {
    /// A new session.
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            resume: None,
            may_be_early: true,
            is_probe: false,
        }
    }

    /// A session that finds out whether QUIC works.
    pub(crate) fn probe() -> Self {
        Self {
            may_be_early: false,
            is_probe: true,
            ..Self::new(Transport::Quic)
        }
    }
}

/// Reaches the hub, or says why not. Attempts to resume are not made behind one that the hub has refused for the
/// secret's sake.
pub(crate) async fn connect(worker: &EdgeWorker, wanted: Wanted) -> Result<Attempt, Failure> {
    let state = &worker.state;
    let turn = Cell::new(Some(state.gate.turn().await));
    let mut wanted = wanted;
    if !wanted.is_probe && wanted.resume.is_none() {
        // It may have changed while others had their turns.
        wanted.transport = state.transport();
    }
    // Only the first worker asks for a new session behind a refusal.
    let is_in_vain = wanted.resume.is_some() || worker.ordinal > 0;
    let refusal = state.gate.refusal().filter(|_| is_in_vain);
    if let Some(failure) = refusal.or_else(|| state.gate.fresh_refusal()) {
        return Err(failure);
    }
    let can_fall_back = state.config.transport_mode == TransportMode::QuicWithFallback
        && wanted.transport == Transport::Quic;
    let connected = if can_fall_back && !wanted.is_probe {
        race(worker, wanted, &turn).await
    } else {
        attempt(worker, wanted, &turn, CONNECT_TIMEOUT).await
    };
    match &connected {
        Ok(Attempt {
            answer: Answer::Welcome(_),
            ..
        }) => state.gate.passed(),
        Ok(_) => {}
        Err(failure) if failure.auth_failed => state.gate.refused(failure),
        Err(_) => {}
    }
    connected
}

/// QUIC first; TLS is dialled after a second, and used if QUIC doesn't get through in time (D13).
async fn race(
    worker: &EdgeWorker,
    wanted: Wanted,
    turn: &Cell<Option<Turn>>,
) -> Result<Attempt, Failure> {
    let mut quic = pin!(attempt(worker, wanted, turn, QUIC_TIMEOUT));
    let mut dialled = pin!(async {
        sleep(TLS_DELAY).await;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        dial_transport(worker, Transport::TcpTls, deadline).await
    });
    let mut tls = None;
    let failure = loop {
        tokio::select! {
            biased;
            attempt = &mut quic => match attempt {
                Err(failure) if failure.is_unreachable() => break failure,
                answered => return answered,
            },
            result = &mut dialled, if tls.is_none() => tls = Some(result),
        }
    };
    let (connection, ekm) = match tls {
        Some(result) => result?,
        None => {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            dial_transport(worker, Transport::TcpTls, deadline).await?
        }
    };
    let greeting = greet(worker, wanted, turn, connection, ekm);
    let attempt = in_time(worker, CONNECT_TIMEOUT, greeting).await?;
    worker.state.fall_back(&failure.error.message);
    Ok(attempt)
}

async fn attempt(
    worker: &EdgeWorker,
    wanted: Wanted,
    turn: &Cell<Option<Turn>>,
    limit: Duration,
) -> Result<Attempt, Failure> {
    let attempt = async {
        let deadline = Instant::now() + limit;
        let (connection, ekm) = dial_transport(worker, wanted.transport, deadline).await?;
        greet(worker, wanted, turn, connection, ekm).await
    };
    in_time(worker, limit, attempt).await
}

async fn in_time(
    worker: &EdgeWorker,
    limit: Duration,
    attempt: impl Future<Output = Result<Attempt, Failure>>,
) -> Result<Attempt, Failure> {
    timeout(limit, attempt).await.unwrap_or_else(|_| {
        let config = &worker.state.config;
        let message = format!(
            "{}:{} didn't finish the handshake within {} s",
            config.hub_host,
            config.hub_port,
            limit.as_secs()
        );
        Err(Failure::new(ErrorCode::HubUnreachable, message))
    })
}

/// Says Hello, and hears the hub's answer unless that may come later.
async fn greet(
    worker: &EdgeWorker,
    wanted: Wanted,
    turn: &Cell<Option<Turn>>,
    mut connection: Connection,
    ekm: ExportedKey,
) -> Result<Attempt, Failure> {
    let state = &worker.state;
    let config = &state.config;
    let announced_credit = worker.budget.initial_credit();
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        edge_id: config.edge_id.clone(),
        instance: state.instance,
        session_ordinal: u16::try_from(worker.ordinal).unwrap_or(u16::MAX),
        required: Features::NONE,
        optional: FEATURES,
        resume: wanted.resume,
        initial_credit: announced_credit,
        replaces_instance: config.replace_instance,
        resume_timeout_secs: Some(config.engine.resume_timeout_secs()),
        version: crate::version::VERSION.to_owned(),
    };
    let keys = state.keys.clone();
    let (handshake, message) = EdgeHandshake::new(&hello, keys, &ekm, connection.transport())?;
    let is_early = wanted.may_be_early && connection.peer_pin_verified();
    tracing::debug!(
        ordinal = worker.ordinal,
        transport = connection.transport().as_str(),
        is_early,
        "says hello"
    );
    connection.send(&message).await?;
    let answer = if is_early {
        Answer::Awaited(Awaited {
            handshake,
            _turn: turn.take(),
        })
    } else {
        let welcome = connection
            .receive(MAX_MESSAGE, |received| {
                match handshake.handle(received)? {
                    EdgeProgress::NeedMore => Ok::<_, Failure>(None),
                    EdgeProgress::Welcomed { welcome, consumed } => Ok(Some((welcome, consumed))),
                }
            })
            .await?;
        Answer::Welcome(welcome)
    };
    Ok(Attempt {
        connection,
        answer,
        announced_credit,
    })
}

/// A connection whose TLS handshake is over, and what only its two ends know.
async fn dial_transport(
    worker: &EdgeWorker,
    transport: Transport,
    deadline: Instant,
) -> Result<(Connection, ExportedKey), Failure> {
    let (state, config) = (&worker.state, &worker.state.config);
    let (host, port) = (config.hub_host.as_str(), config.hub_port);
    let (connection, ekm) = match transport {
        Transport::TcpTls => {
            let mut tcp = dial(host, port, deadline)
                .await
                .map_err(|error| Failure::new(error.code(), error.to_string()))?;
            let mut tls = tls::connect(&mut tcp, &state.tls, deadline)
                .await
                .map_err(|error| {
                    Failure::new(error.code(), format!("TLS with the hub: {error}"))
                })?;
            let ekm = tls.take_exported_key();
            (Connection::TcpTls(Box::new(TcpTls::new(tcp, tls))), ekm)
        }
        Transport::Quic => {
            let connection = worker.quic.dial(&state.quic, host, port, deadline).await?;
            let ekm = connection.exported_key();
            (Connection::Quic(Box::new(connection)), ekm)
        }
    };
    let ekm = ekm.ok_or_else(|| {
        Failure::new(
            ErrorCode::Internal,
            "the TLS connection gave no exporter value",
        )
    })?;
    Ok((connection, ekm))
}
