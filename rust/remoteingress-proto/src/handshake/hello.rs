//! Hello: who the edge is, and what it wants.
//!
//! ```text
//! protocol version u16 · edge id (length u8, UTF-8)      the same in every version
//! instance 16 · session ordinal u16 · required u64 · optional u64 · initial credit u32 · flags u8 · TLVs
//! ```

use super::error::HandshakeError;
use super::extension::{self, check_software_version, seconds, sessions, set_once};
use super::ids::{InstanceId, SessionId};
use super::transport::PROTOCOL_VERSION;
use crate::token::edge_id::EdgeId;
use crate::wire::features::{FeatureOffer, Features};
use crate::wire::tlv::{Cursor, Tlvs, write_tlv};

/// The edge's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version that the edge speaks: [`PROTOCOL_VERSION`] from this one.
    pub protocol_version: u16,
    /// The edge whose secret the proof is made with.
    pub edge_id: EdgeId,
    /// This run of the edge.
    pub instance: InstanceId,
    /// Number of this session in its tunnel, counted from 0: the edge's worker.
    pub session_ordinal: u16,
    /// Without these the edge doesn't go on.
    pub required: Features,
    /// These it can do as well.
    pub optional: Features,
    /// The session to go on with; absent: a new one.
    pub resume: Option<Resume>,
    /// Bytes that the edge announces for streams opened towards it.
    pub initial_credit: u32,
    /// This instance takes the place of any other one of the same edge id.
    pub replaces_instance: bool,
    /// Seconds for which the edge tries to resume a session; absent: as long as the hub keeps it.
    pub resume_timeout_secs: Option<u32>,
    /// How many sessions the edge wants; an edge that the hub has called says so.
    pub sessions_wanted: Option<u16>,
    /// The edge's software, for the hub's status: at most 64 bytes of printable ASCII.
    pub version: String,
}

/// The session that the edge wants to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// As the hub's Welcome named it.
    pub session: SessionId,
    /// Increases with every attempt for this session; a lower one than seen is stale.
    pub attempt: u32,
    /// Numbered frames that the edge has received in this session.
    pub received: u64,
}

impl Hello {
    /// Both kinds of features together.
    pub fn offer(&self) -> FeatureOffer {
        FeatureOffer {
            required: self.required,
            optional: self.optional,
        }
    }

    /// The body without its proof. An error is the caller's fault: a field is too long.
    pub fn encode(&self) -> Result<Vec<u8>, HandshakeError> {
        let edge_id = self.edge_id.as_str().as_bytes();
        let id_length = u8::try_from(edge_id.len())
            .map_err(|_| HandshakeError::Malformed("edge id is too long"))?;
        let version = check_software_version(self.version.as_bytes())?;

        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&self.protocol_version.to_be_bytes());
        out.push(id_length);
        out.extend_from_slice(edge_id);
        out.extend_from_slice(&self.instance.0);
        out.extend_from_slice(&self.session_ordinal.to_be_bytes());
        out.extend_from_slice(&self.required.bits().to_be_bytes());
        out.extend_from_slice(&self.optional.bits().to_be_bytes());
        out.extend_from_slice(&self.initial_credit.to_be_bytes());
        out.push(if self.replaces_instance {
            FLAG_REPLACES_INSTANCE
        } else {
            0
        });
        if let Some(resume) = &self.resume {
            write_tlv(&mut out, extension::RESUME, &resume.encode())?;
        }
        write_tlv(&mut out, extension::SOFTWARE_VERSION, version.as_bytes())?;
        if let Some(secs) = self.resume_timeout_secs {
            write_tlv(&mut out, extension::RESUME_TIMEOUT, &secs.to_be_bytes())?;
        }
        if let Some(sessions) = self.sessions_wanted {
            write_tlv(
                &mut out,
                extension::SESSIONS_WANTED,
                &sessions.to_be_bytes(),
            )?;
        }
        Ok(out)
    }

    /// Reads a Hello of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut cursor = Cursor::new(bytes);
        let Prefix {
            protocol_version,
            edge_id,
        } = Prefix::read(&mut cursor)?;
        if protocol_version != PROTOCOL_VERSION {
            return Err(HandshakeError::UnsupportedVersion {
                edge_id,
                theirs: protocol_version,
            });
        }
        let instance = InstanceId(cursor.array()?);
        let session_ordinal = cursor.u16()?;
        let required = Features::from_bits(cursor.u64()?);
        let optional = Features::from_bits(cursor.u64()?);
        let initial_credit = cursor.u32()?;
        let replaces_instance = match cursor.u8()? {
            0 => false,
            FLAG_REPLACES_INSTANCE => true,
            _ => return Err(HandshakeError::Malformed("Hello has an unknown flag")),
        };
        let (mut resume, mut resume_timeout_secs, mut version) = (None, None, None);
        let mut sessions_wanted = None;
        for tlv in Tlvs::new(cursor.rest()) {
            let tlv = tlv?;
            match tlv.kind {
                extension::RESUME => set_once(&mut resume, Resume::decode(tlv.value)?)?,
                extension::SOFTWARE_VERSION => {
                    set_once(&mut version, check_software_version(tlv.value)?.to_owned())?;
                }
                extension::RESUME_TIMEOUT => {
                    set_once(&mut resume_timeout_secs, seconds(tlv.value)?)?;
                }
                extension::SESSIONS_WANTED => {
                    set_once(&mut sessions_wanted, sessions(tlv.value)?)?;
                }
                _ => {}
            }
        }
        Ok(Self {
            protocol_version,
            edge_id,
            instance,
            session_ordinal,
            required,
            optional,
            resume,
            initial_credit,
            replaces_instance,
            resume_timeout_secs,
            sessions_wanted,
            version: version.unwrap_or_default(),
        })
    }
}

impl Resume {
    fn encode(&self) -> [u8; 28] {
        let mut value = [0; 28];
        value[..16].copy_from_slice(&self.session.0);
        value[16..20].copy_from_slice(&self.attempt.to_be_bytes());
        value[20..].copy_from_slice(&self.received.to_be_bytes());
        value
    }

    fn decode(value: &[u8]) -> Result<Self, HandshakeError> {
        let mut cursor = Cursor::new(value);
        let resume = Self {
            session: SessionId(cursor.array()?),
            attempt: cursor.u32()?,
            received: cursor.u64()?,
        };
        if cursor.is_empty() {
            Ok(resume)
        } else {
            Err(HandshakeError::Malformed("resume is too long"))
        }
    }
}

/// The start of a Hello, fixed for all versions: enough to check the proof of an edge that speaks another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) protocol_version: u16,
    pub(super) edge_id: EdgeId,
}

impl Prefix {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        Self::read(&mut Cursor::new(bytes))
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, HandshakeError> {
        let protocol_version = cursor.u16()?;
        let length = cursor.u8()?;
        let id = cursor.take(usize::from(length))?;
        let edge_id = std::str::from_utf8(id)
            .ok()
            .and_then(|id| EdgeId::new(id).ok())
            .ok_or(HandshakeError::Malformed("edge id is not valid"))?;
        Ok(Self {
            protocol_version,
            edge_id,
        })
    }
}

const FLAG_REPLACES_INSTANCE: u8 = 1;
