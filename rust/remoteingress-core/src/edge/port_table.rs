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
    rank: Rank,
}

/// Place among the ports that wait for a listener: those that the hub lists alone or in short ranges come first, and
/// otherwise they come as it lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    range_ports: u16,
    place: usize,
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
        /// Ports of the range in which the hub lists it.
        range_ports: u16,
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
    bound: usize,
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
        for (key, (is_shared, rank)) in wanted {
            if let Some(old) = before.remove(&key) {
                let port = Port {
                    is_shared,
                    rank,
                    ..old
                };
                self.ports.insert(key, port);
            } else {
                new.push((key, is_shared, rank));
            }
        }
        let mut opens = Vec::new();
        let mut left = before.clone();
        for (key, is_shared, rank) in new {
            let mut others = before.range(on_any_address(key)).map(|(_, old)| old);
            let is_beside_own = others.any(|old| old.open().is_some());
            // One of them takes the place of the other, and none is closed before that.
            let replaced = left.range(on_any_address(key)).map(|(other, _)| *other);
            let replaced = replaced.min().and_then(|other| left.remove(&other));
            let replaces = replaced.as_ref().and_then(Port::open);
            let port = Port {
                state: PortState::Wanted,
                replaces,
                is_shared,
                rank,
            };
            opens.push((rank, port.bind(key, is_beside_own)));
            self.ports.insert(key, port);
        }
        self.bound = self.count_bound();
        for (key, old) in left {
            if let Some(listener) = old.open() {
                changes.push(Change::Close { key, listener });
            }
        }
        // Ports that are given up come first: they make room for those that are wanted.
        changes.extend(in_order(opens));
        Ok(changes)
    }

    /// No port is wanted any more.
    pub fn clear(&mut self) -> Vec<Change> {
        let close = |(key, old): (PortKey, Port)| {
            let listener = old.open()?;
            Some(Change::Close { key, listener })
        };
        let ports = std::mem::take(&mut self.ports);
        self.bound = 0;
        ports.into_iter().filter_map(close).collect()
    }

    /// The port is bound.
    pub fn bound(&mut self, key: PortKey) -> ListenerId {
        self.last_listener += 1;
        let listener = ListenerId(self.last_listener);
        if let Some(port) = self.ports.get_mut(&key) {
            self.bound += usize::from(port.listener().is_none());
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
        self.bound -= usize::from(port.listener().is_some());
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

    /// Failed ports that are due, in the order in which they are to be tried.
    pub fn due(&self, now: Instant) -> Vec<Change> {
        let due = self.ports.iter().filter(|(_, port)| {
            matches!(&port.state, PortState::Failed { retry_at, .. } if *retry_at <= now)
        });
        in_order(
            due.map(|(key, port)| (port.rank, port.bind(*key, port.replaces.is_some())))
                .collect(),
        )
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

    /// The port is bound.
    pub fn is_bound(&self, key: PortKey) -> bool {
        let port = self.ports.get(&key);
        port.is_some_and(|port| port.listener().is_some())
    }

    /// The number of ports that are bound.
    pub fn bound_count(&self) -> usize {
        self.bound
    }

    /// The number of ports that are wanted and aren't bound.
    pub fn unbound_count(&self) -> usize {
        self.ports.len() - self.bound
    }

    fn count_bound(&self) -> usize {
        let ports = self.ports.values();
        ports.filter(|port| port.listener().is_some()).count()
    }
}

/// The ports of a generation: whether each one's number is there on several addresses, and its rank.
fn wanted(config: &Config) -> Result<BTreeMap<PortKey, (bool, Rank)>, Refused> {
    let mut wanted = BTreeMap::new();
    for (place, range) in config.ports.iter().enumerate() {
        let range_ports = (range.last - range.first).saturating_add(1);
        let rank = Rank { range_ports, place };
        for port in range.first..=range.last {
            let key = PortKey {
                protocol: range.protocol,
                port,
                address: range.bind_address,
            };
            if wanted.insert(key, (range.is_shared, rank)).is_some() {
                return Err(Refused::Overlap(key));
            }
        }
    }
    let pairs = wanted.iter().zip(wanted.iter().skip(1));
    for ((key, (is_shared, _)), (next, (next_is_shared, _))) in pairs {
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

/// Ports of one rank stay in their order.
fn in_order(mut changes: Vec<(Rank, Change)>) -> Vec<Change> {
    changes.sort_by_key(|(rank, _)| *rank);
    changes.into_iter().map(|(_, change)| change).collect()
}

impl Port {
    /// Its number is there on several addresses.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The step that binds it.
    fn bind(&self, key: PortKey, is_beside_own: bool) -> Change {
        Change::Bind {
            key,
            replaces: self.replaces,
            is_beside_own,
            range_ports: self.rank.range_ports,
        }
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
mod tests;
