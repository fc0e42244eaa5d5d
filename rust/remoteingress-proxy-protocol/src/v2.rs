//! Version 2: a binary header with extensible TLVs.

use std::net::{IpAddr, SocketAddr};

use crate::endpoints::Endpoints;
use crate::header::{Addresses, Header, Protocol, Version};
use crate::status::{ParseError, Status};
use crate::tlv::{CRC32C, Seen, Tlv, TlvError, Tlvs};

/// The longest header [`encode_v2`] makes, in bytes: the least MSS, so that it always leaves in one segment.
pub const MAX_ENCODED_V2_LENGTH: usize = 536;

/// The v2 header of a connection that is nobody's but the sender's own, such as a check: the command LOCAL.
pub const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Reason why a header can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Addresses and vectors together are too long.
    #[error("header of {0} bytes is longer than {MAX_ENCODED_V2_LENGTH}")]
    Length(usize),
    /// One among the vectors: the encoder computes it.
    #[error("the CRC32C TLV can't be chosen by the caller")]
    Checksum,
    /// A vector that no reader would take.
    #[error(transparent)]
    Tlv(#[from] TlvError),
}

/// Appends a v2 header for a connection, or a datagram, from `source` to `destination`.
///
/// Families are treated as in [`encode_v1`](crate::encode_v1). On an error `out` is as it was.
pub fn encode_v2(
    source: SocketAddr,
    destination: SocketAddr,
    protocol: Protocol,
    tlvs: &[Tlv<'_>],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let endpoints = Endpoints::new(source, destination);
    let (family, addresses_length) = match endpoints {
        Endpoints::V4 { .. } => (INET, INET_LENGTH),
        Endpoints::V6 { .. } => (INET6, INET6_LENGTH),
    };
    let payload = usize::from(addresses_length) + check_tlvs(tlvs)?;
    let length = FIXED_LENGTH + payload;
    if length > MAX_ENCODED_V2_LENGTH {
        return Err(EncodeError::Length(length));
    }
    let [.., high, low] = payload.to_be_bytes();
    let protocol = match protocol {
        Protocol::Stream => STREAM,
        Protocol::Datagram => DATAGRAM,
    };

    out.reserve(length);
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[VERSION << 4 | PROXY, family << 4 | protocol, high, low]);
    match endpoints {
        Endpoints::V4 {
            source: (source, source_port),
            destination: (destination, destination_port),
        } => {
            let addresses = [source.octets(), destination.octets()];
            append_addresses(addresses, [source_port, destination_port], out);
        }
        Endpoints::V6 {
            source: (source, source_port),
            destination: (destination, destination_port),
        } => {
            let addresses = [source.octets(), destination.octets()];
            append_addresses(addresses, [source_port, destination_port], out);
        }
    }
    for tlv in tlvs {
        tlv.encode(out);
    }
    Ok(())
}

/// Checks what the caller wants to send as the parser would; gives its length on the wire, bytes.
fn check_tlvs(tlvs: &[Tlv<'_>]) -> Result<usize, EncodeError> {
    let mut seen = Seen::default();
    let mut length = 0;
    for tlv in tlvs {
        if tlv.kind == CRC32C {
            return Err(EncodeError::Checksum);
        }
        seen.insert(tlv.kind)?;
        tlv.check()?;
        length += tlv.encoded_length();
    }
    Ok(length)
}

fn append_addresses<const N: usize>(addresses: [[u8; N]; 2], ports: [u16; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(addresses.as_flattened());
    out.extend_from_slice(ports.map(u16::to_be_bytes).as_flattened());
}

pub(crate) fn parse(input: &[u8], max_payload: u16) -> Result<Status<'_>, ParseError> {
    let Some((layout, declared)) = parse_fixed(input)? else {
        return Ok(Status::Incomplete);
    };
    if declared > max_payload {
        return Err(ParseError::PayloadLength {
            declared,
            limit: max_payload,
        });
    }
    let needed = layout.addresses_length();
    let too_short = ParseError::AddressLength { declared, needed };
    if declared < needed {
        return Err(too_short);
    }
    let length = FIXED_LENGTH + usize::from(declared);
    let Some(bytes) = input.get(..length) else {
        return Ok(Status::Incomplete);
    };
    let header = Header {
        version: Version::V2,
        addresses: layout.addresses(&bytes[FIXED_LENGTH..]).ok_or(too_short)?,
        tlvs: match layout {
            // Nothing says where the addresses end that are to be ignored.
            Layout::Local | Layout::Unknown => Tlvs::default(),
            Layout::Inet(_) | Layout::Inet6(_) | Layout::Unix(_) => {
                Tlvs::parse(bytes, FIXED_LENGTH + usize::from(needed))?
            }
        },
    };
    Ok(Status::Complete { header, length })
}

/// Reads the fixed part: what follows, and how many bytes of it. Each byte is judged as soon as it is there.
fn parse_fixed(input: &[u8]) -> Result<Option<(Layout, u16)>, ParseError> {
    let received = input.len().min(SIGNATURE.len());
    if input[..received] != SIGNATURE[..received] {
        return Err(ParseError::NoHeader);
    }
    let fixed = &input[received..];
    let Some(&version_command) = fixed.first() else {
        return Ok(None);
    };
    if version_command >> 4 != VERSION {
        return Err(ParseError::Version(version_command >> 4));
    }
    let local = match version_command & 0xF {
        LOCAL => true,
        PROXY => false,
        command => return Err(ParseError::Command(command)),
    };
    let Some(&family_protocol) = fixed.get(1) else {
        return Ok(None);
    };
    let layout = if local {
        // The specification has the receiver ignore even the family.
        Layout::Local
    } else {
        Layout::new(family_protocol >> 4, family_protocol & 0xF)?
    };
    let &[_, _, high, low, ..] = fixed else {
        return Ok(None);
    };
    Ok(Some((layout, u16::from_be_bytes([high, low]))))
}

/// The addresses that the payload begins with.
#[derive(Clone, Copy)]
enum Layout {
    Local,
    Unknown,
    Inet(Protocol),
    Inet6(Protocol),
    Unix(Protocol),
}

impl Layout {
    fn new(family: u8, protocol: u8) -> Result<Self, ParseError> {
        let layout = match family {
            UNSPEC => |_| Self::Unknown,
            INET => Self::Inet,
            INET6 => Self::Inet6,
            UNIX => Self::Unix,
            _ => return Err(ParseError::Family(family)),
        };
        match protocol {
            UNSPEC => Ok(Self::Unknown),
            STREAM => Ok(layout(Protocol::Stream)),
            DATAGRAM => Ok(layout(Protocol::Datagram)),
            _ => Err(ParseError::Protocol(protocol)),
        }
    }

    /// Bytes the addresses take.
    const fn addresses_length(self) -> u16 {
        match self {
            Self::Local | Self::Unknown => 0,
            Self::Inet(_) => INET_LENGTH,
            Self::Inet6(_) => INET6_LENGTH,
            Self::Unix(_) => UNIX_LENGTH,
        }
    }

    /// The addresses at the start of `payload`; `None` where it is too short.
    fn addresses(self, payload: &[u8]) -> Option<Addresses<'_>> {
        match self {
            Self::Local => Some(Addresses::Local),
            Self::Unknown => Some(Addresses::Unknown),
            Self::Inet(protocol) => inet::<4>(protocol, payload),
            Self::Inet6(protocol) => inet::<16>(protocol, payload),
            Self::Unix(protocol) => {
                let (source, rest) = payload.split_first_chunk()?;
                let (destination, _) = rest.split_first_chunk()?;
                Some(Addresses::Unix {
                    protocol,
                    source,
                    destination,
                })
            }
        }
    }
}

fn inet<const N: usize>(protocol: Protocol, payload: &[u8]) -> Option<Addresses<'_>>
where
    IpAddr: From<[u8; N]>,
{
    let (&source, rest) = payload.split_first_chunk::<N>()?;
    let (&destination, rest) = rest.split_first_chunk::<N>()?;
    let (&source_port, rest) = rest.split_first_chunk()?;
    let (&destination_port, _) = rest.split_first_chunk()?;
    Some(Addresses::Inet {
        protocol,
        source: SocketAddr::new(source.into(), u16::from_be_bytes(source_port)),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes(destination_port)),
    })
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length of the payload: in bytes.
pub(crate) const FIXED_LENGTH: usize = SIGNATURE.len() + 4;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Bytes of two addresses and two ports.
const INET_LENGTH: u16 = 2 * 4 + 2 * 2;
const INET6_LENGTH: u16 = 2 * 16 + 2 * 2;
/// Bytes of two socket paths.
const UNIX_LENGTH: u16 = 2 * 108;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000);
    const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 443);

    fn encode(tlvs: &[Tlv<'_>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode_v2(CLIENT, LISTENER, Protocol::Stream, tlvs, out)
    }

    #[test]
    fn the_longest_header_is_536_bytes() {
        let free = MAX_ENCODED_V2_LENGTH - FIXED_LENGTH - usize::from(INET_LENGTH) - 3;
        let value = [0; 600];
        let mut out = Vec::new();
        encode(&[Tlv::new(0x30, &value[..free])], &mut out).unwrap();
        assert_eq!(out.len(), MAX_ENCODED_V2_LENGTH);
        assert_eq!(
            encode(&[Tlv::new(0x30, &value[..=free])], &mut out),
            Err(EncodeError::Length(MAX_ENCODED_V2_LENGTH + 1))
        );
    }

    #[test]
    fn what_a_parser_would_refuse_is_not_written() {
        let mut out = b"kept".to_vec();
        let refused = [
            (
                vec![Tlv::unique_id(&[0; 129])],
                TlvError::UniqueIdLength.into(),
            ),
            (
                vec![Tlv::unique_id(b"a"), Tlv::unique_id(b"b")],
                TlvError::Repeated(0x05).into(),
            ),
            (vec![Tlv::new(0x02, b"a\0b")], TlvError::Authority.into()),
            (vec![Tlv::new(CRC32C, &[0; 4])], EncodeError::Checksum),
        ];
        for (tlvs, error) in refused {
            assert_eq!(encode(&tlvs, &mut out), Err(error));
        }
        assert_eq!(out, b"kept");
    }
}
