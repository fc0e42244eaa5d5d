//! Sockets: options, listeners and their shortages, names, and the public address.

pub(crate) mod bind;
pub(crate) mod exhaustion;
pub(crate) mod party;
pub(crate) mod readiness;
pub(crate) mod resolve;
pub(crate) mod socket_options;
pub(crate) mod stun;
pub(crate) mod udp;
pub(crate) mod udp_runs;
