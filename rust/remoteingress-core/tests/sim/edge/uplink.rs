//! The uplink that an edge's workers share: gate, choice of transport, and what the checks know of both.

use crate::env::Env;
use remoteingress_config::TransportMode;
use remoteingress_config::error::ErrorCode;
use remoteingress_core::uplink::action::{Dial, News, Verdict};
use remoteingress_core::uplink::failure::{Ends, Failure};
use remoteingress_core::uplink::gate::{DialGate, Turn};
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, Transport};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_testkit::net::Endpoint;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After a refusal of the secret the next attempt comes after this at the soonest.
const PATIENCE: Duration = Duration::from_secs(15);
/// The words for both ends in reasons.
pub(crate) const ENDS: Ends = Ends {
    own: "edge",
    peer: "hub",
};

/// Configuration of an edge.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) instance: InstanceId,
    pub(crate) replaces_instance: bool,
    /// The hub's key is known, so that frames may go ahead of the Welcome.
    pub(crate) has_pin: bool,
    pub(crate) mode: TransportMode,
    pub(crate) resume_timeout: Duration,
    /// The longest wait of clients for a session.
    pub(crate) patience: Duration,
    pub(crate) workers: usize,
    pub(crate) keys: ProofKeys,
}

/// A worker's report to the edge as a whole.
#[derive(Debug)]
pub(crate) enum Report {
    Up { max_sessions: u16 },
    Down { is_auth_failure: bool },
    Control(usize, ControlMessage),
}

/// The state that the workers share.
pub(crate) struct Uplink {
    pub(crate) settings: Settings,
    pub(crate) endpoint: Endpoint,
    /// The hub, as it is dialled over TLS and over QUIC.
    pub(crate) hub: [Endpoint; 2],
    pub(crate) budget: Budget,
    pub(crate) gate: DialGate,
    pub(crate) choice: Choice,
    pub(crate) live: Vec<bool>,
    pub(crate) is_leaving: bool,
    /// Every session is to ask whether the hub knows it.
    pub(crate) has_restart: bool,
    pub(crate) reports: VecDeque<Report>,
    checks: Checks,
}

/// The hub's word on the secret, as far as the model knows it.
#[derive(Debug, Default)]
struct Checks {
    is_accepted: bool,
    refused_at: Option<Instant>,
    /// Attempts on their way that began while it wasn't known whether the hub accepts the secret.
    knocking: usize,
}

/// The kind of an attempt when it began.
#[derive(Debug)]
pub(crate) struct Knock {
    is_alone: bool,
}

impl Uplink {
    pub(crate) fn new(
        settings: Settings,
        endpoint: Endpoint,
        hub: [Endpoint; 2],
        budget: Budget,
    ) -> Self {
        Self {
            choice: Choice::first(settings.mode),
            live: vec![false; settings.workers],
            settings,
            endpoint,
            hub,
            budget,
            gate: DialGate::default(),
            is_leaving: false,
            has_restart: false,
            reports: VecDeque::new(),
            checks: Checks::default(),
        }
    }

    /// The hub's endpoint for a transport.
    pub(crate) fn peer(&self, transport: Transport) -> Endpoint {
        match transport {
            Transport::TcpTls => self.hub[0],
            Transport::Quic => self.hub[1],
        }
    }

    pub(crate) fn is_any_live(&self) -> bool {
        self.live.contains(&true)
    }

    /// An attempt that has passed the gate begins.
    pub(crate) fn knocks(&mut self, env: &mut Env, worker: usize, dial: Dial) -> Knock {
        env.say(format_args!("edge w{worker}: dials, {dial:?}"));
        let now = env.now();
        let checks = &mut self.checks;
        let is_alone = !checks.is_accepted;
        if is_alone {
            checks.knocking += 1;
            assert_eq!(
                checks.knocking, 1,
                "gate: {} workers knock at once, and the hub hasn't accepted the secret",
                checks.knocking
            );
        }
        if let Some(at) = checks.refused_at {
            assert!(
                now >= at + PATIENCE,
                "gate: the next knock comes {:?} after a refusal of the secret",
                now - at
            );
            assert_eq!(worker, 0, "gate: the first worker asks for all");
        }
        Knock { is_alone }
    }

    /// An attempt is over, or its turn is.
    pub(crate) fn knocked(&mut self, knock: &Knock) {
        if knock.is_alone {
            self.checks.knocking -= 1;
        }
    }

    pub(crate) fn end_turn(&mut self, turn: Turn) {
        // Those who wait ask again at every step.
        let _ = self.gate.end(turn);
    }

    pub(crate) fn handle_verdict(&mut self, env: &mut Env, verdict: &Verdict) {
        let checks = &mut self.checks;
        match verdict {
            Verdict::Accepted | Verdict::Heard => {
                checks.is_accepted = true;
                checks.refused_at = None;
            }
            Verdict::Refused(_) => {
                checks.is_accepted = false;
                checks.refused_at = Some(env.now());
            }
            Verdict::Proved => checks.refused_at = None,
            Verdict::Lost => checks.is_accepted = false,
        }
        self.gate.handle(env.now(), verdict);
    }

    /// For the checks: a session is silent, so nobody knows whether the hub still accepts the secret.
    pub(crate) fn note_silence(&mut self) {
        self.checks.is_accepted = false;
    }

    /// An attempt of a worker has failed.
    pub(crate) fn failed(&mut self, env: &mut Env, worker: usize, failure: &Failure) {
        env.say(format_args!("edge w{worker}: failed, {}", failure.error));
        let is_auth_failure = failure.error.code == ErrorCode::AuthFailed;
        self.reports.push_back(Report::Down { is_auth_failure });
    }

    pub(crate) fn fall_back(&mut self, env: &mut Env, reason: &str) {
        if self.choice.fall_back(self.settings.mode, reason) {
            env.say(format_args!("edge: falls back, {reason}"));
        }
    }

    /// Tells what a machine of this worker has to tell.
    pub(crate) fn tell(&mut self, env: &mut Env, worker: usize, news: News, max_sessions: u16) {
        match news {
            News::Live(is_live) => self.live[worker] = is_live,
            News::Verdict(verdict) => self.handle_verdict(env, &verdict),
            News::Up { .. } => self.reports.push_back(Report::Up { max_sessions }),
            News::Down { error, .. } => {
                env.say(format_args!("edge w{worker}: down, {error}"));
                let is_auth_failure = error.code == ErrorCode::AuthFailed;
                self.reports.push_back(Report::Down { is_auth_failure });
            }
            News::FallBack(reason) => self.fall_back(env, &reason),
            News::Reconnecting => {}
            News::PeerRestarted => self.has_restart = true,
        }
    }
}
