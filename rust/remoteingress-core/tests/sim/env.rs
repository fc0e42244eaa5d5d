//! The environment that all actors share: the network and its faults, chance, the model of the streams, and the trace.

use crate::link::Packet;
use crate::trace::Trace;
use crate::traffic::Traffic;
use remoteingress_testkit::any_instant;
use remoteingress_testkit::chance::Chance;
use remoteingress_testkit::net::{Connection, Endpoint, Network, Path};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The way the random numbers that spread waits are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    /// Always short waits.
    Least,
    /// Always the longest wait.
    Most,
    /// Any wait.
    Any,
}

/// The world outside of edge and hub.
pub(crate) struct Env {
    pub(crate) net: Network<Packet>,
    pub(crate) chance: Chance,
    pub(crate) traffic: Traffic,
    pub(crate) trace: Trace,
    spread: Spread,
    /// Paths on which nothing gets through now.
    black: BTreeSet<[Endpoint; 2]>,
    /// The number of each connection, from which its exporter value is made.
    numbers: BTreeMap<Connection, u64>,
    /// Connections that the hub resets, since it was restarted.
    resets: BTreeSet<Connection>,
    /// Some connections are cut just when their Welcome is on its way.
    pub(crate) loses_welcomes: bool,
    /// Connections that are to be cut.
    cuts: Vec<(Instant, Connection)>,
    /// The endpoint whose time is that of faults.
    pub(crate) clock: Endpoint,
}

impl Env {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        // Neighbouring seeds begin with unlike numbers.
        let mut chance = Chance::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..4 {
            chance.next_u64();
        }
        let spread = match chance.below(4) {
            0 => Spread::Least,
            1 => Spread::Most,
            _ => Spread::Any,
        };
        let mut net = Network::new(seed, any_instant(), Path::default());
        let clock = net.endpoint("clock");
        Self {
            net,
            chance,
            traffic: Traffic::default(),
            trace,
            spread,
            black: BTreeSet::new(),
            numbers: BTreeMap::new(),
            resets: BTreeSet::new(),
            loses_welcomes: false,
            cuts: Vec::new(),
            clock,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.net.now()
    }

    /// The number that spreads a wait, from 0 to 1.
    pub(crate) fn spread(&mut self) -> f64 {
        match self.spread {
            // With 0 no attempt that fails would be followed by a wait.
            Spread::Least => 0.1,
            Spread::Most => 1.0,
            Spread::Any => self.chance.fraction(),
        }
    }

    /// True in one of `n` cases.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.chance.below(n) == 0
    }

    /// From no time up to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.chance.fraction())
    }

    /// Sixteen random bytes.
    pub(crate) fn id(&mut self) -> [u8; 16] {
        let halves = [self.chance.next_u64(), self.chance.next_u64()];
        let mut id = [0; 16];
        for (bytes, half) in id.chunks_mut(8).zip(halves) {
            bytes.copy_from_slice(&half.to_be_bytes());
        }
        id
    }

    pub(crate) fn dial(&mut self, from: Endpoint, to: Endpoint) -> Connection {
        let connection = self.net.dial(from, to);
        let number = self.numbers.len() as u64;
        self.numbers.insert(connection, number);
        connection
    }

    /// A value that only the ends of a connection know; in place of the exporter value of TLS.
    pub(crate) fn exporter(&self, connection: Connection) -> [u8; 32] {
        let mut value = [7; 32];
        value[..8].copy_from_slice(&self.numbers[&connection].to_be_bytes());
        value
    }

    /// The short name of a connection in the trace.
    pub(crate) fn name(&self, connection: Connection) -> String {
        format!("c{}", self.numbers[&connection])
    }

    /// One end drops a connection without a word. The other end learns of it unless the path is black.
    pub(crate) fn drop_connection(&mut self, connection: Connection, by: Endpoint) {
        let [dialer, target] = self.net.ends(connection);
        let after = if self.is_black(dialer, target) {
            None
        } else {
            Some(Duration::from_millis(5) + self.up_to(Duration::from_millis(50)))
        };
        let seen = if by == dialer {
            [None, after]
        } else {
            [after, None]
        };
        self.net.cut(connection, seen);
    }

    /// A Welcome is on its way, and the hub carries out what came ahead of it: perhaps the connection dies meanwhile.
    pub(crate) fn welcomes(&mut self, connection: Connection) {
        if self.loses_welcomes && self.one_in(10) {
            let at = self.now() + self.up_to(Duration::from_millis(40));
            self.cuts.push((at, connection));
            self.net.wake(self.clock, at);
        }
    }

    /// Cuts the connections whose time has come.
    pub(crate) fn cut_due(&mut self) {
        let now = self.now();
        while let Some(index) = self.cuts.iter().position(|(at, _)| *at <= now) {
            let (_, connection) = self.cuts.remove(index);
            let seen = Some(Duration::from_millis(5));
            let name = self.name(connection);
            self.say(format_args!("cut: {name}, with its Welcome"));
            self.net.cut(connection, [seen, seen]);
        }
    }

    pub(crate) fn set_black(&mut self, a: Endpoint, b: Endpoint, is_black: bool) {
        if is_black {
            self.black.insert([a.min(b), a.max(b)]);
        } else {
            self.black.remove(&[a.min(b), a.max(b)]);
        }
        self.net.set_black_hole(a, b, is_black);
    }

    pub(crate) fn is_black(&self, a: Endpoint, b: Endpoint) -> bool {
        self.black.contains(&[a.min(b), a.max(b)])
    }

    /// Whoever hears that this connection is dead hears it from a peer that doesn't know it.
    pub(crate) fn reset(&mut self, connection: Connection) {
        self.resets.insert(connection);
    }

    pub(crate) fn is_reset(&self, connection: Connection) -> bool {
        self.resets.contains(&connection)
    }

    /// Adds a line to the trace.
    pub(crate) fn say(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.add(self.net.now(), line);
    }
}
