//! The ports of the generation in force: wanted, bound or failed, and the changes to the next one (D7).

use super::place::{Place, Places};
use remoteingress_proto::control::{Config, PortFailure};
use remoteingress_proto::wire::header::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// A failed port is tried again after this, then after twice as long (D7).
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No pause between tries is longer (D7).
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A port of one protocol on one address, as one listener serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// TCP and UDP ports of the same number are different ones.
    pub protocol: Protocol,
    /// The port's number, from 1.
    pub port: u16,
    /// The address that the hub wants it bound to; without one the edge's own choice.
    pub address: Option<IpAddr>,
}

/// One bound listener (all its copies), never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// The state of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// It hasn't been tried yet.
    Wanted,
    /// It is open.
    Bound(ListenerId),
    /// It could not be bound.
    Failed {
        /// The kind of failure, as the hub is told.
        code: PortFailure,
        /// The reason in words.
        message: String,
        /// The time of the next try.
        retry_at: Instant,
        /// The time from the failure to the next try.
        pause: Duration,
    },
}

/// A port of the generation in force.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its state.
    pub state: PortState,
    /// The listener of another address, which stays open until this one is bound.
    replaces: Option<ListenerId>,
    /// Its number is there on several addresses.
    is_shared: bool,
}

/// A step towards the generation in force. Steps are taken in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bind the port; then close the listener that it replaces, if any.
    Bind {
        /// The port.
        key: PortKey,
        /// The listener that stays open until the port is bound.
        replaces: Option<ListenerId>,
        /// A listener of this edge's own may still be open at this port on an address that overlaps.
        is_beside_own: bool,
    },
    /// Close the listener.
    Close {
        /// The port that it was for.
        key: PortKey,
        /// The listener.
        listener: ListenerId,
    },
}

/// The reason for which a generation is refused whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This port is there twice, and not on two addresses.
    Overlap(PortKey),
}

/// The ports of the generation in force.
#[derive(Debug, Default)]
pub struct PortTable {
    ports: BTreeMap<PortKey, Port>,
    last_listener: u64,
    places: Places,
}

impl PortTable {
    /// Takes over a generation: unchanged ports aren't touched. On error nothing has changed.
    pub fn apply(&mut self, config: &Config) -> Result<Vec<Change>, Refused> {
        let wanted = wanted(config)?;
        let mut changes = Vec::new();
        let mut before = std::mem::take(&mut self.ports);
        let mut new = Vec::new();
        for (key, is_shared) in wanted {
            if let Some(mut old) = before.remove(&key) {
                old.is_shared = is_shared;
                self.ports.insert(key, old);
            } else {
                new.push((key, is_shared));
            }
        }
        let mut opens = Vec::new();
        let mut left = before.clone();
        for (key, is_shared) in new {
            let mut others = before.range(on_any_address(key)).map(|(_, old)| old);
            let is_beside_own = others.any(|old| old.open().is_some());
            // One of them takes the place of the other, and none is closed before that.
            let replaced = left.range(on_any_address(key)).map(|(other, _)| *other);
            let replaced = replaced.min().and_then(|other| left.remove(&other));
            let replaces = replaced.as_ref().and_then(Port::open);
            opens.push(Change::Bind {
                key,
                replaces,
                is_beside_own,
            });
            let port = Port {
                state: PortState::Wanted,
                replaces,
                is_shared,
            };
            self.ports.insert(key, port);
        }
        for (key, old) in left {
            if let Some(listener) = old.open() {
                changes.push(Change::Close { key, listener });
            }
        }
        // Ports that are given up come first: they make room for those that are wanted.
        changes.extend(opens);
        Ok(changes)
    }

    /// No port is wanted any more.
    pub fn clear(&mut self) -> Vec<Change> {
        let close = |(key, old): (PortKey, Port)| {
            let listener = old.open()?;
            Some(Change::Close { key, listener })
        };
        let ports = std::mem::take(&mut self.ports);
        ports.into_iter().filter_map(close).collect()
    }

    /// The port is bound.
    pub fn bound(&mut self, key: PortKey) -> ListenerId {
        self.last_listener += 1;
        let listener = ListenerId(self.last_listener);
        if let Some(port) = self.ports.get_mut(&key) {
            port.state = PortState::Bound(listener);
            port.replaces = None;
        }
        listener
    }

    /// The port could not be bound: it is tried again later.
    pub fn failed(&mut self, now: Instant, key: PortKey, code: PortFailure, message: String) {
        let Some(port) = self.ports.get_mut(&key) else {
            return;
        };
        let pause = match &port.state {
            PortState::Failed { pause, .. } => (*pause * 2).min(LAST_RETRY),
            PortState::Wanted | PortState::Bound(_) => FIRST_RETRY,
        };
        port.state = PortState::Failed {
            code,
            message,
            retry_at: now + pause,
            pause,
        };
    }

    /// The time at which the next failed port is due.
    pub fn next_retry(&self) -> Option<Instant> {
        let retry_at = |port: &Port| match &port.state {
            PortState::Failed { retry_at, .. } => Some(*retry_at),
            PortState::Wanted | PortState::Bound(_) => None,
        };
        self.ports.values().filter_map(retry_at).min()
    }

    /// Failed ports that are due.
    pub fn due(&self, now: Instant) -> Vec<Change> {
        let due = self.ports.iter().filter(|(_, port)| {
            matches!(&port.state, PortState::Failed { retry_at, .. } if *retry_at <= now)
        });
        due.map(|(key, port)| Change::Bind {
            key: *key,
            replaces: port.replaces,
            is_beside_own: port.replaces.is_some(),
        })
        .collect()
    }

    /// All ports with their states, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PortKey, &Port)> {
        self.ports.iter().map(|(key, port)| (*key, port))
    }

    /// The place at which clients of this port are counted, from when it is opened.
    pub fn place(&mut self, key: PortKey) -> Place {
        let is_shared = self.ports.get(&key).is_some_and(Port::is_shared);
        match key.address.filter(|_| is_shared) {
            Some(address) => self.places.on(key.port, address),
            None => Place::of(key.port),
        }
    }

    /// The generation in force has the port of this place.
    pub fn contains(&self, protocol: Protocol, place: Place) -> bool {
        let address = self.places.address(place);
        let key = PortKey {
            protocol,
            port: place.port,
            address,
        };
        match address {
            Some(_) => self.ports.contains_key(&key),
            None => self.ports.range(on_any_address(key)).next().is_some(),
        }
    }

    /// The address of a place, where its port was there on several.
    pub fn address(&self, place: Place) -> Option<IpAddr> {
        self.places.address(place)
    }

    /// The number of ports that are bound.
    pub fn bound_count(&self) -> usize {
        self.ports
            .values()
            .filter(|port| port.listener().is_some())
            .count()
    }
}

/// The ports of a generation, and whether each one's number is there on several addresses.
fn wanted(config: &Config) -> Result<BTreeMap<PortKey, bool>, Refused> {
    let mut wanted = BTreeMap::new();
    for range in &config.ports {
        for port in range.first..=range.last {
            let key = PortKey {
                protocol: range.protocol,
                port,
                address: range.bind_address,
            };
            if wanted.insert(key, range.is_shared).is_some() {
                return Err(Refused::Overlap(key));
            }
        }
    }
    let pairs = wanted.iter().zip(wanted.iter().skip(1));
    for ((key, is_shared), (next, next_is_shared)) in pairs {
        let is_same = (key.protocol, key.port) == (next.protocol, next.port);
        if is_same && !(*is_shared && *next_is_shared) {
            return Err(Refused::Overlap(*next));
        }
    }
    Ok(wanted)
}

/// All ports of this number and protocol.
fn on_any_address(key: PortKey) -> RangeInclusive<PortKey> {
    let highest = IpAddr::V6(Ipv6Addr::from(u128::MAX));
    let with = |address| PortKey { address, ..key };
    with(None)..=with(Some(highest))
}

impl Port {
    /// Its number is there on several addresses.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The listener that is open for this port: the one wanted, or the one before it.
    fn open(&self) -> Option<ListenerId> {
        self.listener().or(self.replaces)
    }

    /// The listener, if the port is bound.
    pub fn listener(&self) -> Option<ListenerId> {
        match self.state {
            PortState::Bound(listener) => Some(listener),
            PortState::Wanted | PortState::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::control::ConfigPort;
    use remoteingress_proto::handshake::HubEpoch;

    fn config(ports: &[(u16, u16, Option<&str>)]) -> Config {
        let ports = ports.iter().map(|(first, last, bind)| ConfigPort {
            protocol: Protocol::Tcp,
            first: *first,
            last: *last,
            bind_address: bind.map(|text| text.parse().expect("address")),
            udp_idle_secs: None,
            is_shared: false,
        });
        Config {
            epoch: HubEpoch([0; 16]),
            generation: 1,
            ports: ports.collect(),
            stun_interval_secs: 0,
            max_streams: 0,
        }
    }

    fn tcp(port: u16) -> PortKey {
        PortKey {
            protocol: Protocol::Tcp,
            port,
            address: None,
        }
    }

    fn on(port: u16, address: &str) -> PortKey {
        PortKey {
            address: Some(address.parse().expect("address")),
            ..tcp(port)
        }
    }

    /// A port on several addresses.
    fn shared(port: u16, addresses: &[&str]) -> Config {
        let addresses = addresses.iter();
        let ports: Vec<_> = addresses
            .map(|address| (port, port, Some(*address)))
            .collect();
        let mut config = config(&ports);
        for port in &mut config.ports {
            port.is_shared = true;
        }
        config
    }

    fn bind(port: u16, replaces: Option<u64>) -> Change {
        bind_at(tcp(port), replaces, replaces.is_some())
    }

    fn bind_at(key: PortKey, replaces: Option<u64>, is_beside_own: bool) -> Change {
        Change::Bind {
            key,
            replaces: replaces.map(ListenerId),
            is_beside_own,
        }
    }

    fn close(key: PortKey, listener: u64) -> Change {
        let listener = ListenerId(listener);
        Change::Close { key, listener }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let mut table = PortTable::default();
        let changes = table.apply(&config(&[(80, 81, None)])).expect("valid");
        assert_eq!(changes, [bind(80, None), bind(81, None)]);
        assert_eq!(
            (table.bound(tcp(80)), table.bound(tcp(81))),
            (ListenerId(1), ListenerId(2))
        );
        assert_eq!(
            table.apply(&config(&[(81, 81, None), (80, 80, None)])),
            Ok(vec![])
        );
        let changes = table.apply(&config(&[(81, 82, None)])).expect("valid");
        assert_eq!(
            changes,
            [
                Change::Close {
                    key: tcp(80),
                    listener: ListenerId(1)
                },
                bind(82, None)
            ]
        );
        let changes = table
            .apply(&config(&[(81, 81, Some("127.0.0.1"))]))
            .expect("valid");
        let Some(change @ Change::Bind { replaces, .. }) = changes.first() else {
            panic!("{changes:?}")
        };
        assert_eq!(*replaces, Some(ListenerId(2)));
        // Its successor can't be bound yet: it stays open, and is closed with the port.
        let now = crate::any_instant();
        let key = on(81, "127.0.0.1");
        table.failed(now, key, PortFailure::AddressInUse, String::new());
        assert_eq!(table.due(now + FIRST_RETRY), [*change]);
        let changes = table.apply(&config(&[])).expect("valid");
        assert_eq!(changes, [close(key, 2)]);
    }

    #[test]
    fn a_port_on_one_address_leaves_that_of_another_alone() {
        let (a, b, c) = ("192.0.2.1", "192.0.2.2", "2001:db8::1");
        let mut table = PortTable::default();
        let changes = table.apply(&config(&[(443, 443, Some(a))])).expect("valid");
        assert_eq!(changes, [bind_at(on(443, a), None, false)]);
        table.bound(on(443, a));
        let changes = table.apply(&shared(443, &[a, b])).expect("valid");
        assert_eq!(changes, [bind_at(on(443, b), None, false)]);
        table.bound(on(443, b));
        assert!(table.iter().all(|(_, port)| port.is_shared()));
        let changes = table.apply(&shared(443, &[c, b])).expect("valid");
        assert_eq!(changes, [bind_at(on(443, c), Some(1), true)]);
        table.bound(on(443, c));
        let changes = table.apply(&config(&[(443, 443, Some(b))])).expect("valid");
        assert_eq!(changes, [close(on(443, c), 3)]);
        assert!(table.iter().all(|(_, port)| !port.is_shared()));
        let place = Place::of(443);
        assert!(table.contains(Protocol::Tcp, place) && !table.contains(Protocol::Udp, place));
    }

    #[test]
    fn a_port_on_all_addresses_gives_way_to_some_of_them_and_the_reverse() {
        let (a, b) = ("192.0.2.1", "192.0.2.2");
        let mut table = PortTable::default();
        table.apply(&config(&[(443, 443, None)])).expect("valid");
        table.bound(tcp(443));
        let changes = table.apply(&shared(443, &[a, b])).expect("valid");
        // The other may be open until its worker has heard of its end.
        let binds = [
            bind_at(on(443, a), Some(1), true),
            bind_at(on(443, b), None, true),
        ];
        assert_eq!(changes, binds);
        table.bound(on(443, a));
        table.bound(on(443, b));
        let changes = table.apply(&config(&[(443, 443, None)])).expect("valid");
        assert_eq!(changes, [close(on(443, b), 3), bind(443, Some(2))]);
    }

    #[test]
    fn a_port_is_there_twice_only_where_both_are_shared() {
        let mut table = PortTable::default();
        let (a, b) = ("192.0.2.1", "192.0.2.2");
        for ports in [[None, Some(a)], [Some(a), Some(b)]] {
            let ports = ports.map(|address| (443, 443, address));
            let refused = table.apply(&config(&ports));
            assert!(matches!(refused, Err(Refused::Overlap(_))), "{refused:?}");
        }
        let refused = table.apply(&shared(443, &[a, a]));
        assert_eq!(refused, Err(Refused::Overlap(on(443, a))));
    }

    #[test]
    fn an_invalid_generation_changes_nothing() {
        let mut table = PortTable::default();
        table.apply(&config(&[(80, 80, None)])).expect("valid");
        table.bound(tcp(80));
        let overlap = config(&[(90, 95, None), (95, 95, None)]);
        assert_eq!(table.apply(&overlap), Err(Refused::Overlap(tcp(95))));
        assert_eq!(table.bound_count(), 1);
    }

    #[test]
    fn one_number_may_be_a_port_of_either_protocol() {
        let mut table = PortTable::default();
        let mut both = config(&[(53, 53, None), (53, 53, None)]);
        both.ports[1].protocol = Protocol::Udp;
        let changes = table.apply(&both).expect("no overlap");
        assert_eq!(changes.len(), 2);
        let listener = table.bound(tcp(53));
        both.ports.remove(0);
        let changes = table.apply(&both).expect("valid");
        let key = tcp(53);
        assert_eq!(changes, [Change::Close { key, listener }]);
    }

    #[test]
    fn a_failed_port_is_tried_after_1_2_4_up_to_30_seconds() {
        let (mut table, mut now) = (PortTable::default(), crate::any_instant());
        table.apply(&config(&[(80, 80, None)])).expect("valid");
        let mut pauses = Vec::new();
        for _ in 0..7 {
            table.failed(now, tcp(80), PortFailure::AddressInUse, String::new());
            let at = table.next_retry().expect("failed");
            pauses.push((at - now).as_secs());
            assert_eq!(table.due(at - Duration::from_millis(1)), []);
            assert_eq!(table.due(at), [bind(80, None)]);
            now = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        table.bound(tcp(80));
        assert_eq!(table.next_retry(), None);
    }
}
