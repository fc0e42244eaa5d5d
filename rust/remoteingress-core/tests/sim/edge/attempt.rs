//! One attempt to reach the hub: its turn at the gate, a dial or two, Hello, Welcome.

use super::uplink::{ENDS, Knock, Uplink};
use crate::env::Env;
use crate::link::Packet;
use bytes::{Bytes, BytesMut};
use remoteingress_config::error::ErrorCode;
use remoteingress_core::uplink::action::{Dial, Verdict};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::gate::Turn;
use remoteingress_core::uplink::race::{Course, falls_back};
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, Hello, PROTOCOL_VERSION, Resume, Transport, Welcome,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use remoteingress_testkit::net::{Connection, Event};
use std::time::{Duration, Instant};

/// The features of both ends.
pub(crate) const FEATURES: Features = Features::RESUME.union(Features::DATAGRAM);

/// For whom an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The worker's next session.
    Keeper,
    /// A session over the other transport, while the worker has one.
    Other,
    /// The next connection of the session with this serial.
    Session(u64),
    /// A session that finds out whether QUIC works.
    Trial,
}

/// An attempt that a machine asks for, and what the session that it is for adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) worker: usize,
    pub(crate) purpose: Purpose,
    pub(crate) dial: Dial,
    pub(crate) received: u64,
    pub(crate) may_be_early: bool,
}

/// A connection on which Hello was sent.
pub(crate) struct Reached {
    pub(crate) connection: Connection,
    pub(crate) transport: Transport,
    pub(crate) answer: Answer,
    pub(crate) announced_credit: u32,
}

/// The hub's answer to Hello, as far as it has come.
pub(crate) enum Answer {
    /// And what has come after it.
    Welcome(Welcome, Bytes),
    Awaited(Awaited),
}

/// A Welcome that is to come, and the turn that ends with it.
pub(crate) struct Awaited {
    pub(crate) handshake: EdgeHandshake,
    pub(crate) turn: Option<Turn>,
    pub(crate) knock: Option<Knock>,
}

impl Awaited {
    /// The turn is over, whatever became of the Welcome.
    pub(crate) fn end(self, up: &mut Uplink) {
        if let Some(knock) = &self.knock {
            up.knocked(knock);
        }
        if let Some(turn) = self.turn {
            up.end_turn(turn);
        }
    }
}

pub(crate) struct Attempt {
    pub(crate) wanted: Wanted,
    turn: Option<Turn>,
    knock: Option<Knock>,
    stage: Stage,
}

enum Stage {
    InLine,
    Single(Leg),
    Race {
        quic: Box<Leg>,
        /// QUIC has failed for this reason: TLS says Hello.
        failure: Option<Failure>,
        tls_at: Instant,
        tls_limit: Duration,
        tls: Option<Box<Leg>>,
    },
}

/// One connection of an attempt.
struct Leg {
    connection: Connection,
    transport: Transport,
    until: Instant,
    is_connected: bool,
    handshake: Option<(EdgeHandshake, u32)>,
    received: BytesMut,
    failure: Option<Failure>,
}

impl Attempt {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            turn: None,
            knock: None,
            stage: Stage::InLine,
        }
    }

    /// Something has happened on a connection, perhaps one of this attempt.
    pub(crate) fn handle(&mut self, env: &Env, event: &Event<Packet>) -> bool {
        let legs = match &mut self.stage {
            Stage::InLine => [None, None],
            Stage::Single(leg) => [Some(leg), None],
            Stage::Race { quic, tls, .. } => [Some(&mut **quic), tls.as_deref_mut()],
        };
        let mut legs = legs.into_iter().flatten();
        let leg = legs.find(|leg| event.connection() == Some(leg.connection));
        if let Some(leg) = leg {
            leg.handle(env, event);
            return true;
        }
        false
    }

    /// Goes on as far as it can; gives the end of the attempt.
    pub(crate) fn poll(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
    ) -> Option<Result<Reached, Failure>> {
        if matches!(self.stage, Stage::InLine) {
            let turn = up.gate.turn()?;
            let is_first = self.wanted.worker == 0;
            if let Err(failure) = up.gate.admit(env.now(), self.wanted.dial, is_first) {
                up.end_turn(turn);
                return Some(Err(failure));
            }
            self.turn = Some(turn);
            self.knock = Some(up.knocks(env, self.wanted.worker, self.wanted.dial));
            self.begin(up, env);
        }
        let result = self.go_on(up, env)?;
        let verdict = match &result {
            Ok(Reached {
                answer: Answer::Welcome(..),
                ..
            }) => Some(Verdict::Accepted),
            Err(failure) if failure.is_auth_failure => Some(Verdict::Refused(failure.clone())),
            Ok(_) | Err(_) => None,
        };
        if let Some(verdict) = verdict {
            up.handle_verdict(env, &verdict);
        }
        self.end_turn(up);
        Some(result)
    }

    /// Time at which [`Self::poll`] has something to do, unless something happens before.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::InLine => None,
            Stage::Single(leg) => Some(leg.until),
            Stage::Race {
                quic,
                failure,
                tls_at,
                tls,
                ..
            } => {
                let quic = failure.is_none().then_some(quic.until);
                let tls = tls.as_ref().map_or(*tls_at, |tls| tls.until);
                let tls = Some(tls).filter(|_| self.is_tls_due_later());
                quic.into_iter().chain(tls).min()
            }
        }
    }

    /// Gives the attempt up.
    pub(crate) fn drop_all(mut self, up: &mut Uplink, env: &mut Env) {
        match &self.stage {
            Stage::InLine => {}
            Stage::Single(leg) => leg.give_up(up, env),
            Stage::Race { quic, tls, .. } => {
                quic.give_up(up, env);
                if let Some(tls) = tls {
                    tls.give_up(up, env);
                }
            }
        }
        self.end_turn(up);
    }

    fn is_tls_due_later(&self) -> bool {
        match &self.stage {
            Stage::Race { failure, tls, .. } => {
                let is_settled = |tls: &Leg| tls.is_connected || tls.failure.is_some();
                failure.is_some() || !tls.as_deref().is_some_and(is_settled)
            }
            Stage::InLine | Stage::Single(_) => false,
        }
    }

    fn end_turn(&mut self, up: &mut Uplink) {
        if let Some(knock) = self.knock.take() {
            up.knocked(&knock);
        }
        if let Some(turn) = self.turn.take() {
            up.end_turn(turn);
        }
    }

    fn begin(&mut self, up: &Uplink, env: &mut Env) {
        let now = env.now();
        let course = Course::of(self.wanted.dial, up.settings.mode, up.choice.transport);
        self.stage = match course {
            Course::Single { transport, limit } => {
                Stage::Single(Leg::dial(up, env, transport, now + limit))
            }
            Course::Race {
                quic_limit,
                tls_delay,
                tls_limit,
            } => Stage::Race {
                quic: Box::new(Leg::dial(up, env, Transport::Quic, now + quic_limit)),
                failure: None,
                tls_at: now + tls_delay,
                tls_limit,
                tls: None,
            },
        };
    }

    fn go_on(&mut self, up: &mut Uplink, env: &mut Env) -> Option<Result<Reached, Failure>> {
        let (wanted, now) = (self.wanted, env.now());
        let (turn, knock) = (&mut self.turn, &mut self.knock);
        match &mut self.stage {
            Stage::InLine => None,
            Stage::Single(leg) => leg.poll(up, env, wanted, turn, knock),
            Stage::Race {
                quic,
                failure,
                tls_at,
                tls_limit,
                tls,
            } => {
                if failure.is_none() {
                    match quic.poll(up, env, wanted, turn, knock) {
                        Some(Err(error)) if falls_back(&error) => *failure = Some(error),
                        Some(answered) => {
                            if let Some(tls) = tls {
                                tls.give_up(up, env);
                            }
                            return Some(answered);
                        }
                        None => {}
                    }
                    if failure.is_some()
                        && let Some(tls) = tls
                        && tls.is_connected
                    {
                        // From here on the limit is that of Hello.
                        tls.until = now + *tls_limit;
                    }
                }
                if tls.is_none() && (failure.is_some() || now >= *tls_at) {
                    let dialled = Leg::dial(up, env, Transport::TcpTls, now + *tls_limit);
                    *tls = Some(Box::new(dialled));
                }
                let tls = tls.as_mut()?;
                let Some(reason) = failure else {
                    // A dial that has failed is looked at when it is needed.
                    tls.note_timeout(now);
                    return None;
                };
                let reached = tls.poll(up, env, wanted, turn, knock)?;
                if reached.is_ok() {
                    up.fall_back(env, &reason.error.message);
                }
                Some(reached)
            }
        }
    }
}

impl Leg {
    fn dial(up: &Uplink, env: &mut Env, transport: Transport, until: Instant) -> Self {
        Self {
            connection: env.dial(up.endpoint, up.peer(transport)),
            transport,
            until,
            is_connected: false,
            handshake: None,
            received: BytesMut::new(),
            failure: None,
        }
    }

    fn give_up(&self, up: &Uplink, env: &mut Env) {
        env.drop_connection(self.connection, up.endpoint);
    }

    fn handle(&mut self, env: &Env, event: &Event<Packet>) {
        let fail = |message: &str| Some(Failure::new(ErrorCode::HubUnreachable, message));
        match event {
            Event::Connected(_) => self.is_connected = true,
            Event::Refused(_) => self.failure = fail("refused"),
            Event::Finished(_) if self.failure.is_none() => {
                self.failure = fail("the hub closed the connection");
            }
            Event::Died(connection) => {
                let is_reset = env.is_reset(*connection);
                self.failure = fail(if is_reset { "reset" } else { "cut" });
            }
            Event::Arrived(_, Packet::Bytes(bytes)) => self.received.extend_from_slice(bytes),
            Event::Arrived(_, Packet::Lane(_))
            | Event::Finished(_)
            | Event::Accepted { .. }
            | Event::Datagram { .. }
            | Event::Woken => {}
        }
    }

    fn note_timeout(&mut self, now: Instant) {
        if now >= self.until && !self.is_connected && self.failure.is_none() {
            self.failure = Some(Failure::new(ErrorCode::HubUnreachable, "no answer"));
        }
    }

    fn poll(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        wanted: Wanted,
        turn: &mut Option<Turn>,
        knock: &mut Option<Knock>,
    ) -> Option<Result<Reached, Failure>> {
        if self.is_connected && self.handshake.is_none() && self.failure.is_none() {
            let is_early = self.say_hello(up, env, wanted);
            if is_early {
                let (handshake, credit) = self.handshake.take()?;
                let awaited = Awaited {
                    handshake,
                    turn: turn.take(),
                    knock: knock.take(),
                };
                return Some(Ok(self.reached(Answer::Awaited(awaited), credit)));
            }
        }
        if let Some((handshake, credit)) = &self.handshake {
            let credit = *credit;
            match handshake.handle(&self.received) {
                Ok(EdgeProgress::NeedMore) => {}
                Ok(EdgeProgress::Welcomed { welcome, consumed }) => {
                    let rest = self.received.split_off(consumed).freeze();
                    return Some(Ok(self.reached(Answer::Welcome(welcome, rest), credit)));
                }
                Err(error) => {
                    self.give_up(up, env);
                    return Some(Err(Failure::of_handshake(&error, ENDS)));
                }
            }
        }
        if env.now() >= self.until && self.failure.is_none() {
            self.failure = Some(Failure::new(ErrorCode::HubUnreachable, "no answer in time"));
        }
        let failure = self.failure.take()?;
        self.give_up(up, env);
        Some(Err(failure))
    }

    fn reached(&self, answer: Answer, announced_credit: u32) -> Reached {
        Reached {
            connection: self.connection,
            transport: self.transport,
            answer,
            announced_credit,
        }
    }

    /// Sends Hello; true if frames may follow at once.
    fn say_hello(&mut self, up: &Uplink, env: &mut Env, wanted: Wanted) -> bool {
        let settings = &up.settings;
        let resume = match wanted.dial {
            Dial::Resume { session, attempt } => Some(Resume {
                session,
                attempt,
                received: wanted.received,
            }),
            Dial::New | Dial::Trial => None,
        };
        let credit = up.budget.initial_credit();
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            edge_id: EdgeId::new(crate::EDGE_ID).expect("an id"),
            instance: settings.instance,
            session_ordinal: wanted.worker as u16,
            required: Features::NONE,
            optional: FEATURES,
            resume,
            initial_credit: credit,
            replaces_instance: wanted
                .dial
                .replaces_instance(settings.replaces_instance, up.is_leaving),
            resume_timeout_secs: Some(settings.resume_timeout.as_secs() as u32),
            sessions_wanted: None,
            version: "1".to_owned(),
        };
        let exporter = env.exporter(self.connection);
        let started = EdgeHandshake::new(&hello, settings.keys.clone(), &exporter, self.transport);
        let (handshake, message) = started.expect("a legal Hello");
        let is_early = wanted.may_be_early && settings.has_pin;
        let name = env.name(self.connection);
        env.say(format_args!(
            "edge w{}: Hello on {name}, {}, early: {is_early}",
            wanted.worker,
            self.transport.as_str()
        ));
        let packet = Packet::Bytes(message.into());
        env.net.send(self.connection, up.endpoint, packet);
        self.handshake = Some((handshake, credit));
        is_early
    }
}
