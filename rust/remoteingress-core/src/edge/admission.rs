//! Admission of clients: counts per listener and per client network, and a rate per client network (threats A1.1).

use super::place::Place;
use crate::client_network::{TokenBucket, client_network};
use crate::share::Share;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::{EdgeLimits, Limit};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Instant;

/// Client networks that are remembered; beyond this number those without a connection are forgotten.
const MAX_IDLE_NETWORKS: usize = 65_536;

/// The limit for which a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process has as many clients as it may.
    Connections,
    /// The listener has as many clients as it may.
    ConnectionsPerListener,
    /// The client network has as many connections as it may.
    ConnectionsPerIp,
    /// The client network's connections come too fast.
    NewConnectionsPerIp,
}

impl From<Refusal> for EdgeRefusalReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Connections => Self::MaxConnections,
            Refusal::ConnectionsPerListener => Self::MaxConnectionsPerListener,
            Refusal::ConnectionsPerIp => Self::MaxConnectionsPerIp,
            Refusal::NewConnectionsPerIp => Self::NewConnectionsPerIpPerSec,
        }
    }
}

#[derive(Debug)]
struct Network {
    connections: usize,
    bucket: TokenBucket,
}

/// How a client was counted; to be given back as it is.
#[derive(Debug)]
pub struct Counted {
    /// Absent for a client of an exempt network.
    network: Option<IpAddr>,
    /// The place that it came to.
    pub place: Place,
}

/// Counts of this process's clients.
#[derive(Debug)]
pub struct Admission {
    limits: EdgeLimits,
    /// Files that the process may open.
    descriptors: u64,
    max_connections: Limit,
    /// Streams that the hub allows.
    max_streams: Limit,
    total: usize,
    listeners: HashMap<Place, usize>,
    networks: HashMap<IpAddr, Network>,
    /// Clients of each network at each listener.
    places: HashMap<(IpAddr, Place), usize>,
}

impl Admission {
    /// No clients yet. `descriptors` is the number of files that the process may open; it bounds the total.
    pub fn new(limits: EdgeLimits, descriptors: u64) -> Self {
        let max_connections = limits.max_connections(descriptors);
        Self {
            limits,
            descriptors,
            max_connections,
            max_streams: Limit::OFF,
            total: 0,
            listeners: HashMap::new(),
            networks: HashMap::new(),
            places: HashMap::new(),
        }
    }

    /// The hub allows so many streams: what one network may have is counted by that, too.
    pub fn limit_streams(&mut self, max_streams: Limit) {
        self.max_streams = max_streams;
    }

    /// Other limits from now on, for as many descriptors as before; clients that are too many stay until they go.
    pub fn set_limits(&mut self, limits: EdgeLimits) {
        self.max_connections = limits.max_connections(self.descriptors);
        self.limits = limits;
    }

    /// Counts a client in, or refuses it and counts nothing.
    pub fn admit(
        &mut self,
        now: Instant,
        client: IpAddr,
        place: Place,
    ) -> Result<Counted, Refusal> {
        let limits = &self.limits;
        if !self.max_connections.admits(self.total) {
            return Err(Refusal::Connections);
        }
        let on_listener = self.listeners.get(&place).copied().unwrap_or_default();
        if !limits.max_connections_per_listener.admits(on_listener) {
            return Err(Refusal::ConnectionsPerListener);
        }
        let is_exempt = limits.exempt.contains(client);
        let network = (!is_exempt).then(|| client_network(client));
        if let Some(network) = network {
            self.admit_network(now, network, place, on_listener)?;
        }
        self.total += 1;
        *self.listeners.entry(place).or_default() += 1;
        Ok(Counted { network, place })
    }

    fn admit_network(
        &mut self,
        now: Instant,
        key: IpAddr,
        place: Place,
        on_listener: usize,
    ) -> Result<(), Refusal> {
        let limits = &self.limits;
        let per_ip = limits.max_connections_per_ip;
        let share = Share::new(
            per_ip,
            &[
                (self.max_connections, self.total),
                (self.max_streams, self.total),
            ],
        );
        let at_listener = (limits.max_connections_per_listener, on_listener);
        let share_of_listener = Share::new(per_ip, &[at_listener]);
        let rate = limits.new_connections_per_ip_per_sec.get().map(f64::from);
        let burst = limits
            .new_connections_per_ip_burst
            .get()
            .map_or(1.0, f64::from);
        if !self.networks.contains_key(&key) && self.networks.len() >= MAX_IDLE_NETWORKS {
            self.networks.retain(|_, network| network.connections > 0);
        }
        let network = self.networks.entry(key).or_insert_with(|| Network {
            connections: 0,
            bucket: TokenBucket::full(now, burst),
        });
        let here = self.places.get(&(key, place)).copied().unwrap_or_default();
        if !share.admits(network.connections) || !share_of_listener.admits(here) {
            return Err(Refusal::ConnectionsPerIp);
        }
        if rate.is_some_and(|rate| !network.bucket.take(now, rate, burst)) {
            return Err(Refusal::NewConnectionsPerIp);
        }
        network.connections += 1;
        self.places.insert((key, place), here + 1);
        Ok(())
    }

    /// A client that was admitted is gone.
    pub fn release(&mut self, counted: &Counted) {
        self.total = self.total.saturating_sub(1);
        count_out(&mut self.listeners, counted.place);
        let Some(key) = counted.network else {
            return;
        };
        count_out(&mut self.places, (key, counted.place));
        if let Some(network) = self.networks.get_mut(&key) {
            network.connections = network.connections.saturating_sub(1);
        }
    }

    /// Clients of a listener's port.
    #[cfg(test)]
    pub fn on_port(&self, port: u16) -> usize {
        let place = Place::of(port);
        self.listeners.get(&place).copied().unwrap_or_default()
    }

    /// Places that have clients.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.listeners.keys().copied()
    }
}

fn count_out<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::place::Places;
    use std::time::Duration;

    /// Enough of them.
    const DESCRIPTORS: u64 = 1 << 20;
    /// As a hub allows by default.
    const MAX_STREAMS: Limit = Limit::new(16_384);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn without_rate() -> EdgeLimits {
        EdgeLimits {
            new_connections_per_ip_per_sec: Limit::OFF,
            ..EdgeLimits::default()
        }
    }

    /// Those of `clients` of a network at a port that were let in.
    fn crowd(
        admission: &mut Admission,
        now: Instant,
        from: IpAddr,
        port: u16,
        clients: usize,
    ) -> Vec<Counted> {
        let come = |_| admission.admit(now, from, Place::of(port)).ok();
        (0..clients).filter_map(come).collect()
    }

    #[test]
    fn an_office_of_500_users_behind_one_address_is_served() {
        let mut now = crate::any_instant();
        let mut admission = Admission::new(EdgeLimits::default(), DESCRIPTORS);
        admission.limit_streams(MAX_STREAMS);
        let mut served = 0;
        for _ in 0..500 {
            served += crowd(&mut admission, now, ip("192.0.2.1"), 443, 10).len();
            now += Duration::from_millis(10);
        }
        assert_eq!(served, 5_000);
    }

    #[test]
    fn a_flood_from_one_address_leaves_half_to_the_others_at_each_port_and_in_all() {
        let now = crate::any_instant();
        let mut admission = Admission::new(without_rate(), DESCRIPTORS);
        admission.limit_streams(MAX_STREAMS);
        let flood = crowd(&mut admission, now, ip("192.0.2.1"), 443, 100_000).len();
        assert_eq!(flood, 12_288 / 2);
        let more = crowd(&mut admission, now, ip("192.0.2.1"), 80, 100_000).len();
        assert_eq!(flood + more, 16_384 / 2);
        let mut refused = 0;
        for client in 0..6_000_u32 {
            let address = IpAddr::from(u32::to_be_bytes(0xc633_6400 + client));
            let port = if client % 2 == 0 { 443 } else { 80 };
            refused += usize::from(admission.admit(now, address, Place::of(port)).is_err());
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn each_address_of_a_port_has_its_own_number() {
        let now = crate::any_instant();
        let mut places = Places::default();
        let mut admission = Admission::new(without_rate(), DESCRIPTORS);
        let (here, there) = (
            places.on(443, ip("192.0.2.1")),
            places.on(443, ip("192.0.2.2")),
        );
        let clients =
            (0..20_000_u32).map(|client| IpAddr::from((0xc633_6400 + client).to_be_bytes()));
        let let_in = clients.filter(|client| admission.admit(now, *client, here).is_ok());
        assert_eq!(let_in.count(), 12_288);
        assert!(admission.admit(now, ip("203.0.113.1"), here).is_err());
        assert!(admission.admit(now, ip("203.0.113.1"), there).is_ok());
    }

    #[test]
    fn two_floods_get_a_third_each() {
        let now = crate::any_instant();
        let limits = EdgeLimits {
            configured_max_connections: Some(Limit::new(900)),
            ..without_rate()
        };
        let mut admission = Admission::new(limits, DESCRIPTORS);
        let mut held = [0, 0];
        for turn in 0..10_000 {
            let address = ip(["192.0.2.1", "2001:db8::1"][turn % 2]);
            held[turn % 2] += usize::from(admission.admit(now, address, Place::of(443)).is_ok());
        }
        assert_eq!(held, [300, 300]);
    }

    #[test]
    fn a_newcomer_meets_the_limit_of_all_and_not_its_own() {
        let now = crate::any_instant();
        let mut admission = Admission::new(without_rate(), DESCRIPTORS);
        admission.limit_streams(Limit::new(1));
        let first = admission.admit(now, ip("192.0.2.1"), Place::of(443));
        assert!(first.is_ok());
        // The hub's limit has a reason of its own.
        assert!(
            admission
                .admit(now, ip("192.0.2.2"), Place::of(443))
                .is_ok()
        );
        let more = admission.admit(now, ip("192.0.2.2"), Place::of(443));
        assert_eq!(more.unwrap_err(), Refusal::ConnectionsPerIp);
    }

    #[test]
    fn an_address_has_a_burst_then_a_rate_then_a_number() {
        let now = crate::any_instant();
        let limits = EdgeLimits {
            max_connections_per_ip: Some(Limit::new(256)),
            new_connections_per_ip_per_sec: Limit::new(100),
            new_connections_per_ip_burst: Limit::new(200),
            ..EdgeLimits::default()
        };
        let mut admission = Admission::new(limits, DESCRIPTORS);
        let flood = |admission: &mut Admission, secs| {
            let now = now + Duration::from_secs(secs);
            crowd(admission, now, ip("192.0.2.1"), 80, 300)
        };
        let mut held = flood(&mut admission, 0);
        assert_eq!(held.len(), 200);
        assert!(admission.admit(now, ip("192.0.2.2"), Place::of(80)).is_ok());
        held.extend(flood(&mut admission, 10));
        assert_eq!(held.len(), 256);
        let full = admission.admit(
            now + Duration::from_secs(20),
            ip("192.0.2.1"),
            Place::of(80),
        );
        assert_eq!(full.unwrap_err(), Refusal::ConnectionsPerIp);
        for counted in held {
            admission.release(&counted);
        }
        assert_eq!(admission.on_port(80), 1);
        assert_eq!(flood(&mut admission, 30).len(), 200);
        assert_eq!(admission.places.len(), 2);
    }

    #[test]
    fn by_default_it_is_2_000_at_once_and_1_000_per_second() {
        let now = crate::any_instant();
        let mut admission = Admission::new(EdgeLimits::default(), DESCRIPTORS);
        let home = ip("192.0.2.1");
        assert_eq!(crowd(&mut admission, now, home, 80, 5_000).len(), 2_000);
        let later = now + Duration::from_secs(1);
        assert_eq!(crowd(&mut admission, later, home, 80, 5_000).len(), 1_000);
        let refused = admission.admit(later, home, Place::of(80));
        assert_eq!(refused.unwrap_err(), Refusal::NewConnectionsPerIp);
    }

    #[test]
    fn an_exempt_network_has_only_the_limits_of_all() {
        let now = crate::any_instant();
        let limits: EdgeLimits = remoteingress_config::decode(&serde_json::json!({
            "maxConnections": 100, "maxConnectionsPerListener": 60, "exempt": ["192.0.2.0/24"],
            "maxConnectionsPerIp": 1, "newConnectionsPerIpPerSec": 1, "newConnectionsPerIpBurst": 1,
        }))
        .unwrap();
        let mut admission = Admission::new(limits, DESCRIPTORS);
        let (exempt, other) = (ip("::ffff:192.0.2.9"), ip("198.51.100.1"));
        let here = crowd(&mut admission, now, exempt, 80, 1_000);
        let there = crowd(&mut admission, now, exempt, 81, 1_000);
        assert_eq!((here.len(), there.len()), (60, 40));
        let refused = admission.admit(now, other, Place::of(81));
        assert_eq!(refused.unwrap_err(), Refusal::Connections);
        for counted in here.iter().chain(&there) {
            admission.release(counted);
        }
        assert_eq!(crowd(&mut admission, now, other, 81, 1_000).len(), 1);
    }

    #[test]
    fn descriptors_bound_the_total() {
        let limits = EdgeLimits {
            max_connections_per_ip: Some(Limit::OFF),
            ..EdgeLimits::default()
        };
        let mut admission = Admission::new(limits, 100);
        let now = crate::any_instant();
        for i in 0..40 {
            assert!(admission.admit(now, ip("192.0.2.1"), Place::of(i)).is_ok());
        }
        let full = admission.admit(now, ip("192.0.2.1"), Place::of(41));
        assert_eq!(full.unwrap_err(), Refusal::Connections);
        assert_eq!(admission.places().count(), 40);
    }
}
