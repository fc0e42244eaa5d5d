//! The formats and rules that both ends of a tunnel share: token, handshake, control messages, and the multiplexer.
//!
//! Nothing here has a socket, a clock or a runtime. Time and randomness are arguments; bytes go
//! in and bytes and events come out.
//!
//! - [`token`]: the string that enrols an edge, and its parts.
//! - [`wire`]: frames, TLVs, the header that opens a stream, feature bits.
//! - [`handshake`]: both ends prove that they know the secret.
//! - [`mux`]: one session of many streams. Both transports run it: over TLS, frames of all streams follow each other
//!   on one connection; over QUIC, each stream's frames go on a lane of their own ([`mux::Carrier`]).
//! - [`lanes`]: the session on QUIC.
//! - [`flow`]: flows of UDP clients, and the datagrams that carry them beside the streams.
//! - [`control`]: messages between hub and edge about ports.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]
#![warn(missing_docs)]

pub mod control;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod handshake;
pub mod lanes;
pub mod mux;
pub mod token;
pub mod wire;

/// Start of a test's virtual time.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to get one"
)]
fn any_instant() -> std::time::Instant {
    std::time::Instant::now()
}
