//! Limits on flows, counted over all workers. Touched when a flow begins or ends, never per datagram.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The count of an edge that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsedUp {
    Listener,
    Client,
}

/// The flows that one client address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPerClient {
    /// So many.
    Fixed(usize),
    /// As many as are still free of `pool`, and never fewer than `at_least`.
    Shared {
        /// Flows of all clients of which a part is kept free.
        pool: usize,
        /// However many there are.
        at_least: usize,
    },
}

impl MaxPerClient {
    /// When all clients together have `all`.
    fn when(self, all: usize) -> usize {
        match self {
            Self::Fixed(most) => most,
            Self::Shared { pool, at_least } => pool.saturating_sub(all).max(at_least),
        }
    }
}

/// The flows of an edge, counted per listener and per client address, each with a limit.
#[derive(Debug)]
pub struct FlowQuota {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    all: usize,
    max_per_listener: usize,
    max_per_client: MaxPerClient,
    listeners: HashMap<u16, usize>,
    clients: HashMap<IpAddr, usize>,
}

impl FlowQuota {
    /// No flow is counted yet.
    pub fn new(max_per_listener: usize, max_per_client: MaxPerClient) -> Self {
        Self {
            counts: Mutex::new(Counts {
                max_per_listener,
                max_per_client,
                all: 0,
                listeners: HashMap::new(),
                clients: HashMap::new(),
            }),
        }
    }

    /// Other limits from now on; flows that are too many stay until they end.
    pub fn set_limits(&self, max_per_listener: usize, max_per_client: MaxPerClient) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.max_per_listener = max_per_listener;
        counts.max_per_client = max_per_client;
    }

    /// Counts a flow in, or counts nothing. A client without an address here has no limit of its own.
    pub(super) fn take(&self, listener: u16, client: Option<IpAddr>) -> Result<(), UsedUp> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = client.map_or(0, |client| {
            counts.clients.get(&client).copied().unwrap_or_default()
        });
        if client.is_some() && own >= counts.max_per_client.when(counts.all) {
            return Err(UsedUp::Client);
        }
        let max_per_listener = counts.max_per_listener;
        let on_listener = counts.listeners.entry(listener).or_default();
        if *on_listener >= max_per_listener {
            return Err(UsedUp::Listener);
        }
        *on_listener += 1;
        counts.all += 1;
        if let Some(client) = client {
            *counts.clients.entry(client).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn give_back(&self, listener: u16, client: Option<IpAddr>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        decrement(&mut counts.listeners, listener);
        if let Some(client) = client {
            decrement(&mut counts.clients, client);
        }
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The flows of one edge at a hub, on all of its sessions.
#[derive(Debug, Default)]
pub struct FlowCount(AtomicUsize);

impl FlowCount {
    /// Flows now, of all sessions; at once out of date.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, max: usize) -> bool {
        let one_more = |count: usize| (count < max).then(|| count + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok()
    }

    pub(super) fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
