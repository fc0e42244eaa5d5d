//! The edge's end of a session: dial, run, dial again and resume, until it is lost or drained (D3, D13).

use super::backoff::Backoff;
use super::connect::{Failure, connect};
use super::state::{EdgeState, Report};
use super::worker::EdgeWorker;
use crate::error::{CodedError, ErrorCode};
use crate::tunnel::connection::Connection;
use crate::tunnel::driver::Owner;
use crate::tunnel::local_session::LocalSession;
use remoteingress_proto::control::{ControlAssembler, ControlError};
use remoteingress_proto::features::Features;
use remoteingress_proto::handshake::{Resume, SessionId, SessionOutcome, Transport, Welcome};
use remoteingress_proto::mux::{Carrier, Event, GoAwayCode, Role, Session, SessionConfig};
use remoteingress_proto::stream::AbortCode;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// A worker that fails for the same reason again says so at most this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// What the operator of an edge is told that another one has pushed out.
const REPLACED: &str =
    "another edge with this id has taken over (replaceInstance); stop one of them";

/// A new session with the connection that it was made on.
pub(crate) struct Fresh {
    connection: Connection,
    welcome: Welcome,
    announced_credit: u32,
}

/// See the file's first line.
pub(crate) struct EdgeSession {
    id: SessionId,
    pub(crate) local: Rc<LocalSession>,
    pub(crate) transport: Transport,
    ordinal: usize,
    attempt: Cell<u32>,
    assembler: RefCell<ControlAssembler>,
    state: std::sync::Arc<EdgeState>,
    /// When the hub wants to be asked for another session, once this one is over.
    retry_after: Cell<Option<Duration>>,
}

impl Owner for EdgeSession {
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
                self.state.set_live(self.ordinal, false);
                if code == GoAwayCode::Replaced {
                    let error = CodedError::new(ErrorCode::InstanceConflict, REPLACED);
                    tracing::warn!(%error, "the hub ends this edge's sessions");
                    // A control task that is behind knows of an outage already.
                    let _ = self.state.reports.try_send(Report::SessionDown { error });
                }
                self.local.closing().notify_one();
            }
            Event::Refused
            | Event::Readable(_)
            | Event::SendReady(_)
            | Event::SendStopped(_)
            | Event::Datagram(_)
            | Event::Silent
            | Event::Heard => {}
        }
        Ok(())
    }
}

/// Keeps one session to the hub for this worker, for ever.
pub(crate) async fn keep(worker: Rc<EdgeWorker>) {
    let mut backoff = Backoff::default();
    let mut fresh = None;
    while !worker.state.draining.load(Ordering::Relaxed) {
        let Fresh {
            connection,
            welcome,
            announced_credit,
        } = match fresh.take() {
            Some(fresh) => fresh,
            None => match dial(&worker, &mut backoff).await {
                Some(fresh) => fresh,
                None => continue,
            },
        };
        backoff.connected(Instant::now());
        let session = new_session(&worker, &connection, &welcome, announced_credit);
        worker.adopt(&session);
        report_up(&worker, &connection, &welcome, false);
        let task = tokio::task::spawn_local(serve(worker.clone(), session.clone(), connection));
        let mut task = worker.owned(task);
        let retry_after;
        tokio::select! {
            done = &mut task => {
                fresh = done.ok().flatten();
                retry_after = session.retry_after.get();
                worker.dismiss(&session);
            }
            // It finishes its streams on its own while a new one takes over.
            () = session.local.closing().notified() => {
                retry_after = session.retry_after.get();
                worker.retire(&session, task);
            }
        }
        if fresh.is_none() {
            pause(&mut backoff, retry_after).await;
        }
    }
}

fn new_session(
    worker: &EdgeWorker,
    connection: &Connection,
    welcome: &Welcome,
    announced_credit: u32,
) -> Rc<EdgeSession> {
    let state = &worker.state;
    let config = SessionConfig {
        role: Role::Edge,
        carrier: connection.carrier(),
        max_peer_streams: 0,
        resume_timeout: if welcome.features.contains(Features::RESUME) {
            let ours = state.config.engine.resume_timeout;
            let agreed = welcome.resume_timeout_secs;
            agreed.map_or(ours, |secs| ours.min(Duration::from_secs(secs.into())))
        } else {
            Duration::ZERO
        },
        announced_credit,
        peer_credit: welcome.initial_credit,
    };
    Rc::new(EdgeSession {
        id: welcome.session,
        local: LocalSession::new(Session::new(&config, &worker.budget, Instant::now())),
        transport: connection.transport(),
        ordinal: worker.ordinal,
        attempt: Cell::new(0),
        assembler: RefCell::default(),
        state: state.clone(),
        retry_after: Cell::new(None),
    })
}

/// One attempt at a new session; after a failure it has also waited.
async fn dial(worker: &EdgeWorker, backoff: &mut Backoff) -> Option<Fresh> {
    if worker.ordinal > 0 && worker.state.gate.refusal().is_some() {
        // The first worker knocks for all. The sender lives as long as this worker.
        let mut live = worker.state.live.subscribe();
        let _ = live.wait_for(|sessions| *sessions > 0).await;
    }
    match connect(worker, worker.transport(), None).await {
        Ok((connection, welcome, announced_credit)) => Some(Fresh {
            connection,
            welcome,
            announced_credit,
        }),
        Err(failure) => {
            report_failure(worker, &failure);
            pause(backoff, failure.retry_after).await;
            None
        }
    }
}

async fn pause(backoff: &mut Backoff, hint: Option<Duration>) {
    let delay = backoff.next_delay(Instant::now(), crate::random::uniform(), hint);
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

fn report_up(worker: &EdgeWorker, connection: &Connection, welcome: &Welcome, resumed: bool) {
    let Ok(hub) = connection.peer_address() else {
        return;
    };
    let report = Report::SessionUp {
        hub,
        transport: connection.transport(),
        resumed,
        max_sessions: welcome.max_sessions,
    };
    let _ = worker.state.reports.try_send(report);
}

/// Runs a session over one connection after another. A hub that has lost it gives a new one.
async fn serve(
    worker: Rc<EdgeWorker>,
    session: Rc<EdgeSession>,
    mut connection: Connection,
) -> Option<Fresh> {
    let mut backoff = Backoff::default();
    loop {
        backoff.connected(Instant::now());
        let ended = tokio::select! {
            error = connection.drive(&session.local, &*session) => Some(error),
            () = session.local.drained().notified() => None,
        };
        let Some(error) = ended else {
            connection.close().await;
            return None;
        };
        drop(connection);
        worker.lost(&session);
        worker.state.gate.lost();
        let code = if error.is_violation() {
            tracing::error!(%error, "the hub broke the protocol");
            ErrorCode::Protocol
        } else {
            ErrorCode::HubUnreachable
        };
        report_down(&worker, CodedError::new(code, error.to_string()));
        let is_over = {
            let mut session = session.local.session();
            session.detach(Instant::now());
            session.is_closing() && session.active_streams() == 0
        };
        // A session over QUIC lives as long as its connection, which outlives changes of address.
        let is_quic = session.transport == Transport::Quic;
        let resumed = if error.is_violation() || is_over || is_quic {
            Resumed::Lost(None)
        } else {
            resume(&worker, &session, &mut backoff).await
        };
        match resumed {
            Resumed::Yes(new) => connection = new,
            Resumed::Lost(fresh) => {
                session.local.end_streams(AbortCode::TunnelLost);
                return fresh;
            }
        }
    }
}

enum Resumed {
    Yes(Connection),
    Lost(Option<Fresh>),
}

/// Dials until the hub has taken the session up again, or time is up.
async fn resume(
    worker: &Rc<EdgeWorker>,
    session: &Rc<EdgeSession>,
    backoff: &mut Backoff,
) -> Resumed {
    let expires = session
        .local
        .session()
        .poll_timeout()
        .unwrap_or_else(Instant::now);
    let attempts = async {
        let mut hint = None;
        loop {
            pause(backoff, hint).await;
            worker.state.reconnects.fetch_add(1, Ordering::Relaxed);
            session.attempt.set(session.attempt.get().saturating_add(1));
            let resume = Resume {
                session: session.id,
                attempt: session.attempt.get(),
                received: session.local.session().received(),
            };
            match connect(worker, Transport::TcpTls, Some(resume)).await {
                Ok((connection, welcome, announced_credit)) => {
                    return match welcome.outcome {
                        SessionOutcome::Resumed { received } => {
                            take_up(worker, session, connection, &welcome, received)
                        }
                        SessionOutcome::New | SessionOutcome::SessionLost => {
                            Resumed::Lost(Some(Fresh {
                                connection,
                                welcome,
                                announced_credit,
                            }))
                        }
                    };
                }
                Err(failure) => {
                    report_failure(worker, &failure);
                    if failure.auth_failed {
                        session.retry_after.set(failure.retry_after);
                        return Resumed::Lost(None);
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
            Resumed::Lost(None)
        }
    }
}

fn take_up(
    worker: &Rc<EdgeWorker>,
    session: &Rc<EdgeSession>,
    connection: Connection,
    welcome: &Welcome,
    received: u64,
) -> Resumed {
    if let Err(violation) = session.local.session().attach(Instant::now(), received) {
        tracing::error!(%violation, "the hub resumes where nothing was sent");
        return Resumed::Lost(None);
    }
    worker.state.resumed.fetch_add(1, Ordering::Relaxed);
    worker.found(session);
    report_up(worker, &connection, welcome, true);
    Resumed::Yes(connection)
}
