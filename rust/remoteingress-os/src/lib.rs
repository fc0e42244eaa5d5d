//! What the operating system gives: sockets and their options, names, worker threads, signals, randomness.
//!
//! This is the only crate with unsafe code, all of it in [`socket_options`].

pub mod bind;
pub mod dial;
pub mod exhaustion;
pub mod random;
pub mod readiness;
pub mod resolve;
pub mod signals;
pub mod socket_options;
pub mod stun;
pub mod udp;
pub mod udp_runs;
pub mod worker;
