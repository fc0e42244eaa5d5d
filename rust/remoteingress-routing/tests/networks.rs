//! Sets of networks, beside a plain list of them.

use proptest::prelude::*;
use remoteingress_config::Cidr;
use remoteingress_routing::networks::Networks;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, and an address in it or near it.
fn network() -> impl Strategy<Value = String> {
    // Few different bits, so that networks overlap and touch.
    let v4 = (0_u32..64, 24_u32..=32).prop_map(|(low, bits)| {
        let base = (0xc000_0200 | low) & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        format!("{}/{bits}", Ipv4Addr::from_bits(base))
    });
    let v6 = (0_u128..64, 118_u32..=128).prop_map(|(low, bits)| {
        let base = ((0x2001_0db8 << 96) | low) & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        format!("{}/{bits}", Ipv6Addr::from_bits(base))
    });
    prop_oneof![
        v4,
        v6,
        Just("::/0".to_owned()),
        Just("0.0.0.0/0".to_owned())
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u32..300).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + low - 20))),
        (0_u128..1_200).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + low))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

proptest! {
    #[test]
    fn a_set_contains_what_one_of_its_networks_does(
        texts in prop::collection::vec(network(), 0..12),
        addresses in prop::collection::vec(address(), 1..60),
    ) {
        let list: Vec<Cidr> = texts.iter().map(|text| Cidr::parse(text).unwrap()).collect();
        let set: Networks = list.iter().copied().collect();
        prop_assert!(set.ranges() <= list.len());
        prop_assert_eq!(set.is_empty(), list.is_empty());
        for address in addresses {
            let is_in = list.iter().any(|network| network.contains(address));
            prop_assert_eq!(set.contains(address), is_in, "{} in {:?}", address, texts);
        }
    }
}
