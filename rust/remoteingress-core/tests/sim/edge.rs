//! An edge: its workers, and what they share. It does what the shells of the real one do, in their order.

pub(crate) mod attempt;
mod ports;
mod session;
mod trial;
pub(crate) mod uplink;
mod worker;

use crate::env::Env;
use crate::link::Packet;
use attempt::{Attempt, Purpose, Reached, Wanted};
use ports::Ports;
use remoteingress_config::TransportMode;
use remoteingress_core::edge::generations::Told;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::mux::GoAwayCode;
use remoteingress_testkit::builder::{DEFAULT_BUDGET, budget};
use remoteingress_testkit::net::{Connection, Endpoint, Event};
use session::EdgeSession;
use std::time::{Duration, Instant};
use trial::{Stage, Trial};
use uplink::{Report, Settings, Uplink};
use worker::Worker;

/// Clients wait for a session for this long.
const HELD: Duration = Duration::from_secs(5);

/// The most workers that an edge of these tests has.
pub(crate) const MAX_EDGE_WORKERS: usize = 4;
/// Steps in a row after which nothing can be left to do.
pub(crate) const MAX_STEPS: usize = 1_000;

/// One start of an edge.
pub(crate) struct Edge {
    pub(crate) up: Uplink,
    workers: Vec<Worker>,
    attempts: Vec<Attempt>,
    trial: Option<Trial>,
    pub(crate) ports: Ports,
    /// Clients that wait for a session, each until then.
    held: Vec<(Instant, Client)>,
    next_serial: u64,
    armed: Option<Instant>,
}

/// The number of bytes that a client sends and that its target answers; true: FIN follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) sends: (usize, bool),
    pub(crate) answer: (usize, bool),
}

impl Edge {
    pub(crate) fn new(settings: Settings, endpoint: Endpoint, hub: [Endpoint; 2]) -> Self {
        let workers = (0..settings.workers).map(Worker::new).collect();
        let has_fallback = settings.mode == TransportMode::QuicWithFallback;
        Self {
            up: Uplink::new(settings, endpoint, hub, budget(DEFAULT_BUDGET)),
            workers,
            attempts: Vec::new(),
            trial: has_fallback.then(Trial::new),
            ports: Ports::default(),
            held: Vec::new(),
            next_serial: 0,
            armed: None,
        }
    }

    /// Something happens at its endpoint.
    pub(crate) fn handle(&mut self, env: &mut Env, event: Event<Packet>) {
        if self.armed.is_some_and(|at| at <= env.now()) {
            self.armed = None;
        }
        let mut attempts = self.attempts.iter_mut();
        if attempts.any(|attempt| attempt.handle(env, &event)) {
            return;
        }
        let Some(connection) = event.connection() else {
            return;
        };
        let Some((up, session)) = self.of_connection(connection) else {
            return;
        };
        match event {
            Event::Arrived(_, packet) => session.handle_packet(up, env, packet),
            Event::Finished(_) => session.lost(up, env, "closed", false),
            Event::Died(_) => session.lost(up, env, "cut", false),
            Event::Accepted { .. }
            | Event::Connected(_)
            | Event::Refused(_)
            | Event::Datagram { .. }
            | Event::Woken => {}
        }
    }

    /// Does all that is due, until nothing is.
    pub(crate) fn turn(&mut self, env: &mut Env) {
        if !self.up.is_leaving {
            self.workers[0].start(env.now());
        }
        let mut steps = 0;
        while self.step(env) {
            steps += 1;
            assert!(steps < MAX_STEPS, "edge: it never comes to rest");
        }
        if let Some(at) = self.next_timeout()
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            env.net.wake(self.up.endpoint, at);
        }
        self.check();
    }

    /// A client comes; it is held if no session takes it.
    pub(crate) fn client(&mut self, env: &mut Env, client: Client) {
        self.held.push((env.now() + HELD, client));
    }

    /// Opens a stream on this worker now; None if that can't be.
    pub(crate) fn open_at(
        &mut self,
        env: &mut Env,
        worker: usize,
        client: Client,
    ) -> Option<usize> {
        if !self.up.live[worker] {
            return None;
        }
        let current = self.workers[worker].current()?;
        let (session, ends, now) = (&mut current.session, &mut current.ends, env.now());
        let serial = env.traffic.open(session, ends, now, client.answer)?;
        env.traffic.write(session, ends, now, serial, client.sends);
        Some(serial)
    }

    /// The session that has this stream.
    pub(crate) fn of_stream(&mut self, serial: usize) -> Option<&mut EdgeSession> {
        let mut sessions = self
            .workers
            .iter_mut()
            .flat_map(|worker| &mut worker.sessions);
        sessions.find(|session| session.ends.contains(serial))
    }

    /// Streams of all sessions.
    pub(crate) fn streams(&self) -> Vec<usize> {
        let sessions = self.workers.iter().flat_map(|worker| &worker.sessions);
        sessions
            .flat_map(|session| session.ends.serials())
            .collect()
    }

    /// The sessions, for the reader of a failed run.
    pub(crate) fn describe(&self) -> String {
        let sessions = self.workers.iter().flat_map(|worker| &worker.sessions);
        let texts: Vec<String> = sessions.map(EdgeSession::describe).collect();
        format!("leaves: {}, {}", self.up.is_leaving, texts.join("; "))
    }

    /// Connections of all sessions.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let sessions = self.workers.iter().flat_map(|worker| &worker.sessions);
        sessions.filter_map(|session| session.connection).collect()
    }

    /// Workers that have begun, and have no session that takes streams and is let in.
    pub(crate) fn missing(&self, most: usize) -> usize {
        let wanted = most.min(self.workers.len());
        let is_there = |worker: &&Worker| {
            self.up.live[worker.ordinal] && worker.sessions.iter().any(EdgeSession::takes_streams)
        };
        wanted - self.workers.iter().take(wanted).filter(is_there).count()
    }

    /// The edge opens nothing more, so that another instance may take over.
    pub(crate) fn leave(&mut self, env: &mut Env) {
        env.say(format_args!("edge: leaves"));
        self.up.is_leaving = true;
        self.held.clear();
        let is_trial = |attempt: &mut Attempt| attempt.wanted.purpose == Purpose::Trial;
        for attempt in self.attempts.extract_if(.., is_trial) {
            attempt.drop_all(&mut self.up, env);
        }
        for worker in &mut self.workers {
            self.up.live[worker.ordinal] = false;
            for session in &mut worker.sessions {
                if session.is_trial {
                    session.vanish(&mut self.up, env);
                }
                session
                    .session
                    .go_away(GoAwayCode::Draining, Duration::ZERO);
                session.supersede(&mut self.up, env);
            }
        }
        self.trial = None;
    }

    /// The program ends without a word.
    pub(crate) fn vanish(&mut self, env: &mut Env) {
        env.say(format_args!("edge: is gone"));
        self.up.is_leaving = true;
        self.held.clear();
        for attempt in self.attempts.drain(..) {
            attempt.drop_all(&mut self.up, env);
        }
        for session in self
            .workers
            .iter_mut()
            .flat_map(|worker| &mut worker.sessions)
        {
            session.vanish(&mut self.up, env);
        }
        self.workers.clear();
        self.up.live.fill(false);
        self.up.reports.clear();
        self.trial = None;
    }

    /// It has left, all of its sessions are over, and so are its attempts.
    pub(crate) fn is_gone(&self) -> bool {
        let mut workers = self.workers.iter();
        let has_ended = self.attempts.is_empty();
        self.up.is_leaving && has_ended && workers.all(|worker| worker.sessions.is_empty())
    }

    fn of_connection(&mut self, connection: Connection) -> Option<(&mut Uplink, &mut EdgeSession)> {
        let mut sessions = self
            .workers
            .iter_mut()
            .flat_map(|worker| &mut worker.sessions);
        let session = sessions.find(|session| session.connection == Some(connection))?;
        Some((&mut self.up, session))
    }

    fn next_timeout(&self) -> Option<Instant> {
        let workers = self.workers.iter().filter_map(Worker::next_timeout);
        let attempts = self.attempts.iter().filter_map(Attempt::next_timeout);
        let trial = self.trial.as_ref().and_then(Trial::next_timeout);
        let ports = self.ports.next_timeout().filter(|_| !self.up.is_leaving);
        let others = [trial, ports];
        workers
            .chain(attempts)
            .chain(others.into_iter().flatten())
            .min()
    }

    /// Goes on once with everything; false if there was nothing to go on with.
    fn step(&mut self, env: &mut Env) -> bool {
        let mut wanted = Vec::new();
        for worker in &mut self.workers {
            worker.poll(&mut self.up, env, &mut wanted);
        }
        self.poll_trial(env, &mut wanted);
        if std::mem::take(&mut self.up.has_restart) {
            for worker in &mut self.workers {
                if let Some(session) = worker.current() {
                    session.session.ping_now();
                }
            }
        }
        let has_ended = self.poll_attempts(env, &mut wanted);
        let has_reports = !self.up.reports.is_empty();
        while let Some(report) = self.up.reports.pop_front() {
            self.take_report(env, report);
        }
        let told = self.ports.poll(env);
        self.tell(None, told);
        let has_opened = self.open_held(env);
        let has_begun = !wanted.is_empty();
        self.attempts.extend(wanted.into_iter().map(Attempt::new));
        has_ended || has_reports || has_begun || has_opened
    }

    fn poll_attempts(&mut self, env: &mut Env, wanted: &mut Vec<Wanted>) -> bool {
        let mut ended = Vec::new();
        let mut index = 0;
        while index < self.attempts.len() {
            let wanted = &self.attempts[index].wanted;
            if !self.workers[wanted.worker].wants(wanted.purpose) {
                self.attempts.remove(index).drop_all(&mut self.up, env);
                continue;
            }
            match self.attempts[index].poll(&mut self.up, env) {
                Some(result) => ended.push((self.attempts.remove(index).wanted, result)),
                None => index += 1,
            }
        }
        let has_ended = !ended.is_empty();
        for (was_wanted, result) in ended {
            self.finish_attempt(env, was_wanted, result, wanted);
        }
        has_ended
    }

    fn finish_attempt(
        &mut self,
        env: &mut Env,
        was_wanted: Wanted,
        result: Result<Reached, Failure>,
        wanted: &mut Vec<Wanted>,
    ) {
        let Self {
            up, workers, trial, ..
        } = self;
        let worker = &mut workers[was_wanted.worker];
        let purpose = was_wanted.purpose;
        match (purpose, result) {
            (Purpose::Keeper | Purpose::Other, Ok(reached)) => {
                self.next_serial += 1;
                worker.reached(up, env, self.next_serial, reached, wanted);
            }
            (Purpose::Keeper | Purpose::Other, Err(failure)) => {
                worker.failed(up, env, purpose, failure, wanted);
            }
            (Purpose::Session(serial), result) => match (worker.session(serial), result) {
                (Some(session), Ok(reached)) if !session.is_over() => {
                    session.take_up(up, env, reached);
                }
                (Some(session), Err(failure)) => session.failed(up, env, failure),
                // The session was given up meanwhile.
                (_, Ok(reached)) => {
                    env.drop_connection(reached.connection, up.endpoint);
                    if let attempt::Answer::Awaited(awaited) = reached.answer {
                        awaited.end(up);
                    }
                }
                (None, Err(_)) => {}
            },
            (Purpose::Trial, Ok(reached)) => {
                self.next_serial += 1;
                let serial = self.next_serial;
                let mut session = EdgeSession::new(up, env, serial, 0, true, &reached);
                session.supersede(up, env);
                session.greet(up, env, reached);
                worker.sessions.push(session);
                if let Some(trial) = trial {
                    trial.reached(env, serial);
                }
            }
            (Purpose::Trial, Err(_)) => {
                if let Some(trial) = trial {
                    trial.failed(env);
                }
            }
        }
    }

    fn poll_trial(&mut self, env: &mut Env, wanted: &mut Vec<Wanted>) {
        let Self {
            up, workers, trial, ..
        } = self;
        let (Some(trial), Some(worker)) = (trial, workers.first_mut()) else {
            return;
        };
        let Stage::Hold(serial, _) = trial.stage else {
            wanted.extend(trial.poll(up, env));
            return;
        };
        let session = worker.session(serial);
        let holds = session.is_some_and(|session| session.takes_streams());
        if holds {
            wanted.extend(trial.poll(up, env));
        } else {
            trial.failed(env);
        }
        let is_over = !matches!(trial.stage, Stage::Hold(..));
        if let Some(session) = worker.session(serial).filter(|_| is_over) {
            session.vanish(up, env);
        }
    }

    fn take_report(&mut self, env: &mut Env, report: Report) {
        match report {
            Report::Up { max_sessions } => {
                let wanted = self.workers.len().min(max_sessions.into());
                if !self.up.is_leaving {
                    for worker in self.workers.iter_mut().take(wanted) {
                        worker.start(env.now());
                    }
                }
                let told = self.ports.generations.session_up(&[]);
                self.tell(None, told);
            }
            Report::Down { is_auth_failure } => {
                self.ports.generations.hub_missed();
                if is_auth_failure && !self.up.is_any_live() {
                    let told = self.ports.close_all(env);
                    self.tell(None, told);
                }
            }
            Report::Control(worker, ControlMessage::Config(config)) => {
                if self.up.is_leaving {
                    return;
                }
                let told = self.ports.apply(env, &config);
                self.tell(Some(worker), told);
            }
            Report::Control(..) => panic!("only hubs are told these"),
        }
    }

    /// Tells the hub, on the session of a worker if that is live, or else of the first one that is.
    fn tell(&mut self, worker: Option<usize>, told: Vec<Told>) {
        for told in told {
            let Told::Hub(applied) = told else {
                continue;
            };
            let first = || self.up.live.iter().position(|is_live| *is_live);
            let own = worker.filter(|worker| self.up.live[*worker]);
            let Some(worker) = own.or_else(first) else {
                self.ports.generations.hub_missed();
                continue;
            };
            let frames = ControlMessage::Applied(applied).encode();
            if let Some(session) = self.workers[worker].current() {
                session.send_control(&frames.expect("a short message"));
            }
        }
    }

    fn open_held(&mut self, env: &mut Env) -> bool {
        let now = env.now();
        self.held.retain(|(until, _)| *until > now);
        let mut has_opened = false;
        let live: Vec<usize> = (0..self.workers.len())
            .filter(|worker| self.up.live[*worker])
            .collect();
        if live.is_empty() || self.held.is_empty() {
            return false;
        }
        for (until, client) in std::mem::take(&mut self.held) {
            let worker = live[env.chance.below(live.len())];
            match self.open_at(env, worker, client) {
                Some(_) => has_opened = true,
                None => self.held.push((until, client)),
            }
        }
        has_opened
    }

    /// A worker is live only while its session takes streams.
    fn check(&mut self) {
        for worker in &mut self.workers {
            let ordinal = worker.ordinal;
            let takes_streams = worker.current().is_some_and(|s| s.takes_streams());
            assert!(
                takes_streams || !self.up.live[ordinal],
                "worker {ordinal} counts as live, and its session takes no streams"
            );
        }
    }
}

/// D13: no wait is longer than 30 s, and none is longer than 2 s while the loss is recent. A wait that the hub has asked
/// for is stretched up to twice.
pub(crate) fn check_delay(
    who: &str,
    now: Instant,
    until: Instant,
    lost_at: Option<Instant>,
    is_hinted: bool,
) {
    let delay = until - now;
    let is_recent = lost_at.is_some_and(|at| now < at + Duration::from_secs(30));
    let most = match (is_hinted, is_recent) {
        (true, _) => 60,
        (false, true) => 2,
        (false, false) => 30,
    };
    assert!(
        delay <= Duration::from_secs(most),
        "{who}: waits {delay:?} (loss {:?} ago, asked by the hub: {is_hinted})",
        lost_at.map(|at| now - at)
    );
}
