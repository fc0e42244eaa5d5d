//! The entry to parsing: which version it is.

use crate::status::{MAX_V1_LENGTH, ParseError, Status};
use crate::{v1, v2};

/// The versions a parser takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Version 1, a line of text, only.
    V1,
    /// Version 2, binary, only.
    V2,
    /// Both; the first byte says which it is.
    Either,
}

/// Parses the header at the start of a connection, or of a datagram.
///
/// It keeps no state: give it all bytes received so far, again after each read, until the answer isn't
/// [`Status::Incomplete`]. The chunks of the bytes make no difference, an error comes with the first
/// byte that proves it where the format allows, and no answer ever needs more than [`Parser::max_length`]
/// bytes. In a datagram, [`Status::Incomplete`] is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parser {
    accept: Accept,
    /// In bytes, after the fixed 16.
    max_v2_payload: u16,
}

impl Parser {
    /// A parser that takes up to 520 bytes after the first 16 of a v2 header.
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

/// The specification has senders keep a header within one segment of the least MSS, 536 bytes; 16 of them
/// precede the payload.
const DEFAULT_MAX_V2_PAYLOAD: u16 = 520;
