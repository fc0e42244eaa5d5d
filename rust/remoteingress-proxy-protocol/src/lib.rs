//! The PROXY protocol, versions 1 and 2: how a forwarder tells its target who the client is.
//!
//! [`encode_v1`] and [`encode_v2`] write the header that precedes the payload; [`Parser`] takes one off
//! again. Neither touches a socket, a clock or the heap (but for growing the buffer it is given).
//!
//! The specification forbids to guess whether a header is there: parse only where the configuration says
//! that every connection brings one and where its peer is trusted, and give the peer a deadline.
#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]
#![warn(missing_docs)]

mod crc32c;
mod endpoints;
mod header;
mod parser;
mod status;
mod tlv;
mod v1;
mod v2;

pub use header::{Addresses, Header, Protocol, Version};
pub use parser::{Accept, Parser};
pub use status::{MAX_V1_LENGTH, ParseError, Status};
pub use tlv::{
    AUTHORITY, CRC32C, EDGE_ID, MAX_UNIQUE_ID_LENGTH, NOOP, Tlv, TlvError, Tlvs, UNIQUE_ID,
};
pub use v1::{V1_UNKNOWN, encode_v1};
pub use v2::{EncodeError, MAX_ENCODED_V2_LENGTH, V2_LOCAL, encode_v2};
