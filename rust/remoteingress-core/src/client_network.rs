//! The network that counts as one client in limits, and how fast its clients may come.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// The client's network: its IPv4 address, or the /64 of its IPv6 address, which is what one subscriber usually has.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A bucket of tokens, one for each client that may come. It refills at `rate` per second up to `burst`.
#[derive(Debug)]
pub struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A bucket with `burst` tokens.
    pub fn full(now: Instant, burst: f64) -> Self {
        Self {
            tokens: burst,
            at: now,
        }
    }

    /// Takes a token; false if none is left. The bucket refills at `rate` per second up to `burst` before that.
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
    fn an_ipv6_network_counts_as_one_client() {
        assert_eq!(
            client_network(ip("2001:db8::1")),
            client_network(ip("2001:db8::ffff"))
        );
        assert_ne!(
            client_network(ip("2001:db8:0:1::1")),
            client_network(ip("2001:db8::1"))
        );
        assert_eq!(client_network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
