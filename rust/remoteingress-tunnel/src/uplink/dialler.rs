//! One attempt to reach the peer: dial, TLS or QUIC, Hello, Welcome.

use super::Uplink;
use super::gate::Pass;
use super::quic_dialler::QuicDialer;
use super::report::Report;
use crate::FEATURES;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::tcp_tls::TcpTls;
use crate::transport::tls::{self, ExportedKey};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::uplink::action::{Dial, Verdict};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::race::{Course, falls_back};
use remoteingress_core::uplink::warnings::Warnings;
use remoteingress_os::dial::dial;
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, HandshakeError, Hello, MAX_MESSAGE, PROTOCOL_VERSION, Resume,
    Transport, Welcome,
};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::wire::features::Features;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// One worker's way to the peer of an uplink.
pub struct Dialler {
    pub(super) uplink: Arc<Uplink>,
    pub(super) worker: usize,
    pub(super) budget: Budget,
    quic: QuicDialer,
    warnings: RefCell<Warnings>,
}

crate::opaque::opaque_debug!(Dialler);

/// A connection to the peer on which Hello was sent.
pub(super) struct Attempt {
    pub(super) connection: Connection,
    pub(super) answer: Answer,
    /// The credit that Hello announced, in bytes.
    pub(super) announced_credit: u32,
}

/// The peer's answer to Hello, as far as it has come.
pub(super) enum Answer {
    Welcome(Welcome),
    /// The peer's key was verified by a pin: frames may follow Hello ahead of the Welcome (D4).
    Awaited(Awaited),
}

/// A Welcome that is to come, and the turn at the gate that ends with it.
pub(super) struct Awaited {
    pub(super) handshake: EdgeHandshake,
    /// Others wait for theirs until it is dropped.
    pub(super) _pass: Option<Pass>,
}

/// An attempt that a machine asks for, and what the session that it is for adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) dial: Dial,
    /// Numbered frames that the session to be resumed has received.
    pub(super) received: u64,
    /// Frames may follow Hello before the Welcome.
    pub(super) may_be_early: bool,
}

impl Wanted {
    /// An attempt at a session that has no past.
    pub(super) fn fresh(dial: Dial) -> Self {
        Self {
            dial,
            received: 0,
            may_be_early: dial.may_be_early(),
        }
    }

    fn resume(&self) -> Option<Resume> {
        let Dial::Resume { session, attempt } = self.dial else {
            return None;
        };
        Some(Resume {
            session,
            attempt,
            received: self.received,
        })
    }
}

impl Dialler {
    /// The way of this worker, whose buffers count in `budget`.
    pub fn new(uplink: Arc<Uplink>, worker: usize, budget: Budget) -> Rc<Self> {
        let settings = &uplink.settings;
        let base = settings.instance.0.first().copied();
        Rc::new(Self {
            quic: QuicDialer::new(settings.ends.peer, base.unwrap_or_default(), worker),
            uplink,
            worker,
            budget,
            warnings: RefCell::default(),
        })
    }

    /// The uplink that it belongs to.
    pub fn uplink(&self) -> &Arc<Uplink> {
        &self.uplink
    }

    /// Lets connections over QUIC survive a change of this machine's address. Called every second or so.
    pub fn follow_routes(&self) {
        self.quic.follow_routes();
    }

    /// An attempt has failed: warns of it now and then, and reports it.
    pub(super) fn failed(&self, error: CodedError) {
        let (worker, peer) = (self.worker, self.uplink.settings.ends.peer);
        let now = std::time::Instant::now();
        if self.warnings.borrow_mut().is_due(error.code, now) {
            tracing::warn!(worker, %error, "failed to reach the {peer}");
        } else {
            tracing::debug!(worker, %error, "failed to reach the {peer}");
        }
        self.report_down(error);
    }

    pub(super) fn report_down(&self, error: CodedError) {
        // A receiver that is too slow knows of an outage already.
        let _ = self.uplink.report(Report::SessionDown { error });
    }

    /// Reaches the peer, or says why not. Nothing is dialled after a refusal of the secret, except by the first worker for
    /// a new session.
    pub(super) async fn connect(&self, wanted: Wanted) -> Result<Attempt, Failure> {
        let uplink = &self.uplink;
        let pass = Cell::new(Some(uplink.gate.pass().await));
        let now = std::time::Instant::now();
        let is_first = self.worker == 0;
        uplink.gate.rules().admit(now, wanted.dial, is_first)?;
        // The choice may have changed while others had their turns.
        let course = Course::of(wanted.dial, uplink.settings.mode, uplink.transport());
        let connected = match course {
            Course::Single { transport, limit } => {
                self.attempt(wanted, transport, &pass, limit).await
            }
            Course::Race {
                quic_limit,
                tls_delay,
                tls_limit,
            } => {
                self.race(wanted, &pass, quic_limit, tls_delay, tls_limit)
                    .await
            }
        };
        let verdict = match &connected {
            Ok(Attempt {
                answer: Answer::Welcome(_),
                ..
            }) => Some(Verdict::Accepted),
            Err(failure) if failure.is_auth_failure => Some(Verdict::Refused(failure.clone())),
            Ok(_) | Err(_) => None,
        };
        if let Some(verdict) = verdict {
            let now = std::time::Instant::now();
            uplink.gate.rules().handle(now, &verdict);
        }
        connected
    }

    /// QUIC first; TLS is dialled later, and used if QUIC doesn't get through in time (D13).
    async fn race(
        &self,
        wanted: Wanted,
        pass: &Cell<Option<Pass>>,
        quic_limit: Duration,
        tls_delay: Duration,
        tls_limit: Duration,
    ) -> Result<Attempt, Failure> {
        let dial_tls = || self.dial_transport(Transport::TcpTls, Instant::now() + tls_limit);
        let mut quic = pin!(self.attempt(wanted, Transport::Quic, pass, quic_limit));
        let mut dialled = pin!(async {
            sleep(tls_delay).await;
            dial_tls().await
        });
        let mut tls = None;
        let failure = loop {
            tokio::select! {
                biased;
                attempt = &mut quic => match attempt {
                    Err(failure) if falls_back(&failure) => break failure,
                    answered => return answered,
                },
                result = &mut dialled, if tls.is_none() => tls = Some(result),
            }
        };
        let (connection, ekm) = match tls {
            Some(result) => result?,
            None => dial_tls().await?,
        };
        let greeting = self.greet(wanted, pass, connection, ekm);
        let attempt = self.in_time(tls_limit, greeting).await?;
        self.uplink.fall_back(&failure.error.message);
        Ok(attempt)
    }

    async fn attempt(
        &self,
        wanted: Wanted,
        transport: Transport,
        pass: &Cell<Option<Pass>>,
        limit: Duration,
    ) -> Result<Attempt, Failure> {
        let attempt = async {
            let deadline = Instant::now() + limit;
            let (connection, ekm) = self.dial_transport(transport, deadline).await?;
            self.greet(wanted, pass, connection, ekm).await
        };
        self.in_time(limit, attempt).await
    }

    async fn in_time(
        &self,
        limit: Duration,
        attempt: impl Future<Output = Result<Attempt, Failure>>,
    ) -> Result<Attempt, Failure> {
        timeout(limit, attempt).await.unwrap_or_else(|_| {
            let settings = &self.uplink.settings;
            let message = format!(
                "{}:{} didn't finish the handshake within {} s",
                settings.host,
                settings.port,
                limit.as_secs()
            );
            Err(Failure::new(ErrorCode::HubUnreachable, message))
        })
    }

    /// Sends Hello, and waits for the peer's answer unless that may come later.
    async fn greet(
        &self,
        wanted: Wanted,
        pass: &Cell<Option<Pass>>,
        mut connection: Connection,
        ekm: ExportedKey,
    ) -> Result<Attempt, Failure> {
        let (transport, settings) = (connection.transport(), &self.uplink.settings);
        let announced_credit = self.budget.initial_credit();
        let hello = self.hello(&wanted, announced_credit);
        let untrusted = |error: HandshakeError| Failure::of_handshake(&error, settings.ends);
        let keys = self.uplink.keys.proof.clone();
        let started = EdgeHandshake::new(&hello, keys, &ekm, transport);
        let (handshake, message) = started.map_err(untrusted)?;
        let is_early = wanted.may_be_early && connection.peer_pin_verified();
        let (worker, transport) = (self.worker, transport.as_str());
        tracing::debug!(worker, transport, is_early, "sends Hello");
        let ended = |error: ConnectionError| {
            let peer = settings.ends.peer;
            let message = format!("the {peer} ended the handshake: {error}");
            Failure::new(ErrorCode::HubUnreachable, message)
        };
        connection.send(&message).await.map_err(ended)?;
        let answer = if is_early {
            Answer::Awaited(Awaited {
                handshake,
                _pass: pass.take(),
            })
        } else {
            let parse = |received: &[u8]| match handshake.handle(received) {
                Ok(EdgeProgress::NeedMore) => Ok(None),
                Ok(EdgeProgress::Welcomed { welcome, consumed }) => Ok(Some((welcome, consumed))),
                Err(error) => Err(Unanswered::Handshake(error)),
            };
            let received = connection.receive(MAX_MESSAGE, parse).await;
            Answer::Welcome(received.map_err(|error| match error {
                Unanswered::Connection(error) => ended(error),
                Unanswered::Handshake(error) => untrusted(error),
            })?)
        };
        Ok(Attempt {
            connection,
            answer,
            announced_credit,
        })
    }

    pub(super) fn hello(&self, wanted: &Wanted, announced_credit: u32) -> Hello {
        let settings = &self.uplink.settings;
        let resume_timeout = settings.resume_timeout.as_secs();
        let is_leaving = self.uplink.is_draining();
        let replaces_instance = wanted
            .dial
            .replaces_instance(settings.replaces_instance, is_leaving);
        Hello {
            protocol_version: PROTOCOL_VERSION,
            edge_id: settings.id.clone(),
            instance: settings.instance,
            session_ordinal: u16::try_from(self.worker).unwrap_or(u16::MAX),
            required: Features::NONE,
            optional: FEATURES,
            resume: wanted.resume(),
            initial_credit: announced_credit,
            replaces_instance,
            resume_timeout_secs: Some(u32::try_from(resume_timeout).unwrap_or(u32::MAX)),
            sessions_wanted: None,
            version: settings.version.to_owned(),
        }
    }

    /// A connection whose TLS handshake is over, and the value that only its two ends know.
    async fn dial_transport(
        &self,
        transport: Transport,
        deadline: Instant,
    ) -> Result<(Connection, ExportedKey), Failure> {
        let (keys, settings) = (&self.uplink.keys, &self.uplink.settings);
        let (host, port) = (settings.host.as_str(), settings.port);
        let (connection, ekm) = match transport {
            Transport::TcpTls => {
                let mut tcp = dial(host, port, deadline)
                    .await
                    .map_err(|error| Failure::new(error.code(), error.to_string()))?;
                let connected = tls::connect(&mut tcp, &keys.tls, deadline).await;
                let mut tls = connected.map_err(|error| {
                    let peer = settings.ends.peer;
                    Failure::new(error.code(), format!("TLS with the {peer}: {error}"))
                })?;
                let ekm = tls.take_exported_key();
                (Connection::TcpTls(Box::new(TcpTls::new(tcp, tls))), ekm)
            }
            Transport::Quic => {
                let connection = self.quic.dial(&keys.quic, host, port, deadline).await?;
                let ekm = connection.exported_key();
                (Connection::Quic(Box::new(connection)), ekm)
            }
        };
        let ekm = ekm.ok_or_else(|| {
            let message = "the TLS connection gave no exporter value";
            Failure::new(ErrorCode::Internal, message)
        })?;
        Ok((connection, ekm))
    }
}

/// Why no Welcome came of an answer.
enum Unanswered {
    Connection(ConnectionError),
    Handshake(HandshakeError),
}

impl From<ConnectionError> for Unanswered {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}
