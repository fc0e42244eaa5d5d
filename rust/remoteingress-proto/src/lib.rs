//! What both ends of a tunnel agree on: token, handshake, control messages, and the multiplexer.
//!
//! Nothing here has a socket, a clock or a runtime. Time and randomness are arguments; bytes go
//! in and bytes and events come out. Both transports share everything but [`frame`] and [`mux`],
//! which only tcpTls needs.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]

pub mod budget;
pub mod control;
pub mod edge_id;
pub mod features;
pub mod flow;
pub mod frame;
pub mod handshake;
pub mod header;
pub mod host;
pub mod mux;
pub mod pin;
pub mod scheduler;
pub mod secret;
pub mod stream;
pub mod tier;
pub mod tlv;
pub mod token;
pub mod window;

/// Where the virtual time of a test begins.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to get one"
)]
fn any_instant() -> std::time::Instant {
    std::time::Instant::now()
}
