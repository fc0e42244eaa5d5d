//! One session of the edge, over one connection after another.

use super::attempt::{Answer, Awaited, Purpose, Reached, Wanted};
use super::uplink::{ENDS, Report, Uplink};
use crate::env::Env;
use crate::link::{self, Packet, QUIC_IDLE};
use crate::traffic;
use bytes::BytesMut;
use remoteingress_core::uplink::action::{Action, Dial};
use remoteingress_core::uplink::association::{Association, Ending, Input};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::race::WELCOME_TIMEOUT;
use remoteingress_proto::control::ControlAssembler;
use remoteingress_proto::handshake::{EdgeProgress, SessionOutcome, Transport, Welcome};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    Carrier, EARLY_CREDIT, Event, GoAwayCode, Role, Session, SessionConfig, SessionError,
};
use remoteingress_proto::wire::features::Features;
use remoteingress_testkit::EDGE;
use remoteingress_testkit::net::Connection;
use std::time::{Duration, Instant};

/// Interval between checks whether a session that takes no new streams is done.
const SWEEP: Duration = Duration::from_secs(1);

/// The session's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Run,
    Wait(Instant),
    Dial,
    Over,
}

pub(crate) struct EdgeSession {
    pub(crate) serial: u64,
    pub(crate) worker: usize,
    pub(crate) session: Session,
    pub(crate) ends: traffic::Ends,
    pub(crate) association: Association,
    /// It is there to find out whether QUIC works.
    pub(crate) is_trial: bool,
    /// The peer takes no new streams in it.
    pub(crate) is_closing: bool,
    pub(crate) connection: Option<Connection>,
    step: Step,
    assembler: ControlAssembler,
    awaited: Option<Awaited>,
    received: BytesMut,
    late_at: Option<Instant>,
    refusal: Option<Failure>,
    max_sessions: u16,
    heard_at: Instant,
    sweep_at: Option<Instant>,
    was_done: bool,
    /// For the checks: the hub has said Welcome to it.
    was_welcomed: bool,
    /// For the checks: the last time that a connection with a Welcome was lost.
    lost_at: Option<Instant>,
}

impl EdgeSession {
    pub(crate) fn new(
        up: &Uplink,
        env: &Env,
        serial: u64,
        worker: usize,
        is_trial: bool,
        reached: &Reached,
    ) -> Self {
        let config = SessionConfig {
            role: Role::Edge,
            carrier: link::carrier(reached.transport),
            max_peer_streams: 0,
            resume_timeout: up.settings.resume_timeout,
            keepalive: Duration::from_secs(45),
            announced_credit: reached.announced_credit,
            peer_credit: EARLY_CREDIT,
            is_welcome: false,
            expects_begin: false,
        };
        Self {
            serial,
            worker,
            session: Session::new(&config, &up.budget, env.now()),
            ends: traffic::Ends::new(EDGE),
            association: Association::new(ENDS, reached.transport, up.settings.patience),
            is_trial,
            is_closing: false,
            connection: Some(reached.connection),
            step: Step::Run,
            assembler: ControlAssembler::default(),
            awaited: None,
            received: BytesMut::new(),
            late_at: None,
            refusal: None,
            max_sessions: 0,
            heard_at: env.now(),
            sweep_at: None,
            was_done: false,
            was_welcomed: false,
            lost_at: None,
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "w{} s{}: streams {:?} ({} in the session), {:?}, attached: {}, closing: {}, flushed: {}",
            self.worker,
            self.serial,
            self.ends.serials().collect::<Vec<_>>(),
            self.session.active_streams(),
            self.step,
            self.session.is_attached(),
            self.session.is_closing(),
            self.session.is_flushed(),
        )
    }

    pub(crate) fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// It takes streams now, as far as its own state goes.
    pub(crate) fn takes_streams(&self) -> bool {
        self.step == Step::Run
            && self.session.is_attached()
            && !self.session.is_closing()
            && !self.session.is_silent()
    }

    pub(crate) fn supersede(&mut self, up: &mut Uplink, env: &mut Env) {
        self.decide(up, env, Input::Superseded);
    }

    /// Takes up the hub's answer on a connection, or that it is to come.
    pub(crate) fn greet(&mut self, up: &mut Uplink, env: &mut Env, reached: Reached) {
        self.connection = Some(reached.connection);
        self.heard_at = env.now();
        self.received.clear();
        self.step = Step::Run;
        match reached.answer {
            Answer::Welcome(welcome, rest) => {
                let taken = self.welcome(up, env, reached.transport, &welcome);
                let taken = taken.and_then(|()| self.session.handle_input(env.now(), rest));
                if let Err(error) = taken {
                    self.lost(up, env, &error.to_string(), is_violation(error));
                }
            }
            Answer::Awaited(awaited) => {
                self.awaited = Some(awaited);
                self.late_at = Some(env.now() + WELCOME_TIMEOUT);
                self.decide(up, env, Input::Early(reached.transport));
            }
        }
    }

    /// Goes on over a connection that was made for it, if it can.
    pub(crate) fn take_up(&mut self, up: &mut Uplink, env: &mut Env, reached: Reached) {
        let now = env.now();
        let resumed = match &reached.answer {
            Answer::Welcome(welcome, _) => match welcome.outcome {
                SessionOutcome::Resumed { received } => Some(received),
                SessionOutcome::New | SessionOutcome::SessionLost => None,
            },
            Answer::Awaited(_) => None,
        };
        match resumed {
            Some(received) => {
                if self.session.attach(now, received).is_err() {
                    env.drop_connection(reached.connection, up.endpoint);
                    self.decide(up, env, Input::Unusable);
                    return;
                }
            }
            None => self
                .session
                .attach_early(now, link::carrier(reached.transport)),
        }
        self.greet(up, env, reached);
    }

    /// The attempt that it asked for has failed.
    pub(crate) fn failed(&mut self, up: &mut Uplink, env: &mut Env, failure: Failure) {
        self.decide(up, env, Input::Failed(failure));
    }

    /// Something has come on its connection.
    pub(crate) fn handle_packet(&mut self, up: &mut Uplink, env: &mut Env, packet: Packet) {
        let now = env.now();
        self.heard_at = now;
        let taken = match (&self.awaited, packet) {
            (Some(_), Packet::Bytes(bytes)) => {
                self.received.extend_from_slice(&bytes);
                self.handle_answer(up, env)
            }
            (_, packet) => link::receive(&mut self.session, now, packet),
        };
        if let Err(error) = taken.and_then(|()| self.deliver(up, env)) {
            self.lost(up, env, &error.to_string(), is_violation(error));
        }
    }

    /// Its connection is gone.
    pub(crate) fn lost(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        message: &str,
        is_violation: bool,
    ) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        assert!(!is_violation, "edge: the hub broke the protocol: {message}");
        let name = env.name(connection);
        env.say(format_args!(
            "edge w{} s{}: {name} has ended, {message}",
            self.worker, self.serial
        ));
        let is_reset = env.is_reset(connection);
        env.drop_connection(connection, up.endpoint);
        self.late_at = None;
        self.session.detach(env.now());
        if self.was_welcomed && self.awaited.is_none() {
            self.lost_at = Some(env.now());
        }
        let ending = match self.refusal.take() {
            Some(failure) => Ending::Refused(failure),
            None => {
                self.session.leave_early();
                Ending::Lost {
                    message: message.to_owned(),
                    is_violation,
                    is_reset,
                }
            }
        };
        let input = Input::Ended {
            ending,
            streams: self.session.active_streams(),
            deadline: self.session.poll_timeout(),
        };
        self.decide(up, env, input);
        if let Some(awaited) = self.awaited.take() {
            awaited.end(up);
        }
    }

    /// Does what is due, and sends what there is; gives an attempt that it asks for.
    pub(crate) fn poll(&mut self, up: &mut Uplink, env: &mut Env) -> Option<Wanted> {
        let now = env.now();
        if self.connection.is_some() {
            self.drive(up, env);
        }
        match self.step {
            Step::Run | Step::Over => None,
            Step::Wait(_) | Step::Dial if self.expires().is_some_and(|at| at <= now) => {
                self.decide(up, env, Input::Expired);
                None
            }
            Step::Wait(until) if until <= now => {
                let dial = self.decide(up, env, Input::Due)?;
                let is_resume = matches!(dial, Dial::Resume { .. });
                Some(Wanted {
                    worker: self.worker,
                    purpose: Purpose::Session(self.serial),
                    dial,
                    received: if is_resume {
                        self.session.received()
                    } else {
                        0
                    },
                    may_be_early: dial.may_be_early()
                        && (!is_resume || self.session.may_resume_early()),
                })
            }
            Step::Wait(_) | Step::Dial => None,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Over => None,
            Step::Wait(until) => self.expires().map_or(Some(until), |at| Some(at.min(until))),
            Step::Dial => self.expires(),
            Step::Run => {
                let idle = self.is_quic().then(|| self.heard_at + QUIC_IDLE);
                let timers = [
                    self.session.poll_timeout(),
                    self.late_at,
                    self.sweep_at,
                    idle,
                ];
                timers.into_iter().flatten().min()
            }
        }
    }

    /// Sends control messages.
    pub(crate) fn send_control(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.session.send_control(frame);
        }
    }

    /// The program has ended: nothing is sent any more.
    pub(crate) fn vanish(&mut self, up: &mut Uplink, env: &mut Env) {
        if let Some(connection) = self.connection.take() {
            env.drop_connection(connection, up.endpoint);
        }
        self.end(env);
    }

    fn is_quic(&self) -> bool {
        self.association.transport() == Transport::Quic
    }

    fn expires(&self) -> Option<Instant> {
        self.association.expires()
    }

    fn drive(&mut self, up: &mut Uplink, env: &mut Env) {
        let now = env.now();
        let is_late = self.late_at.is_some_and(|at| at <= now);
        if is_late && self.awaited.is_some() {
            return self.lost(up, env, "no Welcome in time", false);
        }
        if is_late {
            self.late_at = None;
        }
        if self.is_quic() && now >= self.heard_at + QUIC_IDLE {
            return self.lost(up, env, "idle for too long", false);
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now)
            && let Err(error) = self.session.handle_timeout(now)
        {
            return self.lost(up, env, &error.to_string(), is_violation(error));
        }
        if let Err(error) = self.deliver(up, env) {
            return self.lost(up, env, &error.to_string(), is_violation(error));
        }
        let Some(connection) = self.connection else {
            return;
        };
        link::transmit(&mut self.session, env, connection, up.endpoint);
        self.sweep(up, env, connection);
    }

    /// Ends a session in which nothing is left to do.
    fn sweep(&mut self, up: &mut Uplink, env: &mut Env, connection: Connection) {
        let now = env.now();
        if !self.session.is_closing() {
            return;
        }
        if *self.sweep_at.get_or_insert(now + SWEEP) > now {
            return;
        }
        self.sweep_at = Some(now + SWEEP);
        let is_done = self.ends.len() == 0 && self.session.is_flushed();
        let was_done = std::mem::replace(&mut self.was_done, is_done);
        if is_done && (was_done || self.session.carrier() == Carrier::Ordered) {
            env.say(format_args!(
                "edge w{} s{}: drained",
                self.worker, self.serial
            ));
            env.net.finish(connection, up.endpoint);
            self.connection = None;
            self.decide(up, env, Input::Drained);
            if let Some(awaited) = self.awaited.take() {
                awaited.end(up);
            }
        }
    }

    /// Looks whether the Welcome that the connection owes has come.
    fn handle_answer(&mut self, up: &mut Uplink, env: &mut Env) -> Result<(), SessionError> {
        let Some(awaited) = &self.awaited else {
            return Ok(());
        };
        match awaited.handshake.handle(&self.received) {
            Ok(EdgeProgress::NeedMore) => Ok(()),
            Ok(EdgeProgress::Welcomed { welcome, consumed }) => {
                let rest = self.received.split_off(consumed).freeze();
                self.received.clear();
                self.welcome(up, env, self.association.transport(), &welcome)?;
                if let Some(awaited) = self.awaited.take() {
                    awaited.end(up);
                }
                self.session.handle_input(env.now(), rest)
            }
            Err(error) => {
                self.refusal = Some(Failure::of_handshake(&error, ENDS));
                self.lost(up, env, "refused", false);
                Ok(())
            }
        }
    }

    /// The hub has proved itself and said which session this is.
    fn welcome(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        transport: Transport,
        welcome: &Welcome,
    ) -> Result<(), SessionError> {
        env.say(format_args!(
            "edge w{} s{}: Welcome, {:?}",
            self.worker, self.serial, welcome.outcome
        ));
        match welcome.outcome {
            SessionOutcome::New => self.session.welcome(welcome.initial_credit),
            SessionOutcome::SessionLost => {
                self.session.begin_again(welcome.initial_credit);
                self.assembler = ControlAssembler::default();
            }
            SessionOutcome::Resumed { received } => {
                if !self.session.is_welcome() {
                    self.session.welcome_back(received)?;
                }
            }
        }
        let ours = up.settings.resume_timeout;
        let agreed = welcome.resume_timeout_secs;
        let can_resume = welcome.features.contains(Features::RESUME);
        self.session.set_resume_timeout(if can_resume {
            agreed.map_or(ours, |secs| ours.min(Duration::from_secs(secs.into())))
        } else {
            Duration::ZERO
        });
        self.max_sessions = welcome.max_sessions;
        self.was_welcomed = true;
        let input = Input::Welcome {
            transport,
            session: welcome.session,
            outcome: welcome.outcome,
        };
        self.decide(up, env, input);
        Ok(())
    }

    fn deliver(&mut self, up: &mut Uplink, env: &mut Env) -> Result<(), SessionError> {
        while let Some(event) = self.session.poll_event() {
            let now = env.now();
            let (session, ends) = (&mut self.session, &mut self.ends);
            match env.traffic.handle(session, ends, now, event) {
                Some(Event::Control(payload)) => {
                    let message = self.assembler.handle(&payload);
                    if let Some(message) = link::legal(message) {
                        up.reports.push_back(Report::Control(self.worker, message));
                    }
                }
                Some(Event::GoAway { code, retry_after }) => {
                    env.say(format_args!(
                        "edge w{} s{}: GOAWAY, {}",
                        self.worker,
                        self.serial,
                        code.as_str()
                    ));
                    let is_replaced = code == GoAwayCode::Replaced;
                    let input = Input::GoAway {
                        is_replaced,
                        retry_after,
                    };
                    self.decide(up, env, input);
                    self.is_closing = true;
                }
                Some(Event::Silent) => {
                    up.note_silence();
                    self.decide(up, env, Input::Silent);
                }
                Some(Event::Heard) => {
                    self.decide(up, env, Input::Heard);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets the machine decide, and carries out its actions in their order; gives the dial that it asks for.
    fn decide(&mut self, up: &mut Uplink, env: &mut Env, input: Input) -> Option<Dial> {
        let is_refusal_hinted = matches!(
            &input,
            Input::Failed(Failure {
                retry_after: Some(_),
                ..
            }) | Input::Ended {
                ending: Ending::Refused(_),
                ..
            }
        );
        let (now, random) = (env.now(), env.spread());
        let actions = self.association.handle(input, now, random);
        assert!(
            self.was_welcomed || !self.association.is_known(),
            "association: counts as known, and the hub has never said Welcome"
        );
        let mut dial = None;
        for action in actions {
            match action {
                Action::Tell(news) => up.tell(env, self.worker, news, self.max_sessions),
                Action::Wait { until } => {
                    let hinted = is_refusal_hinted;
                    crate::edge::check_delay("association", now, until, self.lost_at, hinted);
                    self.step = Step::Wait(until);
                }
                Action::Dial(wanted) => {
                    self.step = Step::Dial;
                    dial = Some(wanted);
                }
                Action::GiveUp(why) => {
                    env.say(format_args!(
                        "edge w{} s{}: given up, {why:?}",
                        self.worker, self.serial
                    ));
                    self.end(env);
                }
                Action::Close => self.end(env),
                Action::WaitForOthers => panic!("an association waits for nobody"),
            }
        }
        dial
    }

    fn end(&mut self, env: &mut Env) {
        let (session, ends) = (&mut self.session, &mut self.ends);
        env.traffic.lose(session, ends, AbortCode::TunnelLost);
        self.step = Step::Over;
    }
}

fn is_violation(error: SessionError) -> bool {
    matches!(error, SessionError::Violation(_))
}
