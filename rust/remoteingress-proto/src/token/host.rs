//! A host to dial: DNS name, IPv4 address, or IPv6 address with or without brackets; kept as it was written. A link-local
//! IPv6 address may name its zone, the interface of this machine that it is reached by (RFC 4007): `fe80::1%eth0`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A host alone, without scheme, port or path. A clone costs one counter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// Checks the text; nothing is resolved.
    pub fn new(text: &str) -> Result<Self, HostError> {
        let valid = if let Some(inner) = in_brackets(text) {
            is_ipv6(inner)
        } else if text.contains(':') {
            is_ipv6(text)
        } else {
            is_name_or_ipv4(text)
        };
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(HostError)
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, without its zone; `None` for a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let bare = self.bare();
        let address = bare.split_once('%').map_or(bare, |(address, _)| address);
        address.parse().ok()
    }

    /// Without brackets: what a resolver takes.
    #[must_use]
    pub fn bare(&self) -> &str {
        in_brackets(&self.0).unwrap_or(&self.0)
    }
}

/// With brackets around an IPv6 address, so that `:port` can follow.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare().contains(':') {
            write!(f, "[{}]", self.bare())
        } else {
            f.write_str(&self.0)
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a DNS name or an IP address alone, without scheme, port or path")]
pub struct HostError;

/// A host as a resolver wants it: an IPv6 address without its brackets.
pub fn bare(host: &str) -> &str {
    in_brackets(host).unwrap_or(host)
}

fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

fn is_ipv6(text: &str) -> bool {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<Ipv6Addr>().is_ok();
    };
    let is_link_local = |address: Ipv6Addr| address.is_unicast_link_local();
    address.parse().is_ok_and(is_link_local)
        && (1..=MAX_ZONE_LENGTH).contains(&zone.len())
        && zone
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_name_or_ipv4(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    // No top-level domain is a number: what ends in one is an IPv4 address or a mistake such as "127.1".
    let ends_in_number = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if ends_in_number {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    name.len() <= MAX_NAME_LENGTH && name.split('.').all(is_label)
}

/// Underscores too: they are in use, even if no registry sells them.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_LENGTH).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Bytes of an interface's name (IFNAMSIZ without its NUL).
const MAX_ZONE_LENGTH: usize = 15;
/// Bytes without the final dot (RFC 1035 section 2.3.4: 255 on the wire).
const MAX_NAME_LENGTH: usize = 253;
/// Bytes (RFC 1035 section 2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for (text, bare, shown, is_ip) in [
            (
                "hub.example.com",
                "hub.example.com",
                "hub.example.com",
                false,
            ),
            (
                "hub.example.com.",
                "hub.example.com.",
                "hub.example.com.",
                false,
            ),
            ("localhost", "localhost", "localhost", false),
            ("hub_1", "hub_1", "hub_1", false),
            (
                "xn--mnchen-3ya.example",
                "xn--mnchen-3ya.example",
                "xn--mnchen-3ya.example",
                false,
            ),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", true),
            ("[2001:db8::1]", "2001:db8::1", "[2001:db8::1]", true),
            ("2001:db8::1", "2001:db8::1", "[2001:db8::1]", true),
            ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%eth0]", true),
            (
                "[fe80::1%br-lan.2]",
                "fe80::1%br-lan.2",
                "[fe80::1%br-lan.2]",
                true,
            ),
            ("fe80::1%1", "fe80::1%1", "[fe80::1%1]", true),
        ] {
            let host = Host::new(text).unwrap();
            assert_eq!(
                (host.as_str(), host.bare(), host.to_string().as_str()),
                (text, bare, shown)
            );
            assert_eq!(host.address().is_some(), is_ip, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = ["abcdefgh"; 29].join(".");
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "hub:8443",
            "https://hub",
            "hub/path",
            "user@hub",
            "münchen",
            "127.1",
            "1.2.3.4.5",
            "256.0.0.1",
            "192.0.2.7.",
            "[192.0.2.7]",
            "[hub]",
            "[::1",
            "::1]",
            "[]",
            "[::1]:8443",
            "fe80::1%",
            "fe80::1%eth 0",
            "fe80::1%eth0%eth0",
            "fe80::1%abcdefghijklmnop",
            "[fe80::1]%eth0",
            "2001:db8::1%eth0",
            "169.254.0.1%eth0",
            ":::",
            "a\0",
            long_label.as_str(),
            long_name.as_str(),
        ] {
            assert_eq!(Host::new(text), Err(HostError), "{text}");
        }
    }
}
