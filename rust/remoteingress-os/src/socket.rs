//! Sockets: binding them, their options, datagrams in batches, and how long to wait when the kernel has no more of them.

pub mod bind;
pub mod dual;
pub mod exhaustion;
pub mod options;
pub mod readiness;
pub mod udp;
pub mod udp_runs;
pub mod unix_listener;
