//! Finds out whether QUIC works again while TLS carries the tunnel.

use super::attempt::{Purpose, Wanted};
use super::uplink::Uplink;
use super::worker::fresh;
use crate::env::Env;
use remoteingress_core::uplink::action::Dial;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_core::uplink::trial::TrialSchedule;
use remoteingress_proto::handshake::Transport;
use std::time::{Duration, Instant};

/// The first trial comes this long after a fallback.
const INTERVAL: Duration = Duration::from_secs(8);
/// QUIC is used again after a session that holds for this long.
const STABLE: Duration = Duration::from_secs(5);

/// The worker's task that makes the trials.
#[derive(Debug)]
pub(crate) struct Trial {
    schedule: TrialSchedule,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// QUIC carries new streams, as far as anybody knows.
    Idle,
    Wait(Instant),
    Dial,
    /// A session must hold until then.
    Hold(u64, Instant),
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self {
            schedule: TrialSchedule::new(INTERVAL),
            stage: Stage::Idle,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Idle | Stage::Dial => None,
            Stage::Wait(until) | Stage::Hold(_, until) => Some(until),
        }
    }

    /// Does what is due; gives the attempt that is to be made.
    pub(crate) fn poll(&mut self, up: &mut Uplink, env: &mut Env) -> Option<Wanted> {
        let now = env.now();
        match self.stage {
            Stage::Idle if up.choice.transport == Transport::TcpTls && !up.is_leaving => {
                self.schedule.fell_back(now);
                self.wait(env);
                None
            }
            Stage::Wait(until) if until <= now && !up.is_leaving => {
                self.stage = Stage::Dial;
                Some(fresh(0, Purpose::Trial, Dial::Trial))
            }
            Stage::Hold(_, until) if until <= now => {
                env.say(format_args!("edge: QUIC works again"));
                self.schedule.recovered(now);
                up.choice = Choice::recovered();
                self.stage = Stage::Idle;
                None
            }
            Stage::Idle | Stage::Wait(_) | Stage::Dial | Stage::Hold(..) => None,
        }
    }

    /// The trial's session has begun.
    pub(crate) fn reached(&mut self, env: &Env, session: u64) {
        self.stage = Stage::Hold(session, env.now() + STABLE);
    }

    /// The attempt has failed, or its session didn't hold.
    pub(crate) fn failed(&mut self, env: &mut Env) {
        self.schedule.failed();
        self.wait(env);
    }

    fn wait(&mut self, env: &mut Env) {
        let delay = self.schedule.delay(env.spread());
        self.stage = Stage::Wait(env.now() + delay);
    }
}
