//! Version 1: one line of text.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::endpoints::Endpoints;
use crate::header::{Addresses, Header, Protocol, Version};
use crate::status::{MAX_V1_LENGTH, ParseError, Status};
use crate::tlv::Tlvs;

/// The v1 header of a connection that is nobody's but the sender's own, such as a check.
pub const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Appends a v1 header for a TCP connection from `source` to `destination`.
///
/// IPv4-mapped addresses are written as IPv4 when both sides allow it; where the families differ, the line
/// says TCP6 and the IPv4 address is mapped.
pub fn encode_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    // Once: piece by piece it would be moved four times.
    out.reserve(MAX_V1_LENGTH);
    match Endpoints::new(source, destination) {
        Endpoints::V4 {
            source: (source, source_port),
            destination: (destination, destination_port),
        } => write!(
            out,
            "PROXY TCP4 {source} {destination} {source_port} {destination_port}\r\n"
        ),
        Endpoints::V6 {
            source: (source, source_port),
            destination: (destination, destination_port),
        } => {
            let (source, destination) = (Groups(source), Groups(destination));
            write!(
                out,
                "PROXY TCP6 {source} {destination} {source_port} {destination_port}\r\n"
            )
        }
    }
    .expect("writing to a Vec doesn't fail");
}

pub(crate) fn parse(input: &[u8]) -> Result<Status<'_>, ParseError> {
    let prefix = input.len().min(PREFIX.len());
    if input[..prefix] != PREFIX[..prefix] {
        return Err(ParseError::NoHeader);
    }
    let Some(length) = line_length(input)? else {
        return Ok(Status::Incomplete);
    };
    let addresses = addresses(&input[PREFIX.len()..length - CRLF.len()])?;
    let header = Header {
        version: Version::V1,
        addresses,
        tlvs: Tlvs::default(),
    };
    Ok(Status::Complete { header, length })
}

/// Length of the line, its CRLF included; `None` where that isn't known yet.
fn line_length(input: &[u8]) -> Result<Option<usize>, ParseError> {
    let capped = &input[..input.len().min(MAX_V1_LENGTH)];
    let full = capped.len() == MAX_V1_LENGTH;
    let Some(at) = capped.iter().position(|byte| CRLF.contains(byte)) else {
        return if full {
            Err(ParseError::LineLength)
        } else {
            Ok(None)
        };
    };
    match capped[at..] {
        [b'\r', b'\n', ..] => Ok(Some(at + CRLF.len())),
        [b'\r'] if full => Err(ParseError::LineLength),
        [b'\r'] => Ok(None),
        _ => Err(ParseError::LineBreak),
    }
}

/// Reads what stands between `PROXY ` and CRLF.
fn addresses(fields: &[u8]) -> Result<Addresses<'static>, ParseError> {
    // Everything after UNKNOWN is to be ignored.
    if fields == b"UNKNOWN" || fields.starts_with(b"UNKNOWN ") {
        return Ok(Addresses::Unknown);
    }
    let mut fields = fields.split(|&byte| byte == b' ');
    let address: fn(&[u8]) -> Result<IpAddr, ParseError> = match fields.next() {
        Some(b"TCP4") => |field| parsed::<Ipv4Addr>(field, ParseError::Address).map(IpAddr::V4),
        Some(b"TCP6") => |field| parsed::<Ipv6Addr>(field, ParseError::Address).map(IpAddr::V6),
        _ => return Err(ParseError::Transport),
    };
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(ParseError::Fields);
    };
    Ok(Addresses::Inet {
        protocol: Protocol::Stream,
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn port(field: &[u8]) -> Result<u16, ParseError> {
    // The standard library would take a sign and leading zeros.
    match field {
        [b'0'] | [b'1'..=b'9', ..] => parsed(field, ParseError::Port),
        _ => Err(ParseError::Port),
    }
}

fn parsed<T: FromStr>(field: &[u8], error: ParseError) -> Result<T, ParseError> {
    str::from_utf8(field)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(error)
}

/// An IPv6 address in hexadecimal groups only, as the specification's grammar has it: the standard
/// library writes the last 32 bits of a mapped address in dots.
struct Groups(Ipv6Addr);

impl std::fmt::Display for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] => write!(f, "::ffff:{high:x}:{low:x}"),
            _ => self.0.fmt(f),
        }
    }
}

pub(crate) const PREFIX: &[u8] = b"PROXY ";
const CRLF: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_line(source: &str, destination: &str, line: &str) {
        let mut out = Vec::new();
        encode_v1(
            source.parse().unwrap(),
            destination.parse().unwrap(),
            &mut out,
        );
        assert_eq!(str::from_utf8(&out).unwrap(), line);
    }

    #[test]
    fn a_mapped_address_is_written_in_groups() {
        assert_line(
            "192.0.2.1:1",
            "[2001:db8::2]:2",
            "PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 2\r\n",
        );
    }

    #[test]
    fn the_scope_of_a_link_local_address_is_left_out() {
        assert_line(
            "[fe80::1%7]:1",
            "[fe80::2%7]:2",
            "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
        );
    }

    #[test]
    fn a_header_is_appended() {
        let mut out = b"kept".to_vec();
        let address = "127.0.0.1:1".parse().unwrap();
        encode_v1(address, address, &mut out);
        assert_eq!(out, b"keptPROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n");
    }
}
