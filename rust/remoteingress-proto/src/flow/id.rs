//! A flow's name in its session, and the largest datagram it carries.

/// The largest payload of a client's datagram, in bytes: what UDP over IPv4 takes.
pub const MAX_PAYLOAD: usize = 65_507;

/// One flow within a session; given by the edge and never used again in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);
