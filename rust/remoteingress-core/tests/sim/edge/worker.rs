//! A worker of the edge: its place in the tunnel, and its sessions.

use super::attempt::{Answer, Purpose, Reached, Wanted};
use super::check_delay;
use super::session::EdgeSession;
use super::uplink::Uplink;
use crate::env::Env;
use remoteingress_core::uplink::action::{Action, Dial, News};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::keeper::{Input, Keeper};
use remoteingress_proto::mux::GoAwayCode;
use std::time::{Duration, Instant};

/// The worker's next step towards its next session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    NotStarted,
    Wait(Instant),
    WaitForOthers,
    Dial,
    /// The session with this serial takes its streams.
    Run(u64),
}

/// The worker's attempts at a session over the other transport, while it has one.
#[derive(Debug)]
struct Other {
    keeper: Keeper,
    place: Place,
}

pub(crate) struct Worker {
    pub(crate) ordinal: usize,
    pub(crate) sessions: Vec<EdgeSession>,
    keeper: Keeper,
    place: Place,
    other: Other,
    /// For the checks: since when the session counts that it has, and when the last one was lost.
    lost_at: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(ordinal: usize) -> Self {
        Self {
            ordinal,
            sessions: Vec::new(),
            keeper: Keeper::new(ordinal == 0),
            place: Place::NotStarted,
            other: Other::new(),
            lost_at: None,
        }
    }

    /// Begins, unless it has begun before.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.place == Place::NotStarted {
            self.place = Place::Wait(now);
        }
    }

    pub(crate) fn current(&mut self) -> Option<&mut EdgeSession> {
        let Place::Run(current) = self.place else {
            return None;
        };
        let mut sessions = self.sessions.iter_mut();
        sessions.find(|session| session.serial == current)
    }

    pub(crate) fn session(&mut self, serial: u64) -> Option<&mut EdgeSession> {
        let mut sessions = self.sessions.iter_mut();
        sessions.find(|session| session.serial == serial)
    }

    /// Somebody still waits for such an attempt.
    pub(crate) fn wants(&mut self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Keeper => self.place == Place::Dial,
            Purpose::Other => {
                matches!(self.place, Place::Run(_)) && self.other.place == Place::Dial
            }
            Purpose::Session(serial) => self.session(serial).is_some_and(|s| !s.is_over()),
            Purpose::Trial => true,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let wait = |place| match place {
            Place::Wait(until) => Some(until),
            Place::NotStarted | Place::WaitForOthers | Place::Dial | Place::Run(_) => None,
        };
        let sessions = self.sessions.iter().filter_map(EdgeSession::next_timeout);
        let places = [wait(self.place), wait(self.other.place)];
        places.into_iter().flatten().chain(sessions).min()
    }

    /// Does what is due; gives the attempts that it asks for.
    pub(crate) fn poll(&mut self, up: &mut Uplink, env: &mut Env, wanted: &mut Vec<Wanted>) {
        for session in &mut self.sessions {
            wanted.extend(session.poll(up, env));
        }
        self.follow_session(up, env, wanted);
        self.follow_choice(up, env, wanted);
        self.forget(up, env);
        let now = env.now();
        let input = match self.place {
            Place::Wait(until) if until <= now => Input::Due {
                refusal: up.gate.refusal().cloned(),
            },
            Place::WaitForOthers if up.is_any_live() => Input::OthersLive,
            Place::NotStarted
            | Place::Wait(_)
            | Place::WaitForOthers
            | Place::Dial
            | Place::Run(_) => return,
        };
        self.decide(up, env, input, wanted);
    }

    /// An attempt at a new session has failed.
    pub(crate) fn failed(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        purpose: Purpose,
        failure: Failure,
        wanted: &mut Vec<Wanted>,
    ) {
        if purpose == Purpose::Keeper {
            self.decide(up, env, Input::Failed(failure), wanted);
            return;
        }
        let (now, random) = (env.now(), env.spread());
        self.other.place = Place::NotStarted;
        for action in self
            .other
            .keeper
            .handle(Input::Failed(failure), now, random)
        {
            if let Action::Wait { until } = action {
                self.other.place = Place::Wait(until);
            }
        }
    }

    /// An attempt at a new session has succeeded. The session before finishes its streams.
    pub(crate) fn reached(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        serial: u64,
        reached: Reached,
        wanted: &mut Vec<Wanted>,
    ) {
        self.other = Other::new();
        if !self.decide(up, env, Input::Connected, wanted) {
            env.net.finish(reached.connection, up.endpoint);
            if let Answer::Awaited(awaited) = reached.answer {
                awaited.end(up);
            }
            return;
        }
        if let Some(before) = self.current() {
            before.session.go_away(GoAwayCode::Draining, Duration::ZERO);
            before.supersede(up, env);
        }
        self.place = Place::Run(serial);
        let mut session = EdgeSession::new(up, env, serial, self.ordinal, false, &reached);
        session.greet(up, env, reached);
        self.sessions.push(session);
    }

    /// Looks whether the session that takes streams is over, or takes none any more.
    fn follow_session(&mut self, up: &mut Uplink, env: &mut Env, wanted: &mut Vec<Wanted>) {
        let Some(session) = self.current() else {
            return;
        };
        if !session.is_over() && !session.is_closing {
            return;
        }
        let input = Input::Ended {
            was_known: session.association.is_known(),
            retry_after: session.association.retry_after(),
        };
        session.supersede(up, env);
        if session.association.is_known() {
            self.lost_at = Some(env.now());
        }
        self.other = Other::new();
        self.place = Place::NotStarted;
        self.decide(up, env, input, wanted);
    }

    /// Looks whether new streams shall use another transport than that of the session.
    fn follow_choice(&mut self, up: &mut Uplink, env: &mut Env, wanted: &mut Vec<Wanted>) {
        let choice = up.choice.transport;
        let Some(session) = self.current() else {
            return;
        };
        if session.association.transport() == choice {
            if matches!(self.other.place, Place::Wait(until) if until <= env.now()) {
                self.other.place = Place::NotStarted;
            }
            return;
        }
        if up.is_leaving {
            if matches!(self.other.place, Place::Wait(_)) {
                self.other.place = Place::NotStarted;
            }
            return;
        }
        let is_due = match self.other.place {
            Place::NotStarted => true,
            Place::Wait(until) => until <= env.now(),
            Place::WaitForOthers | Place::Dial | Place::Run(_) => false,
        };
        if is_due {
            self.other.place = Place::Dial;
            wanted.push(fresh(self.ordinal, Purpose::Other, Dial::New));
        }
    }

    /// Forgets sessions that are over.
    fn forget(&mut self, up: &mut Uplink, env: &mut Env) {
        let current = self.place;
        for session in &mut self.sessions {
            if session.is_over() && current != Place::Run(session.serial) {
                session.supersede(up, env);
            }
        }
        self.sessions
            .retain(|session| !session.is_over() || current == Place::Run(session.serial));
    }

    /// Lets the machine decide, and carries that out; false if it wants no session any more.
    fn decide(
        &mut self,
        up: &mut Uplink,
        env: &mut Env,
        input: Input,
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        if up.is_leaving {
            self.keeper.leave();
        }
        let is_hinted = match &input {
            Input::Failed(failure) => failure.retry_after.is_some(),
            Input::Ended { retry_after, .. } => retry_after.is_some(),
            Input::Due { .. } | Input::OthersLive | Input::Connected | Input::Unusable => false,
        };
        let (now, random) = (env.now(), env.spread());
        for action in self.keeper.handle(input, now, random) {
            match action {
                Action::Tell(News::Down { error, .. }) => {
                    up.failed(env, self.ordinal, &Failure::from(error));
                }
                Action::Wait { until } => {
                    check_delay("keeper", now, until, self.lost_at, is_hinted);
                    self.place = Place::Wait(until);
                }
                Action::WaitForOthers => self.place = Place::WaitForOthers,
                Action::Dial(dial) => {
                    self.place = Place::Dial;
                    wanted.push(fresh(self.ordinal, Purpose::Keeper, dial));
                }
                Action::Close => {
                    if !matches!(self.place, Place::Run(_)) {
                        self.place = Place::NotStarted;
                    }
                    return false;
                }
                Action::Tell(_) | Action::GiveUp(_) => panic!("a keeper asks for no such thing"),
            }
        }
        true
    }
}

impl Other {
    fn new() -> Self {
        Self {
            keeper: Keeper::new(true),
            place: Place::NotStarted,
        }
    }
}

/// An attempt at a session that has no past.
pub(crate) fn fresh(worker: usize, purpose: Purpose, dial: Dial) -> Wanted {
    Wanted {
        worker,
        purpose,
        dial,
        received: 0,
        may_be_early: dial.may_be_early(),
    }
}
