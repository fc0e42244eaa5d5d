//! Admission of clients: counts per listener and per client network, and a rate per client network (threats A1.1).

use crate::client_network::{TokenBucket, client_network};
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::{EdgeLimits, Limit};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Client networks that are remembered; beyond this number those without a connection are forgotten.
const MAX_IDLE_NETWORKS: usize = 65_536;

/// The limit for which a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process has as many clients as it may.
    Connections,
    /// The listener has as many clients as it may.
    ConnectionsPerListener,
    /// The client network has as many connections as it may.
    ConnectionsPerIp,
    /// The client network's connections come too fast.
    NewConnectionsPerIp,
}

impl From<Refusal> for EdgeRefusalReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Connections => Self::MaxConnections,
            Refusal::ConnectionsPerListener => Self::MaxConnectionsPerListener,
            Refusal::ConnectionsPerIp => Self::MaxConnectionsPerIp,
            Refusal::NewConnectionsPerIp => Self::NewConnectionsPerIpPerSec,
        }
    }
}

#[derive(Debug)]
struct Network {
    connections: usize,
    bucket: TokenBucket,
}

/// Counts of this process's clients.
#[derive(Debug)]
pub struct Admission {
    limits: EdgeLimits,
    /// Files that the process may open.
    descriptors: u64,
    max_connections: Limit,
    total: usize,
    listeners: HashMap<u16, usize>,
    networks: HashMap<IpAddr, Network>,
}

impl Admission {
    /// No clients yet. `descriptors` is the number of files that the process may open; it bounds the total.
    pub fn new(limits: EdgeLimits, descriptors: u64) -> Self {
        let max_connections = limits.max_connections(descriptors);
        Self {
            limits,
            descriptors,
            max_connections,
            total: 0,
            listeners: HashMap::new(),
            networks: HashMap::new(),
        }
    }

    /// Other limits from now on, for as many descriptors as before; clients that are too many stay until they go.
    pub fn set_limits(&mut self, limits: EdgeLimits) {
        self.max_connections = limits.max_connections(self.descriptors);
        self.limits = limits;
    }

    /// Counts a client in, or refuses it and counts nothing.
    pub fn admit(&mut self, now: Instant, client: IpAddr, port: u16) -> Result<(), Refusal> {
        let limits = &self.limits;
        if !self.max_connections.admits(self.total) {
            return Err(Refusal::Connections);
        }
        let on_listener = self.listeners.get(&port).copied().unwrap_or_default();
        if !limits.max_connections_per_listener.admits(on_listener) {
            return Err(Refusal::ConnectionsPerListener);
        }
        let rate = limits.new_connections_per_ip_per_sec.get().map(f64::from);
        let burst = limits
            .new_connections_per_ip_burst
            .get()
            .map_or(1.0, f64::from);
        let key = client_network(client);
        if !self.networks.contains_key(&key) && self.networks.len() >= MAX_IDLE_NETWORKS {
            self.networks.retain(|_, network| network.connections > 0);
        }
        let network = self.networks.entry(key).or_insert_with(|| Network {
            connections: 0,
            bucket: TokenBucket::full(now, burst),
        });
        if !limits.max_connections_per_ip.admits(network.connections) {
            return Err(Refusal::ConnectionsPerIp);
        }
        if rate.is_some_and(|rate| !network.bucket.take(now, rate, burst)) {
            return Err(Refusal::NewConnectionsPerIp);
        }
        network.connections += 1;
        self.total += 1;
        *self.listeners.entry(port).or_default() += 1;
        Ok(())
    }

    /// A client that was admitted is gone.
    pub fn release(&mut self, client: IpAddr, port: u16) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.listeners.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.listeners.remove(&port);
            }
        }
        if let Some(network) = self.networks.get_mut(&client_network(client)) {
            network.connections = network.connections.saturating_sub(1);
        }
    }

    /// Clients of a listener's port.
    #[cfg(test)]
    pub fn on_port(&self, port: u16) -> usize {
        self.listeners.get(&port).copied().unwrap_or_default()
    }

    /// Ports that have clients.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.listeners.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_has_a_burst_then_a_rate_then_a_number() {
        let now = crate::any_instant();
        let mut admission = Admission::new(EdgeLimits::default(), 1 << 20);
        let flood = |admission: &mut Admission, now| {
            (0..300)
                .filter(|_| admission.admit(now, ip("192.0.2.1"), 80).is_ok())
                .count()
        };
        assert_eq!(flood(&mut admission, now), 200);
        assert_eq!(admission.admit(now, ip("192.0.2.2"), 80), Ok(()));
        assert_eq!(flood(&mut admission, now + Duration::from_secs(10)), 56);
        let full = admission.admit(now + Duration::from_secs(20), ip("192.0.2.1"), 80);
        assert_eq!(full, Err(Refusal::ConnectionsPerIp));
        for _ in 0..256 {
            admission.release(ip("192.0.2.1"), 80);
        }
        assert_eq!(admission.on_port(80), 1);
        assert_eq!(flood(&mut admission, now + Duration::from_secs(30)), 200);
    }

    #[test]
    fn descriptors_bound_the_total() {
        let limits = EdgeLimits {
            max_connections_per_ip: Limit::OFF,
            ..EdgeLimits::default()
        };
        let mut admission = Admission::new(limits, 100);
        for i in 0..40 {
            assert_eq!(
                admission.admit(crate::any_instant(), ip("192.0.2.1"), i),
                Ok(())
            );
        }
        let full = admission.admit(crate::any_instant(), ip("192.0.2.1"), 41);
        assert_eq!(full, Err(Refusal::Connections));
        assert_eq!(admission.ports().count(), 40);
    }
}
