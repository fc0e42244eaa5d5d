//! An encoder of MaxMind's format, after its specification: search tree, data section, metadata.

use std::collections::HashMap;
use std::net::IpAddr;

/// A value of the data section.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A text.
    Text(String),
    /// Two bytes.
    Number16(u16),
    /// Four bytes.
    Number32(u32),
    /// Eight bytes.
    Number64(u64),
    /// True or false.
    Flag(bool),
    /// Values without names.
    List(Vec<Self>),
    /// Values by name.
    Map(Vec<(&'static str, Self)>),
    /// To a value at this place of the data section, or of the metadata.
    Pointer(u32),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// A text as a value.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

impl Value {
    /// Appends it as the data section has it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(2, text.len(), out);
                out.extend(text.as_bytes());
            }
            Self::Number16(number) => {
                head(5, 2, out);
                out.extend(number.to_be_bytes());
            }
            Self::Number32(number) => {
                head(6, 4, out);
                out.extend(number.to_be_bytes());
            }
            Self::Number64(number) => {
                head(9, 8, out);
                out.extend(number.to_be_bytes());
            }
            Self::Flag(flag) => head(14, usize::from(*flag), out),
            Self::List(values) => {
                head(11, values.len(), out);
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Map(fields) => {
                head(7, fields.len(), out);
                for (name, value) in fields {
                    text(name).encode(out);
                    value.encode(out);
                }
            }
            // The longest form: four bytes follow.
            Self::Pointer(place) => {
                out.push(0b0011_1000);
                out.extend(place.to_be_bytes());
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }
}

fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (short, more) = match size {
        0..29 => (size as u8, vec![]),
        29..285 => (29, vec![(size - 29) as u8]),
        _ => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
    };
    if kind < 8 {
        out.push(kind << 5 | short);
    } else {
        out.extend([short, kind - 7]);
    }
    out.extend(more);
}

/// Where the search goes on from one side of a node.
#[derive(Clone, Copy, Debug)]
pub enum Record {
    /// Nothing is known of these addresses.
    Empty,
    /// At another node.
    Node(u32),
    /// A place in the data section.
    Data(u32),
    /// A number as it is.
    Raw(u32),
}

/// A database to write, and to damage.
#[derive(Clone, Debug)]
pub struct Mmdb {
    /// 4 or 6.
    pub ip_version: u16,
    /// Bits of a record: 24, 28 or 32.
    pub record_size: u16,
    /// Seconds since 1970.
    pub build_epoch: u64,
    /// The search tree, its root first.
    pub nodes: Vec<[Record; 2]>,
    /// The data section.
    pub data: Vec<u8>,
    places: HashMap<Value, u32>,
    /// Replaces fields of the metadata, or removes them.
    pub metadata: Vec<(&'static str, Option<Value>)>,
}

impl Mmdb {
    /// An empty one.
    pub fn new(ip_version: u16, record_size: u16) -> Self {
        Self {
            ip_version,
            record_size,
            build_epoch: 1_700_000_000,
            nodes: vec![[Record::Empty; 2]],
            data: Vec::new(),
            places: HashMap::new(),
            metadata: Vec::new(),
        }
    }

    /// Says something of a network. Later ones must not lie around earlier ones.
    pub fn add(&mut self, network: &str, value: Value) {
        let (address, length) = network.split_once('/').expect("a network");
        let length: u32 = length.parse().expect("a length");
        let (bits, length) = match address.parse().expect("an address") {
            IpAddr::V4(v4) if self.ip_version == 4 => (u128::from(v4.to_bits()) << 96, length),
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), length + 96),
            IpAddr::V6(v6) => (v6.to_bits(), length),
        };
        let data = &mut self.data;
        let place = *self.places.entry(value).or_insert_with_key(|value| {
            let place = data.len() as u32;
            value.encode(data);
            place
        });
        let mut node = 0;
        for depth in 0..length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                self.nodes[node][side] = Record::Data(place);
                break;
            }
            node = match self.nodes[node][side] {
                Record::Node(next) => next as usize,
                // A network inside a larger one: both halves have the larger one's record.
                leaf @ (Record::Empty | Record::Data(_) | Record::Raw(_)) => {
                    self.nodes.push([leaf; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Record::Node(next as u32);
                    next
                }
            };
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.nodes.len() as u32;
        let number = |record: Record| match record {
            Record::Empty => count,
            Record::Node(node) => node,
            Record::Data(place) => count + 16 + place,
            Record::Raw(number) => number,
        };
        let mut out = Vec::new();
        for sides in &self.nodes {
            let [left, right] = sides.map(|side| number(side).to_be_bytes());
            match self.record_size {
                24 => out.extend([&left[1..], &right[1..]].concat()),
                28 => {
                    out.extend(&left[1..]);
                    out.push(left[0] << 4 | right[0] & 15);
                    out.extend(&right[1..]);
                }
                _ => out.extend([left, right].concat()),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        let mut fields = vec![
            ("binary_format_major_version", Value::Number16(2)),
            ("binary_format_minor_version", Value::Number16(0)),
            ("build_epoch", Value::Number64(self.build_epoch)),
            ("database_type", text("Test-Country")),
            ("description", Value::Map(vec![("en", text("A test"))])),
            ("ip_version", Value::Number16(self.ip_version)),
            ("languages", Value::List(vec![text("en")])),
            ("node_count", Value::Number32(count)),
            ("record_size", Value::Number16(self.record_size)),
        ];
        for (name, change) in &self.metadata {
            fields.retain(|(field, _)| field != name);
            fields.extend(change.clone().map(|value| (*name, value)));
        }
        Value::Map(fields).encode(&mut out);
        out
    }
}

/// As GeoLite2 has it: names in languages, numbers, a flag.
pub fn geolite(code: &str, registered: &str, continent: &str) -> Value {
    let names = |name: &str| Value::Map(vec![("de", text(name)), ("en", text(&name.repeat(40)))]);
    let place = |field: &'static str, code: &str| {
        let fields = vec![
            ("geoname_id", Value::Number32(3_469_034)),
            ("is_in_european_union", Value::Flag(true)),
            (field, text(code)),
            ("names", names(code)),
        ];
        Value::Map(fields)
    };
    let fields = [
        ("continent", place("code", continent)),
        ("country", place("iso_code", code)),
        ("registered_country", place("iso_code", registered)),
    ];
    let fields = fields.into_iter().filter(|(_, value)| {
        let Value::Map(fields) = value else {
            return false;
        };
        fields[2].1 != text("")
    });
    Value::Map(fields.collect())
}

/// As ip-location-db has it.
pub fn flat(code: &str) -> Value {
    Value::Map(vec![("country_code", text(code))])
}
