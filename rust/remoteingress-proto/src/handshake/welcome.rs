//! Welcome: the session that the hub gives the edge.
//!
//! ```text
//! session 16 · outcome u8 · received u64 · sessions allowed u16 · initial credit u32 · features u64 · TLVs
//! ```

use std::net::SocketAddr;

use super::error::HandshakeError;
use super::extension::{self, check_software_version, seconds, set_once};
use super::ids::SessionId;
use crate::wire::features::Features;
use crate::wire::header::address::{read_socket_address, write_socket_address};
use crate::wire::tlv::{Cursor, Tlvs, write_tlv};

/// The hub's answer to a Hello whose proof holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session that the connection carries from now on.
    pub session: SessionId,
    /// Tells whether it is the session that the edge asked for.
    pub outcome: SessionOutcome,
    /// Sessions that the tunnel may have; at least 1.
    pub max_sessions: u16,
    /// Bytes that the hub announces for streams opened towards it.
    pub initial_credit: u32,
    /// The features both ends agreed on.
    pub features: Features,
    /// Seconds for which both ends keep a session without a connection: the shorter of their
    /// settings. Absent: as long as the edge tries.
    pub resume_timeout_secs: Option<u32>,
    /// The hub's software, for the edge's log: at most 64 bytes of printable ASCII.
    pub version: String,
    /// The edge's address as the hub sees it.
    pub observed_address: Option<SocketAddr>,
}

/// The fate of the session that the edge asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOutcome {
    /// None was asked for.
    New,
    /// It goes on; the hub has received this many of its numbered frames.
    Resumed {
        /// Numbered frames that the hub has received in this session.
        received: u64,
    },
    /// It can't go on; this is a new one.
    SessionLost,
}

impl Welcome {
    /// The body without its proof. An error is the caller's fault: a field is too long.
    pub fn encode(&self) -> Result<Vec<u8>, HandshakeError> {
        let version = check_software_version(self.version.as_bytes())?;
        let (outcome, received) = match self.outcome {
            SessionOutcome::New => (OUTCOME_NEW, 0),
            SessionOutcome::Resumed { received } => (OUTCOME_RESUMED, received),
            SessionOutcome::SessionLost => (OUTCOME_SESSION_LOST, 0),
        };
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(&self.session.0);
        out.push(outcome);
        out.extend_from_slice(&received.to_be_bytes());
        out.extend_from_slice(&self.max_sessions.to_be_bytes());
        out.extend_from_slice(&self.initial_credit.to_be_bytes());
        out.extend_from_slice(&self.features.bits().to_be_bytes());
        write_tlv(&mut out, extension::SOFTWARE_VERSION, version.as_bytes())?;
        if let Some(secs) = self.resume_timeout_secs {
            write_tlv(&mut out, extension::RESUME_TIMEOUT, &secs.to_be_bytes())?;
        }
        if let Some(address) = self.observed_address {
            let mut value = Vec::with_capacity(19);
            write_socket_address(&mut value, address);
            write_tlv(&mut out, extension::OBSERVED_ADDRESS, &value)?;
        }
        Ok(out)
    }

    /// Reads a body whose proof holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut cursor = Cursor::new(bytes);
        let session = SessionId(cursor.array()?);
        let outcome = match (cursor.u8()?, cursor.u64()?) {
            (OUTCOME_NEW, 0) => SessionOutcome::New,
            (OUTCOME_RESUMED, received) => SessionOutcome::Resumed { received },
            (OUTCOME_SESSION_LOST, 0) => SessionOutcome::SessionLost,
            _ => return Err(HandshakeError::Malformed("Welcome has an unknown outcome")),
        };
        let max_sessions = cursor.u16()?;
        if max_sessions == 0 {
            return Err(HandshakeError::Malformed("Welcome allows no session"));
        }
        let initial_credit = cursor.u32()?;
        let features = Features::from_bits(cursor.u64()?);
        let (mut resume_timeout_secs, mut version) = (None, None);
        let mut observed_address = None;
        for tlv in Tlvs::new(cursor.rest()) {
            let tlv = tlv?;
            match tlv.kind {
                extension::SOFTWARE_VERSION => {
                    set_once(&mut version, check_software_version(tlv.value)?.to_owned())?;
                }
                extension::OBSERVED_ADDRESS => {
                    let mut value = Cursor::new(tlv.value);
                    set_once(&mut observed_address, read_socket_address(&mut value)?)?;
                    if !value.is_empty() {
                        return Err(HandshakeError::Malformed("observed address is too long"));
                    }
                }
                extension::RESUME_TIMEOUT => {
                    set_once(&mut resume_timeout_secs, seconds(tlv.value)?)?;
                }
                _ => {}
            }
        }
        Ok(Self {
            session,
            outcome,
            max_sessions,
            initial_credit,
            features,
            resume_timeout_secs,
            version: version.unwrap_or_default(),
            observed_address,
        })
    }
}

const OUTCOME_NEW: u8 = 1;
const OUTCOME_RESUMED: u8 = 2;
const OUTCOME_SESSION_LOST: u8 = 3;
