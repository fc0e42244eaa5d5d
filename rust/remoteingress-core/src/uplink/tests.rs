//! All workers of an uplink with one dial gate and one peer, in virtual time: who knocks, and how often.

use super::action::{Action, Dial, Verdict};
use super::failure::Failure;
use super::gate::{DialGate, Turn};
use super::keeper::{Input, Keeper};
use remoteingress_config::error::ErrorCode;
use std::time::{Duration, Instant};

/// From Hello to the peer's answer in these tests.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// A worker's place, and what it does now.
struct Worker {
    keeper: Keeper,
    doing: Doing,
}

#[derive(Debug, PartialEq)]
enum Doing {
    Waiting(Instant),
    WaitingForOthers,
    InLine,
    Knocking(Turn, Instant),
    Live,
}

/// Workers, their gate, and a peer that may refuse the secret.
struct Uplink {
    workers: Vec<Worker>,
    gate: DialGate,
    now: Instant,
    refuses: bool,
    /// When each attempt reached the peer, and whose it was.
    knocks: Vec<(Instant, usize)>,
}

impl Uplink {
    fn new(workers: usize) -> Self {
        let now = crate::any_instant();
        let worker = |ordinal| Worker {
            keeper: Keeper::new(ordinal == 0),
            doing: Doing::Waiting(now),
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            gate: DialGate::default(),
            now,
            refuses: true,
            knocks: Vec::new(),
        }
    }

    /// Lets time pass in steps of 10 ms.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            for ordinal in 0..self.workers.len() {
                self.step(ordinal);
            }
            let knocking = self
                .workers
                .iter()
                .filter(|worker| matches!(worker.doing, Doing::Knocking(..)));
            let count = knocking.count();
            assert!(!self.refuses || count <= 1, "{count} knock at a time");
        }
    }

    fn step(&mut self, ordinal: usize) {
        let now = self.now;
        let is_any_live = self.workers.iter().any(|other| other.doing == Doing::Live);
        let worker = &mut self.workers[ordinal];
        match std::mem::replace(&mut worker.doing, Doing::InLine) {
            Doing::Waiting(until) if until <= now => {
                let refusal = self.gate.refusal().cloned();
                self.handle(ordinal, Input::Due { refusal });
            }
            Doing::WaitingForOthers if is_any_live => self.handle(ordinal, Input::OthersLive),
            Doing::InLine => match self.gate.turn() {
                Some(turn) => match self.gate.admit(now, Dial::New, ordinal == 0) {
                    Ok(()) => {
                        self.knocks.push((now, ordinal));
                        worker.doing = Doing::Knocking(turn, now + ROUND_TRIP);
                    }
                    Err(failure) => {
                        self.gate.end(turn);
                        self.handle(ordinal, Input::Failed(failure));
                    }
                },
                None => worker.doing = Doing::InLine,
            },
            Doing::Knocking(turn, until) if until <= now => {
                let input = if self.refuses {
                    self.gate.handle(now, &Verdict::Refused(refusal()));
                    Input::Failed(refusal())
                } else {
                    self.gate.handle(now, &Verdict::Accepted);
                    Input::Connected
                };
                self.gate.end(turn);
                self.handle(ordinal, input);
            }
            same @ (Doing::Waiting(_)
            | Doing::WaitingForOthers
            | Doing::Knocking(..)
            | Doing::Live) => worker.doing = same,
        }
    }

    fn handle(&mut self, ordinal: usize, input: Input) {
        let worker = &mut self.workers[ordinal];
        let actions = worker.keeper.handle(input, self.now, 0.5);
        worker.doing = match actions.last() {
            Some(Action::Dial(Dial::New)) => Doing::InLine,
            Some(Action::Wait { until }) => Doing::Waiting(*until),
            Some(Action::WaitForOthers) => Doing::WaitingForOthers,
            None => Doing::Live,
            Some(other) => panic!("{other:?}"),
        };
    }
}

fn refusal() -> Failure {
    Failure {
        is_auth_failure: true,
        retry_after: Some(Duration::from_secs(15)),
        ..Failure::new(ErrorCode::AuthFailed, "no")
    }
}

#[test]
fn while_the_secret_is_refused_one_worker_knocks_and_every_fifteen_seconds_at_most() {
    let mut uplink = Uplink::new(8);
    uplink.run(Duration::from_secs(600));
    assert!(uplink.knocks.len() > 10, "{}", uplink.knocks.len());
    for pair in uplink.knocks.windows(2) {
        let [(before, _), (after, ordinal)] = *pair else {
            unreachable!()
        };
        assert!(after - before >= Duration::from_secs(15));
        assert_eq!(ordinal, 0, "the first asks for all");
    }
}

#[test]
fn once_the_first_is_let_in_all_follow() {
    let mut uplink = Uplink::new(8);
    uplink.run(Duration::from_secs(60));
    uplink.refuses = false;
    let most = Duration::from_secs(60) + ROUND_TRIP;
    uplink.run(most);
    let live = |worker: &Worker| worker.doing == Doing::Live;
    assert!(uplink.workers.iter().all(live));
}

#[test]
fn where_the_secret_is_right_nobody_waits_for_longer_than_the_first() {
    let mut uplink = Uplink::new(8);
    uplink.refuses = false;
    uplink.run(3 * ROUND_TRIP);
    let live = |worker: &Worker| worker.doing == Doing::Live;
    assert!(uplink.workers.iter().all(live));
}
