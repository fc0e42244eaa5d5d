//! Control messages: what hub and edge tell each other in CONTROL frames, reliable and in order.
//!
//! ```text
//! hub ── Config: the whole generation of ports and limits ──► edge
//! hub ◄── Applied: its outcome, per port · PublicAddress ──── edge
//! ```
//!
//! One message takes one frame or several in a row (see [`ControlAssembler`]). Every body is a fixed
//! part and skippable TLVs; messages of an unknown type are skipped whole.

use std::net::IpAddr;

use thiserror::Error;

mod applied;
mod chunks;
mod config;

pub use applied::{
    Applied, ApplyOutcome, ApplyRefusal, MAX_FAILURE_MESSAGE, MAX_PORT_STATES, PortFailure,
    PortState, PortStatus, RefusalCode,
};
pub use chunks::{ControlAssembler, MAX_CONTROL_MESSAGE, MAX_CONTROL_PAYLOAD};
pub use config::{Config, ConfigPort, MAX_PORTS};

use crate::wire::header::address::{read_ip, write_ip};
use crate::wire::header::{AddressError, Protocol};
use crate::wire::tlv::{Cursor, Tlvs, UnexpectedEnd};

/// What one end tells the other about the tunnel as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Hub to edge: the state it wants.
    Config(Config),
    /// Edge to hub: what became of a generation; sent again whenever a port's state changes.
    Applied(Applied),
    /// Edge to hub: its public address, as STUN found it. A hint only.
    PublicAddress(IpAddr),
}

impl ControlMessage {
    /// The payloads of the frames that carry this message, to be sent in a row, none in between.
    pub fn encode(&self) -> Result<Vec<Vec<u8>>, ControlError> {
        let (kind, body) = match self {
            Self::Config(config) => (KIND_CONFIG, config.encode()?),
            Self::Applied(applied) => (KIND_APPLIED, applied.encode()?),
            Self::PublicAddress(address) => {
                let mut body = Vec::with_capacity(17);
                write_ip(&mut body, *address);
                (KIND_PUBLIC_ADDRESS, body)
            }
        };
        chunks::split(kind, &body)
    }

    /// Reads a whole body; `None`: a type that this version doesn't know.
    fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, ControlError> {
        let mut cursor = Cursor::new(body);
        let message = match kind {
            KIND_CONFIG => Self::Config(Config::decode(&mut cursor)?),
            KIND_APPLIED => Self::Applied(Applied::decode(&mut cursor)?),
            KIND_PUBLIC_ADDRESS => Self::PublicAddress(read_ip(&mut cursor)?),
            _ => return Ok(None),
        };
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(Some(message))
    }
}

/// Why control messages were not understood, which ends the session: the peer's fault.
/// While encoding, [`ControlError::TooLong`] and [`ControlError::TooManyPorts`] are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControlError {
    #[error("control message is longer than {MAX_CONTROL_MESSAGE} bytes")]
    TooLong,
    #[error("control frame is longer than {MAX_CONTROL_PAYLOAD} bytes")]
    FrameTooLong,
    #[error("control message has too many ports")]
    TooManyPorts,
    #[error("control message is interrupted by another one")]
    Interrupted,
    #[error("control messages come faster than they can be handled")]
    Flood,
    #[error("control message is malformed: {0}")]
    Malformed(&'static str),
    #[error("control message is malformed: {0}")]
    End(#[from] UnexpectedEnd),
    #[error("control message is malformed: {0}")]
    Address(#[from] AddressError),
}

const KIND_CONFIG: u8 = 1;
const KIND_APPLIED: u8 = 2;
const KIND_PUBLIC_ADDRESS: u8 = 3;

fn read_protocol(cursor: &mut Cursor<'_>) -> Result<Protocol, ControlError> {
    Protocol::from_wire(cursor.u8()?).ok_or(ControlError::Malformed("unknown protocol"))
}

/// Reads a range of ports and how many they are.
fn read_range(cursor: &mut Cursor<'_>) -> Result<(u16, u16, usize), ControlError> {
    let (first, last) = (cursor.u16()?, cursor.u16()?);
    let count = count_range(first, last)?;
    Ok((first, last, count))
}

fn count_range(first: u16, last: u16) -> Result<usize, ControlError> {
    if first == 0 || first > last {
        return Err(ControlError::Malformed("port range is zero or reversed"));
    }
    Ok(usize::from(last - first) + 1)
}

#[cfg(test)]
mod tests;
