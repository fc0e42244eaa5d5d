//! The header of a stream: which listener a client came to, and the client's own address, in binary.
//!
//! ```text
//! protocol u8 (6 TCP, 17 UDP) · listener port u16 · client address · listener address · TLVs
//! ```
//!
//! It names no target: the hub maps the listener to one out of its own configuration.

use std::net::SocketAddr;

use thiserror::Error;

pub(crate) mod address;
mod self_test;

pub use address::AddressError;
use address::{read_socket_address, write_socket_address};
pub use self_test::TestNonce;

use crate::wire::tlv::{Cursor, Tlvs, UnexpectedEnd};

/// The longest header, in bytes, extensions included.
pub const MAX_HEADER: usize = 256;

/// The transport protocol of the client; on the wire its IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Flows of datagrams.
    Udp,
}

impl Protocol {
    /// The name used in configuration, status and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub(crate) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// Source of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamHeader {
    /// The client's.
    pub protocol: Protocol,
    /// The port in the hub's configuration that the stream belongs to.
    pub listener_port: u16,
    /// The client, as the edge's socket names it.
    pub client: SocketAddr,
    /// The edge's local address that the client connected to.
    pub listener: SocketAddr,
}

impl StreamHeader {
    /// Appends the header, at most 41 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.protocol.to_wire());
        out.extend_from_slice(&self.listener_port.to_be_bytes());
        write_socket_address(out, self.client);
        write_socket_address(out, self.listener);
    }

    /// Reads a header that fills `bytes`, skipping the extensions it doesn't know.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_HEADER {
            return Err(HeaderError::TooLong(bytes.len()));
        }
        let mut cursor = Cursor::new(bytes);
        let protocol = cursor.u8()?;
        let header = Self {
            protocol: Protocol::from_wire(protocol).ok_or(HeaderError::Protocol(protocol))?,
            listener_port: cursor.u16()?,
            client: read_socket_address(&mut cursor)?,
            listener: read_socket_address(&mut cursor)?,
        };
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(header)
    }
}

/// Reason why a stream's header was not understood: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Beyond [`MAX_HEADER`]: the length in bytes.
    #[error("stream header of {0} bytes is longer than 256")]
    TooLong(usize),
    /// A field goes beyond the end.
    #[error("stream header is malformed: {0}")]
    End(#[from] UnexpectedEnd),
    /// An address of no known family.
    #[error("stream header is malformed: {0}")]
    Address(#[from] AddressError),
    /// A number that is neither 6 nor 17.
    #[error("stream header names an unknown protocol {0}")]
    Protocol(u8),
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture::golden;
    use crate::wire::tlv::write_tlv;

    #[test]
    fn golden_bytes() {
        let v4 = header("203.0.113.9:51234", "192.0.2.1:443");
        assert_eq!(encoded(&v4), golden("streamHeaderV4"));
        let v6 = header("[2001:db8::9]:51234", "[2001:db8::1]:443");
        assert_eq!(encoded(&v6), golden("streamHeaderV6"));
        assert_eq!(StreamHeader::decode(&golden("streamHeaderV4")), Ok(v4));
        assert_eq!(StreamHeader::decode(&golden("streamHeaderV6")), Ok(v6));
    }

    #[test]
    fn v4_mapped_address_is_written_and_read_as_v4() {
        let mapped = header("[::ffff:203.0.113.9]:51234", "[::ffff:192.0.2.1]:443");
        let plain = header("203.0.113.9:51234", "192.0.2.1:443");
        assert_eq!(encoded(&mapped), encoded(&plain));

        let mut spelled = vec![6, 0x01, 0xbb];
        for address in ["::ffff:203.0.113.9", "::ffff:192.0.2.1"] {
            let IpAddr::V6(v6) = address.parse().unwrap() else {
                unreachable!()
            };
            spelled.push(6);
            spelled.extend_from_slice(&v6.octets());
            spelled.extend_from_slice(&443u16.to_be_bytes());
        }
        let read = StreamHeader::decode(&spelled).unwrap();
        assert_eq!(read.client.ip(), plain.client.ip());
        assert_eq!(read.listener, plain.listener);
    }

    #[test]
    fn unknown_extension_is_skipped_up_to_the_longest_header_and_no_further() {
        let plain = header("203.0.113.9:51234", "192.0.2.1:443");
        let mut bytes = encoded(&plain);
        let room = MAX_HEADER - bytes.len() - 4;
        write_tlv(&mut bytes, 0xbeef, &vec![7; room]).unwrap();
        assert_eq!(bytes.len(), MAX_HEADER);
        assert_eq!(StreamHeader::decode(&bytes), Ok(plain));

        let mut longer = encoded(&plain);
        write_tlv(&mut longer, 0xbeef, &vec![7; room + 1]).unwrap();
        assert_eq!(
            StreamHeader::decode(&longer),
            Err(HeaderError::TooLong(MAX_HEADER + 1))
        );
    }

    #[test]
    fn unknown_protocol_family_or_a_cut_is_refused() {
        let bytes = encoded(&header("203.0.113.9:51234", "[2001:db8::1]:443"));
        for length in 0..bytes.len() {
            assert!(
                StreamHeader::decode(&bytes[..length]).is_err(),
                "cut at {length}"
            );
        }
        let mut other = bytes.clone();
        other[0] = 1;
        assert_eq!(StreamHeader::decode(&other), Err(HeaderError::Protocol(1)));
        let mut other = bytes;
        other[3] = 5;
        assert_eq!(
            StreamHeader::decode(&other),
            Err(HeaderError::Address(AddressError::Family(5)))
        );
    }

    proptest! {
        #[test]
        fn encode_decode_identity(
            udp in any::<bool>(), listener_port in any::<u16>(),
            client in any::<(IpAddr, u16)>(), listener in any::<(IpAddr, u16)>(),
        ) {
            let header = StreamHeader {
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                listener_port,
                client: SocketAddr::new(client.0.to_canonical(), client.1),
                listener: SocketAddr::new(listener.0.to_canonical(), listener.1),
            };
            let bytes = encoded(&header);
            prop_assert!(bytes.len() <= 41);
            prop_assert_eq!(StreamHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StreamHeader::decode(&bytes);
        }
    }

    fn header(client: &str, listener: &str) -> StreamHeader {
        StreamHeader {
            protocol: Protocol::Tcp,
            listener_port: 443,
            client: client.parse().unwrap(),
            listener: listener.parse().unwrap(),
        }
    }

    fn encoded(header: &StreamHeader) -> Vec<u8> {
        let mut out = Vec::new();
        header.encode(&mut out);
        out
    }
}
