//! How many unauthenticated peers an entrance takes at once, how fast they may come, and after how many failures an address
//! is blocked (threats A2).

use crate::client_network::{TokenBucket, client_network};
use remoteingress_config::{AUTH_FAILURE_WINDOW, Limit};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The first time that an address is refused after too many failures; doubled each time (threats A2.4).
const FIRST_BLOCK: Duration = Duration::from_secs(60);
/// No block is longer (threats A2.4).
const LAST_BLOCK: Duration = Duration::from_secs(15 * 60);
/// Addresses that are remembered (threats A2.4).
const MAX_NETWORKS: usize = 65_536;

/// Handshakes that run at once from which on addresses have to be proved; WireGuard's mark for the same.
const UNDER_LOAD: usize = 128;

/// A full table is searched for entries that may go at most this often.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connection is closed before a byte of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many peers as may are on their way in.
    PreAuth,
    /// As many peers of its client network as may are on their way in.
    PreAuthPerIp,
    /// Its client network connects too often.
    HandshakesPerIp,
    /// Too many proofs from its client network were wrong.
    Blocked,
}

/// The limits on peers that have proved nothing, as the configuration names them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that haven't proved a secret yet.
    pub max_pre_auth: Limit,
    /// The same from one client network.
    pub max_pre_auth_per_ip: Limit,
    /// New connections per second from one client network.
    pub handshakes_per_ip_per_sec: Limit,
    /// New connections from one client network that may come at once before the rate counts.
    pub handshakes_per_ip_burst: Limit,
    /// Wrong proofs from one client network after which it is blocked.
    pub max_auth_failures_per_ip: Limit,
}

#[derive(Debug)]
struct Network {
    pending: usize,
    bucket: TokenBucket,
    failures: u32,
    failing_since: Instant,
    blocked_until: Option<Instant>,
    block: Duration,
}

/// Counts of connections whose peers haven't proved anything yet.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    pending: usize,
    networks: HashMap<IpAddr, Network>,
    purge_at: Instant,
}

impl Guard {
    /// Nobody has come yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            pending: 0,
            networks: HashMap::new(),
            purge_at: now,
        }
    }

    /// Other limits from now on; peers that are too many stay until they are through.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Counts a connection in, or refuses it and counts nothing.
    pub fn admit(&mut self, now: Instant, address: IpAddr) -> Result<(), Refusal> {
        let limits = &self.limits;
        if !limits.max_pre_auth.admits(self.pending) {
            return Err(Refusal::PreAuth);
        }
        let rate = limits.handshakes_per_ip_per_sec.get().map(f64::from);
        let burst = limits.handshakes_per_ip_burst.get().map_or(1.0, f64::from);
        // Only strangers are kept out by a full table, and it is searched at most once a second.
        let is_full = self.networks.len() >= MAX_NETWORKS;
        if is_full && !self.networks.contains_key(&client_network(address)) {
            if now < self.purge_at {
                return Err(Refusal::PreAuth);
            }
            self.purge_at = now + PURGE_INTERVAL;
            self.networks.retain(|_, network| {
                let is_blocked = network.blocked_until.is_some_and(|until| until > now);
                let is_failing = network.failures > 0
                    && now.saturating_duration_since(network.failing_since) <= AUTH_FAILURE_WINDOW;
                network.pending > 0 || is_blocked || is_failing
            });
        }
        let network = self
            .networks
            .entry(client_network(address))
            .or_insert_with(|| Network {
                pending: 0,
                bucket: TokenBucket::full(now, burst),
                failures: 0,
                failing_since: now,
                blocked_until: None,
                block: FIRST_BLOCK,
            });
        if network.blocked_until.is_some_and(|until| until > now) {
            return Err(Refusal::Blocked);
        }
        if !limits.max_pre_auth_per_ip.admits(network.pending) {
            return Err(Refusal::PreAuthPerIp);
        }
        if rate.is_some_and(|rate| !network.bucket.take(now, rate, burst)) {
            return Err(Refusal::HandshakesPerIp);
        }
        network.pending += 1;
        self.pending += 1;
        Ok(())
    }

    /// True if a peer at this address has to prove first that it receives there, which costs it a round trip: when many
    /// handshakes run, or some have failed from there (threats A2.5).
    pub fn wants_proof_of_address(&self, address: IpAddr) -> bool {
        let known = self.networks.get(&client_network(address));
        self.pending >= UNDER_LOAD || known.is_some_and(|network| network.failures > 0)
    }

    /// A connection has been authenticated, refused or given up.
    pub fn release(&mut self, address: IpAddr) {
        self.pending = self.pending.saturating_sub(1);
        if let Some(network) = self.networks.get_mut(&client_network(address)) {
            network.pending = network.pending.saturating_sub(1);
        }
    }

    /// A proof was wrong. Too many of them block the address for a while.
    pub fn failed(&mut self, now: Instant, address: IpAddr) {
        let Some(limit) = self.limits.max_auth_failures_per_ip.get() else {
            return;
        };
        let Some(network) = self.networks.get_mut(&client_network(address)) else {
            return;
        };
        if now.saturating_duration_since(network.failing_since) > AUTH_FAILURE_WINDOW {
            network.failures = 0;
            network.failing_since = now;
        }
        network.failures += 1;
        if network.failures >= limit {
            network.blocked_until = Some(now + network.block);
            network.block = (network.block * 2).min(LAST_BLOCK);
            network.failures = 0;
        }
    }

    /// A proof was right: earlier failures from here were mistakes.
    pub fn succeeded(&mut self, address: IpAddr) {
        if let Some(network) = self.networks.get_mut(&client_network(address)) {
            network.failures = 0;
            network.block = FIRST_BLOCK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub's defaults.
    const LIMITS: Limits = Limits {
        max_pre_auth: Limit::new(512),
        max_pre_auth_per_ip: Limit::new(64),
        handshakes_per_ip_per_sec: Limit::new(20),
        handshakes_per_ip_burst: Limit::new(64),
        max_auth_failures_per_ip: Limit::new(5),
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn pending_connections_are_bounded_per_address_and_in_all() {
        let now = crate::any_instant();
        let mut guard = Guard::new(LIMITS, now);
        let a = (0..100)
            .filter(|_| guard.admit(now, ip("192.0.2.1")).is_ok())
            .count();
        assert_eq!(a, 64);
        let mut all = a;
        for i in 0..60u32 {
            let other = IpAddr::from(u32::to_be_bytes(0xc633_6400 + i));
            all += (0..100).filter(|_| guard.admit(now, other).is_ok()).count();
        }
        assert_eq!(all, 512);
        guard.release(ip("192.0.2.1"));
        assert_eq!(guard.admit(now, ip("203.0.113.1")), Ok(()));
        assert_eq!(guard.admit(now, ip("203.0.113.1")), Err(Refusal::PreAuth));
    }

    #[test]
    fn handshakes_have_a_rate() {
        let now = crate::any_instant();
        let mut guard = Guard::new(LIMITS, now);
        let mut attempt = |at| {
            guard
                .admit(at, ip("192.0.2.1"))
                .map(|()| guard.release(ip("192.0.2.1")))
        };
        assert_eq!((0..100).filter(|_| attempt(now).is_ok()).count(), 64);
        assert_eq!(attempt(now), Err(Refusal::HandshakesPerIp));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| attempt(later).is_ok()).count(), 20);
    }

    #[test]
    fn wrong_proofs_block_an_address_for_a_minute_then_two() {
        let mut now = crate::any_instant();
        let limits = Limits {
            handshakes_per_ip_per_sec: Limit::OFF,
            ..LIMITS
        };
        let mut guard = Guard::new(limits, now);
        let address = ip("192.0.2.1");
        let fail_five = |guard: &mut Guard, now| {
            for _ in 0..5 {
                assert_eq!(guard.admit(now, address), Ok(()));
                guard.failed(now, address);
                guard.release(address);
            }
            assert_eq!(guard.admit(now, address), Err(Refusal::Blocked));
        };
        fail_five(&mut guard, now);
        now += Duration::from_secs(61);
        fail_five(&mut guard, now);
        now += Duration::from_secs(61);
        assert_eq!(guard.admit(now, address), Err(Refusal::Blocked));
        now += Duration::from_secs(60);
        assert_eq!(guard.admit(now, address), Ok(()));
        guard.succeeded(address);
        guard.release(address);
        now += Duration::from_secs(100);
        fail_five(&mut guard, now);
        assert_eq!(guard.admit(now + Duration::from_secs(61), address), Ok(()));
    }
}
