//! One attempt to reach the hub: dial, TLS, Hello, Welcome.

use super::worker::EdgeWorker;
use crate::error::{CodedError, ErrorCode};
use crate::tunnel::connection::Connection;
use crate::tunnel::dial::dial;
use crate::tunnel::driver::ConnectionError;
use crate::tunnel::tcp_tls::TcpTls;
use crate::tunnel::tls::{self, ExportedKey};
use remoteingress_proto::features::Features;
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, HandshakeError, Hello, MAX_MESSAGE, PROTOCOL_VERSION, RefuseCode,
    Resume, Transport, Welcome,
};
use std::time::Duration;
use tokio::time::Instant;

/// From the first packet to the Welcome (D13 wants a dead hub noticed soon; 8 s is what an
/// established connection gets).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

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

/// Reaches the hub, or says why not. `resume` names the session to go on with. Attempts to resume are not
/// made behind one that the hub has refused for the secret's sake.
pub(crate) async fn connect(
    worker: &EdgeWorker,
    transport: Transport,
    resume: Option<Resume>,
) -> Result<(Connection, Welcome, u32), Failure> {
    let state = &worker.state;
    let _turn = state.gate.turn().await;
    if let Some(failure) = state.gate.refusal().filter(|_| resume.is_some()) {
        return Err(failure);
    }
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let attempt = attempt(worker, transport, resume, deadline);
    let connected = tokio::time::timeout_at(deadline, attempt)
        .await
        .unwrap_or_else(|_| {
            let hub = format!("{}:{}", state.config.hub_host, state.config.hub_port);
            let message = format!(
                "{hub} didn't finish the handshake within {} s",
                CONNECT_TIMEOUT.as_secs()
            );
            Err(Failure::new(ErrorCode::HubUnreachable, message))
        });
    match &connected {
        Ok(_) => state.gate.passed(),
        Err(failure) if failure.auth_failed => state.gate.refused(failure),
        Err(_) => {}
    }
    connected
}

async fn attempt(
    worker: &EdgeWorker,
    transport: Transport,
    resume: Option<Resume>,
    deadline: Instant,
) -> Result<(Connection, Welcome, u32), Failure> {
    let state = &worker.state;
    let config = &state.config;
    let (mut connection, ekm) = dial_transport(worker, transport, deadline).await?;
    let initial_credit = worker.budget.initial_credit();
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        edge_id: config.edge_id.clone(),
        instance: state.instance,
        session_ordinal: u16::try_from(worker.ordinal).unwrap_or(u16::MAX),
        required: Features::NONE,
        optional: Features::RESUME,
        resume,
        initial_credit,
        replaces_instance: config.replace_instance,
        resume_timeout_secs: Some(config.engine.resume_timeout_secs()),
        version: crate::VERSION.to_owned(),
    };
    let keys = state.keys.clone();
    let (handshake, message) = EdgeHandshake::new(&hello, keys, &ekm, transport)?;
    connection.send(&message).await?;
    let welcome = connection
        .receive(MAX_MESSAGE, |received| {
            match handshake.handle(received)? {
                EdgeProgress::NeedMore => Ok::<_, Failure>(None),
                EdgeProgress::Welcomed { welcome, consumed } => Ok(Some((welcome, consumed))),
            }
        })
        .await?;
    connection.widen();
    let is_pinned = connection.peer_pin_verified();
    tracing::debug!(ordinal = worker.ordinal, transport = transport.as_str(), is_pinned, outcome = ?welcome.outcome, "hub says welcome");
    Ok((connection, welcome, initial_credit))
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
