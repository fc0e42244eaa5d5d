//! How long a UDP flow may be silent, by the hub's word on each port.

use remoteingress_proto::control::ConfigPort;
use remoteingress_proto::wire::header::Protocol;
use std::net::SocketAddr;
use std::time::Duration;

/// The hub's word on the UDP ports of a generation.
#[derive(Debug, Default)]
pub struct UdpIdle {
    /// By first port. Without overlap.
    once: Vec<(u16, u16, Duration)>,
    /// Those that are there on several addresses.
    shared: Vec<ConfigPort>,
}

impl UdpIdle {
    /// Of the ports of a generation.
    pub fn new(ports: &[ConfigPort]) -> Self {
        let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
        let (shared, once): (Vec<_>, Vec<_>) = udp.copied().partition(|port| port.is_shared);
        let timed = once
            .iter()
            .filter_map(|port| Some((port.first, port.last, idle(port)?)));
        let mut once: Vec<_> = timed.collect();
        once.sort_unstable_by_key(|(first, ..)| *first);
        Self { once, shared }
    }

    /// The hub's word on the port and address that a client came to, if it has said one.
    pub fn of(&self, listener: SocketAddr) -> Option<Duration> {
        let port = listener.port();
        let next = self.once.partition_point(|(first, ..)| *first <= port);
        let once = next.checked_sub(1).and_then(|place| self.once.get(place));
        if let Some((_, last, idle)) = once
            && port <= *last
        {
            return Some(*idle);
        }
        let ip = listener.ip().to_canonical();
        let is_it = |shared: &&ConfigPort| {
            let bound = shared.bind_address.is_some_and(|bound| {
                bound == ip || (bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4())
            });
            bound && (shared.first..=shared.last).contains(&port)
        };
        self.shared.iter().find(is_it).and_then(idle)
    }
}

fn idle(port: &ConfigPort) -> Option<Duration> {
    Some(Duration::from_secs(port.udp_idle_secs?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_and_address_has_its_own() {
        let port = |protocol, first, last, address: Option<&str>, seconds| ConfigPort {
            protocol,
            first,
            last,
            bind_address: address.and_then(|text| text.parse().ok()),
            udp_idle_secs: seconds,
            is_shared: address.is_some(),
        };
        let word = UdpIdle::new(&[
            port(Protocol::Udp, 500, 509, None, Some(600)),
            port(Protocol::Tcp, 53, 53, None, Some(1)),
            port(Protocol::Udp, 54, 54, None, None),
            port(Protocol::Udp, 443, 443, Some("192.0.2.1"), Some(2)),
            port(Protocol::Udp, 443, 443, Some("192.0.2.2"), Some(3)),
            port(Protocol::Udp, 443, 443, Some("::"), None),
        ]);
        for (listener, expected) in [
            ("192.0.2.1:499", None),
            ("192.0.2.1:500", Some(600)),
            ("[2001:db8::1]:509", Some(600)),
            ("192.0.2.1:510", None),
            ("192.0.2.1:53", None),
            ("192.0.2.1:54", None),
            ("192.0.2.1:443", Some(2)),
            ("192.0.2.2:443", Some(3)),
            ("192.0.2.3:443", None),
            ("[2001:db8::1]:443", None),
        ] {
            let found = word.of(listener.parse().expect("address"));
            assert_eq!(found.map(|idle| idle.as_secs()), expected, "{listener}");
        }
    }
}
