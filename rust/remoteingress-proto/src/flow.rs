//! UDP flows in a tunnel: what one tunnel datagram says, and who remembers which client at either end (D10).
//!
//! A client's datagram travels as one tunnel datagram, or in fragments where that is too small. The edge
//! gives every client of a listener a flow id ([`EdgeFlows`]) and says with the first datagrams whom it
//! stands for; the hub keeps a socket to the target for each id ([`HubFlows`]). Nothing is sent twice and
//! nothing is put in order: UDP stays UDP.

mod edge;
mod fragments;
mod hub;
mod linked;
mod quota;
mod wire;

#[cfg(test)]
mod tests;

pub use edge::{Departure, EdgeFlows, FlowKey, Refusal, Reply, ReplyRefusal, Settings};
pub use fragments::{FragmentDrops, Reassembler};
pub use hub::{Full, HubFlows};
pub use quota::{FlowCount, FlowQuota};
pub use wire::{DatagramError, Encoder, Fragment, TooLarge, TunnelDatagram};

/// The largest payload of a client's datagram, in bytes: what UDP over IPv4 takes.
pub const MAX_PAYLOAD: usize = 65_507;

/// One flow within a session; given by the edge and never used again in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);
