//! The messages there are, and their bytes.

use super::applied::Applied;
use super::chunks::{MAX_CONTROL_MESSAGE, split};
use super::config::Config;
use super::error::ControlError;
use super::self_test::SelfTest;
use crate::wire::features::Features;
use crate::wire::header::address::{read_ip, write_ip};
use crate::wire::tlv::{Cursor, Tlvs};
use std::net::IpAddr;

pub(super) const KIND_CONFIG: u8 = 1;
pub(super) const KIND_APPLIED: u8 = 2;
pub(super) const KIND_PUBLIC_ADDRESS: u8 = 3;
pub(super) const KIND_SELF_TEST: u8 = 4;

/// A message of one end to the other about the tunnel as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Hub to edge: the state it wants.
    Config(Config),
    /// Edge to hub: what became of a generation; sent again whenever a port's state changes.
    Applied(Applied),
    /// Edge to hub: its public address, as STUN found it. A hint only.
    PublicAddress(IpAddr),
    /// Hub to edge: it is to open a stream that tests the tunnel.
    SelfTest(SelfTest),
}

impl ControlMessage {
    /// The payloads of the frames that carry this message to a peer of this version, to be sent in a row, none in
    /// between.
    pub fn encode(&self) -> Result<Vec<Vec<u8>>, ControlError> {
        self.encode_for(Features::MANY_PORTS)
    }

    /// The same for a peer with these features.
    pub fn encode_for(&self, peer: Features) -> Result<Vec<Vec<u8>>, ControlError> {
        let (kind, body) = match self {
            Self::Config(config) => (KIND_CONFIG, config.encode()?),
            Self::Applied(applied) => (KIND_APPLIED, applied.encode(peer)?),
            Self::SelfTest(test) => (KIND_SELF_TEST, test.encode()),
            Self::PublicAddress(address) => {
                let mut body = Vec::with_capacity(17);
                write_ip(&mut body, *address);
                (KIND_PUBLIC_ADDRESS, body)
            }
        };
        if body.len() > MAX_CONTROL_MESSAGE {
            return Err(ControlError::TooLong);
        }
        Ok(split(kind, &body))
    }

    /// Reads a whole body; `None`: a type that this version doesn't know.
    pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, ControlError> {
        let mut cursor = Cursor::new(body);
        let message = match kind {
            KIND_CONFIG => Self::Config(Config::decode(&mut cursor)?),
            KIND_APPLIED => Self::Applied(Applied::decode(&mut cursor)?),
            KIND_SELF_TEST => Self::SelfTest(SelfTest::decode(&mut cursor)?),
            KIND_PUBLIC_ADDRESS => Self::PublicAddress(read_ip(&mut cursor)?),
            _ => return Ok(None),
        };
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(Some(message))
    }
}
