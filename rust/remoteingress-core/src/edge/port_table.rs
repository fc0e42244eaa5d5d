//! The ports of the generation in force: wanted, bound or failed, and the changes to the next one (D7).

use remoteingress_proto::control::{Config, PortFailure};
use remoteingress_proto::wire::header::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A failed port is tried again after this, then after twice as long (D7).
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No pause between tries is longer (D7).
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A port of one protocol, as one listener serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// TCP and UDP ports of the same number are different ones.
    pub protocol: Protocol,
    /// The port's number, from 1.
    pub port: u16,
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
    /// The address that the hub wants it bound to; without one the edge's own choice.
    pub bind_address: Option<IpAddr>,
    /// Its state.
    pub state: PortState,
    /// The listener of another address, which stays open until this one is bound.
    replaces: Option<ListenerId>,
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
        /// The address that the hub wants it bound to.
        bind_address: Option<IpAddr>,
        /// The listener that stays open until the port is bound.
        replaces: Option<ListenerId>,
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
    /// This port is there twice.
    Overlap(PortKey),
}

/// The ports of the generation in force.
#[derive(Debug, Default)]
pub struct PortTable {
    ports: BTreeMap<PortKey, Port>,
    bound: usize,
    last_listener: u64,
}

impl PortTable {
    /// Takes over a generation: unchanged ports aren't touched. On error nothing has changed.
    pub fn apply(&mut self, config: &Config) -> Result<Vec<Change>, Refused> {
        let mut wanted = BTreeMap::new();
        for (place, range) in config.ports.iter().enumerate() {
            let range_ports = (range.last - range.first).saturating_add(1);
            let rank = Rank { range_ports, place };
            for port in range.first..=range.last {
                let key = PortKey {
                    protocol: range.protocol,
                    port,
                };
                if wanted.insert(key, (range.bind_address, rank)).is_some() {
                    return Err(Refused::Overlap(key));
                }
            }
        }
        let mut changes = Vec::new();
        let mut closes = Vec::new();
        let mut before = std::mem::take(&mut self.ports);
        for (key, (bind_address, rank)) in wanted {
            let old = before.remove(&key);
            let replaces = old.as_ref().and_then(Port::open);
            if let Some(old) = old.filter(|old| old.bind_address == bind_address) {
                self.ports.insert(key, Port { rank, ..old });
                continue;
            }
            let new = Port {
                bind_address,
                state: PortState::Wanted,
                replaces,
                rank,
            };
            changes.push((rank, new.bind(key)));
            self.ports.insert(key, new);
        }
        self.bound = self.count_bound();
        for (key, old) in before {
            if let Some(listener) = old.open() {
                closes.push(Change::Close { key, listener });
            }
        }
        // Ports that are given up come first: they make room for those that are wanted.
        closes.extend(in_order(changes));
        Ok(closes)
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
            due.map(|(key, port)| (port.rank, port.bind(*key)))
                .collect(),
        )
    }

    /// All ports with their states, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PortKey, &Port)> {
        self.ports.iter().map(|(key, port)| (*key, port))
    }

    /// The generation in force has this port.
    pub fn contains(&self, key: PortKey) -> bool {
        self.ports.contains_key(&key)
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

/// Ports of one rank stay in their order.
fn in_order(mut changes: Vec<(Rank, Change)>) -> Vec<Change> {
    changes.sort_by_key(|(rank, _)| *rank);
    changes.into_iter().map(|(_, change)| change).collect()
}

impl Port {
    /// The step that binds it.
    fn bind(&self, key: PortKey) -> Change {
        Change::Bind {
            key,
            bind_address: self.bind_address,
            replaces: self.replaces,
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
        }
    }

    fn bind(port: u16, range_ports: u16) -> Change {
        Change::Bind {
            key: tcp(port),
            bind_address: None,
            replaces: None,
            range_ports,
        }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let mut table = PortTable::default();
        let changes = table.apply(&config(&[(80, 81, None)])).expect("valid");
        assert_eq!(changes, [bind(80, 2), bind(81, 2)]);
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
                bind(82, 2)
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
        table.failed(now, tcp(81), PortFailure::AddressInUse, String::new());
        assert_eq!(table.due(now + FIRST_RETRY), [*change]);
        let changes = table.apply(&config(&[])).expect("valid");
        let listener = ListenerId(2);
        assert_eq!(
            changes,
            [Change::Close {
                key: tcp(81),
                listener
            }]
        );
    }

    #[test]
    fn single_ports_and_short_ranges_are_bound_first_also_when_they_failed() {
        let (mut table, now) = (PortTable::default(), crate::any_instant());
        let ports = |changes: &[Change]| {
            let port = |change: &Change| match change {
                Change::Bind { key, .. } | Change::Close { key, .. } => key.port,
            };
            changes.iter().map(port).collect::<Vec<_>>()
        };
        let ranges = [
            (100, 102, None),
            (20, 21, None),
            (900, 900, None),
            (443, 443, None),
            (1, 2, None),
        ];
        let changes = table.apply(&config(&ranges)).expect("valid");
        let order = [900, 443, 20, 21, 1, 2, 100, 101, 102];
        assert_eq!(ports(&changes), order);
        for port in order {
            table.failed(now, tcp(port), PortFailure::DescriptorLimit, String::new());
        }
        assert_eq!((table.bound_count(), table.unbound_count()), (0, 9));
        assert_eq!(ports(&table.due(now + FIRST_RETRY)), order);
        table.bound(tcp(20));
        assert_eq!((table.bound_count(), table.unbound_count()), (1, 8));
        // The widest range is the first one now.
        let ranges = [(1, 1, None), (900, 999, None), (20, 20, None)];
        let changes = table.apply(&config(&ranges)).expect("valid");
        let changed: Vec<u16> = (901..=999).collect();
        assert_eq!(ports(&changes), changed);
        assert_eq!(ports(&table.due(now + FIRST_RETRY)), [1, 900]);
        assert_eq!((table.bound_count(), table.unbound_count()), (1, 101));
    }

    #[test]
    fn every_port_there_is_is_a_table() {
        let mut table = PortTable::default();
        let changes = table.apply(&config(&[(1, u16::MAX, None)]));
        assert_eq!(changes.expect("valid").len(), 65_535);
        for port in 1..=u16::MAX {
            table.bound(tcp(port));
        }
        assert_eq!((table.bound_count(), table.unbound_count()), (65_535, 0));
        assert_eq!(table.clear().len(), 65_535);
        assert_eq!((table.bound_count(), table.unbound_count()), (0, 0));
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
            assert_eq!(table.due(at), [bind(80, 1)]);
            now = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        table.bound(tcp(80));
        assert_eq!(table.next_retry(), None);
    }
}
