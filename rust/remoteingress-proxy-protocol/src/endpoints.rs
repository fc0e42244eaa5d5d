//! The pair of addresses that a header is written for, in one family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Source and destination of one connection; a header can't mix families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoints {
    V4 {
        source: (Ipv4Addr, u16),
        destination: (Ipv4Addr, u16),
    },
    V6 {
        source: (Ipv6Addr, u16),
        destination: (Ipv6Addr, u16),
    },
}

impl Endpoints {
    /// IPv4 where both sides are IPv4 or IPv4-mapped (a dual-stack socket reports IPv4 clients as
    /// `::ffff:a.b.c.d`, which no target expects); else both as IPv6, the IPv4 one mapped.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = (source.port(), destination.port());
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4 {
                source: (source, ports.0),
                destination: (destination, ports.1),
            },
            (source, destination) => Self::V6 {
                source: (promoted(source), ports.0),
                destination: (promoted(destination), ports.1),
            },
        }
    }
}

fn promoted(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mapped_addresses_become_ipv4() {
        let endpoints = Endpoints::new(
            "[::ffff:192.0.2.1]:1".parse().unwrap(),
            "[::ffff:198.51.100.2]:2".parse().unwrap(),
        );
        assert_eq!(
            endpoints,
            Endpoints::V4 {
                source: (Ipv4Addr::new(192, 0, 2, 1), 1),
                destination: (Ipv4Addr::new(198, 51, 100, 2), 2),
            }
        );
    }

    #[test]
    fn mixed_families_become_ipv6() {
        let mapped: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        for source in ["192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            assert_eq!(
                Endpoints::new(source.parse().unwrap(), "[2001:db8::2]:2".parse().unwrap()),
                Endpoints::V6 {
                    source: (mapped, 1),
                    destination: ("2001:db8::2".parse().unwrap(), 2),
                }
            );
        }
    }
}
