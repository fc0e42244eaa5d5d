//! The key by which a client is known to affinity and to `ipHash`.

use std::net::IpAddr;

/// A client's address as one number: an IPv4 address whole, an IPv6 address by its first 64 bits, since a client moves
/// within those. Of both transports alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(pub u64);

/// Mixed into each key, so that nobody can choose addresses that go to one target. Hubs that have the same one choose
/// alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub u64);

impl ClientKey {
    /// The key of this address; an IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn new(address: IpAddr, seed: HashSeed) -> Self {
        let network = match address.to_canonical() {
            // Above the 64 bits of any IPv6 network that routers pass on.
            IpAddr::V4(address) => u64::from(u32::from(address)) | 0xffff << 48,
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        Self(mix(mix(network ^ seed.0) ^ seed.0.rotate_left(32)))
    }
}

/// Spreads a number over all 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// FNV-1a of a target's id, spread: the same on every hub with this seed.
pub(crate) fn hash_id(id: &str, seed: HashSeed) -> u64 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash ^ seed.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_ipv6_network_have_one_key() {
        let key = |text: &str| ClientKey::new(text.parse().unwrap(), HashSeed(7));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        let other = ClientKey::new("192.0.2.1".parse().unwrap(), HashSeed(8));
        assert_ne!(key("192.0.2.1"), other);
    }
}
