//! Progress of parsing, and what can be wrong with a header.

use crate::header::Header;
use crate::tlv::TlvError;

/// The longest line the specification allows, CRLF included, in bytes.
pub const MAX_V1_LENGTH: usize = 107;

/// Progress of parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status<'a> {
    /// A header may still come; nothing in the bytes so far speaks against it.
    Incomplete,
    /// The whole header is there.
    Complete {
        /// Its content; its TLVs are slices of the input.
        header: Header<'a>,
        /// Bytes the header takes; what follows is payload.
        length: usize,
    },
}

/// Reason why the bytes are no header. The connection is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The first bytes begin neither version that is accepted.
    #[error("no PROXY header where one is required")]
    NoHeader,
    /// A v1 line that goes on without end.
    #[error("v1 line has no CRLF in its first {MAX_V1_LENGTH} bytes")]
    LineLength,
    /// A v1 line with a stray line break.
    #[error("v1 line holds a CR or LF that isn't part of its CRLF")]
    LineBreak,
    /// A v1 line of a transport that the specification has not.
    #[error("v1 transport is none of TCP4, TCP6, UNKNOWN")]
    Transport,
    /// A v1 line with too few or too many fields.
    #[error("v1 line isn't made of six fields with single spaces between them")]
    Fields,
    /// A v1 address that is malformed, or of the other family.
    #[error("v1 address isn't one of the transport's family")]
    Address,
    /// A v1 port that is malformed.
    #[error("v1 port isn't a decimal number from 0 to 65535 without leading zeros")]
    Port,
    /// A v2 header of a version other than 2.
    #[error("v2 header has unknown version {0:#x}")]
    Version(u8),
    /// A v2 command other than LOCAL and PROXY.
    #[error("v2 header has unknown command {0:#x}")]
    Command(u8),
    /// A v2 address family that the specification has not.
    #[error("v2 header has unknown address family {0:#x}")]
    Family(u8),
    /// A v2 transport that the specification has not.
    #[error("v2 header has unknown transport protocol {0:#x}")]
    Protocol(u8),
    /// A v2 header longer than the parser takes.
    #[error("v2 header declares {declared} bytes where at most {limit} are allowed")]
    PayloadLength {
        /// Bytes after the first 16, by its length field.
        declared: u16,
        /// As [`Parser::with_max_v2_payload`](crate::Parser::with_max_v2_payload) set it.
        limit: u16,
    },
    /// A v2 header too short for the addresses of its family.
    #[error("v2 header declares {declared} bytes, too few for its addresses ({needed})")]
    AddressLength {
        /// Bytes after the first 16, by its length field.
        declared: u16,
        /// Bytes that the family's addresses and ports take.
        needed: u16,
    },
    /// A v2 header whose TLVs are malformed or wrong.
    #[error("v2 header: {0}")]
    Tlv(#[from] TlvError),
}
