//! UDP flows in a tunnel: what one tunnel datagram says, and who remembers which client at either end (D10).
//!
//! A client's datagram travels as one tunnel datagram, or in fragments where that is too small. The edge
//! gives every client of a listener a flow id ([`EdgeFlows`]) and says with the first datagrams whom it
//! stands for; the hub keeps a socket to the target for each id ([`HubFlows`]). Nothing is sent twice and
//! nothing is put in order: UDP stays UDP.

mod activity;
mod edge;
mod end;
mod fragments;
mod hub;
mod id;
mod linked;
mod quota;
mod wire;

#[cfg(test)]
mod tests;

pub use edge::{
    Departure, EdgeFlows, Ended, FlowKey, FlowView, Refusal, Reply, ReplyRefusal, Settings,
};
pub use end::FlowEnd;
pub use fragments::{FragmentDrops, Reassembler};
pub use hub::{Full, HubFlows};
pub use id::{FlowId, MAX_PAYLOAD};
pub use quota::{FlowCount, FlowQuota, MaxPerClient};
pub use wire::{DatagramError, Encoder, Fragment, TooLarge, TunnelDatagram};
