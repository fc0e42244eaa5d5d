//! The addresses that a target may have, and those that a client on the internet can have.

use crate::error::CodedError;
use remoteingress_proto::token::host::Host;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The metadata service of a cloud provider, by its only address outside the blocked ranges.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Refuses an address that would fail each of its streams; a name is judged when it is resolved.
pub fn check_target(
    host: &Host,
    allow_special_targets: bool,
    path: impl fmt::Display,
) -> Result<(), CodedError> {
    let is_refused = !allow_special_targets && host.bare().parse().is_ok_and(is_special);
    if is_refused {
        let problem = format_args!("{host} is no target (see allowSpecialTargets)");
        return Err(CodedError::invalid_config(path, problem));
    }
    Ok(())
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
