//! The addresses that a target may have, and those that a client on the internet can have.

use crate::error::CodedError;
use remoteingress_proto::token::host::Host;
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The metadata service of a cloud provider, by its only address outside the blocked ranges.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Refuses an address that would fail each of its streams; a name is judged when it is resolved.
pub fn check_target(
    host: &Host,
    allow_special_targets: bool,
    path: impl fmt::Display,
) -> Result<(), CodedError> {
    let is_refused = !allow_special_targets && host.address().is_some_and(is_special);
    if is_refused {
        let problem = format!("{host} is no target (see allowSpecialTargets)");
        return Err(CodedError::invalid_config(path, problem));
    }
    Ok(())
}

/// A unix socket: an absolute path, or `@` and a name in the abstract namespace of Linux. A clone costs one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPath(Arc<str>);

/// Bytes of a path; the kernel's structure has 108, of which the last one ends a path (unix(7)).
const MAX_PATH: usize = 107;

/// The text is no path of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an absolute path, or @ and a name, of at most 107 bytes and without NUL")]
pub struct TargetPathError;

impl TargetPath {
    /// Checks the text; nothing is opened.
    pub fn new(text: &str) -> Result<Self, TargetPathError> {
        let is_named = text.starts_with(['/', '@']) && text.len() > 1;
        if is_named && text.len() <= MAX_PATH && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(TargetPathError)
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for TargetPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Addresses that no target legitimately has: metadata services, link-local, "this host", groups.
pub fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6 == METADATA_V6
        }
    }
}

/// True if a client on the internet can have this address (RFC 6890; threats A3.1).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || is_shared
                || first == 0
                || first >= 240)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_unix_sockets() {
        let longest = format!("/{}", "a".repeat(MAX_PATH - 1));
        for path in ["/run/app.sock", "@app", longest.as_str()] {
            assert_eq!(TargetPath::new(path).unwrap().as_str(), path);
        }
        let longer = format!("{longest}a");
        for text in ["", "/", "@", "app.sock", "./app", "/a\0b", longer.as_str()] {
            assert_eq!(TargetPath::new(text), Err(TargetPathError), "{text}");
        }
    }

    #[test]
    fn special_addresses() {
        for special in [
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
        ] {
            assert!(is_special(special.parse().unwrap()), "{special}");
        }
        for target in [
            "127.0.0.1",
            "10.0.0.5",
            "192.168.1.1",
            "::1",
            "fd00::1",
            "8.8.8.8",
            "::ffff:10.0.0.5",
        ] {
            assert!(!is_special(target.parse().unwrap()), "{target}");
        }
    }

    #[test]
    fn public_addresses_are_those_that_an_internet_client_can_have() {
        for (address, expected) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(
                is_public(address.parse().expect("address")),
                expected,
                "{address}"
            );
        }
    }
}
