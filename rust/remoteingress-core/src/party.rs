//! Who counts as one party in limits, and how fast a party may come. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// An IPv4 address or an IPv6 /64: what one party usually has.
pub fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A bucket that refills at `rate` per second up to `burst`.
#[derive(Debug)]
pub struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub fn full(now: Instant, burst: f64) -> Self {
        Self {
            tokens: burst,
            at: now,
        }
    }

    pub fn take(&mut self, now: Instant, rate: f64, burst: f64) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate).min(burst);
        self.at = now;
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn one_ipv6_network_is_one_party() {
        assert_eq!(party(ip("2001:db8::1")), party(ip("2001:db8::ffff")));
        assert_ne!(party(ip("2001:db8:0:1::1")), party(ip("2001:db8::1")));
        assert_eq!(party(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
