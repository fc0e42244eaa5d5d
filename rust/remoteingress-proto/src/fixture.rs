//! Reads the golden bytes that every implementation of the wire format must give.

const WIRE: &str = include_str!("../../../test/fixtures/wire.json");

/// The bytes of one entry.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let fixture: serde_json::Value = serde_json::from_str(WIRE).unwrap();
    let entry = fixture["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("test/fixtures/wire.json has no entry {name}"));
    let hex = entry["hex"].as_str().unwrap();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
