//! The decisions of edge and hub, and the counters that they keep.
//!
//! Nothing here has a socket, a clock or a runtime: a change goes in, actions come out, and time and randomness are
//! arguments. The engines in `remoteingress-bin` carry the actions out.

#![forbid(unsafe_code)]

pub mod client_network;
pub mod doctor;
pub mod edge;
pub mod entrance;
pub mod failed_ports;
pub mod hub;
pub mod refusal_warnings;
pub mod refusals;
pub mod share;
pub mod stream;
pub mod udp_counters;
pub mod uplink;

/// Start of a test's virtual time.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to get one"
)]
fn any_instant() -> std::time::Instant {
    std::time::Instant::now()
}
