//! A network of named endpoints in one virtual time: dials, connections that keep order, datagrams, timers.
//!
//! It moves payload of any type and never looks into it. A test acts for the endpoints: it takes what
//! happens next ([`Network::pop`]), which moves time on, lets that endpoint answer ([`Network::send`] and the like),
//! and goes on until nothing is due. The same seed and the same calls give the same run.
//!
//! | what goes wrong | what the ends see |
//! | --- | --- |
//! | [`Network::cut`] | what is on its way is lost; each end hears of it after a time of its own, or never |
//! | [`Dials::Refused`] | a dialer is told so after a round trip |
//! | [`Dials::Ignored`] | a dialer hears nothing while the path is like that |
//! | [`Network::set_black_hole`] | datagrams are lost; connections and dials wait until it ends, as TCP sends again |

mod queue;
#[cfg(test)]
mod tests;

pub use queue::Queue;

use crate::chance::Chance;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Somebody who can be dialled and sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(usize);

/// A connection, from the dial that asks for it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(u64);

/// The way between two endpoints, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The least time from one end to the other.
    pub delay: Duration,
    /// At most this is added, differently each time. Connections keep order all the same; datagrams overtake.
    pub jitter: Duration,
    /// The answer to dials.
    pub dials: Dials,
}

/// The answer to a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dials {
    /// A connection.
    Accepted,
    /// No, as soon as it comes.
    Refused,
    /// None.
    Ignored,
}

/// Something that happens at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// Another endpoint has dialled this one.
    Accepted {
        /// The new connection.
        connection: Connection,
        /// The dialer.
        from: Endpoint,
    },
    /// A dial of this endpoint was accepted.
    Connected(Connection),
    /// A dial of this endpoint was refused.
    Refused(Connection),
    /// The next payload of a connection.
    Arrived(Connection, P),
    /// The other end sends nothing more on this connection.
    Finished(Connection),
    /// This connection is dead.
    Died(Connection),
    /// A datagram.
    Datagram {
        /// The sender.
        from: Endpoint,
        /// All of it.
        payload: P,
    },
    /// A time that the endpoint asked for has come.
    Woken,
}

/// Endpoints, what is on its way between them, and the time.
#[derive(Debug)]
pub struct Network<P> {
    now: Instant,
    chance: Chance,
    queue: Queue<Arrival<P>>,
    names: Vec<String>,
    default_path: Path,
    paths: BTreeMap<[Endpoint; 2], Path>,
    black_holes: BTreeSet<[Endpoint; 2]>,
    connections: BTreeMap<Connection, State<P>>,
    connections_made: u64,
}

#[derive(Debug)]
struct Arrival<P> {
    to: Endpoint,
    event: Event<P>,
}

#[derive(Debug)]
struct State<P> {
    /// The dialer and whom it dialled.
    ends: [Endpoint; 2],
    phase: Phase,
    /// The dial has reached the other end.
    is_known: bool,
    /// By which end receives.
    directions: [Direction<P>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has answered the dial yet.
    Dialling,
    Open,
    /// Refused or cut: payload is lost.
    Dead,
}

/// Everything that travels towards one end of a connection.
#[derive(Debug)]
struct Direction<P> {
    /// Nothing arrives before this: the order is kept.
    not_before: Instant,
    /// Sent into a black hole, or before the dial was answered.
    held: VecDeque<Event<P>>,
}

impl<P> Network<P> {
    /// No endpoints yet. Every path is like `default_path` until [`Self::set_path`] says otherwise.
    pub fn new(seed: u64, now: Instant, default_path: Path) -> Self {
        Self {
            now,
            chance: Chance::new(seed),
            queue: Queue::new(seed),
            names: Vec::new(),
            default_path,
            paths: BTreeMap::new(),
            black_holes: BTreeSet::new(),
            connections: BTreeMap::new(),
            connections_made: 0,
        }
    }

    /// A new endpoint; the name is for the reader of a failed test.
    pub fn endpoint(&mut self, name: &str) -> Endpoint {
        self.names.push(name.to_owned());
        Endpoint(self.names.len() - 1)
    }

    /// Sets the path of everything that is sent from now on between two endpoints. Dials that were ignored until now are tried on it.
    pub fn set_path(&mut self, a: Endpoint, b: Endpoint, path: Path) {
        self.paths.insert(both(a, b), path);
        self.set_out_between(a, b);
    }

    /// From now on nothing gets through between two endpoints, or everything again.
    ///
    /// Payload that is on its way when the black hole begins still arrives. When it ends, dials and payload of
    /// connections that were sent meanwhile set out in their order.
    pub fn set_black_hole(&mut self, a: Endpoint, b: Endpoint, is_black: bool) {
        if is_black {
            self.black_holes.insert(both(a, b));
            return;
        }
        self.black_holes.remove(&both(a, b));
        self.set_out_between(a, b);
    }

    /// Asks for a connection. The answer is an event, if one ever comes. Payload that the dialer sends before follows the dial.
    ///
    /// # Panics
    /// If an endpoint dials itself.
    pub fn dial(&mut self, from: Endpoint, to: Endpoint) -> Connection {
        assert_ne!(from, to, "an endpoint dials another one");
        let connection = Connection(self.connections_made);
        self.connections_made += 1;
        let now = self.now;
        let direction = || Direction {
            not_before: now,
            held: VecDeque::new(),
        };
        let state = State {
            ends: [from, to],
            phase: Phase::Dialling,
            is_known: false,
            directions: [direction(), direction()],
        };
        self.connections.insert(connection, state);
        self.set_out(connection);
        connection
    }

    /// Sends on a connection. Payload for a dead one is lost, as if its sender hadn't heard of that yet.
    ///
    /// # Panics
    /// If `from` isn't one of the connection's ends.
    pub fn send(&mut self, connection: Connection, from: Endpoint, payload: P) {
        self.carry(connection, from, Event::Arrived(connection, payload));
    }

    /// Sends nothing more on a connection; the other direction goes on.
    ///
    /// # Panics
    /// If `from` isn't one of the connection's ends.
    pub fn finish(&mut self, connection: Connection, from: Endpoint) {
        self.carry(connection, from, Event::Finished(connection));
    }

    /// Sends a datagram.
    pub fn send_datagram(&mut self, from: Endpoint, to: Endpoint, payload: P) {
        if self.is_black(from, to) {
            return;
        }
        let at = self.now + self.travel_time(from, to);
        // A lane of its own: among datagrams there is no order.
        let lane = self.chance.next_u64();
        let event = Event::Datagram { from, payload };
        self.queue.schedule(at, lane, Arrival { to, event });
    }

    /// A connection dies with all that is on its way. The dialer hears of it after `seen[0]` and the other end after
    /// `seen[1]`, if the dial had reached it; None is never.
    pub fn cut(&mut self, connection: Connection, seen: [Option<Duration>; 2]) {
        let state = self.state(connection);
        if state.phase == Phase::Dead {
            return;
        }
        let ends = state.ends;
        let knows = [true, state.is_known];
        state.die();
        self.queue
            .retain(|arrival| arrival.event.connection() != Some(connection));
        for (side, after) in seen.into_iter().enumerate() {
            if let Some(after) = after.filter(|_| knows[side]) {
                let (to, event) = (ends[side], Event::Died(connection));
                let lane = lane(connection, side);
                let arrival = Arrival { to, event };
                self.queue.schedule(self.now + after, lane, arrival);
            }
        }
    }

    /// Wakes an endpoint at this time, or now if it is past.
    pub fn wake(&mut self, endpoint: Endpoint, at: Instant) {
        let arrival = Arrival {
            to: endpoint,
            event: Event::Woken,
        };
        let lane = u64::MAX - endpoint.0 as u64;
        self.queue.schedule(at.max(self.now), lane, arrival);
    }

    /// Takes what happens next, and moves time there.
    pub fn pop(&mut self) -> Option<(Endpoint, Event<P>)> {
        let (at, Arrival { to, event }) = self.queue.pop()?;
        self.now = at;
        if let Event::Accepted { connection, .. } = event {
            self.state(connection).is_known = true;
        }
        Some((to, event))
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Time at which something happens next.
    pub fn next_at(&self) -> Option<Instant> {
        self.queue.next_at()
    }

    /// The name that the endpoint was made with.
    pub fn name(&self, endpoint: Endpoint) -> &str {
        &self.names[endpoint.0]
    }

    /// The dialer and whom it dialled.
    pub fn ends(&self, connection: Connection) -> [Endpoint; 2] {
        self.connections[&connection].ends
    }

    /// An event for the end that isn't `from`, after all that `from` has sent before.
    fn carry(&mut self, connection: Connection, from: Endpoint, event: Event<P>) {
        let state = self.state(connection);
        let sender = state.ends.iter().position(|end| *end == from);
        let receiver = 1 - sender.expect("an end of the connection");
        if state.phase != Phase::Dead {
            state.directions[receiver].held.push_back(event);
            self.set_out(connection);
        }
    }

    /// Puts on its way all that is held between two endpoints.
    fn set_out_between(&mut self, a: Endpoint, b: Endpoint) {
        let connections = self.connections.iter();
        let connections: Vec<Connection> = connections
            .filter(|(_, state)| both(state.ends[0], state.ends[1]) == both(a, b))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in connections {
            self.set_out(connection);
        }
    }

    /// Puts on its way all that is held of a connection, unless something still holds it.
    fn set_out(&mut self, connection: Connection) {
        let State { ends, phase, .. } = *self.state(connection);
        if self.is_black(ends[0], ends[1]) {
            return;
        }
        if phase == Phase::Dialling {
            self.answer(connection, ends);
        }
        if self.state(connection).phase != Phase::Open {
            return;
        }
        for (side, to) in ends.into_iter().enumerate() {
            while let Some(event) = self.state(connection).directions[side].held.pop_front() {
                let after = self.travel_time(ends[0], ends[1]);
                self.arrive(connection, side, to, after, event);
            }
        }
    }

    /// Answers a dial as its path does.
    fn answer(&mut self, connection: Connection, [dialer, target]: [Endpoint; 2]) {
        let there = self.travel_time(dialer, target);
        let back = there + self.travel_time(dialer, target);
        match self.path(dialer, target).dials {
            Dials::Accepted => {
                self.state(connection).phase = Phase::Open;
                let from = dialer;
                let accepted = Event::Accepted { connection, from };
                self.arrive(connection, 1, target, there, accepted);
                self.arrive(connection, 0, dialer, back, Event::Connected(connection));
            }
            Dials::Refused => {
                self.state(connection).die();
                self.arrive(connection, 0, dialer, back, Event::Refused(connection));
            }
            Dials::Ignored => {}
        }
    }

    /// Schedules an event of a connection at its end `side`, after those that were scheduled before.
    fn arrive(
        &mut self,
        connection: Connection,
        side: usize,
        to: Endpoint,
        after: Duration,
        event: Event<P>,
    ) {
        let soonest = self.now + after;
        let direction = &mut self.state(connection).directions[side];
        let at = soonest.max(direction.not_before);
        direction.not_before = at;
        let arrival = Arrival { to, event };
        self.queue.schedule(at, lane(connection, side), arrival);
    }

    fn state(&mut self, connection: Connection) -> &mut State<P> {
        let state = self.connections.get_mut(&connection);
        state.expect("a connection of this network")
    }

    fn travel_time(&mut self, a: Endpoint, b: Endpoint) -> Duration {
        let Path { delay, jitter, .. } = self.path(a, b);
        delay + jitter.mul_f64(self.chance.fraction())
    }

    fn path(&self, a: Endpoint, b: Endpoint) -> Path {
        let path = self.paths.get(&both(a, b));
        path.copied().unwrap_or(self.default_path)
    }

    fn is_black(&self, a: Endpoint, b: Endpoint) -> bool {
        self.black_holes.contains(&both(a, b))
    }
}

impl<P> State<P> {
    fn die(&mut self) {
        self.phase = Phase::Dead;
        for direction in &mut self.directions {
            direction.held.clear();
        }
    }
}

impl<P> Event<P> {
    /// The connection that it concerns.
    pub fn connection(&self) -> Option<Connection> {
        match self {
            Self::Accepted { connection, .. }
            | Self::Connected(connection)
            | Self::Refused(connection)
            | Self::Arrived(connection, _)
            | Self::Finished(connection)
            | Self::Died(connection) => Some(*connection),
            Self::Datagram { .. } | Self::Woken => None,
        }
    }
}

impl Default for Path {
    /// 10 ms without jitter, and dials are accepted.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            dials: Dials::Accepted,
        }
    }
}

/// The key of a path, from whichever end one looks.
fn both(a: Endpoint, b: Endpoint) -> [Endpoint; 2] {
    [a.min(b), a.max(b)]
}

/// The lane of everything that end `side` of a connection receives.
fn lane(connection: Connection, side: usize) -> u64 {
    connection.0 * 2 + side as u64
}
