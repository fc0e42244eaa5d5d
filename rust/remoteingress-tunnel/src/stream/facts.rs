//! The facts of a stream that its owner knows and others may ask for, kept small: each idle stream has them.

use remoteingress_proto::wire::header::StreamHeader;
use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who came to where, and where that leads.
#[derive(Clone, Debug)]
pub struct Facts {
    ends: Ends,
    client_port: u16,
    listener_port: u16,
    /// Of a target that is one of a pool; 0: none.
    number: Cell<u32>,
    target: OnceCell<Box<str>>,
}

/// Addresses of the client and of the listener.
#[derive(Clone, Debug)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    /// Boxed, since most aren't of version 6.
    V6(Box<(Ipv6Addr, Ipv6Addr)>),
}

impl Facts {
    /// Of the stream with this header, and its target as `host:port` where that is known.
    pub fn new(header: &StreamHeader, target: Option<Box<str>>) -> Self {
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let ends = match (header.client.ip(), header.listener.ip()) {
            (IpAddr::V4(client), IpAddr::V4(listener)) => Ends::V4(client, listener),
            (client, listener) => Ends::V6(Box::new((mapped(client), mapped(listener)))),
        };
        Self {
            ends,
            client_port: header.client.port(),
            listener_port: header.listener_port,
            number: Cell::new(0),
            target: target.map(OnceCell::from).unwrap_or_default(),
        }
    }

    /// Address of the client.
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.ips().0, self.client_port)
    }

    /// Address of the edge that the client came to.
    pub fn listener(&self) -> SocketAddr {
        SocketAddr::new(self.ips().1, self.listener_port)
    }

    fn ips(&self) -> (IpAddr, IpAddr) {
        match &self.ends {
            Ends::V4(client, listener) => ((*client).into(), (*listener).into()),
            Ends::V6(ends) => (ends.0.to_canonical(), ends.1.to_canonical()),
        }
    }

    /// The target, where it is known.
    pub fn target(&self) -> Option<&str> {
        self.target.get().map(AsRef::as_ref)
    }

    /// The target is this one of a pool, unless one is known already: its name, and its number, which isn't 0.
    pub fn set_target(&self, target: Box<str>, number: u32) {
        if self.target.set(target).is_ok() {
            self.number.set(number);
        }
    }

    /// The target is the one of a pool with this number.
    pub fn has_target(&self, number: u32) -> bool {
        self.number.get() == number && number != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::wire::header::Protocol;

    #[test]
    fn facts_are_those_of_the_header() {
        for (client, listener) in [
            ("192.0.2.7:50000", "198.51.100.1:443"),
            ("[2001:db8::7]:50000", "[2001:db8::1]:443"),
            ("[2001:db8::7]:50000", "198.51.100.1:443"),
        ] {
            let header = StreamHeader {
                protocol: Protocol::Tcp,
                listener_port: 443,
                client: client.parse().unwrap(),
                listener: listener.parse().unwrap(),
            };
            let facts = Facts::new(&header, Some("web:80".into()));
            assert_eq!(facts.client(), header.client);
            assert_eq!(facts.listener(), header.listener);
            assert_eq!(facts.target(), Some("web:80"));
            let later = Facts::new(&header, None);
            assert_eq!(later.target(), None);
            later.set_target("web:81".into(), 7);
            assert_eq!(later.target(), Some("web:81"));
            assert!(later.has_target(7) && !later.has_target(8) && !facts.has_target(0));
        }
    }
}
