//! The entry to parsing: which version it is, and what can be wrong.

use crate::header::Header;
use crate::tlv::TlvError;
use crate::{MAX_V1_LENGTH, v1, v2};

/// The versions a parser takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    V1,
    V2,
    Either,
}

/// Parses the header at the start of a connection, or of a datagram.
///
/// It keeps no state: give it all bytes received so far, again after each read, until the answer isn't
/// [`Status::Incomplete`]. How the bytes were chunked makes no difference, an error comes with the first
/// byte that proves it where the format allows, and no answer ever needs more than [`Parser::max_length`]
/// bytes. In a datagram, [`Status::Incomplete`] is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parser {
    accept: Accept,
    max_v2_payload: u16,
}

impl Parser {
    pub const fn new(accept: Accept) -> Self {
        Self {
            accept,
            max_v2_payload: DEFAULT_MAX_V2_PAYLOAD,
        }
    }

    /// Sets how many bytes a v2 header may declare after its first 16. Senders that pass on client
    /// certificates need more than the default of 520.
    #[must_use]
    pub const fn with_max_v2_payload(self, bytes: u16) -> Self {
        Self {
            max_v2_payload: bytes,
            ..self
        }
    }

    /// The longest header this parser takes, in bytes: a buffer of that size always suffices.
    pub const fn max_length(&self) -> usize {
        let v2 = v2::FIXED_LENGTH + self.max_v2_payload as usize;
        match self.accept {
            Accept::V1 => MAX_V1_LENGTH,
            Accept::V2 => v2,
            Accept::Either if v2 > MAX_V1_LENGTH => v2,
            Accept::Either => MAX_V1_LENGTH,
        }
    }

    /// Looks for a header at the start of `input`.
    pub fn parse<'a>(&self, input: &'a [u8]) -> Result<Status<'a>, ParseError> {
        match self.accept {
            Accept::V1 => v1::parse(input),
            Accept::V2 => v2::parse(input, self.max_v2_payload),
            // The first byte tells them apart.
            Accept::Either if input.first() == Some(&v1::PREFIX[0]) => v1::parse(input),
            Accept::Either => v2::parse(input, self.max_v2_payload),
        }
    }
}

/// How far parsing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status<'a> {
    /// A header may still come; nothing in the bytes so far speaks against it.
    Incomplete,
    Complete {
        header: Header<'a>,
        /// Bytes the header takes; what follows is payload.
        length: usize,
    },
}

/// Why the bytes are no header. The connection is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("no PROXY header where one is required")]
    NoHeader,
    #[error("v1 line has no CRLF in its first {MAX_V1_LENGTH} bytes")]
    LineLength,
    #[error("v1 line holds a CR or LF that isn't part of its CRLF")]
    LineBreak,
    #[error("v1 transport is none of TCP4, TCP6, UNKNOWN")]
    Transport,
    #[error("v1 line isn't made of six fields with single spaces between them")]
    Fields,
    #[error("v1 address isn't one of the transport's family")]
    Address,
    #[error("v1 port isn't a decimal number from 0 to 65535 without leading zeros")]
    Port,
    #[error("v2 header has unknown version {0:#x}")]
    Version(u8),
    #[error("v2 header has unknown command {0:#x}")]
    Command(u8),
    #[error("v2 header has unknown address family {0:#x}")]
    Family(u8),
    #[error("v2 header has unknown transport protocol {0:#x}")]
    Protocol(u8),
    #[error("v2 header declares {declared} bytes where at most {limit} are allowed")]
    PayloadLength { declared: u16, limit: u16 },
    #[error("v2 header declares {declared} bytes, too few for its addresses ({needed})")]
    AddressLength { declared: u16, needed: u16 },
    #[error("v2 header: {0}")]
    Tlv(#[from] TlvError),
}

/// The specification has senders keep a header within one segment of the least MSS, 536 bytes; 16 of them
/// precede the payload.
const DEFAULT_MAX_V2_PAYLOAD: u16 = 520;
