//! One attempt to reach the peer: dial, TLS or QUIC, Hello, Welcome.

use super::calls::{Calls, ProvenCall};
use super::gate::Pass;
use super::quic_dialler::QuicDialer;
use super::reach::{Raced, Reach, Reached, race};
use super::report::Report;
use super::{Uplink, Way};
use crate::FEATURES;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::tls::ExportedKey;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::uplink::action::{Dial, Verdict};
use remoteingress_core::uplink::caller::Caller;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::race::{CONNECT_TIMEOUT, Course};
use remoteingress_core::uplink::warnings::Warnings;
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, HandshakeError, Hello, MAX_MESSAGE, PROTOCOL_VERSION, Resume,
    Transport, Welcome,
};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::wire::features::Features;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Without a call for this long the peer counts as unreachable.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One worker's way to the peer of an uplink.
pub struct Dialler {
    pub(super) uplink: Arc<Uplink>,
    pub(super) worker: usize,
    pub(super) budget: Budget,
    quic: QuicDialer,
    /// Connections of consecutive workers go to consecutive workers of the peer; one number for all peers would load the
    /// first ones of each.
    choice: u8,
    calls: Calls,
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
        let base = settings.instance.0.first().copied().unwrap_or_default();
        // The sum wraps around after 256 workers, or in an unlucky place, which costs evenness only.
        let ordinal = u8::try_from(worker % 256).unwrap_or_default();
        Rc::new(Self {
            quic: QuicDialer::new(settings.ends.peer),
            choice: base.wrapping_add(ordinal),
            calls: Calls::default(),
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

    /// Leaves these UDP ports, which are to be opened for clients, to others.
    pub fn vacate(&self, wanted: &[u16]) {
        self.quic.vacate(wanted);
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
        let reach = match &uplink.way {
            Way::Dial(reach) => reach,
            Way::Called { port } => return self.answer(wanted, *port).await,
        };
        let pass = Cell::new(Some(uplink.gate.pass().await));
        let now = std::time::Instant::now();
        let is_first = self.worker == 0;
        uplink.gate.rules().admit(now, wanted.dial, is_first)?;
        // The choice may have changed while others had their turns.
        let course = Course::of(wanted.dial, uplink.settings.mode, uplink.transport());
        let connected = match course {
            Course::Single { transport, limit } => {
                self.attempt(wanted, reach, transport, &pass, limit).await
            }
            Course::Race {
                quic_limit,
                tls_delay,
                tls_limit,
            } => {
                self.race(wanted, reach, &pass, quic_limit, tls_delay, tls_limit)
                    .await
            }
        };
        let verdict = match &connected {
            Ok(Attempt {
                answer: Answer::Welcome(_),
                ..
            }) => Some(Verdict::Accepted),
            Ok(_) => None,
            Err(failure) => Verdict::of_failure(failure),
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
        reach: &Reach,
        pass: &Cell<Option<Pass>>,
        quic_limit: Duration,
        tls_delay: Duration,
        tls_limit: Duration,
    ) -> Result<Attempt, Failure> {
        let dial_tls = || self.dial(reach, Transport::TcpTls, Instant::now() + tls_limit);
        let quic = self.attempt(wanted, reach, Transport::Quic, pass, quic_limit);
        match race(quic, tls_delay, dial_tls).await? {
            Raced::Quic(attempt) => Ok(attempt),
            Raced::Tls((connection, ekm), failure) => {
                let greeting = self.greet(wanted, pass, connection, ekm, false);
                let attempt = reach.in_time(tls_limit, greeting).await?;
                self.uplink.fall_back(&failure.error.message);
                Ok(attempt)
            }
        }
    }

    async fn attempt(
        &self,
        wanted: Wanted,
        reach: &Reach,
        transport: Transport,
        pass: &Cell<Option<Pass>>,
        limit: Duration,
    ) -> Result<Attempt, Failure> {
        let attempt = async {
            let deadline = Instant::now() + limit;
            let (connection, ekm) = self.dial(reach, transport, deadline).await?;
            self.greet(wanted, pass, connection, ekm, false).await
        };
        reach.in_time(limit, attempt).await
    }

    fn dial(
        &self,
        reach: &Reach,
        transport: Transport,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reached, Failure>> {
        reach.connect(transport, &self.quic, self.choice, deadline)
    }

    /// Answers the next call that fits, or says that none has come.
    async fn answer(&self, wanted: Wanted, port: u16) -> Result<Attempt, Failure> {
        // A session is resumed over TLS only.
        let is_resume = matches!(wanted.dial, Dial::Resume { .. });
        let fits = |transport| !is_resume || transport == Transport::TcpTls;
        let unreachable = |message| Failure::new(ErrorCode::HubUnreachable, message);
        if timeout(CALL_TIMEOUT, self.calls.arrive(fits))
            .await
            .is_err()
        {
            let secs = CALL_TIMEOUT.as_secs();
            return Err(unreachable(format!(
                "no hub has called at port {port} for {secs} s; check that the hub runs, that its \"dial\" for this edge leads here, and that no firewall is in between"
            )));
        }
        let called = self.calls.take(fits);
        let called = called.ok_or_else(|| unreachable("a hub has called and gone".to_owned()))?;
        self.greet_caller(wanted, called.connection, called.caller)
            .await
    }

    /// Says Hello to a peer that has called.
    pub(super) async fn greet_caller(
        &self,
        wanted: Wanted,
        connection: Connection,
        caller: Box<ProvenCall>,
    ) -> Result<Attempt, Failure> {
        let transport = connection.transport();
        let ProvenCall { call, ekm } = *caller;
        let address = connection.peer_address();
        let no_pass = Cell::new(None);
        let greeting = self.greet(wanted, &no_pass, connection, ekm, true);
        let attempt = timeout(CONNECT_TIMEOUT, greeting)
            .await
            .unwrap_or_else(|_| {
                let message = "a hub has called and doesn't answer";
                Err(Failure::new(ErrorCode::HubUnreachable, message))
            })?;
        if !call.is_trial {
            let epoch = call.hub_epoch;
            self.uplink
                .set_caller(self.worker, Caller { epoch, address });
            self.uplink.follow(transport);
        }
        Ok(attempt)
    }

    /// Takes a call of the peer for this worker's next connection.
    pub fn take_call(&self, connection: Connection, caller: Box<ProvenCall>) {
        self.calls.park(connection, caller);
    }

    /// Waits until the peer calls over this transport, or over another one; for ever where it doesn't dial.
    pub(super) async fn called_over(&self, transport: Transport, same: bool) {
        let fits = |other| (other == transport) == same;
        self.calls.arrive(fits).await;
    }

    /// Waits, but no longer than until a call comes that `dial` can use.
    pub(super) async fn pause(&self, until: std::time::Instant, is_resume: bool) {
        let fits = |transport| !is_resume || transport == Transport::TcpTls;
        tokio::select! {
            () = sleep_until(until.into()) => {}
            () = self.calls.arrive(fits) => {}
        }
    }

    /// Sends Hello, and waits for the peer's answer unless that may come later.
    async fn greet(
        &self,
        wanted: Wanted,
        pass: &Cell<Option<Pass>>,
        mut connection: Connection,
        ekm: ExportedKey,
        has_called: bool,
    ) -> Result<Attempt, Failure> {
        let (transport, settings) = (connection.transport(), &self.uplink.settings);
        let announced_credit = self.budget.initial_credit();
        let hello = self.hello(&wanted, announced_credit);
        let untrusted = |error: HandshakeError| Failure::of_handshake(&error, settings.ends);
        let keys = self.uplink.proof.clone();
        let started = EdgeHandshake::new(&hello, keys, &ekm, transport);
        let (handshake, message) = started.map_err(untrusted)?;
        let is_early = wanted.may_be_early && (has_called || connection.peer_pin_verified());
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
            sessions_wanted: self
                .uplink
                .is_called()
                .then(|| u16::try_from(self.uplink.gauges.len()).unwrap_or(u16::MAX)),
            version: settings.version.to_owned(),
        }
    }
}

/// Reason why no Welcome came of an answer.
enum Unanswered {
    Connection(ConnectionError),
    Handshake(HandshakeError),
}

impl From<ConnectionError> for Unanswered {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}
