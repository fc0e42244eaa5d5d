//! UDP at the edge: a client's datagram into this worker's session, a target's back to its client (D10).
//!
//! The kernel spreads clients over the workers' sockets. A worker without a live session gives what it
//! reads to one that has one; that worker answers through the socket of the first.

pub(super) mod flows;
pub(super) mod listener;
pub(super) mod serve;
pub(super) mod session;
