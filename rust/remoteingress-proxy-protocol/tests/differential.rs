//! The crate `ppp` as an oracle: on any bytes both parsers accept the same header, or the difference is
//! one of [`Difference`].

use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, v1, v2};
use proptest::collection::vec;
use proptest::prelude::*;
use remoteingress_proxy_protocol::{
    Accept, Addresses, ParseError, Parser, Protocol, Status, Tlv, TlvError, encode_v1, encode_v2,
};

/// Intended difference from `ppp` 2.3, and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// We refuse ports with a plus sign; `ppp` takes them.
    SignedPort,
    /// We refuse a LF without CR, as the specification says; `ppp` takes a space for the CR, and any LF
    /// after UNKNOWN.
    LoneLineFeed,
    /// We ignore whatever follows UNKNOWN, as the specification says; `ppp` wants UTF-8 of few words.
    UnknownJunk,
    /// We ignore the family and the payload of LOCAL, as the specification says; `ppp` checks them.
    LocalPayload,
    /// We ignore the payload where family or protocol is UNSPEC; `ppp` looks at the family alone.
    UnspecPayload,
    /// We check what the TLVs hold and the checksum; `ppp` checks only that they fill the header.
    TlvValues,
}

/// The header that a parser accepted; a refusal and an incomplete header are both `None`.
type Accepted = Option<(usize, Meaning)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// LOCAL, UNKNOWN and UNSPEC.
    NoAddresses,
    Inet(SocketAddr, SocketAddr),
    Unix,
}

proptest! {
    #[test]
    fn agrees_on_what_our_writer_makes(bytes in header()) {
        let ours = ours(&bytes);
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, theirs(&bytes));
    }

    #[test]
    fn agrees_on_mutated_v1_lines(bytes in mutated_line()) {
        assert_agrees(&bytes);
    }

    #[test]
    fn agrees_on_mutated_headers(bytes in mutated_header()) {
        assert_agrees(&bytes);
    }
}

#[test]
fn every_listed_difference_exists() {
    let v2 = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", rest].concat();
    let examples = [
        (
            Difference::SignedPort,
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n".to_vec(),
        ),
        (Difference::LoneLineFeed, b"PROXY UNKNOWN a\nb\r\n".to_vec()),
        (
            Difference::LoneLineFeed,
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \n".to_vec(),
        ),
        (Difference::UnknownJunk, b"PROXY UNKNOWN \xff\r\n".to_vec()),
        (
            Difference::UnknownJunk,
            b"PROXY UNKNOWN a b c d e\r\n".to_vec(),
        ),
        (Difference::LocalPayload, v2(b"\x20\xff\0\0")),
        (Difference::UnspecPayload, v2(b"\x21\x10\0\0")),
        (
            Difference::TlvValues,
            v2(b"\x21\x11\0\x13\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02\x03\0\x04wrng"),
        ),
    ];
    for (difference, bytes) in examples {
        assert_ne!(ours(&bytes), theirs(&bytes), "{}", bytes.escape_ascii());
        assert_eq!(listed(&bytes), Some(difference));
    }
}

fn assert_agrees(bytes: &[u8]) {
    let (ours, theirs) = (ours(bytes), theirs(bytes));
    assert!(
        ours == theirs || listed(bytes).is_some(),
        "{ours:?}, ppp {theirs:?}, for {}",
        bytes.escape_ascii()
    );
}

/// The difference that these bytes are known to make.
fn listed(bytes: &[u8]) -> Option<Difference> {
    if bytes.starts_with(b"PROXY") {
        let line = bytes.split(|&byte| byte == b'\r').next()?;
        let unknown = line.starts_with(b"PROXY UNKNOWN");
        let words = line.split(|&byte| byte == b' ').count();
        return if line.ends_with(b" \n") || (unknown && line.contains(&b'\n')) {
            Some(Difference::LoneLineFeed)
        } else if unknown && (words > 6 || str::from_utf8(line).is_err()) {
            Some(Difference::UnknownJunk)
        } else if line.windows(2).any(|pair| pair == b" +") {
            Some(Difference::SignedPort)
        } else {
            None
        };
    }
    match (bytes.get(12)?, bytes.get(13)?) {
        (0x20, _) => Some(Difference::LocalPayload),
        (0x21, fixed) if fixed >> 4 == 0 || fixed & 0xf == 0 => Some(Difference::UnspecPayload),
        _ => match parser().parse(bytes) {
            Ok(_) | Err(ParseError::Tlv(TlvError::Cut)) => None,
            Err(ParseError::Tlv(_)) => Some(Difference::TlvValues),
            Err(_) => None,
        },
    }
}

fn parser() -> Parser {
    Parser::new(Accept::Either).with_max_v2_payload(u16::MAX)
}

fn ours(bytes: &[u8]) -> Accepted {
    let Ok(Status::Complete { header, length }) = parser().parse(bytes) else {
        return None;
    };
    let meaning = match header.addresses {
        Addresses::Local | Addresses::Unknown => Meaning::NoAddresses,
        Addresses::Inet {
            source,
            destination,
            ..
        } => Meaning::Inet(source, destination),
        Addresses::Unix { .. } => Meaning::Unix,
    };
    Some((length, meaning))
}

fn theirs(bytes: &[u8]) -> Accepted {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => {
            let header = header.ok()?;
            let meaning = match header.addresses {
                v1::Addresses::Unknown => Meaning::NoAddresses,
                v1::Addresses::Tcp4(addresses) => inet4(addresses),
                v1::Addresses::Tcp6(addresses) => inet6(addresses),
            };
            Some((header.header.len(), meaning))
        }
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            if header.command == v2::Command::Local {
                return Some((header.len(), Meaning::NoAddresses));
            }
            if header.tlvs().any(|tlv| tlv.is_err()) {
                return None;
            }
            let meaning = match header.addresses {
                v2::Addresses::Unspecified => Meaning::NoAddresses,
                v2::Addresses::IPv4(addresses) => inet4(addresses),
                v2::Addresses::IPv6(addresses) => inet6(addresses),
                v2::Addresses::Unix(_) => Meaning::Unix,
            };
            Some((header.len(), meaning))
        }
    }
}

fn inet4(addresses: v1::IPv4) -> Meaning {
    Meaning::Inet(
        (addresses.source_address, addresses.source_port).into(),
        (addresses.destination_address, addresses.destination_port).into(),
    )
}

fn inet6(addresses: v1::IPv6) -> Meaning {
    Meaning::Inet(
        (addresses.source_address, addresses.source_port).into(),
        (addresses.destination_address, addresses.destination_port).into(),
    )
}

/// Lines of each transport, with payload after them, and then broken.
fn mutated_line() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just("TCP4"),
        Just("TCP6"),
        Just("UNKNOWN"),
        Just("192.0.2.1"),
        Just("2001:db8::1"),
        Just("::ffff:192.0.2.1"),
        Just("0"),
        Just("443"),
        Just("65535"),
        Just("65536"),
        Just("0443"),
        Just("+1"),
        Just(""),
        Just("\n"),
        Just("ü"),
    ];
    let fields = vec(field, 0..8).prop_map(|fields| fields.join(" "));
    let fields = prop_oneof![
        3 => Just("TCP4 192.0.2.1 198.51.100.2 56324 443".to_owned()),
        3 => Just("TCP6 2001:db8::1 2001:db8::2 56324 443".to_owned()),
        1 => Just("UNKNOWN".to_owned()),
        6 => fields,
    ];
    let lines = fields.prop_map(|fields| format!("PROXY {fields}\r\npayload").into_bytes());
    mutated(lines)
}

/// Headers of our writer, broken.
fn mutated_header() -> impl Strategy<Value = Vec<u8>> {
    mutated(header())
}

/// Replaces, removes and adds a few bytes, mostly such that mean something.
fn mutated(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b" \r\n\0+-:.0129aF\x01\x02\x03\x05\x11\x20\x21\x31".to_vec()),
    ];
    let edit = (any::<prop::sample::Index>(), byte, 0..3u8);
    (bytes, vec(edit, 0..3)).prop_map(|(mut bytes, edits)| {
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    let address = (ip, any::<u16>()).prop_map(SocketAddr::from);
    let tlvs = (
        vec(any::<u8>(), 0..20),
        prop::sample::select(vec!["", "edge-1", "édge"]),
    );
    let parts = ([address.clone(), address], any::<bool>(), tlvs);
    parts.prop_map(|([source, destination], v1, (unique_id, edge_id))| {
        let mut out = Vec::new();
        if v1 {
            encode_v1(source, destination, &mut out);
        } else {
            let tlvs = [Tlv::unique_id(&unique_id), Tlv::edge_id(edge_id)];
            encode_v2(source, destination, Protocol::Stream, &tlvs, &mut out).expect("it fits");
        }
        out
    })
}
