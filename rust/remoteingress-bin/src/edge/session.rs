//! The edge's end of a session: dial, run, dial again and resume, until it is lost or drained (D3, D13).

use super::connect::{Answer, Attempt, Awaited, Failure, Wanted, connect};
use super::state::{Command, EdgeState, Report};
use super::udp::EdgeUdp;
use super::worker::EdgeWorker;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::uplink::backoff::Backoff;
use remoteingress_proto::control::{ControlAssembler, ControlError};
use remoteingress_proto::handshake::{
    EdgeProgress, MAX_MESSAGE, Resume, SessionId, SessionOutcome, Transport, Welcome,
};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    EARLY_CREDIT, Event, GoAwayCode, Role, Session, SessionConfig, SessionError,
};
use remoteingress_proto::wire::features::Features;
use remoteingress_tunnel::session::delivery::Owner;
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// What the operator is told of a path that has gone dead.
const SILENT: &str = "no packet came over QUIC for 8 s";
/// How often a probe's session is asked whether it is silent.
const SILENCE_CHECK: Duration = Duration::from_millis(500);
/// A worker that fails for the same reason again says so at most this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// What the operator of an edge is told that another one has pushed out.
const REPLACED: &str =
    "another edge with this id has taken over (replaceInstance); stop one of them";

/// The Welcome comes within this after Hello, or the connection is given up.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// See the file's first line.
pub(crate) struct EdgeSession {
    /// Known from the first Welcome on.
    id: Cell<SessionId>,
    pub(crate) local: Rc<LocalSession>,
    transport: Cell<Transport>,
    attempt: Cell<u32>,
    assembler: RefCell<ControlAssembler>,
    worker: Weak<EdgeWorker>,
    ordinal: usize,
    state: Arc<EdgeState>,
    /// Where the hub is, and how many sessions it allows.
    hub: Cell<Option<(SocketAddr, u16)>>,
    /// When it is given up, unless the hub says Welcome before.
    expires: Cell<Option<Instant>>,
    /// The Welcome that the current connection still owes.
    awaited: RefCell<Option<(Awaited, SocketAddr)>>,
    /// Why the hub refused the current connection.
    refusal: RefCell<Option<Failure>>,
    /// As the worker's flows count sessions.
    pub(super) number: Cell<u32>,
    pub(super) channel: FlowChannel,
    udp: Rc<EdgeUdp>,
    /// When the hub wants to be asked for another session, once this one is over.
    retry_after: Cell<Option<Duration>>,
}

impl EdgeSession {
    fn new(worker: &Rc<EdgeWorker>, attempt: &Attempt) -> Rc<Self> {
        let state = &worker.state;
        let config = SessionConfig {
            role: Role::Edge,
            carrier: attempt.connection.carrier(),
            max_peer_streams: 0,
            resume_timeout: state.config.engine.resume_timeout,
            announced_credit: attempt.announced_credit,
            peer_credit: EARLY_CREDIT,
            is_welcome: false,
            expects_begin: false,
        };
        Rc::new(Self {
            id: Cell::new(SessionId([0; 16])),
            local: LocalSession::new(Session::new(&config, &worker.budget, Instant::now())),
            transport: Cell::new(attempt.connection.transport()),
            attempt: Cell::new(0),
            assembler: RefCell::default(),
            worker: Rc::downgrade(worker),
            ordinal: worker.ordinal,
            state: state.clone(),
            hub: Cell::new(None),
            expires: Cell::new(None),
            awaited: RefCell::new(None),
            number: Cell::new(0),
            channel: FlowChannel::default(),
            udp: worker.udp.clone(),
            refusal: RefCell::new(None),
            retry_after: Cell::new(None),
        })
    }

    /// What carries it now.
    pub(crate) fn transport(&self) -> Transport {
        self.transport.get()
    }

    /// Takes up what the hub has said, or is about to say, on a connection.
    fn greeted(&self, answer: Answer, connection: &Connection) -> Result<(), ConnectionError> {
        self.transport.set(connection.transport());
        let hub = connection.peer_address()?;
        match answer {
            Answer::Welcome(welcome) => self.welcomed(&welcome, hub)?,
            Answer::Awaited(awaited) => *self.awaited.borrow_mut() = Some((awaited, hub)),
        }
        Ok(())
    }

    /// The hub has proved itself and said which session this is.
    fn welcomed(&self, welcome: &Welcome, hub: SocketAddr) -> Result<(), SessionError> {
        let mut session = self.local.session();
        let mut resumed = false;
        match welcome.outcome {
            SessionOutcome::New => session.welcome(welcome.initial_credit),
            SessionOutcome::SessionLost => {
                session.begin_again(welcome.initial_credit);
                self.attempt.set(0);
                self.number.set(self.udp.new_session());
                *self.assembler.borrow_mut() = ControlAssembler::default();
            }
            SessionOutcome::Resumed { received } => {
                if !session.is_welcome() {
                    session.welcome_back(received)?;
                }
                resumed = true;
            }
        }
        self.id.set(welcome.session);
        self.expires.set(None);
        let ours = self.state.config.engine.resume_timeout;
        let agreed = welcome.resume_timeout_secs;
        session.set_resume_timeout(if welcome.features.contains(Features::RESUME) {
            agreed.map_or(ours, |secs| ours.min(Duration::from_secs(secs.into())))
        } else {
            Duration::ZERO
        });
        drop(session);
        self.state.gate.passed();
        if resumed {
            self.state.resumed.fetch_add(1, Ordering::Relaxed);
        }
        self.hub.set(Some((hub, welcome.max_sessions)));
        self.report_up(resumed);
        Ok(())
    }

    fn report_up(&self, resumed: bool) {
        let Some((hub, max_sessions)) = self.hub.get() else {
            return;
        };
        // A control task that is behind hears of the next one.
        let _ = self.state.reports.try_send(Report::SessionUp {
            hub,
            transport: self.transport(),
            resumed,
            max_sessions,
        });
    }

    /// Waits until the hub has answered; a hub that doesn't is as good as gone.
    async fn is_late(&self) {
        tokio::time::sleep(WELCOME_TIMEOUT).await;
        if self.awaited.borrow().is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the hub has said Welcome to it on any connection.
    fn is_known(&self) -> bool {
        self.hub.get().is_some()
    }

    fn is_current(&self) -> bool {
        let worker = self.worker.upgrade();
        worker.is_some_and(|worker| worker.is_current(self))
    }

    /// Adds to the counters what this session's datagrams have lost.
    pub(super) fn count_drops(&self) {
        self.channel.count_drops(&self.local, &self.state.udp);
    }
}

impl Owner for EdgeSession {
    fn begin(&self, received: &[u8]) -> Result<Option<usize>, ConnectionError> {
        let awaited = self.awaited.borrow();
        let Some((Awaited { handshake, .. }, hub)) = &*awaited else {
            return Ok(Some(0));
        };
        let hub = *hub;
        let head = received
            .get(..MAX_MESSAGE.min(received.len()))
            .unwrap_or_default();
        let progress = handshake.handle(head);
        match progress {
            Ok(EdgeProgress::NeedMore) if received.len() >= MAX_MESSAGE => {
                Err(ConnectionError::Closed)
            }
            Ok(EdgeProgress::NeedMore) => Ok(None),
            Ok(EdgeProgress::Welcomed { welcome, consumed }) => {
                drop(awaited);
                self.welcomed(&welcome, hub)?;
                // Others may try from now on.
                self.awaited.take();
                Ok(Some(consumed))
            }
            Err(error) => {
                drop(awaited);
                let failure = Failure::from(error);
                if failure.auth_failed {
                    self.state.gate.refused(&failure);
                }
                *self.refusal.borrow_mut() = Some(failure);
                self.awaited.take();
                Err(ConnectionError::Refused)
            }
        }
    }

    fn handle(&self, event: Event) -> Result<(), ControlError> {
        match event {
            // The hub opens no streams: that feature isn't agreed on.
            Event::Opened { key, .. } => self.local.session().release(key),
            Event::Control(payload) => {
                let Some(message) = self.assembler.borrow_mut().handle(&payload)? else {
                    return Ok(());
                };
                let ordinal = self.ordinal;
                let report = Report::Control { ordinal, message };
                // None may be lost: after this the hub tells another session again.
                let sent = self.state.reports.try_send(report);
                sent.map_err(|_| ControlError::Flood)?;
            }
            Event::GoAway { code, retry_after } => {
                tracing::info!(
                    code = code.as_str(),
                    ?retry_after,
                    "hub accepts no new streams"
                );
                self.retry_after.set(Some(retry_after));
                if self.is_current() {
                    self.state.set_live(self.ordinal, false);
                }
                if code == GoAwayCode::Replaced {
                    let error = CodedError::new(ErrorCode::InstanceConflict, REPLACED);
                    tracing::warn!(%error, "the hub ends this edge's sessions");
                    // A control task that is behind knows of an outage already.
                    let _ = self.state.reports.try_send(Report::SessionDown { error });
                }
                self.local.closing().notify_one();
            }
            Event::Datagram(datagram) => self.udp.take_datagram(self, &datagram),
            Event::Refused | Event::Readable(_) | Event::SendReady(_) | Event::SendStopped(_) => {}
            Event::Silent if self.is_current() => {
                tracing::warn!(ordinal = self.ordinal, "{SILENT}");
                self.state.set_live(self.ordinal, false);
                self.state.fall_back(SILENT);
                let error = CodedError::new(ErrorCode::HubUnreachable, SILENT);
                // A control task that is behind knows of an outage already.
                let _ = self.state.reports.try_send(Report::SessionDown { error });
            }
            Event::Heard if self.is_current() => {
                self.state.set_live(self.ordinal, true);
                self.report_up(true);
            }
            Event::Silent | Event::Heard => {}
        }
        Ok(())
    }

    fn settle(&self) {
        self.udp.flush();
    }
}

/// Keeps one session to the hub for this worker, for ever.
pub(crate) async fn keep(worker: Rc<EdgeWorker>) {
    let mut backoff = Backoff::default();
    let mut next = None;
    while !worker.state.draining.load(Ordering::Relaxed) {
        let attempt = match next.take() {
            Some(attempt) => attempt,
            None => match dial(&worker, &mut backoff).await {
                Some(attempt) => attempt,
                None => continue,
            },
        };
        let connected_at = Instant::now();
        let session = EdgeSession::new(&worker, &attempt);
        let Attempt {
            connection, answer, ..
        } = attempt;
        if let Err(error) = session.greeted(answer, &connection) {
            tracing::debug!(%error, "the connection was lost at once");
            continue;
        }
        worker.adopt(&session);
        let task = tokio::task::spawn_local(serve(worker.clone(), session.clone(), connection));
        let mut task = worker.owned(task);
        let retry_after;
        tokio::select! {
            _ = &mut task => {
                retry_after = session.retry_after.get();
                worker.dismiss(&session);
            }
            // It finishes its streams on its own while a new one takes over.
            () = session.local.closing().notified() => {
                retry_after = session.retry_after.get();
                worker.retire(&session, task);
            }
            attempt = over_other_transport(&worker, &session) => {
                session.local.session().go_away(GoAwayCode::Draining, Duration::ZERO);
                session.local.notify();
                worker.retire(&session, task);
                next = Some(attempt);
                continue;
            }
        }
        // One that was never let in says nothing of the hub's health.
        if session.is_known() {
            backoff.connected(connected_at);
        }
        pause(&mut backoff, retry_after).await;
    }
}

/// Resolves once new streams shall use another transport than this session's and the hub can be reached over it.
async fn over_other_transport(worker: &EdgeWorker, session: &EdgeSession) -> Attempt {
    let mut choice = worker.state.choice.subscribe();
    let mut backoff = Backoff::default();
    loop {
        let other = choice.wait_for(|choice| choice.transport != session.transport());
        // The sender lives as long as this worker.
        let transport = other
            .await
            .map_or(Transport::TcpTls, |choice| choice.transport);
        if worker.state.draining.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        match connect(worker, Wanted::new(transport)).await {
            Ok(attempt) => return attempt,
            Err(failure) => {
                report_failure(worker, &failure);
                pause(&mut backoff, failure.retry_after).await;
            }
        }
    }
}

/// Runs a session that gets no streams until it is silent or lost.
pub(super) async fn keep_idle(worker: &Rc<EdgeWorker>, attempt: Attempt) {
    let session = EdgeSession::new(worker, &attempt);
    let Attempt {
        mut connection,
        answer: Answer::Welcome(welcome),
        ..
    } = attempt
    else {
        return;
    };
    session.local.session().welcome(welcome.initial_credit);
    let silent = async {
        let mut check = tokio::time::interval(SILENCE_CHECK);
        while !session.local.session().is_silent() {
            check.tick().await;
        }
    };
    tokio::select! {
        error = connection.drive(&session.local, &*session) => {
            tracing::debug!(%error, "a QUIC connection was lost");
        }
        () = silent => {}
    }
}

/// One attempt at a new session; after a failure it has also waited.
async fn dial(worker: &EdgeWorker, backoff: &mut Backoff) -> Option<Attempt> {
    if let Some(refusal) = worker.state.gate.refusal().filter(|_| worker.ordinal > 0) {
        report_failure(worker, &refusal);
        // The first worker knocks for all. The sender lives as long as this worker.
        let mut live = worker.state.live.subscribe();
        let _ = live.wait_for(|sessions| *sessions > 0).await;
    }
    match connect(worker, Wanted::new(worker.state.transport())).await {
        Ok(attempt) => Some(attempt),
        Err(failure) => {
            report_failure(worker, &failure);
            pause(backoff, failure.retry_after).await;
            None
        }
    }
}

async fn pause(backoff: &mut Backoff, hint: Option<Duration>) {
    let delay = backoff.next_delay(Instant::now(), remoteingress_os::random::uniform(), hint);
    tokio::time::sleep(delay).await;
}

fn report_failure(worker: &EdgeWorker, failure: &Failure) {
    let (code, now) = (failure.error.code, Instant::now());
    let last = worker.complaint.get();
    if last.is_some_and(|(last, at)| last == code && now < at + COMPLAINT_INTERVAL) {
        tracing::debug!(worker = worker.ordinal, error = %failure.error, "failed to reach the hub");
    } else {
        worker.complaint.set(Some((code, now)));
        tracing::warn!(worker = worker.ordinal, error = %failure.error, "failed to reach the hub");
    }
    report_down(worker, failure.error.clone());
}

fn report_down(worker: &EdgeWorker, error: CodedError) {
    // A control thread that is behind knows of an outage already.
    let _ = worker.state.reports.try_send(Report::SessionDown { error });
}

/// Runs a session over one connection after another, to its end.
async fn serve(worker: Rc<EdgeWorker>, session: Rc<EdgeSession>, mut connection: Connection) {
    let mut backoff = Backoff::default();
    loop {
        let connected_at = Instant::now();
        let ended = tokio::select! {
            error = connection.drive(&session.local, &*session) => Some(error),
            () = session.is_late() => Some(ConnectionError::Closed),
            () = session.local.drained().notified() => None,
        };
        let Some(error) = ended else {
            connection.close().await;
            return;
        };
        drop(connection);
        worker.lost(&session);
        worker.state.gate.lost();
        // Its turn is over, whatever became of it.
        let was_awaited = session.awaited.take().is_some();
        let refusal = session.refusal.take();
        if was_awaited && refusal.is_none() && session.transport() == Transport::Quic {
            worker
                .state
                .fall_back("the hub's Welcome didn't come over QUIC");
        }
        if !was_awaited && refusal.is_none() {
            backoff.connected(connected_at);
        }
        let mut hint = None;
        match &refusal {
            Some(failure) => {
                report_failure(&worker, failure);
                hint = failure.retry_after;
            }
            None => report_lost(&worker, &error),
        }
        if error.is_reset() {
            // A hub that was restarted has forgotten the other sessions, too.
            for other in worker.state.workers.get().into_iter().flatten() {
                // A worker that has ended has none.
                let _ = other.send(Command::Ping);
            }
        }
        if !can_go_on(&session, &error, refusal.as_ref()) {
            session
                .retry_after
                .set(hint.or_else(|| session.retry_after.get()));
            break;
        }
        match resume(&worker, &session, &mut backoff, hint).await {
            Some(new) => connection = new,
            None => break,
        }
    }
    session.local.end_streams(AbortCode::TunnelLost);
}

/// Whether another connection may take the session up, after one that ended so.
fn can_go_on(session: &EdgeSession, error: &ConnectionError, refusal: Option<&Failure>) -> bool {
    let mut state = session.local.session();
    let is_known = session.is_known();
    state.detach(Instant::now());
    // Without streams a new session is as good, and its first ones needn't wait for the hub's word on whether it knows
    // the old one.
    let is_of_use = state.active_streams() > 0;
    let can = match refusal {
        // The hub has looked at nothing: all of it can go out again.
        Some(failure) => !failure.auth_failed,
        // A session over QUIC lives as long as its connection, which outlives changes of address. What went ahead of a
        // Welcome that never came, the hub may have carried out: in another session it must not go out again.
        None => {
            state.leave_early();
            !error.is_violation() && session.transport() == Transport::TcpTls && is_known
        }
    };
    can && is_of_use
}

fn report_lost(worker: &EdgeWorker, error: &ConnectionError) {
    let code = if error.is_violation() {
        tracing::error!(%error, "the hub broke the protocol");
        ErrorCode::Protocol
    } else {
        ErrorCode::HubUnreachable
    };
    report_down(worker, CodedError::new(code, error.to_string()));
}

/// Dials until the hub has taken the session up again, in its old or a new one, or time is up.
async fn resume(
    worker: &Rc<EdgeWorker>,
    session: &Rc<EdgeSession>,
    backoff: &mut Backoff,
    mut hint: Option<Duration>,
) -> Option<Connection> {
    let expires = session.expires.get().unwrap_or_else(|| {
        let timeout = session.local.session().poll_timeout();
        timeout.unwrap_or_else(Instant::now)
    });
    // It counts from the first loss, however often the hub refuses meanwhile.
    session.expires.set(Some(expires));
    let attempts = async {
        loop {
            pause(backoff, hint).await;
            worker.state.reconnects.fetch_add(1, Ordering::Relaxed);
            let wanted = session.wanted();
            match connect(worker, wanted).await {
                Ok(attempt) => return session.take_up(worker, attempt),
                Err(failure) => {
                    report_failure(worker, &failure);
                    if failure.auth_failed {
                        session.retry_after.set(failure.retry_after);
                        return None;
                    }
                    hint = failure.retry_after;
                }
            }
        }
    };
    tokio::select! {
        resumed = attempts => resumed,
        () = sleep_until(expires.into()) => {
            tracing::warn!("the session was not resumed in time: its streams are reset");
            None
        }
    }
}

impl EdgeSession {
    /// What its next connection is to be.
    fn wanted(&self) -> Wanted {
        if !self.is_known() {
            return Wanted::new(self.state.transport());
        }
        let session = self.local.session();
        self.attempt.set(self.attempt.get().saturating_add(1));
        Wanted {
            resume: Some(Resume {
                session: self.id.get(),
                attempt: self.attempt.get(),
                received: session.received(),
            }),
            may_be_early: session.may_resume_early(),
            ..Wanted::new(Transport::TcpTls)
        }
    }

    /// Goes on over a connection that was made for it; None if it can't.
    fn take_up(self: &Rc<Self>, worker: &Rc<EdgeWorker>, attempt: Attempt) -> Option<Connection> {
        let Attempt {
            connection, answer, ..
        } = attempt;
        let now = Instant::now();
        {
            let mut session = self.local.session();
            match &answer {
                Answer::Welcome(Welcome {
                    outcome: SessionOutcome::Resumed { received },
                    ..
                }) => {
                    if let Err(violation) = session.attach(now, *received) {
                        tracing::error!(%violation, "the hub resumes where nothing was sent");
                        return None;
                    }
                }
                // The hub has lost it: its streams are reset, and none was opened since.
                // Or it is a new one, or the answer is still to come.
                Answer::Welcome(_) | Answer::Awaited(_) => {
                    session.attach_early(now, connection.carrier());
                }
            }
        }
        self.greeted(answer, &connection).ok()?;
        worker.found(self);
        Some(connection)
    }
}
