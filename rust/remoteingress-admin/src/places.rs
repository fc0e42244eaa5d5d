//! Places for connections: how many callers may have in all, and how many one of them.
//!
//! A connection costs nothing and says nothing about who opens it until a token comes. So a stranger gets few, and some
//! are left for this machine, from which an operator, or the proxy in front, can always come.

use remoteingress_core::client_network::client_network;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at a time: a few people, their probes and a scraper.
const MAX_CONNECTIONS: usize = 128;
/// Those of them from beyond this machine.
const MAX_REMOTE: usize = 96;
/// Those of one network beyond this machine: a browser has six.
const MAX_PER_NETWORK: usize = 16;
/// Those of one address of this machine, which may be that of a proxy with many callers.
const MAX_PER_OWN_ADDRESS: usize = 64;

/// Who has opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// Somebody at the unix socket, who may open it.
    Socket,
    /// An address of this machine.
    Own(IpAddr),
    /// A network beyond it.
    Network(IpAddr),
}

impl Caller {
    /// The caller at `peer` of a connection whose own end is `own`.
    pub(crate) fn of(peer: SocketAddr, own: Option<SocketAddr>) -> Self {
        let address = peer.ip().to_canonical();
        let is_own = own.is_some_and(|own| own.ip().to_canonical() == address);
        if address.is_loopback() || is_own {
            Self::Own(address)
        } else {
            Self::Network(client_network(address))
        }
    }

    /// Its address or network.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Socket => None,
            Self::Own(address) | Self::Network(address) => Some(address),
        }
    }
}

/// The connections that there are, by caller.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<Caller, usize>>);

impl Places {
    /// A place for this caller's connection, if there is one.
    pub(crate) fn take(self: &Arc<Self>, caller: Caller) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.get(&caller).copied().unwrap_or(0);
        let all: usize = taken.values().sum();
        let is_remote = |caller: &Caller| matches!(caller, Caller::Network(_));
        let remote = taken.iter().filter(|(caller, _)| is_remote(caller));
        let has_room = match caller {
            Caller::Socket => true,
            Caller::Own(_) => own < MAX_PER_OWN_ADDRESS,
            Caller::Network(_) => {
                own < MAX_PER_NETWORK && remote.map(|(_, count)| count).sum::<usize>() < MAX_REMOTE
            }
        };
        if all >= MAX_CONNECTIONS || !has_room {
            return None;
        }
        taken.insert(caller, own + 1);
        Some(Place {
            places: self.clone(),
            caller,
        })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Caller, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    caller: Caller,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str) -> Caller {
        let own = "192.0.2.1:9090".parse().unwrap();
        Caller::of(SocketAddr::new(peer.parse().unwrap(), 5), Some(own))
    }

    /// As many places as this caller still gets.
    fn take_all(places: &Arc<Places>, peer: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take(caller(peer))).collect()
    }

    #[test]
    fn one_network_and_all_beyond_this_machine_leave_places() {
        let places = Arc::default();
        let mut crowd = take_all(&places, "2001:db8::1");
        assert_eq!(crowd.len(), 16);
        assert_eq!(take_all(&places, "2001:db8::ffff").len(), 0);
        for host in 1..=9 {
            crowd.extend(take_all(&places, &format!("198.51.100.{host}")));
        }
        assert_eq!(crowd.len(), 96);
        // By its own address, too, this machine is near.
        assert_eq!(take_all(&places, "192.0.2.1").len(), 32);
        assert_eq!(take_all(&places, "::ffff:127.0.0.1").len(), 32);
        drop(crowd);
        assert_eq!(take_all(&places, "127.0.0.1").len(), 64);
        assert!(places.taken().is_empty());
    }

    #[test]
    fn the_socket_has_them_all() {
        let places: Arc<Places> = Arc::default();
        let all: Vec<Place> = std::iter::from_fn(|| places.take(Caller::Socket)).collect();
        assert_eq!(all.len(), 128);
    }
}
