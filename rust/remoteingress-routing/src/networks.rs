//! Sets of networks, large ones too: lists of addresses that a provider publishes have 100,000 entries.

use remoteingress_config::Cidr;
use std::net::IpAddr;

/// Addresses as ranges, in their order and apart from each other. A look-up halves them: 17 steps for 100,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Box<[Range]>);

/// From the first to the last address, those of IPv4 as mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u128,
    last: u128,
}

impl Networks {
    /// True if the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        let after = self.0.partition_point(|range| range.first <= address);
        let before = after.checked_sub(1).and_then(|place| self.0.get(place));
        before.is_some_and(|range| address <= range.last)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ranges that are kept: networks that overlap or touch are one.
    pub fn ranges(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Cidr> for Networks {
    fn from_iter<I: IntoIterator<Item = Cidr>>(networks: I) -> Self {
        let range = |network: Cidr| {
            let (first, last) = network.range();
            Range { first, last }
        };
        let mut all: Vec<Range> = networks.into_iter().map(range).collect();
        all.sort_unstable();
        let mut apart: Vec<Range> = Vec::new();
        for range in all {
            match apart.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => apart.push(range),
            }
        }
        Self(apart.into())
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Who may come: a list of those that are blocked, and one of those that are allowed, of which nobody is left out where it
/// is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    allow: Option<Networks>,
    block: Networks,
}

/// Why a client may not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Its address is blocked.
    Blocked,
    /// There is a list of those who may come, and its address isn't on it.
    NotAllowed,
}

impl Access {
    /// An `allow` that is empty lets nobody come.
    pub fn new(allow: Option<Networks>, block: Networks) -> Self {
        Self { allow, block }
    }

    /// May this client come? A block counts more than an allowance.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, client: IpAddr) -> Result<(), Denied> {
        if self.block.contains(client) {
            return Err(Denied::Blocked);
        }
        match &self.allow {
            Some(allow) if !allow.contains(client) => Err(Denied::NotAllowed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_that_touch_are_one() {
        let list = networks(&[
            "10.0.1.0/24",
            "10.0.0.0/24",
            "10.0.0.7",
            "10.0.2.0/23",
            "192.0.2.1",
        ]);
        assert_eq!(list.ranges(), 2);
        for (address, is_in) in [
            ("10.0.0.0", true),
            ("10.0.3.255", true),
            ("9.255.255.255", false),
            ("10.0.4.0", false),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(list.contains(ip(address)), is_in, "{address}");
        }
        assert!(networks(&["::/0"]).contains(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
        assert!(!Networks::default().contains(ip("0.0.0.0")));
    }

    #[test]
    fn a_block_counts_more_than_an_allowance() {
        let access = Access::new(
            Some(networks(&["10.0.0.0/8", "2001:db8::/32"])),
            networks(&["10.66.0.0/16"]),
        );
        assert_eq!(access.check(ip("10.1.2.3")), Ok(()));
        assert_eq!(access.check(ip("10.66.1.1")), Err(Denied::Blocked));
        assert_eq!(access.check(ip("192.0.2.1")), Err(Denied::NotAllowed));
        assert_eq!(Access::default().check(ip("192.0.2.1")), Ok(()));
        let nobody = Access::new(Some(Networks::default()), Networks::default());
        assert_eq!(nobody.check(ip("10.1.2.3")), Err(Denied::NotAllowed));
    }
}
