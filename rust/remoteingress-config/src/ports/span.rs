//! A port, and a run of ports, as JSON has them: `443`, `"443"` or `"20000-20100"`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// From `first` to `last`, both included; never port 0, never reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpan {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortSpan {
    /// From 1 to 65535.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// Number of ports in the span.
    pub fn port_count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl<'de> Deserialize<'de> for PortSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// A port from 1 to 65535, as a number or as text such as `"443"`, or the inclusive range `"20000-20100"`.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape alone is of use")]
pub(crate) enum PortText {
    Number(u16),
    Text(String),
}

/// One port, as a number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = PortSpan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port or a range of ports such as \"20000-20100\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PortSpan, E> {
        let port = port(number)?;
        Ok(PortSpan {
            first: port,
            last: port,
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortSpan, E> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (digits(first)?, digits(last)?);
        if first > last {
            return Err(E::custom(format_args!(
                "the range {first}-{last} is reversed; write \"{last}-{first}\""
            )));
        }
        Ok(PortSpan { first, last })
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port from 1 to 65535")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
        port(number).map(Port)
    }
}

fn digits<E: Error>(text: &str) -> Result<u16, E> {
    // Rust's parser would also take a sign.
    if text.is_empty() || text.len() > 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(E::custom(
            "must be a port such as \"443\" or a range such as \"20000-20100\"",
        ));
    }
    port(text.parse().map_err(E::custom)?)
}

fn port<E: Error>(number: u64) -> Result<u16, E> {
    match u16::try_from(number) {
        Ok(0) => Err(E::custom(
            "port 0 can't be listened on or dialled; use 1 to 65535",
        )),
        Ok(port) => Ok(port),
        Err(_) => Err(E::custom(format_args!(
            "{number} is beyond the last port, 65535"
        ))),
    }
}
