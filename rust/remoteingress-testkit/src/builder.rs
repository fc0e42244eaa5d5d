//! Sessions for tests and benchmarks, with defaults that a test changes only where it depends on them.

use crate::EDGE;
use remoteingress_proto::mux::budget::{Budget, BudgetPool};
use remoteingress_proto::mux::{Carrier, Role, Session, SessionConfig};
use std::time::{Duration, Instant};

/// The memory budget that the programs have by default, in bytes.
pub const DEFAULT_BUDGET: usize = 200 << 20;

/// Makes a session. Credit that isn't set is the credit that the budget would announce, for the peer too, as if both
/// had the same memory.
#[derive(Clone, Debug)]
pub struct SessionBuilder {
    role: Role,
    carrier: Carrier,
    max_peer_streams: usize,
    resume_timeout: Duration,
    announced_credit: Option<u32>,
    peer_credit: Option<u32>,
    expects_begin: bool,
}

impl SessionBuilder {
    /// A session of this end: on an ordered connection, with at most 1,000 streams of the peer, resumed within 30 s.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            carrier: Carrier::Ordered,
            max_peer_streams: 1_000,
            resume_timeout: Duration::from_secs(30),
            announced_credit: None,
            peer_credit: None,
            expects_begin: false,
        }
    }

    /// The session of [`EDGE`] or [`HUB`](crate::HUB).
    pub fn of_side(side: usize) -> Self {
        Self::new(if side == EDGE { Role::Edge } else { Role::Hub })
    }

    /// Sets how frames reach the peer.
    pub fn carrier(self, carrier: Carrier) -> Self {
        Self { carrier, ..self }
    }

    /// Sets how many streams the peer may have open at once.
    pub fn max_peer_streams(self, max_peer_streams: usize) -> Self {
        Self {
            max_peer_streams,
            ..self
        }
    }

    /// Sets how long the session waits for a new connection.
    pub fn resume_timeout(self, resume_timeout: Duration) -> Self {
        Self {
            resume_timeout,
            ..self
        }
    }

    /// Sets the credit that each stream of the peer begins with, in bytes.
    pub fn announced_credit(self, bytes: u32) -> Self {
        Self {
            announced_credit: Some(bytes),
            ..self
        }
    }

    /// Sets the credit that each stream of this end begins with, in bytes.
    pub fn peer_credit(self, bytes: u32) -> Self {
        Self {
            peer_credit: Some(bytes),
            ..self
        }
    }

    /// A hub's session in place of one that it has lost.
    pub fn in_place_of_a_lost_one(self) -> Self {
        Self {
            expects_begin: true,
            ..self
        }
    }

    /// The session, which takes its memory from `budget`.
    pub fn build(&self, budget: &Budget, now: Instant) -> Session {
        let own_credit = budget.initial_credit();
        let config = SessionConfig {
            role: self.role,
            carrier: self.carrier,
            max_peer_streams: self.max_peer_streams,
            resume_timeout: self.resume_timeout,
            keepalive: Duration::from_secs(45),
            announced_credit: self.announced_credit.unwrap_or(own_credit),
            peer_credit: self.peer_credit.unwrap_or(own_credit),
            is_welcome: true,
            expects_begin: self.expects_begin,
        };
        Session::new(&config, budget, now)
    }
}

/// A budget of `bytes` that nobody else draws on.
pub fn budget(bytes: usize) -> Budget {
    Budget::new(BudgetPool::new(bytes))
}
