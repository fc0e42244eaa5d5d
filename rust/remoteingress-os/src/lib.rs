//! The operating system as the programs use it: sockets and their options, names, probes, worker threads, signals, randomness.
//!
//! This is the only library crate with unsafe code, all of it in `c_library.rs`.

#![deny(unsafe_code)]

mod c_library;
mod name;
pub mod probe;
mod process;
mod socket;

pub use name::{dial, dns, resolve, stun, unix};
pub use process::{
    memory, options as process_options, random, secret_file, signals, whole_file, worker,
};
pub use socket::{
    bind, dual, exhaustion, options as socket_options, readiness, udp, udp_runs, unix_listener,
};
