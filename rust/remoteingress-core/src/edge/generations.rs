//! The generations of ports that a hub sends: the one in force, and the news of it for hub and operator (D7).
//!
//! A generation comes in by [`Generations::receive`]. The changes that it gives are carried out, each one's outcome goes
//! back by [`Generations::bound`] or [`Generations::failed`], and [`Generations::applied`] then says what to tell. News
//! that may not have reached the hub goes out again with its next session: [`Generations::session_up`].

use super::place::Place;
use super::port_table::{Change, ListenerId, Port, PortKey, PortState, PortTable, Refused};
use remoteingress_proto::control::{
    Applied, ApplyOutcome, ApplyRefusal, Config, MAX_PORT_STATES, PortFailure,
    PortState as Reported, PortStatus, RefusalCode,
};
use remoteingress_proto::handshake::HubEpoch;
use remoteingress_proto::wire::header::Protocol;
use std::time::Instant;

/// Ports that were there on several addresses and drain, in one report: each may have its own address, and one message takes
/// them all.
const MAX_DRAINING_ON_ADDRESSES: usize = 256;

#[cfg(test)]
mod tests;

/// The ports of one hub.
#[derive(Debug, Default)]
pub struct Generations {
    table: PortTable,
    applied: Option<(HubEpoch, u64)>,
    /// The generation whose ports were closed because the hub has no such edge any more.
    closed_generation: u64,
    was_assigned: bool,
    /// Ports that were reported as draining.
    draining: Vec<Place>,
    /// The hub may lack what it was told last.
    is_hub_behind: bool,
    /// The answer to a generation that came after the one in force, and was refused.
    refused: Option<Applied>,
}

/// The meaning of a generation that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is older than the one in force.
    Old,
    /// It is invalid and changes nothing; this is to be answered.
    Refused(Applied),
    /// It is in force already: [`Generations::repeated`] gives the answer.
    Known,
    /// It is in force from now on: its changes are to be carried out, in this order.
    New(Vec<Change>),
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// To the operator: an event.
    Operator {
        /// The event.
        event: PortsEvent,
        /// The generation in force, or the one that was closed.
        generation: u64,
        /// Every port's state, those that only finish their streams after the others.
        ports: Vec<Reported>,
    },
    /// To the hub.
    Hub(Applied),
}

/// An event about ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortsEvent {
    /// The first generation is in force.
    Assigned,
    /// Something has changed since.
    Updated,
}

impl Generations {
    /// Takes a generation of the hub: a new epoch always wins, and within an epoch a later generation.
    pub fn receive(&mut self, config: &Config) -> Received {
        let (epoch, generation) = (config.epoch, config.generation);
        match self.applied {
            Some((at, last)) if at == epoch && generation < last => return Received::Old,
            Some(applied) if applied == (epoch, generation) => return Received::Known,
            Some(_) | None => {}
        }
        match self.table.apply(config) {
            Ok(changes) => {
                self.applied = Some((epoch, generation));
                self.refused = None;
                Received::New(changes)
            }
            Err(refused) => {
                let code = RefusalCode::InvalidConfig;
                let message = describe(generation, &refused);
                let answer = Applied {
                    epoch,
                    generation,
                    outcome: ApplyOutcome::Refused(ApplyRefusal { code, message }),
                };
                self.refused = Some(answer.clone());
                Received::Refused(answer)
            }
        }
    }

    /// A port is bound; gives the number of its new listener.
    pub fn bound(&mut self, key: PortKey) -> ListenerId {
        self.table.bound(key)
    }

    /// The place at which clients of a port are counted that is opened now.
    pub fn place(&mut self, key: PortKey) -> Place {
        self.table.place(key)
    }

    /// A port could not be bound: it is tried again later.
    pub fn failed(&mut self, now: Instant, key: PortKey, code: PortFailure, message: String) {
        self.table.failed(now, key, code, message);
    }

    /// The changes of a new generation are carried out. `with_clients` are the ports that have clients, in order.
    pub fn applied(&mut self, with_clients: &[Place]) -> Vec<Told> {
        let event = if self.was_assigned {
            PortsEvent::Updated
        } else {
            PortsEvent::Assigned
        };
        self.was_assigned = true;
        self.draining = self.draining(with_clients);
        self.tell(event, with_clients)
    }

    /// The generation in force came again: only the hub is told.
    pub fn repeated(&mut self, with_clients: &[Place]) -> Vec<Told> {
        self.draining = self.draining(with_clients);
        self.tell_hub(with_clients).into_iter().collect()
    }

    /// Gives all ports up, because the hub has no such edge any more; none where that has been done.
    pub fn close(&mut self) -> Option<Vec<Change>> {
        let (_, generation) = self.applied.take()?;
        self.closed_generation = generation;
        self.refused = None;
        Some(self.table.clear())
    }

    /// The changes of [`Self::close`] are carried out.
    pub fn closed(&mut self, with_clients: &[Place]) -> Vec<Told> {
        self.draining = self.draining(with_clients);
        self.tell(PortsEvent::Updated, with_clients)
    }

    /// The hub may have missed what it was told last: no session was live, or one was lost that may have carried it.
    pub fn hub_missed(&mut self) {
        self.is_hub_behind = true;
    }

    /// A session is up: the hub is told what it may have missed.
    pub fn session_up(&mut self, with_clients: &[Place]) -> Vec<Told> {
        if !std::mem::take(&mut self.is_hub_behind) {
            return Vec::new();
        }
        let refused = self.refused.clone().map(Told::Hub);
        self.tell_hub(with_clients)
            .into_iter()
            .chain(refused)
            .collect()
    }

    /// The time at which the next failed port is due.
    pub fn next_retry(&self) -> Option<Instant> {
        self.table.next_retry()
    }

    /// The ports that have failed and are due.
    pub fn due(&self, now: Instant) -> Vec<Change> {
        self.table.due(now)
    }

    /// Ports that were due have been tried, of which `open_before` were open before that. Only a success is news.
    pub fn retried(&self, open_before: usize, with_clients: &[Place]) -> Vec<Told> {
        if self.applied.is_some() && self.open_ports() > open_before {
            self.tell(PortsEvent::Updated, with_clients)
        } else {
            Vec::new()
        }
    }

    /// Some ports are reported as draining: it is to be looked whether their last streams have ended.
    pub fn has_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// A port whose last stream has ended is no longer reported.
    pub fn check_drained(&mut self, with_clients: &[Place]) -> Vec<Told> {
        let draining = self.draining(with_clients);
        if draining == self.draining {
            return Vec::new();
        }
        self.draining = draining;
        self.tell(PortsEvent::Updated, with_clients)
    }

    /// The number of ports that are open.
    pub fn open_ports(&self) -> usize {
        self.table.bound_count()
    }

    /// The number of ports that are wanted and not open.
    pub fn unbound_ports(&self) -> usize {
        self.table.unbound_count()
    }

    /// The port is open.
    pub fn is_open(&self, key: PortKey) -> bool {
        self.table.is_bound(key)
    }

    /// The ports of this protocol that are open, on whatever addresses.
    pub fn open(&self, protocol: Protocol) -> impl Iterator<Item = u16> {
        let ports = self.table.iter();
        let open =
            ports.filter(move |(key, port)| key.protocol == protocol && port.listener().is_some());
        let mut before = 0;
        open.filter_map(move |(key, _)| {
            (std::mem::replace(&mut before, key.port) != key.port).then_some(key.port)
        })
    }

    /// Every port's state, those that only finish their streams after the others.
    pub fn states(&self, with_clients: &[Place]) -> Vec<Reported> {
        let mut states: Vec<Reported> = self.table.iter().map(state).collect();
        let room = MAX_PORT_STATES - states.len();
        let mut on_address = 0;
        let draining = self.draining(with_clients).into_iter().take(room);
        states.extend(draining.filter_map(|place| {
            let address = self.table.address(place);
            on_address += usize::from(address.is_some());
            (on_address <= MAX_DRAINING_ON_ADDRESSES || address.is_none()).then_some(Reported {
                protocol: Protocol::Tcp,
                port: place.port,
                address: address.map(Box::new),
                status: PortStatus::Draining,
            })
        }));
        states
    }

    /// Ports that only finish their streams. A UDP port ends with its flows, since none can tell that it has ended.
    fn draining(&self, with_clients: &[Place]) -> Vec<Place> {
        let places = with_clients.iter().copied();
        places
            .filter(|place| !self.table.contains(Protocol::Tcp, *place))
            .collect()
    }

    fn tell(&self, event: PortsEvent, with_clients: &[Place]) -> Vec<Told> {
        let generation = self
            .applied
            .map_or(self.closed_generation, |(_, last)| last);
        let operator = Told::Operator {
            event,
            generation,
            ports: self.states(with_clients),
        };
        std::iter::once(operator)
            .chain(self.tell_hub(with_clients))
            .collect()
    }

    /// The answer to the generation in force. A hub that has no such edge gets none.
    fn tell_hub(&self, with_clients: &[Place]) -> Option<Told> {
        let (epoch, generation) = self.applied?;
        Some(Told::Hub(Applied {
            epoch,
            generation,
            outcome: ApplyOutcome::Applied(self.states(with_clients)),
        }))
    }
}

fn state((key, port): (PortKey, &Port)) -> Reported {
    Reported {
        protocol: key.protocol,
        port: key.port,
        address: key.address.filter(|_| port.is_shared()).map(Box::new),
        status: match &port.state {
            PortState::Bound(_) => PortStatus::Bound,
            PortState::Failed { code, message, .. } => PortStatus::Failed {
                code: *code,
                message: message.as_str().into(),
            },
            PortState::Wanted => PortStatus::Failed {
                code: PortFailure::BindFailed,
                message: "not tried yet".into(),
            },
        },
    }
}

/// The reason for which a generation is refused, in words.
fn describe(generation: u64, refused: &Refused) -> String {
    let Refused::Overlap(PortKey { protocol, port, .. }) = refused;
    let protocol = protocol.as_str();
    format!("generation {generation} has {protocol} port {port} twice")
}
