//! A hub: registry, guard, and sessions. It does what the shells of the real one do, in their order.

pub(crate) mod passage;
pub(crate) mod session;

use crate::edge::{MAX_EDGE_WORKERS, MAX_STEPS};
use crate::env::Env;
use crate::link::Packet;
use passage::{Incoming, Passage};
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::{AUTH_FAILURE_WINDOW, AllowedEdge, HubLimits};
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::hub::registry::{Action, NewSession, Place, Registry};
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::handshake::{HubEpoch, InstanceId, SessionId, SessionOutcome, Transport};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_testkit::builder::{DEFAULT_BUDGET, budget};
use remoteingress_testkit::net::{Connection, Endpoint, Event};
use session::{HubSession, News, Resumed, agreed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Workers of the hub.
const WORKERS: usize = 3;
/// The registry's commands reach their workers within this.
const COMMAND_DELAY: Duration = Duration::from_millis(3);
/// After its removal an edge has no session for longer than this.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// To the worker that has a session.
#[derive(Debug)]
pub(crate) enum Command {
    Control(SessionId, Vec<Vec<u8>>),
    Cut(SessionId, bool),
    Ping(SessionId),
}

/// One start of a hub.
pub(crate) struct Hub {
    pub(crate) registry: Registry,
    pub(crate) guard: Guard,
    pub(crate) epoch: HubEpoch,
    pub(crate) sessions: BTreeMap<SessionId, HubSession>,
    endpoints: [Endpoint; 2],
    max_sessions: u16,
    resume_timeout_secs: u32,
    budget: Budget,
    passages: BTreeMap<Connection, Passage>,
    commands: VecDeque<(Instant, Command)>,
    armed: [Option<Instant>; 2],
    /// For the checks: sessions of an edge that was removed or whose secret was changed, and when they must be over.
    condemned: Vec<(Instant, SessionId)>,
    /// Connections that were turned away before a byte was read.
    pub(crate) turned_away: usize,
    /// For the checks: wrong proofs, each with the edge that gave it.
    wrong_proofs: Vec<(Instant, Endpoint)>,
    /// For the checks: the edge may come, and its secret is right.
    has_right_secret: bool,
}

impl Hub {
    pub(crate) fn new(
        env: &mut Env,
        endpoints: [Endpoint; 2],
        max_sessions: u16,
        resume_timeout_secs: u32,
    ) -> Self {
        let epoch = HubEpoch(env.id());
        Self {
            registry: Registry::new(epoch, max_sessions, 1_000),
            guard: Guard::new((&HubLimits::default()).into(), env.now()),
            epoch,
            sessions: BTreeMap::new(),
            endpoints,
            max_sessions,
            resume_timeout_secs,
            budget: budget(DEFAULT_BUDGET),
            passages: BTreeMap::new(),
            commands: VecDeque::new(),
            armed: [None; 2],
            condemned: Vec::new(),
            turned_away: 0,
            wrong_proofs: Vec::new(),
            has_right_secret: false,
        }
    }

    pub(crate) fn endpoint(&self, transport: Transport) -> Endpoint {
        match transport {
            Transport::TcpTls => self.endpoints[0],
            Transport::Quic => self.endpoints[1],
        }
    }

    /// Something happens at one of its endpoints. `address` is where an edge is.
    pub(crate) fn handle(
        &mut self,
        env: &mut Env,
        at: Endpoint,
        event: Event<Packet>,
        address: impl Fn(Endpoint) -> SocketAddr,
    ) {
        let armed = &mut self.armed[usize::from(at == self.endpoints[1])];
        if armed.is_some_and(|at| at <= env.now()) {
            *armed = None;
        }
        if let Event::Accepted { connection, from } = event {
            return self.accepted(env, connection, at, address(from));
        }
        let Some(connection) = event.connection() else {
            return;
        };
        if let Some(mut passage) = self.passages.remove(&connection) {
            match event {
                Event::Arrived(_, packet) => passage.handle_packet(env.now(), self, packet),
                Event::Finished(_) | Event::Died(_) => passage.ended(),
                Event::Accepted { .. }
                | Event::Connected(_)
                | Event::Refused(_)
                | Event::Datagram { .. }
                | Event::Woken => {}
            }
            self.passages.insert(connection, passage);
            return;
        }
        let mut sessions = self.sessions.values_mut();
        if let Some(session) = sessions.find(|session| session.connection == Some(connection)) {
            match event {
                Event::Arrived(_, packet) => session.handle_packet(env, packet),
                Event::Finished(_) => session.lost(env, "closed", false),
                Event::Died(_) => session.lost(env, "cut", false),
                Event::Accepted { .. }
                | Event::Connected(_)
                | Event::Refused(_)
                | Event::Datagram { .. }
                | Event::Woken => {}
            }
        }
    }

    /// Does all that is due, until nothing is.
    pub(crate) fn turn(&mut self, env: &mut Env) {
        let mut steps = 0;
        while self.step(env) {
            steps += 1;
            assert!(steps < MAX_STEPS, "hub: it never comes to rest");
        }
        self.arm(env);
        self.check(env);
    }

    /// Takes over which edges there are. `is_right`: the edge may come, with the secret that it has.
    pub(crate) fn update(&mut self, env: &mut Env, edges: Vec<AllowedEdge>, is_right: bool) {
        let loses_edge = self.has_right_secret && !is_right;
        self.has_right_secret = is_right;
        if loses_edge {
            let until = env.now() + CUT_WITHIN;
            let ids = self.sessions.keys().map(|id| (until, *id));
            self.condemned.extend(ids);
        }
        let (_, actions) = self.registry.update(edges);
        self.act(env, actions);
    }

    /// No new sessions: the hub is about to stop.
    pub(crate) fn drain(&mut self, env: &mut Env) {
        env.say(format_args!("hub: drains"));
        self.registry.draining = true;
        for session in self.sessions.values_mut() {
            session.drain();
        }
    }

    /// The program ends: whoever hears of that hears it from a successor that doesn't know the connections.
    pub(crate) fn vanish(mut self, env: &mut Env, is_heard: bool) {
        env.say(format_args!("hub: is gone, heard: {is_heard}"));
        let passages = std::mem::take(&mut self.passages);
        let sessions = self
            .sessions
            .values()
            .filter_map(|session| session.connection);
        let connections: Vec<Connection> = sessions.chain(passages.into_keys()).collect();
        for connection in connections {
            let after = is_heard.then(|| env.up_to(Duration::from_millis(300)));
            env.reset(connection);
            env.net.cut(connection, [after, None]);
        }
        for session in self.sessions.values_mut() {
            let (own, ends) = (&mut session.session, &mut session.ends);
            let code = remoteingress_proto::mux::stream::AbortCode::TunnelLost;
            env.traffic.lose(own, ends, code);
        }
    }

    pub(crate) fn command(&mut self, env: &mut Env, command: Command) {
        let soonest = env.now() + env.up_to(COMMAND_DELAY);
        let last = self.commands.back().map(|(at, _)| *at);
        let at = last.map_or(soonest, |last| last.max(soonest));
        self.commands.push_back((at, command));
    }

    /// Carries out what follows from a change of the registry.
    pub(crate) fn act(&mut self, env: &mut Env, actions: Vec<Action>) {
        let mut cuts = Vec::new();
        for action in actions {
            match action {
                Action::SendConfig {
                    session, config, ..
                } => {
                    let frames = ControlMessage::Config(config).encode();
                    let frames = frames.expect("few ports");
                    self.command(env, Command::Control(session, frames));
                }
                Action::Cut {
                    session, replaced, ..
                } => cuts.push((session, replaced)),
                Action::ChangeAllowedEdge { .. }
                | Action::UdpLeftOut { .. }
                | Action::SharedPortsLeftOut { .. }
                | Action::PortsLeftOut { .. }
                | Action::Connected { .. }
                | Action::Disconnected { .. }
                | Action::ConfigRefused { .. }
                | Action::PortsApplied { .. } => {}
            }
        }
        // The registry has them in any order.
        cuts.sort_unstable();
        for (session, is_replaced) in cuts {
            self.command(env, Command::Cut(session, is_replaced));
        }
    }

    /// An edge that was let in: it goes on with its session or gets a new one.
    pub(crate) fn admitted(&mut self, env: &mut Env, transport: Transport, incoming: Incoming) {
        let Some(resume) = incoming.edge.hello.resume else {
            return self.start(env, incoming, SessionOutcome::New);
        };
        let hello = &incoming.edge.hello;
        let own = self.sessions.get_mut(&resume.session).filter(|session| {
            !session.is_over && session.belongs_to(hello) && session.transport == transport
        });
        let replaced = match own {
            Some(session) => session.resume(env, self.max_sessions, incoming),
            None => Resumed::Replace(incoming),
        };
        if let Resumed::Replace(incoming) = replaced {
            self.start(env, incoming, SessionOutcome::SessionLost);
        }
    }

    /// Sessions of each worker: streams are spread by them.
    pub(crate) fn loads(&self) -> Vec<usize> {
        vec![0; WORKERS]
    }

    pub(crate) fn check_place(&self, place: &Place) {
        assert!(place.worker < WORKERS, "registry: there is no such worker");
    }

    /// Only an edge whose secret isn't right gives a wrong proof, and one start of it gives few: those that were on their
    /// way when the secret changed, one for each worker, and then one every 15 s, hence three more.
    pub(crate) fn count_wrong_proof(&mut self, now: Instant, from: Endpoint) {
        assert!(
            !self.has_right_secret,
            "the proof of a right secret is wrong"
        );
        self.wrong_proofs.push((now, from));
        let is_recent = |(at, by): &&(Instant, Endpoint)| {
            *by == from && now.saturating_duration_since(*at) <= AUTH_FAILURE_WINDOW
        };
        let recent = self.wrong_proofs.iter().filter(is_recent).count();
        assert!(
            recent <= MAX_EDGE_WORKERS + 3,
            "guard: an edge gives {recent} wrong proofs in {AUTH_FAILURE_WINDOW:?}"
        );
    }

    /// It may have blocked an address.
    pub(crate) fn may_block(&self) -> bool {
        !self.wrong_proofs.is_empty()
    }

    /// Nobody is on the way in.
    pub(crate) fn is_idle(&self) -> bool {
        self.passages.is_empty() && self.commands.is_empty()
    }

    /// The session that has this stream.
    pub(crate) fn of_stream(&mut self, serial: usize) -> Option<&mut HubSession> {
        let mut sessions = self.sessions.values_mut();
        sessions.find(|session| session.ends.contains(serial))
    }

    /// Streams of all sessions.
    pub(crate) fn streams(&self) -> Vec<usize> {
        let sessions = self.sessions.values();
        sessions
            .flat_map(|session| session.ends.serials())
            .collect()
    }

    fn accepted(
        &mut self,
        env: &mut Env,
        connection: Connection,
        at: Endpoint,
        address: SocketAddr,
    ) {
        if let Err(refusal) = self.guard.admit(env.now(), address.ip()) {
            env.say(format_args!("hub: turns a connection away, {refusal:?}"));
            self.turned_away += 1;
            env.drop_connection(connection, at);
            return;
        }
        let transport = if at == self.endpoints[0] {
            Transport::TcpTls
        } else {
            Transport::Quic
        };
        let passage = Passage::new(env, connection, transport, address);
        self.passages.insert(connection, passage);
    }

    /// Makes a new session on a connection.
    fn start(&mut self, env: &mut Env, incoming: Incoming, outcome: SessionOutcome) {
        let own = self.endpoint(incoming.transport);
        let (budget, secs) = (&self.budget, self.resume_timeout_secs);
        let mut session = HubSession::new(env, own, budget, secs, &incoming, outcome);
        let hello = &incoming.edge.hello;
        let new = NewSession {
            id: session.id,
            worker: incoming.worker,
            ordinal: hello.session_ordinal,
            instance: hello.instance,
            replaces_instance: hello.replaces_instance,
            keys: incoming.edge.keys.clone(),
            address: incoming.address,
            transport: incoming.transport,
            dialled_by: DialledBy::Edge,
            version: hello.version.clone(),
            features: agreed(hello),
        };
        let is_draining = self.registry.draining;
        let Some((_, actions)) = self.registry.session_made(&session.edge, new) else {
            env.say(format_args!(
                "hub: the edge has changed since it was let in"
            ));
            env.drop_connection(incoming.connection, own);
            return;
        };
        self.act(env, actions);
        if is_draining {
            session.drain();
        }
        session.answer(env, self.max_sessions, incoming, outcome);
        self.sessions.insert(session.id, session);
    }

    /// Goes on once with everything; false if there was nothing to go on with.
    fn step(&mut self, env: &mut Env) -> bool {
        let mut has_news = false;
        while let Some((at, _)) = self.commands.front()
            && *at <= env.now()
        {
            if let Some((_, command)) = self.commands.pop_front() {
                self.apply(env, command);
            }
        }
        for connection in self.passages.keys().copied().collect::<Vec<_>>() {
            let Some(mut passage) = self.passages.remove(&connection) else {
                continue;
            };
            if passage.next_timeout().is_some_and(|at| at <= env.now()) {
                passage.handle_timeout(env.now());
            }
            if passage.poll(self, env) {
                self.guard.release(passage.address().ip());
                has_news = true;
            } else {
                self.passages.insert(connection, passage);
            }
        }
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.poll(env);
            }
            has_news |= self.take_news(env, id);
        }
        has_news
    }

    fn apply(&mut self, env: &mut Env, command: Command) {
        match command {
            Command::Control(id, frames) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    for frame in frames {
                        session.session.send_control(&frame);
                    }
                }
            }
            Command::Cut(id, is_replaced) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    env.say(format_args!("hub: cuts {id}, replaced: {is_replaced}"));
                    session.cut(env, is_replaced);
                }
            }
            Command::Ping(id) => match self.sessions.get_mut(&id) {
                Some(session) => session.session.ping_now(),
                None => self.ping_lost(id),
            },
        }
    }

    fn ping_lost(&mut self, id: SessionId) {
        for passage in self.passages.values_mut() {
            passage.ping_lost(id);
        }
    }

    /// Tells the registry what a session has to say; false if that is nothing.
    fn take_news(&mut self, env: &mut Env, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let news = std::mem::take(&mut session.news);
        let (edge, totals) = (session.edge.clone(), session.session.totals());
        let has_news = !news.is_empty();
        for news in news {
            let registry = &mut self.registry;
            let actions = match news {
                News::Up(address) => registry.session_up(&edge, id, address, UNIX_EPOCH),
                News::Down(reason) => registry.session_down(&edge, id, &reason),
                News::Leaving => {
                    registry.session_leaving(&edge, id);
                    Vec::new()
                }
                News::Applied(applied) => registry.applied(&edge, applied),
                News::Heard => {
                    let mut passages = self.passages.values_mut();
                    if let Some(passage) = passages.find(|passage| passage.pinged.contains(&id)) {
                        passage.pong();
                    }
                    Vec::new()
                }
                News::Ended => {
                    let actions = registry.session_ended(&edge, id, totals);
                    self.sessions.remove(&id);
                    self.ping_lost(id);
                    actions
                }
            };
            self.act(env, actions);
        }
        has_news
    }

    fn arm(&mut self, env: &mut Env) {
        let passages = self.passages.values().filter_map(Passage::next_timeout);
        let sessions = self.sessions.values().filter_map(HubSession::next_timeout);
        let command = self.commands.front().map(|(at, _)| *at);
        let condemned = self.condemned.first().map(|(at, _)| *at);
        let others = [command, condemned];
        let next = passages
            .chain(sessions)
            .chain(others.into_iter().flatten())
            .min();
        if let Some(at) = next
            && self.armed[0].is_none_or(|armed| at < armed)
        {
            self.armed[0] = Some(at);
            env.net.wake(self.endpoints[0], at);
        }
    }

    /// Checks the conditions that hold after every step.
    fn check(&mut self, env: &Env) {
        let now = env.now();
        for (until, id) in self.condemned.extract_if(.., |(until, _)| *until <= now) {
            assert!(
                !self.sessions.contains_key(&id),
                "registry: session {id} outlives its edge's removal or its secret, until {until:?}"
            );
        }
        let most = usize::from(self.max_sessions);
        let mut staying: BTreeMap<InstanceId, usize> = BTreeMap::new();
        let mut live: BTreeSet<InstanceId> = BTreeSet::new();
        let mut counted = 0;
        for session in self.sessions.values().filter(|session| session.is_live) {
            live.insert(session.instance);
            counted += 1;
            // The GOAWAY of one that is heard again, or resumed, may still be on its way.
            if !session.is_leaving && !session.was_away {
                *staying.entry(session.instance).or_default() += 1;
            }
        }
        // Commands are on their way to sessions that don't know yet that they are over.
        if !self.commands.is_empty() {
            return;
        }
        assert!(
            staying.len() <= 1,
            "registry: {} instances of one edge are connected",
            staying.len()
        );
        assert!(
            live.len() <= 3,
            "registry: {} instances drain",
            live.len() - 1
        );
        for count in staying.values() {
            // Each session may have a successor already, and a silent one over QUIC may be heard again beside both.
            assert!(*count <= 4 * most, "registry: {count} sessions of one edge");
        }
        let known: usize = self.registry.connected().map(|edge| edge.sessions).sum();
        assert!(
            known <= counted,
            "registry: it counts {known} sessions, and there are {counted}"
        );
    }
}
