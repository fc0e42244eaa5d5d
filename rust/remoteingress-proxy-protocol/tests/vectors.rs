//! The vectors of `test/fixtures/proxy-protocol.json`: what the parser makes of bytes, what the writer makes
//! of addresses.

use remoteingress_proxy_protocol::{
    Accept, Addresses, Header, ParseError, Parser, Protocol, Status, Tlv, Version, encode_v1,
    encode_v2,
};
use serde_json::{Value, json};

#[test]
fn parses_every_vector_as_expected() {
    for vector in vectors("parsed") {
        let (parser, input) = parsed_vector(&vector);
        assert_eq!(
            described(parser.parse(&input)),
            vector["expect"],
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn every_split_gives_the_same_answer() {
    for vector in vectors("parsed") {
        let (parser, input) = parsed_vector(&vector);
        let expected = parser.parse(&input);
        // With all bytes from here on the answer stays; before, there is none.
        let decided = (0..=input.len()).find(|&end| answered(parser.parse(&input[..end])));
        let decided = decided.unwrap_or(input.len());
        for end in decided..=input.len() {
            assert_eq!(
                parser.parse(&input[..end]),
                expected,
                "{} cut at {end}",
                vector["name"]
            );
        }
        match expected {
            Ok(Status::Complete { length, .. }) => assert_eq!(decided, length),
            Ok(Status::Incomplete) => assert_eq!(decided, input.len()),
            Err(_) => assert!(decided <= parser.max_length()),
        }
    }
}

#[test]
fn what_follows_a_header_is_left_alone() {
    for vector in vectors("parsed") {
        let (parser, mut input) = parsed_vector(&vector);
        let expected = described(parser.parse(&input));
        if expected["length"].is_u64() {
            input.extend_from_slice(b"\r\nPROXY \0\xff");
            assert_eq!(
                described(parser.parse(&input)),
                expected,
                "{}",
                vector["name"]
            );
        }
    }
}

#[test]
fn encodes_every_vector_as_expected() {
    for vector in vectors("encoded") {
        let address = |field: &str| text(&vector[field]).parse().expect("an address");
        let (source, destination) = (address("source"), address("destination"));
        let mut out = Vec::new();
        if vector["version"] == "v1" {
            encode_v1(source, destination, &mut out);
        } else {
            let values: Vec<(u8, Vec<u8>)> = list(&vector["tlvs"])
                .iter()
                .map(|tlv| {
                    let kind = tlv["kind"].as_u64().and_then(|kind| kind.try_into().ok());
                    (kind.expect("a kind"), bytes(&tlv["hex"]))
                })
                .collect();
            let tlvs: Vec<Tlv<'_>> = values.iter().map(|(k, v)| Tlv::new(*k, v)).collect();
            let protocol = match text(&vector["protocol"]) {
                "stream" => Protocol::Stream,
                _ => Protocol::Datagram,
            };
            encode_v2(source, destination, protocol, &tlvs, &mut out).expect("a valid header");
        }
        assert_eq!(hex(&out), text(&vector["hex"]), "{}", vector["name"]);
    }
}

fn answered(outcome: Result<Status<'_>, ParseError>) -> bool {
    outcome != Ok(Status::Incomplete)
}

fn parsed_vector(vector: &Value) -> (Parser, Vec<u8>) {
    let accept = match vector.get("accept").map(text) {
        None => Accept::Either,
        Some("v1") => Accept::V1,
        Some("v2") => Accept::V2,
        Some(other) => panic!("unknown accept {other}"),
    };
    let mut parser = Parser::new(accept);
    if let Some(limit) = vector.get("maxV2Payload").and_then(Value::as_u64) {
        parser = parser.with_max_v2_payload(limit.try_into().expect("a limit"));
    }
    (parser, bytes(&vector["hex"]))
}

/// An outcome as the fixture writes it.
fn described(outcome: Result<Status<'_>, ParseError>) -> Value {
    match outcome {
        Ok(Status::Incomplete) => json!({ "incomplete": true }),
        Ok(Status::Complete { header, length }) => {
            let mut value = described_header(&header);
            value["length"] = length.into();
            value
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn described_header(header: &Header<'_>) -> Value {
    let mut value = match header.addresses {
        Addresses::Local => json!({ "kind": "local" }),
        Addresses::Unknown => json!({ "kind": "unknown" }),
        Addresses::Inet {
            protocol,
            source,
            destination,
        } => json!({
            "kind": "inet",
            "protocol": described_protocol(protocol),
            "source": source.to_string(),
            "destination": destination.to_string(),
        }),
        Addresses::Unix {
            protocol,
            source,
            destination,
        } => json!({
            "kind": "unix",
            "protocol": described_protocol(protocol),
            "source": described_path(source),
            "destination": described_path(destination),
        }),
    };
    value["version"] = match header.version {
        Version::V1 => "v1".into(),
        Version::V2 => "v2".into(),
    };
    value["tlvs"] = header
        .tlvs
        .iter()
        .map(|tlv| json!({ "kind": tlv.kind, "hex": hex(tlv.value) }))
        .collect();
    value
}

fn described_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Stream => "stream",
        Protocol::Datagram => "datagram",
    }
}

fn described_path(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .trim_end_matches('\0')
        .to_owned()
}

fn vectors(section: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(FIXTURE).expect("the fixture is JSON");
    list(&fixture[section]).to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = text(value);
    assert!(digits.len().is_multiple_of(2), "whole bytes");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const FIXTURE: &str = include_str!("../../../test/fixtures/proxy-protocol.json");
