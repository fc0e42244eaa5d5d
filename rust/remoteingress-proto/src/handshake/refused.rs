//! Refused: the no of the end that was asked. It carries no proof.
//!
//! ```text
//! code u8 · retry after u32, milliseconds, 0 = unsaid · TLVs
//! ```

use std::time::Duration;

use super::kind::MessageKind;
use crate::wire::tlv::{Cursor, Tlvs, UnexpectedEnd};

/// The longest delay a refusal can ask for. Anyone on the path can forge one; it must not outlive them by much.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Reason why the hub says no; or the edge, to a hub that calls it.
///
/// Wrong secret, unknown edge and removed edge are one code. `AuthFailed` and `Overloaded` may be
/// sent to anyone, the others only to an edge whose proof held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseCode {
    /// The edge is unknown or removed, or its proof is wrong.
    AuthFailed,
    /// Another running instance has this edge's id.
    InstanceConflict,
    /// The hub speaks another version of the protocol.
    UnsupportedVersion,
    /// The hub hasn't a feature that the edge requires.
    UnsupportedFeature,
    /// The hub has no room for another connection now.
    Overloaded,
    /// The hub restarts or stops.
    Draining,
    /// The tunnel has all the sessions that it may have.
    TooManySessions,
}

impl RefuseCode {
    /// The name used in events and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthFailed => "authFailed",
            Self::InstanceConflict => "instanceConflict",
            Self::UnsupportedVersion => "unsupportedVersion",
            Self::UnsupportedFeature => "unsupportedFeature",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::TooManySessions => "tooManySessions",
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::AuthFailed => 1,
            Self::InstanceConflict => 2,
            Self::UnsupportedVersion => 3,
            Self::UnsupportedFeature => 4,
            Self::Overloaded => 5,
            Self::Draining => 6,
            Self::TooManySessions => 7,
        }
    }

    const fn from_wire(code: u8) -> Result<Self, Unreadable> {
        match code {
            1 => Ok(Self::AuthFailed),
            2 => Ok(Self::InstanceConflict),
            3 => Ok(Self::UnsupportedVersion),
            4 => Ok(Self::UnsupportedFeature),
            5 => Ok(Self::Overloaded),
            6 => Ok(Self::Draining),
            7 => Ok(Self::TooManySessions),
            other => Err(Unreadable::UnknownCode(other)),
        }
    }
}

/// The hub's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The hub's reason.
    pub code: RefuseCode,
    /// Time after which to come back: 1 ms to [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// A refusal that asks for no delay.
    pub const fn new(code: RefuseCode) -> Self {
        Self {
            code,
            retry_after: None,
        }
    }

    /// The whole message. It depends on nothing but `self`, so equal refusals are equal on the wire.
    pub fn message(&self) -> Vec<u8> {
        let millis = self.retry_after.map_or(0, |delay| {
            let delay = delay.clamp(Duration::from_millis(1), MAX_RETRY_AFTER);
            u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)
        });
        let mut message = Vec::with_capacity(8);
        message.push(MessageKind::Refused.to_wire());
        message.extend_from_slice(&BODY_LENGTH.to_be_bytes());
        message.push(self.code.to_wire());
        message.extend_from_slice(&millis.to_be_bytes());
        message
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let mut cursor = Cursor::new(body);
        let code = RefuseCode::from_wire(cursor.u8()?)?;
        let retry_after = match cursor.u32()? {
            0 => None,
            millis => Some(Duration::from_millis(millis.into()).min(MAX_RETRY_AFTER)),
        };
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(Self { code, retry_after })
    }
}

/// Reason why a body is no refusal of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    UnknownCode(u8),
    End(UnexpectedEnd),
}

impl From<UnexpectedEnd> for Unreadable {
    fn from(end: UnexpectedEnd) -> Self {
        Self::End(end)
    }
}

/// A code and a delay.
const BODY_LENGTH: u16 = 1 + 4;
