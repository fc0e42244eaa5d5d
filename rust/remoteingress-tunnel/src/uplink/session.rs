//! One session of the end that dials, over one connection after another.

use super::dialler::{Answer, Attempt, Awaited, Dialler, Wanted};
use super::report::{Report, Up};
use super::step::Step;
use crate::session::delivery::Owner;
use crate::session::local_session::LocalSession;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use bytes::Bytes;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::uplink::action::{Dial, Down, News};
use remoteingress_core::uplink::association::{Association, Ending, Input};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::race::WELCOME_TIMEOUT;
use remoteingress_os::random::uniform;
use remoteingress_proto::control::{ControlAssembler, ControlError};
use remoteingress_proto::handshake::{
    EdgeProgress, MAX_MESSAGE, SessionOutcome, Transport, Welcome,
};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    Carrier, EARLY_CREDIT, Event, GoAwayCode, Role, Session, SessionConfig, SessionError,
};
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::frame::StreamId;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep_until;

/// The flows of UDP in one session, which the end that dials brings along.
pub trait Flows {
    /// The session begins, or begins anew at the peer, which knows none of its flows then.
    fn begin(&self);

    /// A tunnel datagram has come.
    fn handle(&self, datagram: &Bytes);

    /// That was all for now: what the datagrams have brought leaves.
    fn settle(&self);

    /// Adds the datagrams that this session has lost since the last time to the counters.
    fn count_drops(&self, local: &LocalSession);
}

/// A session to the peer of an uplink, on its worker.
pub struct UplinkSession<F> {
    /// The session with its streams.
    pub local: Rc<LocalSession>,
    /// Its flows of UDP.
    pub flows: F,
    dialler: Rc<Dialler>,
    association: RefCell<Association>,
    assembler: RefCell<ControlAssembler>,
    /// Address of the peer, and the number of sessions that it allows; known from the first Welcome on.
    peer: Cell<Option<(SocketAddr, u16)>>,
    /// Agreed on in the last Welcome.
    features: Cell<Features>,
    /// The Welcome that the current connection still owes.
    awaited: RefCell<Option<(Awaited, SocketAddr)>>,
    /// Reason why the peer refused the current connection.
    refusal: RefCell<Option<Failure>>,
    /// Reason why the end that has it ends it.
    cut: Cell<&'static str>,
    cutting: Notify,
}

impl<F> std::fmt::Debug for UplinkSession<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UplinkSession").finish_non_exhaustive()
    }
}

impl<F: Flows> UplinkSession<F> {
    pub(super) fn new(dialler: &Rc<Dialler>, attempt: &Attempt, flows: F) -> Rc<Self> {
        let (transport, carrier) = (attempt.connection.transport(), attempt.connection.carrier());
        Self::over(dialler, transport, carrier, attempt.announced_credit, flows)
    }

    pub(super) fn over(
        dialler: &Rc<Dialler>,
        transport: Transport,
        carrier: Carrier,
        announced_credit: u32,
        flows: F,
    ) -> Rc<Self> {
        let settings = &dialler.uplink.settings;
        let config = SessionConfig {
            role: Role::Edge,
            carrier,
            max_peer_streams: 0,
            resume_timeout: settings.resume_timeout,
            keepalive: settings.keepalive,
            announced_credit,
            peer_credit: EARLY_CREDIT,
            is_welcome: false,
            expects_begin: false,
        };
        Rc::new(Self {
            local: LocalSession::new(Session::new(&config, &dialler.budget, Instant::now())),
            flows,
            dialler: dialler.clone(),
            association: RefCell::new(Association::new(
                settings.ends,
                transport,
                settings.patience,
            )),
            assembler: RefCell::default(),
            peer: Cell::new(None),
            features: Cell::new(Features::NONE),
            awaited: RefCell::new(None),
            refusal: RefCell::new(None),
            cut: Cell::new(""),
            cutting: Notify::new(),
        })
    }

    /// The transport of its connection, or of the last one.
    pub fn transport(&self) -> Transport {
        self.association.borrow().transport()
    }

    /// The features that both ends have; none before the first Welcome.
    pub fn features(&self) -> Features {
        self.features.get()
    }

    /// Adds the datagrams that it has lost since the last time to the counters.
    pub fn count_drops(&self) {
        self.flows.count_drops(&self.local);
    }

    /// The peer has let it in, over any of its connections.
    pub(super) fn is_known(&self) -> bool {
        self.association.borrow().is_known()
    }

    /// The shortest time until the peer wants to be asked for another session.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.association.borrow().retry_after()
    }

    /// Ends it at once, and its streams with it.
    pub fn cut(&self, reason: &'static str) {
        self.cut.set(reason);
        self.cutting.notify_one();
    }

    /// Another session takes new streams from now on; this one finishes its own.
    pub(super) fn supersede(&self) {
        self.decide(Input::Superseded);
    }

    /// Takes up the peer's answer on a connection, or that it is to come.
    pub(super) fn greet(
        &self,
        answer: Answer,
        connection: &Connection,
    ) -> Result<(), SessionError> {
        let (transport, peer) = (connection.transport(), connection.peer_address());
        match answer {
            Answer::Welcome(welcome) => self.welcome(transport, &welcome, peer)?,
            Answer::Awaited(awaited) => {
                *self.awaited.borrow_mut() = Some((awaited, peer));
                self.decide(Input::Early(transport));
            }
        }
        Ok(())
    }

    /// The peer has proved itself and said which session this is.
    fn welcome(
        &self,
        transport: Transport,
        welcome: &Welcome,
        peer: SocketAddr,
    ) -> Result<(), SessionError> {
        let uplink = &self.dialler.uplink;
        let mut session = self.local.session();
        let mut first = StreamId(0);
        match welcome.outcome {
            SessionOutcome::New => session.welcome(welcome.initial_credit),
            SessionOutcome::SessionLost => {
                first = session.begin_again(welcome.initial_credit);
                self.flows.begin();
                *self.assembler.borrow_mut() = ControlAssembler::default();
            }
            SessionOutcome::Resumed { received } => {
                if !session.is_welcome() {
                    session.welcome_back(received)?;
                }
                uplink.count_resumed();
            }
        }
        let ours = uplink.settings.resume_timeout;
        let agreed = welcome.resume_timeout_secs;
        session.set_resume_timeout(if welcome.features.contains(Features::RESUME) {
            agreed.map_or(ours, |secs| ours.min(Duration::from_secs(secs.into())))
        } else {
            Duration::ZERO
        });
        drop(session);
        self.local.set_id(welcome.session, first);
        self.peer.set(Some((peer, welcome.max_sessions)));
        self.features.set(welcome.features);
        self.decide(Input::Welcome {
            transport,
            session: welcome.session,
            outcome: welcome.outcome,
        });
        Ok(())
    }

    /// Lets the machine decide, tells its news, and gives the next step.
    pub(super) fn decide(&self, input: Input) -> Step {
        let mut association = self.association.borrow_mut();
        let actions = association.handle(input, Instant::now(), uniform());
        drop(association);
        Step::of(actions, |news| self.tell(news))
    }

    fn tell(&self, news: News) {
        let (dialler, uplink) = (&self.dialler, &self.dialler.uplink);
        match news {
            News::Live(live) => uplink.set_live(dialler.worker, live),
            News::Verdict(verdict) => uplink.gate.rules().handle(Instant::now(), &verdict),
            News::Up { is_resumed } => self.report_up(is_resumed),
            News::Down { error, cause } => {
                let (worker, peer) = (dialler.worker, uplink.settings.ends.peer);
                match cause {
                    Down::Attempt => return dialler.failed(error),
                    Down::Violation => {
                        tracing::error!(error = %error.message, "the {peer} broke the protocol");
                    }
                    Down::Replaced => {
                        tracing::warn!(%error, "the {peer} ends the sessions of this end");
                    }
                    Down::Silent => tracing::warn!(worker, "{}", error.message),
                    Down::Lost => {}
                }
                dialler.report_down(error);
            }
            News::FallBack(reason) => uplink.fall_back(&reason),
            News::Reconnecting => uplink.count_reconnect(),
            News::PeerRestarted => uplink.ask_all(),
        }
    }

    fn report_up(&self, is_resumed: bool) {
        let Some((peer, max_sessions)) = self.peer.get() else {
            return;
        };
        // A receiver that is too slow hears of the next one.
        let _ = self.dialler.uplink.report(Report::SessionUp(Up {
            peer,
            transport: self.transport(),
            is_resumed,
            max_sessions,
        }));
    }

    /// Waits until a Welcome that is awaited is late: a peer that doesn't answer is as good as gone.
    async fn is_late(&self) {
        tokio::time::sleep(WELCOME_TIMEOUT).await;
        if self.awaited.borrow().is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// A peer that dials closes a connection in order if it doesn't want the session any more: nobody would call for it.
    fn is_dismissed(&self, error: &ConnectionError) -> bool {
        let is_closed = matches!(error, ConnectionError::Closed) && self.awaited.borrow().is_none();
        is_closed && self.dialler.uplink.is_called()
    }

    /// Waits until the peer calls again over this session's transport: it has lost the connection. One that finishes its
    /// streams isn't meant.
    async fn called_again(&self) {
        self.dialler.called_over(self.transport(), true).await;
        if !self.association.borrow().is_current() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs over one connection after another, to the session's end.
    pub(super) async fn serve(self: Rc<Self>, connection: Connection) {
        tokio::select! {
            () = self.run(connection) => {}
            () = self.cutting.notified() => self.end(self.cut.get().to_owned()),
        }
        self.local.end_streams(AbortCode::TunnelLost);
    }

    /// It is over, for a reason that its connection doesn't know of.
    fn end(&self, message: String) {
        self.decide(Input::Drained);
        let error = CodedError::new(ErrorCode::HubUnreachable, message);
        self.dialler.report_down(error);
    }

    async fn run(&self, mut connection: Connection) {
        loop {
            let ended = tokio::select! {
                error = connection.drive(&self.local, self) => Some(error),
                () = self.is_late() => Some(ConnectionError::Closed),
                () = self.called_again() => Some(ConnectionError::CalledAgain),
                () = self.local.drained().notified() => None,
            };
            let Some(error) = ended else {
                self.decide(Input::Drained);
                connection.close().await;
                return;
            };
            if self.is_dismissed(&error) {
                drop(connection);
                let peer = self.dialler.uplink.settings.ends.peer;
                return self.end(format!("the {peer} has ended the session"));
            }
            drop(connection);
            let step = self.decide(self.ended(&error));
            // Its turn is over, whatever became of it.
            self.awaited.take();
            match self.go_on(step).await {
                Some(next) => connection = next,
                None => return,
            }
        }
    }

    /// The end of a connection, as the machine is told of it.
    fn ended(&self, error: &ConnectionError) -> Input {
        let refusal = self.refusal.take();
        let mut session = self.local.session();
        session.detach(Instant::now());
        let streams = session.active_streams();
        let ending = match refusal {
            Some(failure) => Ending::Refused(failure),
            None => {
                session.leave_early();
                Ending::Lost {
                    message: error.to_string(),
                    is_violation: error.is_violation(),
                    is_reset: error.is_reset(),
                }
            }
        };
        Input::Ended {
            ending,
            streams,
            deadline: session.poll_timeout(),
        }
    }

    /// Dials until the peer has taken the session up again, in its old or a new one, or it is given up.
    async fn go_on(&self, first: Step) -> Option<Connection> {
        let expires = self.association.borrow().expires();
        let expires = expires.unwrap_or_else(Instant::now);
        let attempts = async {
            let mut step = first;
            loop {
                step = match step {
                    Step::Wait(until) => {
                        self.dialler.pause(until, true).await;
                        self.decide(Input::Due)
                    }
                    Step::Dial(dial) => match self.dialler.connect(self.wanted(dial)).await {
                        Ok(attempt) => match self.take_up(attempt) {
                            Some(connection) => return Some(connection),
                            None => self.decide(Input::Unusable),
                        },
                        Err(failure) => self.decide(Input::Failed(failure)),
                    },
                    Step::Stay | Step::WaitForOthers | Step::End => return None,
                };
            }
        };
        if first == Step::End {
            return None;
        }
        tokio::select! {
            next = attempts => next,
            () = sleep_until(expires.into()) => {
                self.decide(Input::Expired);
                tracing::warn!("the session was not resumed in time: its streams are reset");
                None
            }
        }
    }

    fn wanted(&self, dial: Dial) -> Wanted {
        let fresh = Wanted::fresh(dial);
        if !matches!(dial, Dial::Resume { .. }) {
            return fresh;
        }
        let session = self.local.session();
        Wanted {
            received: session.received(),
            may_be_early: session.may_resume_early(),
            ..fresh
        }
    }

    /// Goes on over a connection that was made for it; None if it can't.
    fn take_up(&self, attempt: Attempt) -> Option<Connection> {
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
                        let peer = self.dialler.uplink.settings.ends.peer;
                        tracing::error!(%violation, "the {peer} resumes where nothing was sent");
                        return None;
                    }
                }
                // The peer has lost it: its streams are reset, and none was opened since.
                // Or it is a new one, or the answer is still to come.
                Answer::Welcome(_) | Answer::Awaited(_) => {
                    session.attach_early(now, connection.carrier());
                }
            }
        }
        self.greet(answer, &connection).ok()?;
        Some(connection)
    }
}

impl<F: Flows> Owner for UplinkSession<F> {
    fn begin(&self, received: &[u8]) -> Result<Option<usize>, ConnectionError> {
        let awaited = self.awaited.borrow();
        let Some((Awaited { handshake, .. }, peer)) = &*awaited else {
            return Ok(Some(0));
        };
        let peer = *peer;
        let head = received
            .get(..MAX_MESSAGE.min(received.len()))
            .unwrap_or_default();
        let progress = handshake.handle(head);
        drop(awaited);
        match progress {
            Ok(EdgeProgress::NeedMore) if received.len() >= MAX_MESSAGE => {
                Err(ConnectionError::Closed)
            }
            Ok(EdgeProgress::NeedMore) => Ok(None),
            Ok(EdgeProgress::Welcomed { welcome, consumed }) => {
                self.welcome(self.transport(), &welcome, peer)?;
                // Others may try from now on.
                self.awaited.take();
                Ok(Some(consumed))
            }
            Err(error) => {
                let ends = self.dialler.uplink.settings.ends;
                *self.refusal.borrow_mut() = Some(Failure::of_handshake(&error, ends));
                Err(ConnectionError::Refused)
            }
        }
    }

    fn handle(&self, event: Event) -> Result<(), ControlError> {
        match event {
            // The peer opens no streams: that feature isn't agreed on.
            Event::Opened { key, .. } => self.local.session().release(key),
            Event::Control(payload) => {
                let Some(message) = self.assembler.borrow_mut().handle(&payload)? else {
                    return Ok(());
                };
                let worker = self.dialler.worker;
                // None may be lost: after this the peer tells another session again.
                if !self
                    .dialler
                    .uplink
                    .report(Report::Control { worker, message })
                {
                    return Err(ControlError::Flood);
                }
            }
            Event::GoAway { code, retry_after } => {
                let (code_name, peer) = (code.as_str(), self.dialler.uplink.settings.ends.peer);
                tracing::info!(
                    code = code_name,
                    ?retry_after,
                    "{peer} accepts no new streams"
                );
                self.decide(Input::GoAway {
                    is_replaced: code == GoAwayCode::Replaced,
                    retry_after,
                });
                self.local.closing().notify_one();
            }
            Event::Datagram(datagram) => self.flows.handle(&datagram),
            Event::Silent => {
                self.decide(Input::Silent);
            }
            Event::Heard => {
                self.decide(Input::Heard);
            }
            Event::Refused | Event::Readable(_) | Event::SendReady(_) | Event::SendStopped(_) => {}
        }
        Ok(())
    }

    fn settle(&self) {
        self.flows.settle();
    }
}
