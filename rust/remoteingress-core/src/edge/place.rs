//! The places at which TCP clients are counted: a port, or where it is there on several addresses, each of them.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// Addresses that are told apart; ports on further ones are counted together.
const MAX_ADDRESSES: usize = 4_096;

/// A port, and where that is there on several addresses, which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The port's number.
    pub port: u16,
    /// The number of the address, from 1; 0 where the port is there once.
    address: u16,
}

impl Place {
    /// A port that is there once.
    pub const fn of(port: u16) -> Self {
        Self { port, address: 0 }
    }
}

impl Hash for Place {
    /// As one number: a client is counted at a place several times.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(u32::from(self.port) << 16 | u32::from(self.address));
    }
}

/// The addresses that have a number. They keep it, since clients may still be counted there.
#[derive(Debug, Default)]
pub struct Places {
    addresses: Vec<IpAddr>,
}

impl Places {
    /// The place of a port on one of several addresses.
    pub fn on(&mut self, port: u16, address: IpAddr) -> Place {
        let known = self.addresses.iter().position(|known| *known == address);
        let index = known.or_else(|| {
            let is_full = self.addresses.len() >= MAX_ADDRESSES;
            (!is_full).then(|| {
                self.addresses.push(address);
                self.addresses.len() - 1
            })
        });
        let number = index.and_then(|index| u16::try_from(index + 1).ok());
        Place {
            port,
            address: number.unwrap_or(0),
        }
    }

    /// The address of such a place.
    pub fn address(&self, place: Place) -> Option<IpAddr> {
        let index = usize::from(place.address).checked_sub(1)?;
        self.addresses.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_number_and_there_are_so_many() {
        let mut places = Places::default();
        let ip = |number: u32| IpAddr::from(number.to_be_bytes());
        let first = places.on(443, ip(1));
        assert_eq!(places.on(443, ip(1)), first);
        assert_ne!(places.on(443, ip(2)), first);
        assert_ne!(places.on(444, ip(1)), first);
        assert_eq!(places.address(first), Some(ip(1)));
        assert_eq!(places.address(Place::of(443)), None);
        for number in 3..=4_096 {
            assert_ne!(places.on(443, ip(number)), Place::of(443));
        }
        assert_eq!(places.on(443, ip(4_097)), Place::of(443));
        assert_eq!(places.on(443, ip(1)), first);
    }
}
