//! Networks that limits per address leave alone.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address range as CIDR writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Of IPv4 as mapped into IPv6; bits beyond the prefix are zero.
    base: u128,
    /// Of the 128 bits.
    prefix: u32,
}

impl Cidr {
    /// Reads `address/bits`, or an address alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let wrong = || "must be an address or address/bits, for instance 192.0.2.0/24".to_owned();
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => length,
        };
        if bits > length {
            return Err(format!("must have at most {length} bits after the slash"));
        }
        let prefix = 128 - length + bits;
        let given = mapped(address).to_bits();
        let base = given & mask(prefix);
        if given != base {
            return Err("must have only zeros after its prefix".to_owned());
        }
        Ok(Self { base, prefix })
    }

    /// Its first and its last address, those of IPv4 as mapped into IPv6.
    pub fn range(&self) -> (u128, u128) {
        (self.base, self.base | !mask(self.prefix))
    }

    /// The address is one of the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address).to_bits() & mask(self.prefix) == self.base
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Written `address/bits`.
impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let base = Ipv6Addr::from_bits(self.base);
        match base.to_ipv4_mapped() {
            Some(base) if self.prefix >= 96 => {
                serializer.collect_str(&format_args!("{base}/{}", self.prefix - 96))
            }
            _ => serializer.collect_str(&format_args!("{base}/{}", self.prefix)),
        }
    }
}

/// A list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exempt(Vec<Cidr>);

impl Exempt {
    /// The address is in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The highest `prefix` bits.
fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode;

    fn exempt(ranges: &[&str]) -> Exempt {
        decode(&json!(ranges)).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_of_both_families_are_told_apart() {
        let list = exempt(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1"]);
        for inside in [
            "192.0.2.0",
            "192.0.2.255",
            "::ffff:192.0.2.9",
            "198.51.100.7",
            "2001:db8:ffff::1",
            "::1",
        ] {
            assert!(list.contains(ip(inside)), "{inside}");
        }
        for outside in ["192.0.3.0", "198.51.100.8", "2001:db9::", "::2"] {
            assert!(!list.contains(ip(outside)), "{outside}");
        }
        assert!(!Exempt::default().contains(ip("192.0.2.1")));
        assert!(exempt(&["0.0.0.0/0"]).contains(ip("203.0.113.1")));
        assert!(!exempt(&["0.0.0.0/0"]).contains(ip("2001:db8::1")));
        assert!(exempt(&["::/0"]).contains(ip("203.0.113.1")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, expected) in [
            ("", "must be an address"),
            ("example.com", "must be an address"),
            ("192.0.2.0/", "must be an address"),
            ("192.0.2.0/+8", "must be an address"),
            ("192.0.2.0/a", "must be an address"),
            ("192.0.2.0/33", "must have at most 32 bits"),
            ("2001:db8::/129", "must have at most 128 bits"),
            ("192.0.2.1/24", "must have only zeros after its prefix"),
        ] {
            let error = decode::<Exempt>(&json!([text])).unwrap_err();
            assert!(
                error.message.starts_with(&format!("[0]: {expected}")),
                "{error}"
            );
        }
    }
}
