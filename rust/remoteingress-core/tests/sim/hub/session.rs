//! The hub's end of a session: one connection after another, until it is lost, drained or cut.

use super::passage::Incoming;
use crate::edge::attempt::FEATURES;
use crate::env::Env;
use crate::link::{self, Packet, QUIC_IDLE};
use crate::traffic;
use remoteingress_proto::control::{Applied, ControlAssembler, ControlMessage};
use remoteingress_proto::handshake::{
    Hello, InstanceId, SessionId, SessionOutcome, Transport, Welcome,
};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    Carrier, Event, GoAwayCode, Role, SILENT, Session, SessionConfig, SessionError,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use remoteingress_testkit::HUB;
use remoteingress_testkit::net::{Connection, Endpoint};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time after which the edges of a draining hub may try again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Time after which an edge that was replaced may ask again.
const REPLACED_RETRY: Duration = Duration::from_secs(15);
/// Interval between checks whether a session that takes no new streams is done.
const SWEEP: Duration = Duration::from_secs(1);

/// A session's report to the hub as a whole.
#[derive(Debug)]
pub(crate) enum News {
    Up(SocketAddr),
    Down(String),
    Leaving,
    Applied(Applied),
    /// Something was heard of its edge.
    Heard,
    Ended,
}

pub(crate) struct HubSession {
    pub(crate) id: SessionId,
    pub(crate) edge: EdgeId,
    pub(crate) instance: InstanceId,
    pub(crate) transport: Transport,
    pub(crate) session: Session,
    pub(crate) ends: traffic::Ends,
    pub(crate) connection: Option<Connection>,
    /// It is connected, and its edge is heard.
    pub(crate) is_live: bool,
    /// Its edge opens no more streams.
    pub(crate) is_leaving: bool,
    /// For the checks: it was silent or without a connection, so that its edge's GOAWAY may be late.
    pub(crate) was_away: bool,
    pub(crate) news: Vec<News>,
    own: Endpoint,
    attempt: u32,
    address: SocketAddr,
    announced_credit: u32,
    resume_timeout_secs: u32,
    assembler: ControlAssembler,
    away_until: Option<Instant>,
    heard_at: Instant,
    sweep_at: Option<Instant>,
    was_done: bool,
    pub(crate) is_over: bool,
}

/// The fate of a connection that is to resume a session.
pub(crate) enum Resumed {
    /// It was taken, or an older attempt that changes nothing.
    Done,
    /// The session can't go on: the edge gets another one.
    Replace(Incoming),
}

impl HubSession {
    pub(crate) fn new(
        env: &mut Env,
        own: Endpoint,
        budget: &Budget,
        resume_timeout_secs: u32,
        incoming: &Incoming,
        outcome: SessionOutcome,
    ) -> Self {
        let hello = &incoming.edge.hello;
        let transport = incoming.transport;
        let theirs = hello.resume_timeout_secs;
        let resume_timeout_secs =
            theirs.map_or(resume_timeout_secs, |secs| secs.min(resume_timeout_secs));
        let can_resume = agreed(hello).contains(Features::RESUME);
        let announced_credit = budget.initial_credit();
        let config = SessionConfig {
            role: Role::Hub,
            carrier: link::carrier(transport),
            max_peer_streams: 1_000,
            resume_timeout: if can_resume && transport == Transport::TcpTls {
                Duration::from_secs(resume_timeout_secs.into())
            } else {
                Duration::ZERO
            },
            keepalive: Duration::from_secs(45),
            announced_credit,
            peer_credit: hello.initial_credit,
            is_welcome: true,
            expects_begin: outcome == SessionOutcome::SessionLost,
        };
        Self {
            id: SessionId(env.id()),
            edge: hello.edge_id.clone(),
            instance: hello.instance,
            transport,
            session: Session::new(&config, budget, env.now()),
            ends: traffic::Ends::new(HUB),
            connection: None,
            is_live: false,
            is_leaving: false,
            was_away: false,
            news: Vec::new(),
            own,
            attempt: 0,
            address: incoming.address,
            announced_credit,
            resume_timeout_secs,
            assembler: ControlAssembler::default(),
            away_until: None,
            heard_at: env.now(),
            sweep_at: None,
            was_done: false,
            is_over: false,
        }
    }

    pub(crate) fn belongs_to(&self, hello: &Hello) -> bool {
        self.edge == hello.edge_id && self.instance == hello.instance
    }

    pub(crate) fn drain(&mut self) {
        self.session.go_away(GoAwayCode::Draining, RETRY_AFTER);
    }

    /// Says Welcome on a connection; the session is live then.
    pub(crate) fn answer(
        &mut self,
        env: &mut Env,
        max_sessions: u16,
        incoming: Incoming,
        outcome: SessionOutcome,
    ) {
        let welcome = Welcome {
            session: self.id,
            outcome,
            max_sessions,
            initial_credit: self.announced_credit,
            features: agreed(&incoming.edge.hello),
            version: "1".to_owned(),
            resume_timeout_secs: Some(self.resume_timeout_secs),
            observed_address: Some(incoming.address),
        };
        let message = incoming.edge.welcome_message(&welcome);
        let packet = Packet::Bytes(message.expect("a short Welcome").into());
        env.net.send(incoming.connection, self.own, packet);
        let name = env.name(incoming.connection);
        env.say(format_args!("hub: Welcome on {name}, {outcome:?}"));
        env.welcomes(incoming.connection);
        self.connection = Some(incoming.connection);
        self.away_until = None;
        self.heard_at = env.now();
        self.address = incoming.address;
        self.is_live = true;
        self.news.push(News::Up(incoming.address));
        if let SessionOutcome::Resumed { .. } = outcome
            && let Some(resume) = &incoming.edge.hello.resume
        {
            let attached = self.session.attach(env.now(), resume.received);
            attached.expect("it was looked at before");
        }
        for packet in incoming.early {
            self.handle_packet(env, packet);
        }
        if incoming.is_dead {
            self.lost(env, "it has died before its Welcome", false);
        }
    }

    /// Takes the session over to another connection.
    pub(crate) fn resume(
        &mut self,
        env: &mut Env,
        max_sessions: u16,
        incoming: Incoming,
    ) -> Resumed {
        let Some(resume) = incoming.edge.hello.resume else {
            return Resumed::Done;
        };
        if resume.attempt <= self.attempt {
            env.drop_connection(incoming.connection, self.own);
            return Resumed::Done;
        }
        if let Some(connection) = self.connection.take() {
            env.drop_connection(connection, self.own);
        }
        self.attempt = resume.attempt;
        self.was_away = true;
        self.session.detach(env.now());
        if !self.session.can_resume(resume.received) {
            self.cut(env, false);
            return Resumed::Replace(incoming);
        }
        let outcome = SessionOutcome::Resumed {
            received: self.session.received(),
        };
        self.answer(env, max_sessions, incoming, outcome);
        Resumed::Done
    }

    pub(crate) fn handle_packet(&mut self, env: &mut Env, packet: Packet) {
        self.heard_at = env.now();
        self.news.push(News::Heard);
        let taken = link::receive(&mut self.session, env.now(), packet);
        if let Err(error) = taken.and_then(|()| self.deliver(env)) {
            self.lost(env, &error.to_string(), is_violation(error));
        }
    }

    /// Its connection is gone.
    pub(crate) fn lost(&mut self, env: &mut Env, message: &str, is_violation: bool) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        assert!(!is_violation, "hub: an edge broke the protocol: {message}");
        let name = env.name(connection);
        env.say(format_args!("hub: {name} has ended, {message}"));
        env.drop_connection(connection, self.own);
        self.session.detach(env.now());
        self.is_live = false;
        self.news.push(News::Down(message.to_owned()));
        let said_goodbye = self.session.is_closing() && self.session.active_streams() == 0;
        if said_goodbye {
            self.end(env, AbortCode::TunnelLost);
        } else {
            self.away_until = self.session.poll_timeout();
        }
    }

    /// The hub ends the session; an edge that was replaced is told so.
    pub(crate) fn cut(&mut self, env: &mut Env, is_replaced: bool) {
        self.end(env, AbortCode::Ended);
        let Some(connection) = self.connection.take() else {
            return;
        };
        if is_replaced {
            self.session.go_away(GoAwayCode::Replaced, REPLACED_RETRY);
        }
        if is_replaced {
            link::transmit(&mut self.session, env, connection, self.own);
            // All of it arrives before the end.
            env.net.finish(connection, self.own);
        } else {
            env.drop_connection(connection, self.own);
        }
    }

    /// Does what is due, and sends what there is.
    pub(crate) fn poll(&mut self, env: &mut Env) {
        let now = env.now();
        if self.is_over {
            return;
        }
        let Some(connection) = self.connection else {
            if self.away_until.is_some_and(|until| until <= now) {
                self.end(env, AbortCode::TunnelLost);
            }
            return;
        };
        if self.transport == Transport::Quic && now >= self.heard_at + QUIC_IDLE {
            return self.lost(env, "idle for too long", false);
        }
        let is_due = self.session.poll_timeout().is_some_and(|at| at <= now);
        let timed = if is_due {
            self.session.handle_timeout(now)
        } else {
            Ok(())
        };
        if let Err(error) = timed.and_then(|()| self.deliver(env)) {
            return self.lost(env, &error.to_string(), is_violation(error));
        }
        link::transmit(&mut self.session, env, connection, self.own);
        self.sweep(env, connection);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        if self.connection.is_none() {
            return self.away_until;
        }
        let idle = (self.transport == Transport::Quic).then(|| self.heard_at + QUIC_IDLE);
        let timers = [self.session.poll_timeout(), self.sweep_at, idle];
        timers.into_iter().flatten().min()
    }

    /// Ends a session in which nothing is left to do.
    fn sweep(&mut self, env: &mut Env, connection: Connection) {
        let now = env.now();
        if !self.session.is_closing() || *self.sweep_at.get_or_insert(now + SWEEP) > now {
            return;
        }
        self.sweep_at = Some(now + SWEEP);
        let is_done = self.ends.len() == 0 && self.session.is_flushed();
        let was_done = std::mem::replace(&mut self.was_done, is_done);
        if is_done && (was_done || self.session.carrier() == Carrier::Ordered) {
            let name = env.name(connection);
            env.say(format_args!("hub: the session on {name} is drained"));
            env.net.finish(connection, self.own);
            self.connection = None;
            self.end(env, AbortCode::Ended);
        }
    }

    fn deliver(&mut self, env: &mut Env) -> Result<(), SessionError> {
        while let Some(event) = self.session.poll_event() {
            let now = env.now();
            let (session, ends) = (&mut self.session, &mut self.ends);
            match env.traffic.handle(session, ends, now, event) {
                Some(Event::Control(payload)) => {
                    let message = self.assembler.handle(&payload);
                    if let Some(ControlMessage::Applied(applied)) = link::legal(message) {
                        self.news.push(News::Applied(applied));
                    }
                }
                Some(Event::GoAway { .. }) => {
                    self.is_leaving = true;
                    self.news.push(News::Leaving);
                }
                Some(Event::Silent) => {
                    self.is_live = false;
                    self.was_away = true;
                    self.news.push(News::Down(SILENT.to_owned()));
                }
                Some(Event::Heard) => {
                    self.is_live = true;
                    self.news.push(News::Up(self.address));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, env: &mut Env, code: AbortCode) {
        if self.is_over {
            return;
        }
        let (session, ends) = (&mut self.session, &mut self.ends);
        env.traffic.lose(session, ends, code);
        self.is_over = true;
        self.is_live = false;
        self.news.push(News::Ended);
    }
}

/// The features of both ends.
pub(crate) fn agreed(hello: &Hello) -> Features {
    hello.offer().supported().intersection(FEATURES)
}

fn is_violation(error: SessionError) -> bool {
    matches!(error, SessionError::Violation(_))
}
