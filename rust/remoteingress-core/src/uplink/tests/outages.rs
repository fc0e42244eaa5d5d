//! Workers whose peer comes and goes at random, with sessions that live, resume and end: none of them is ever stuck,
//! none dials in a storm, and all are back soon after the peer is.

use crate::uplink::action::{Action, Dial, News, Verdict};
use crate::uplink::association::{self, Association, Ending};
use crate::uplink::failure::{Ends, Failure};
use crate::uplink::gate::{DialGate, Turn};
use crate::uplink::keeper::{self, Keeper};
use remoteingress_config::error::ErrorCode;
use remoteingress_proto::handshake::{SessionId, SessionOutcome, Transport};
use std::time::{Duration, Instant};

const WORKERS: usize = 3;
const STEP: Duration = Duration::from_millis(20);
const ROUND_TRIP: Duration = Duration::from_millis(60);
const SECOND: Duration = Duration::from_secs(1);
const ENDS: Ends = Ends {
    own: "edge",
    peer: "hub",
};

struct Worker {
    keeper: Keeper,
    session: Option<Association>,
    doing: Doing,
    /// It has a session that takes streams, as was told last.
    is_live: bool,
    dials: Vec<Instant>,
}

enum Doing {
    Waiting(Instant),
    WaitingForOthers,
    InLine(Dial),
    Trying(Dial, Turn, Instant),
    /// Frames go ahead of a Welcome that comes at this time.
    Early(Turn, Instant),
    Live,
}

struct World {
    workers: Vec<Worker>,
    gate: DialGate,
    now: Instant,
    is_up: bool,
    /// The peer has forgotten all sessions since they were let in.
    was_restarted: bool,
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = crate::any_instant();
        let worker = |ordinal| Worker {
            keeper: Keeper::new(ordinal == 0),
            session: None,
            doing: Doing::Waiting(now),
            is_live: false,
            dials: Vec::new(),
        };
        Self {
            workers: (0..WORKERS).map(worker).collect(),
            gate: DialGate::default(),
            now,
            is_up: true,
            was_restarted: false,
            random: seed,
        }
    }

    /// A number in 0..1.
    fn draw(&mut self) -> f64 {
        // Numerical Recipes' linear congruential generator.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for ordinal in 0..WORKERS {
                self.step(ordinal);
            }
        }
    }

    fn step(&mut self, ordinal: usize) {
        let now = self.now;
        let is_any_live = self.workers.iter().any(|worker| worker.is_live);
        let worker = &mut self.workers[ordinal];
        let expires = worker.session.as_ref().and_then(Association::expires);
        let doing = std::mem::replace(&mut worker.doing, Doing::WaitingForOthers);
        let is_away = !matches!(doing, Doing::Early(..) | Doing::Live);
        if is_away && expires.is_some_and(|at| at <= now) {
            if let Doing::Trying(_, turn, _) = doing {
                self.gate.end(turn);
            }
            return self.session(ordinal, association::Input::Expired);
        }
        match doing {
            Doing::Waiting(until) if until <= now => {
                if worker.session.is_some() {
                    return self.session(ordinal, association::Input::Due);
                }
                let refusal = self.gate.refusal().cloned();
                self.place(ordinal, keeper::Input::Due { refusal });
            }
            Doing::WaitingForOthers if is_any_live => {
                self.place(ordinal, keeper::Input::OthersLive);
            }
            Doing::InLine(dial) => self.begin(ordinal, dial),
            Doing::Trying(dial, turn, until) if until <= now => self.tried(ordinal, dial, turn),
            Doing::Early(turn, until) if until <= now => {
                let input = if self.is_up {
                    self.welcome()
                } else {
                    self.lost()
                };
                self.session(ordinal, input);
                self.gate.end(turn);
            }
            Doing::Live if !self.is_up => {
                let input = self.lost();
                self.session(ordinal, input);
            }
            same @ (Doing::Waiting(_)
            | Doing::WaitingForOthers
            | Doing::Trying(..)
            | Doing::Early(..)
            | Doing::Live) => worker.doing = same,
        }
    }

    fn begin(&mut self, ordinal: usize, dial: Dial) {
        let (now, draw) = (self.now, self.draw());
        self.workers[ordinal].doing = match self.gate.turn() {
            None => Doing::InLine(dial),
            Some(turn) => {
                self.workers[ordinal].dials.push(now);
                // A peer that is away either refuses connections or says nothing at all.
                let is_silent = !self.is_up && draw < 0.5;
                let time = if is_silent { 8 * SECOND } else { ROUND_TRIP };
                Doing::Trying(dial, turn, now + time)
            }
        };
    }

    fn tried(&mut self, ordinal: usize, dial: Dial, turn: Turn) {
        let is_early = self.draw() < 0.5;
        if !self.is_up {
            self.gate.end(turn);
            let failure = Failure::new(ErrorCode::HubUnreachable, "no answer");
            return match dial {
                Dial::New if self.workers[ordinal].session.is_none() => {
                    self.place(ordinal, keeper::Input::Failed(failure));
                }
                Dial::New | Dial::Resume { .. } | Dial::Trial => {
                    self.session(ordinal, association::Input::Failed(failure));
                }
            };
        }
        let transport = Transport::TcpTls;
        if self.workers[ordinal].session.is_none() {
            self.place(ordinal, keeper::Input::Connected);
            self.workers[ordinal].session =
                Some(Association::new(ENDS, transport, Duration::from_secs(5)));
        }
        if is_early {
            self.session(ordinal, association::Input::Early(transport));
            self.workers[ordinal].doing = Doing::Early(turn, self.now + ROUND_TRIP);
        } else {
            let input = self.welcome();
            self.session(ordinal, input);
            self.gate.end(turn);
        }
    }

    fn welcome(&self) -> association::Input {
        association::Input::Welcome {
            transport: Transport::TcpTls,
            session: SessionId([7; 16]),
            outcome: if self.was_restarted {
                SessionOutcome::SessionLost
            } else {
                SessionOutcome::Resumed { received: 0 }
            },
        }
    }

    fn lost(&mut self) -> association::Input {
        association::Input::Ended {
            ending: Ending::Lost {
                message: "cut".to_owned(),
                is_violation: false,
                is_reset: false,
            },
            streams: usize::from(self.draw() < 0.7),
            deadline: Some(self.now + 30 * SECOND),
        }
    }

    /// Lets the machine of a session decide, and the worker's place go on if the session is over.
    fn session(&mut self, ordinal: usize, input: association::Input) {
        let (now, draw) = (self.now, self.draw());
        let worker = &mut self.workers[ordinal];
        let session = worker.session.as_mut().expect("a session");
        let actions = session.handle(input, now, draw);
        let (was_known, retry_after) = (session.is_known(), session.retry_after());
        worker.doing = Doing::Live;
        for action in actions {
            match action {
                Action::Tell(News::Live(live)) => worker.is_live = live,
                Action::Tell(News::Verdict(verdict)) => self.gate.handle(now, &verdict),
                Action::Tell(_) => {}
                Action::Wait { until } => {
                    // It is given up 30 s after its loss, and until then asks often.
                    assert!(until <= now + 2 * SECOND, "{:?}", until - now);
                    worker.doing = Doing::Waiting(until);
                }
                Action::Dial(dial) => worker.doing = Doing::InLine(dial),
                Action::GiveUp(_) | Action::Close => {
                    worker.session = None;
                    assert!(!worker.is_live, "a session that is over takes no streams");
                    let input = keeper::Input::Ended {
                        was_known,
                        retry_after,
                    };
                    return self.place(ordinal, input);
                }
                Action::WaitForOthers => panic!("a session waits for nobody"),
            }
        }
    }

    fn place(&mut self, ordinal: usize, input: keeper::Input) {
        let (now, draw) = (self.now, self.draw());
        let worker = &mut self.workers[ordinal];
        for action in worker.keeper.handle(input, now, draw) {
            match action {
                Action::Tell(_) => {}
                Action::Wait { until } => {
                    let most = 30 * SECOND;
                    assert!(until <= now + most, "{:?}", until - now);
                    worker.doing = Doing::Waiting(until);
                }
                Action::WaitForOthers => worker.doing = Doing::WaitingForOthers,
                Action::Dial(dial) => worker.doing = Doing::InLine(dial),
                Action::GiveUp(_) | Action::Close => panic!("{action:?} isn't for a place"),
            }
        }
    }
}

#[test]
fn however_the_peer_comes_and_goes_all_workers_are_back_soon_and_none_dials_in_a_storm() {
    for seed in 1..60 {
        let mut world = World::new(seed);
        for _ in 0..12 {
            let time = SECOND.mul_f64(20.0 * world.draw());
            world.run(time);
            world.is_up = world.draw() < 0.5;
            world.was_restarted = world.draw() < 0.3;
        }
        world.is_up = true;
        // The longest pause, an attempt that began before the peer was back, and the others' turns after it.
        world.run(30 * SECOND + 3 * 8 * SECOND + 10 * SECOND);
        for worker in &world.workers {
            assert!(worker.is_live, "seed {seed}");
            assert!(matches!(worker.doing, Doing::Live), "seed {seed}");
            let storm = worker.dials.windows(8).find(|dials| {
                let [first, .., last] = dials else {
                    return false;
                };
                *last - *first < SECOND / 2
            });
            assert_eq!(storm, None, "seed {seed}");
        }
    }
}

#[test]
fn a_peer_that_is_back_within_seconds_has_all_workers_within_seconds() {
    for seed in 1..60 {
        let mut world = World::new(seed);
        world.run(60 * SECOND);
        world.is_up = false;
        world.run(2 * SECOND);
        world.is_up = true;
        world.run(2 * SECOND + 3 * 8 * SECOND);
        assert!(world.workers.iter().all(|worker| worker.is_live), "{seed}");
    }
}

#[test]
fn a_verdict_comes_before_the_turn_of_the_next_attempt() {
    let mut gate = DialGate::default();
    let turn = gate.turn().expect("nobody else tries");
    gate.handle(crate::any_instant(), &Verdict::Accepted);
    assert_eq!(gate.turn(), Some(Turn::Beside));
    assert!(gate.end(turn));
}
