//! Limits on unauthenticated peers: how many an entrance takes at once, how fast they may come, and who is blocked after
//! how many failures (threats A2).

use super::failures::{Origin, Room};
use crate::client_network::{TokenBucket, client_network};
use crate::share::Share;
use remoteingress_config::{Exempt, Limit};
use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are remembered (threats A2.4).
const MAX_NETWORKS: usize = 65_536;
/// Ids with wrong proofs, and ids with right ones, that all addresses together have remembered.
const MAX_IDS: usize = 65_536;

/// Handshakes that run at once from which on addresses have to be proved; WireGuard's mark for the same.
const UNDER_LOAD: usize = 128;

/// A full table is searched for entries that may go at most this often.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// Blocks that are told at once, and then per second: six a minute.
const TOLD_AT_ONCE: f64 = 10.0;
const TOLD_PER_SEC: f64 = 0.1;

/// Reason why a connection is closed before a byte of it is read.
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
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that haven't proved a secret yet.
    pub max_pre_auth: Limit,
    /// The same from one client network; absent: as many as are still free.
    pub max_pre_auth_per_ip: Option<Limit>,
    /// New connections per second from one client network.
    pub handshakes_per_ip_per_sec: Limit,
    /// New connections from one client network that may come at once before the rate counts.
    pub handshakes_per_ip_burst: Limit,
    /// Wrong proofs from one client network for one id after which that is blocked.
    pub max_auth_failures_per_ip: Limit,
    /// Networks that have no limit of their own.
    pub exempt: Exempt,
}

/// A block that has just begun, of which the operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where the wrong proofs came from.
    pub network: IpAddr,
    /// The id that is refused from there; absent: all that haven't proved themselves from there.
    pub edge: Option<EdgeId>,
    /// Wrong proofs that were too many.
    pub failures: u32,
    /// How long the block lasts.
    pub length: Duration,
    /// Blocks since the last one that was told, which came too fast to be told.
    pub untold: u32,
}

#[derive(Debug)]
struct Network {
    pending: usize,
    bucket: TokenBucket,
    origin: Origin,
}

/// Counts of connections whose peers haven't proved anything yet.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    pending: usize,
    networks: HashMap<IpAddr, Network>,
    room: Room,
    purge_at: Instant,
    telling: TokenBucket,
    untold: u32,
}

impl Guard {
    /// Nobody has come yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            pending: 0,
            networks: HashMap::new(),
            room: Room {
                suspects: MAX_IDS,
                proven: MAX_IDS,
            },
            purge_at: now,
            telling: TokenBucket::full(now, TOLD_AT_ONCE),
            untold: 0,
        }
    }

    /// Other limits from now on; peers that are too many stay until they are through.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Counts a connection in, or refuses it and counts nothing.
    pub fn admit(&mut self, now: Instant, address: IpAddr) -> Result<(), Refusal> {
        if !self.limits.max_pre_auth.admits(self.pending) {
            return Err(Refusal::PreAuth);
        }
        self.admit_network(now, address)?;
        self.pending += 1;
        Ok(())
    }

    /// An exempt network is counted like any other, so that it may become one, or none, while this runs.
    fn admit_network(&mut self, now: Instant, address: IpAddr) -> Result<(), Refusal> {
        let is_exempt = self.limits.exempt.contains(address);
        let address = client_network(address);
        // Only strangers are kept out by a full table, and it is searched at most once a second.
        let is_full = self.networks.len() >= MAX_NETWORKS;
        if is_full && !self.networks.contains_key(&address) && !self.purge(now) {
            return Err(Refusal::PreAuth);
        }
        let limits = &self.limits;
        let rate = limits.handshakes_per_ip_per_sec.get().map(f64::from);
        let burst = limits.handshakes_per_ip_burst.get().map_or(1.0, f64::from);
        let share = Share::new(
            limits.max_pre_auth_per_ip,
            &[(limits.max_pre_auth, self.pending)],
        );
        let network = self.networks.entry(address).or_insert_with(|| Network {
            pending: 0,
            bucket: TokenBucket::full(now, burst),
            origin: Origin::new(now),
        });
        if !is_exempt {
            if network.origin.is_closed(now) {
                return Err(Refusal::Blocked);
            }
            if !share.admits(network.pending) {
                return Err(Refusal::PreAuthPerIp);
            }
            if rate.is_some_and(|rate| !network.bucket.take(now, rate, burst)) {
                return Err(Refusal::HandshakesPerIp);
            }
        }
        network.pending += 1;
        Ok(())
    }

    /// Forgets what is old, at most once a second; false if it isn't time.
    fn purge(&mut self, now: Instant) -> bool {
        if now < self.purge_at {
            return false;
        }
        self.purge_at = now + PURGE_INTERVAL;
        let room = &mut self.room;
        self.networks.retain(|_, network| {
            let is_remembered = network.origin.purge(now, room);
            network.pending > 0 || is_remembered
        });
        true
    }

    /// The time for which this edge id is refused from this address, whatever it proves.
    pub fn blocked(&self, now: Instant, address: IpAddr, edge: &EdgeId) -> Option<Duration> {
        let network = self.networks.get(&client_network(address))?;
        let left = network.origin.blocked(now, edge)?;
        (!self.limits.exempt.contains(address)).then_some(left)
    }

    /// True if a peer at this address has to prove first that it receives there, which costs it a round trip: when many
    /// handshakes run, or some have failed from there (threats A2.5).
    pub fn wants_proof_of_address(&self, address: IpAddr) -> bool {
        let known = self.networks.get(&client_network(address));
        self.pending >= UNDER_LOAD || known.is_some_and(|network| network.origin.is_suspicious())
    }

    /// A connection has been authenticated, refused or given up.
    pub fn release(&mut self, address: IpAddr) {
        self.pending = self.pending.saturating_sub(1);
        if let Some(network) = self.networks.get_mut(&client_network(address)) {
            network.pending = network.pending.saturating_sub(1);
        }
    }

    /// A proof was wrong. Too many of them block the id that it claimed for a while, from this address; the operator is
    /// to be told of the block that is given.
    pub fn failed(
        &mut self,
        now: Instant,
        address: IpAddr,
        claimed: Option<&EdgeId>,
    ) -> Option<Block> {
        let limit = self.limits.max_auth_failures_per_ip.get()?;
        if self.limits.exempt.contains(address) {
            return None;
        }
        if self.room.suspects == 0 {
            self.purge(now);
        }
        let address = client_network(address);
        let network = self.networks.get_mut(&address)?;
        let begun = network.origin.fail(now, claimed, limit, &mut self.room)?;
        if !self.telling.take(now, TOLD_PER_SEC, TOLD_AT_ONCE) {
            self.untold += 1;
            return None;
        }
        Some(Block {
            network: address,
            edge: claimed.filter(|_| begun.is_of_id).cloned(),
            failures: begun.failures,
            length: begun.length,
            untold: std::mem::take(&mut self.untold),
        })
    }

    /// A proof was right: earlier failures of this id from here were mistakes, and those of others don't count for it.
    pub fn succeeded(&mut self, now: Instant, address: IpAddr, edge: &EdgeId) {
        if let Some(network) = self.networks.get_mut(&client_network(address)) {
            network.origin.prove(now, edge, &mut self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::HubLimits;

    /// A hub's defaults.
    fn defaults() -> Limits {
        Limits::from(&HubLimits::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn id(text: &str) -> EdgeId {
        EdgeId::new(text).unwrap()
    }

    /// As many as come in at once of 1,000.
    fn flood(guard: &mut Guard, now: Instant, address: IpAddr) -> usize {
        let tries = 0..1_000;
        tries.filter(|_| guard.admit(now, address).is_ok()).count()
    }

    #[test]
    fn an_address_may_have_as_many_pending_connections_as_are_still_free() {
        let now = crate::any_instant();
        let mut guard = Guard::new(defaults(), now);
        let counts: Vec<usize> = (1..=4)
            .map(|host| flood(&mut guard, now, IpAddr::from([192, 0, 2, host])))
            .collect();
        assert_eq!(counts, [256, 128, 64, 32]);
        // A newcomer still gets in, and the others get more only when some have gone.
        assert_eq!(guard.admit(now, ip("203.0.113.1")), Ok(()));
        assert_eq!(
            guard.admit(now, ip("192.0.2.4")),
            Err(Refusal::PreAuthPerIp)
        );
    }

    #[test]
    fn a_number_is_a_limit_of_its_own() {
        let now = crate::any_instant();
        let limits = Limits {
            max_pre_auth_per_ip: Some(Limit::new(64)),
            ..defaults()
        };
        let mut guard = Guard::new(limits, now);
        let a = flood(&mut guard, now, ip("192.0.2.1"));
        assert_eq!(a, 64);
        let mut all = a;
        for i in 0..60u32 {
            let other = IpAddr::from(u32::to_be_bytes(0xc633_6400 + i));
            all += flood(&mut guard, now, other);
        }
        assert_eq!(all, 512);
        guard.release(ip("192.0.2.1"));
        assert_eq!(guard.admit(now, ip("203.0.113.1")), Ok(()));
        assert_eq!(guard.admit(now, ip("203.0.113.1")), Err(Refusal::PreAuth));
    }

    #[test]
    fn handshakes_have_a_rate() {
        let now = crate::any_instant();
        let mut guard = Guard::new(defaults(), now);
        let mut attempt = |at, address| guard.admit(at, address).map(|()| guard.release(address));
        let (home, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let mut attempts = |at, address| {
            let tries = 0..5_000;
            tries.filter(|_| attempt(at, address).is_ok()).count()
        };
        assert_eq!(attempts(now, home), 2_000);
        assert_eq!(attempts(now, other), 2_000);
        let later = now + Duration::from_secs(1);
        assert_eq!(attempts(later, home), 1_000);
    }

    #[test]
    fn an_exempt_network_has_only_the_limits_of_all() {
        let now = crate::any_instant();
        let limits: HubLimits = remoteingress_config::decode(&serde_json::json!({
            "maxPreAuthPerIp": 1, "handshakesPerIpPerSec": 1, "handshakesPerIpBurst": 1,
            "maxAuthFailuresPerIp": 1, "exempt": ["192.0.2.0/24"],
        }))
        .unwrap();
        let mut guard = Guard::new((&limits).into(), now);
        let (exempt, edge) = (ip("192.0.2.1"), id("a"));
        assert_eq!(flood(&mut guard, now, exempt), 512);
        assert_eq!(guard.failed(now, exempt, Some(&edge)), None);
        assert_eq!(guard.blocked(now, exempt, &edge), None);
        for _ in 0..512 {
            guard.release(exempt);
        }
        assert_eq!(flood(&mut guard, now, ip("203.0.113.1")), 1);
    }

    #[test]
    fn wrong_proofs_block_an_id_at_an_address_for_a_minute_then_two() {
        let mut now = crate::any_instant();
        let mut guard = Guard::new(defaults(), now);
        let (address, old, good) = (ip("192.0.2.1"), id("old"), id("good"));
        let fail = |guard: &mut Guard, now| {
            assert_eq!(guard.admit(now, address), Ok(()));
            guard.release(address);
            guard.failed(now, address, Some(&old))
        };
        for secs in [60, 120] {
            for _ in 0..4 {
                assert_eq!(fail(&mut guard, now), None);
            }
            let length = Duration::from_secs(secs);
            let block = Block {
                network: address,
                edge: Some(old.clone()),
                failures: 5,
                length,
                untold: 0,
            };
            assert_eq!(fail(&mut guard, now), Some(block));
            assert_eq!(guard.blocked(now, address, &old), Some(length));
            assert_eq!(guard.blocked(now, address, &good), None);
            assert_eq!(guard.blocked(now, ip("192.0.2.2"), &old), None);
            assert_eq!(guard.admit(now, address), Ok(()));
            guard.release(address);
            now += length + Duration::from_secs(1);
            assert_eq!(guard.blocked(now, address, &old), None);
        }
        guard.succeeded(now, address, &old);
        for _ in 0..5 {
            assert_eq!(fail(&mut guard, now), None);
        }
    }

    #[test]
    fn an_address_with_many_ids_is_turned_away_before_its_first_byte() {
        let now = crate::any_instant();
        let mut guard = Guard::new(defaults(), now);
        let address = ip("2001:db8::1");
        assert_eq!(guard.admit(now, address), Ok(()));
        guard.release(address);
        let told: Vec<Block> = (0..69)
            .filter_map(|number| guard.failed(now, address, Some(&id(&format!("{number}")))))
            .collect();
        let [block] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((block.network, &block.edge), (ip("2001:db8::"), &None));
        assert_eq!(guard.admit(now, address), Err(Refusal::Blocked));
    }

    #[test]
    fn of_many_blocks_ten_are_told_and_the_others_counted() {
        let now = crate::any_instant();
        let mut guard = Guard::new(defaults(), now);
        let mut block = |now, host| {
            let address = IpAddr::from([192, 0, 2, host]);
            guard.admit(now, address).unwrap();
            guard.release(address);
            (0..5).find_map(|_| guard.failed(now, address, Some(&id("a"))))
        };
        let told = (1..=30).filter_map(|host| block(now, host));
        assert_eq!(told.count(), 10);
        let later = now + Duration::from_secs(10);
        assert_eq!(block(later, 31).map(|block| block.untold), Some(20));
    }
}
