//! What the operating system gives: sockets and their options, names, worker threads, signals, randomness.
//!
//! This is the only crate with unsafe code, all of it in [`socket_options`].

mod name;
mod process;
mod socket;

pub use name::{dial, resolve, stun};
pub use process::{random, signals, worker};
pub use socket::{bind, exhaustion, options as socket_options, readiness, udp, udp_runs};
