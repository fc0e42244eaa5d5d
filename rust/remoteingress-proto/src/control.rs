//! Control messages: what hub and edge tell each other in CONTROL frames, reliable and in order.
//!
//! ```text
//! hub ── Config: the whole generation of ports and limits · SelfTest ──► edge
//! hub ◄── Applied: its outcome, per port · PublicAddress ──── edge
//! ```
//!
//! One message takes one frame or several in a row (see [`ControlAssembler`]). Every body is a fixed
//! part and skippable TLVs; messages of an unknown type are skipped whole.

mod applied;
mod assembler;
mod chunks;
mod config;
mod error;
mod message;
mod ports;
mod self_test;

#[cfg(test)]
mod tests;

pub use applied::{
    Applied, ApplyOutcome, ApplyRefusal, MAX_FAILURE_MESSAGE, MAX_PORT_STATES, PortFailure,
    PortState, PortStatus, RefusalCode,
};
pub use assembler::ControlAssembler;
pub(crate) use chunks::has_more;
pub use chunks::{MAX_CONTROL_MESSAGE, MAX_CONTROL_PAYLOAD};
pub use config::{Config, ConfigPort, MAX_PORTS, MAX_PORTS_BEFORE};
pub use error::ControlError;
pub use message::ControlMessage;
pub use self_test::{MAX_TEST_BYTES, MAX_TEST_TIME, SelfTest};
