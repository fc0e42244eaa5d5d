//! Properties of writer and parser, for whatever addresses and bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use remoteingress_proxy_protocol::{
    AUTHORITY, Accept, Addresses, CRC32C, MAX_ENCODED_V2_LENGTH, MAX_UNIQUE_ID_LENGTH,
    MAX_V1_LENGTH, Parser, Protocol, Status, Tlv, UNIQUE_ID, Version, encode_v1, encode_v2,
};

proptest! {
    #[test]
    fn v1_is_read_back_as_written(source in address(), destination in address()) {
        let mut line = Vec::new();
        encode_v1(source, destination, &mut line);
        let status = Parser::new(Accept::Either).parse(&line);
        let Ok(Status::Complete { header, length }) = status else {
            panic!("{status:?} for {}", line.escape_ascii());
        };
        prop_assert_eq!(length, line.len());
        prop_assert_eq!(header.version, Version::V1);
        prop_assert!(header.tlvs.is_empty());
        let (source, destination) = as_written(source, destination);
        prop_assert_eq!(
            header.addresses,
            Addresses::Inet { protocol: Protocol::Stream, source, destination }
        );
    }

    #[test]
    fn v1_follows_the_grammar(source in address(), destination in address()) {
        let mut line = Vec::new();
        encode_v1(source, destination, &mut line);
        prop_assert!(line.len() <= MAX_V1_LENGTH);
        let line = String::from_utf8(line).unwrap();
        prop_assert!(is_grammatical(&line), "{line:?}");
    }

    #[test]
    fn v2_is_read_back_as_written(
        source in address(),
        destination in address(),
        protocol in protocol(),
        values in tlvs(),
    ) {
        let tlvs: Vec<_> = values.iter().map(|(kind, value)| Tlv::new(*kind, value)).collect();
        let mut bytes = Vec::new();
        let fits = encode_v2(source, destination, protocol, &tlvs, &mut bytes).is_ok();
        prop_assume!(fits);
        prop_assert!(bytes.len() <= MAX_ENCODED_V2_LENGTH);
        let status = Parser::new(Accept::Either).parse(&bytes);
        let Ok(Status::Complete { header, length }) = status else {
            panic!("{status:?} for {}", bytes.escape_ascii());
        };
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(header.version, Version::V2);
        let (source, destination) = as_written(source, destination);
        prop_assert_eq!(header.addresses, Addresses::Inet { protocol, source, destination });
        prop_assert_eq!(header.tlvs.iter().collect::<Vec<_>>(), tlvs);
    }

    #[test]
    fn a_header_is_complete_at_its_last_byte_and_stays_so(
        header in header(),
        payload in vec(any::<u8>(), 0..32),
    ) {
        let parser = Parser::new(Accept::Either);
        for end in 0..header.len() {
            prop_assert_eq!(parser.parse(&header[..end]), Ok(Status::Incomplete));
        }
        let alone = parser.parse(&header);
        let length = match alone {
            Ok(Status::Complete { length, .. }) => Some(length),
            _ => None,
        };
        prop_assert_eq!(length, Some(header.len()));
        let followed = [&header[..], &payload].concat();
        prop_assert_eq!(parser.parse(&followed), alone);
    }

    #[test]
    fn an_answer_stands_however_the_bytes_are_split(bytes in mutated(), limit in any::<u16>()) {
        for accept in [Accept::V1, Accept::V2, Accept::Either] {
            let parser = Parser::new(accept).with_max_v2_payload(limit);
            let mut answer = None;
            for end in 0..=bytes.len() {
                let status = parser.parse(&bytes[..end]);
                match answer {
                    Some(answer) => prop_assert_eq!(status, answer),
                    None if status != Ok(Status::Incomplete) => answer = Some(status),
                    None => prop_assert!(end < parser.max_length()),
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_answered_without_panic(bytes in vec(any::<u8>(), 0..700), accept in accept()) {
        let _ = Parser::new(accept).parse(&bytes);
    }
}

/// The grammar of the specification, section 2.1, without a parser of the standard library.
fn is_grammatical(line: &str) -> bool {
    let Some(line) = line.strip_suffix("\r\n") else {
        return false;
    };
    let fields: Vec<_> = line.split(' ').collect();
    let [prefix, transport, source, destination, source_port, port] = fields[..] else {
        return false;
    };
    let is_address = match transport {
        "TCP4" => is_dotted,
        "TCP6" => is_groups,
        _ => return false,
    };
    prefix == "PROXY"
        && is_address(source)
        && is_address(destination)
        && is_decimal(source_port, 65_535)
        && is_decimal(port, 65_535)
}

fn is_decimal(text: &str, most: u32) -> bool {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits
        && (text == "0" || !text.starts_with('0'))
        && text.parse().is_ok_and(|number: u32| number <= most)
}

fn is_dotted(text: &str) -> bool {
    text.split('.').count() == 4 && text.split('.').all(|part| is_decimal(part, 255))
}

/// Eight groups of hexadecimal digits, or fewer with one gap.
fn is_groups(text: &str) -> bool {
    let groups = |text: &str| -> Option<usize> {
        let hex = |g: &str| (1..=4).contains(&g.len()) && g.bytes().all(|b| b.is_ascii_hexdigit());
        match text {
            "" => Some(0),
            _ => text.split(':').all(hex).then(|| text.split(':').count()),
        }
    };
    match text.split_once("::") {
        None => groups(text) == Some(8),
        Some((before, after)) => {
            matches!((groups(before), groups(after)), (Some(a), Some(b)) if a + b < 8)
        }
    }
}

/// The addresses that a header can give for these two: one family, no scope.
fn as_written(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let ip = [source.ip().to_canonical(), destination.ip().to_canonical()];
    let mixed = ip[0].is_ipv4() != ip[1].is_ipv4();
    let ip = ip.map(|ip| match ip {
        IpAddr::V4(v4) if mixed => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    });
    (
        SocketAddr::new(ip[0], source.port()),
        SocketAddr::new(ip[1], destination.port()),
    )
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(Ipv4Addr::from);
    // Groups of zeros are what abbreviation is about.
    let group = prop_oneof![Just(0), any::<u16>()];
    let v6 = proptest::array::uniform8(group).prop_map(Ipv6Addr::from);
    let mapped = v4.clone().prop_map(|v4| v4.to_ipv6_mapped());
    let ip = prop_oneof![
        v4.prop_map(IpAddr::from),
        v6.prop_map(IpAddr::from),
        mapped.prop_map(IpAddr::from)
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Stream), Just(Protocol::Datagram)]
}

fn accept() -> impl Strategy<Value = Accept> {
    prop_oneof![Just(Accept::V1), Just(Accept::V2), Just(Accept::Either)]
}

/// TLVs as a caller may give them: an authority and a unique id at most once, others of any kind.
fn tlvs() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let authority = proptest::option::of(vec(prop_oneof![Just('a'), Just('.'), Just('ü')], 0..40));
    let unique_id = proptest::option::of(vec(any::<u8>(), 0..=MAX_UNIQUE_ID_LENGTH));
    let kind = any::<u8>().prop_filter("kinds with rules", |kind| {
        ![AUTHORITY, CRC32C, UNIQUE_ID].contains(kind)
    });
    let others = vec((kind, vec(any::<u8>(), 0..60)), 0..5);
    (authority, unique_id, others).prop_map(|(authority, unique_id, mut tlvs)| {
        let authority = authority.map(|name| String::from_iter(name).into_bytes());
        tlvs.extend(authority.map(|name| (AUTHORITY, name)));
        tlvs.extend(unique_id.map(|id| (UNIQUE_ID, id)));
        tlvs
    })
}

/// A header as our writer makes it.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let parts = (address(), address(), protocol(), tlvs(), any::<bool>());
    parts.prop_map(|(source, destination, protocol, values, v1)| {
        let tlvs: Vec<_> = values.iter().map(|(k, v)| Tlv::new(*k, v)).collect();
        let mut out = Vec::new();
        if v1 || encode_v2(source, destination, protocol, &tlvs, &mut out).is_err() {
            encode_v1(source, destination, &mut out);
        }
        out
    })
}

/// Headers with bytes replaced, removed and added.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    (header(), vec(edit, 0..4)).prop_map(|(mut bytes, edits)| {
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len().max(1));
            match edit {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => _ = bytes.remove(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}
