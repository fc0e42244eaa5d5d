//! The listeners of ports: how many descriptors all of them may take, which ports have one listener per worker, and the
//! worker of a port that has only one (D1). The descriptors that `maxConnections` promises to clients stay theirs.

use super::port_table::ListenerId;
use remoteingress_config::EdgeLimits;
use std::collections::HashMap;

/// Ports that have a listener per worker and address family; all others have one for all.
const MAX_GROUPS: usize = 64;
/// Longest range whose ports may have that.
const MAX_GROUP_RANGE: u16 = 16;
/// A port without an address of its own has one of these listeners for IPv4 and for IPv6.
const FAMILIES: usize = 2;
/// Descriptors that neither clients nor listeners take, for sessions, calls and files: at most a fifth of all.
const SPARE: u64 = 1_024;
/// What the limit of clients leaves may be nothing. Listeners have this part of all descriptors even so.
const LEAST_SHARE: u64 = 8;

/// The listeners that a port gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listeners {
    /// One per worker and address family.
    PerWorker,
    /// One, on one worker, for both families.
    One,
}

/// The process may have no more descriptors for listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDescriptors {
    /// Descriptors that listeners may have.
    most: u64,
    /// Descriptors that the process may have.
    limit: u64,
    /// The limit that would do.
    wanted: u64,
}

/// The descriptors of an edge, as far as its listeners take them.
#[derive(Debug)]
pub struct Descriptors {
    limit: u64,
    taken: usize,
    /// Listeners that take more than one.
    groups: HashMap<ListenerId, usize>,
}

impl Descriptors {
    /// No port is open. `limit` is the number of descriptors that the process may have.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            taken: 0,
            groups: HashMap::new(),
        }
    }

    /// The listeners of the next port, which the hub lists in a range of `range_ports`, while `waiting` others wait for
    /// theirs: no port has several where another one would get none.
    ///
    /// # Errors
    /// All that listeners may have is taken.
    pub fn listeners(
        &self,
        limits: &EdgeLimits,
        range_ports: u16,
        waiting: usize,
        workers: usize,
    ) -> Result<Listeners, NoDescriptors> {
        let most = share(self.limit, limits);
        let fits = |more: usize| (self.taken + more) as u64 <= most;
        let may_have_group = range_ports <= MAX_GROUP_RANGE && self.groups.len() < MAX_GROUPS;
        if may_have_group && fits(FAMILIES * workers + waiting) {
            return Ok(Listeners::PerWorker);
        }
        if fits(1) {
            return Ok(Listeners::One);
        }
        Err(NoDescriptors {
            most,
            limit: self.limit,
            wanted: limit_for(self.taken + 1 + waiting, limits),
        })
    }

    /// A port has been opened with so many descriptors.
    pub fn opened(&mut self, id: ListenerId, descriptors: usize) {
        self.taken += descriptors;
        if descriptors != 1 {
            self.groups.insert(id, descriptors);
        }
    }

    /// A port has been closed.
    pub fn closed(&mut self, id: ListenerId) {
        self.taken -= self.groups.remove(&id).unwrap_or(1);
    }
}

impl std::fmt::Display for NoDescriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            most,
            limit,
            wanted,
        } = self;
        write!(
            f,
            "listeners may have {most} of {limit} descriptors, since limits.maxConnections needs the others; all ports \
             need a limit of {wanted} (LimitNOFILE, ulimit -n), or a lower limits.maxConnections"
        )
    }
}

/// The descriptors that listeners may have: what clients and a reserve leave, and an eighth at least.
fn share(limit: u64, limits: &EdgeLimits) -> u64 {
    // Without a limit of clients they are promised as many as by default.
    let clients = limits.max_connections(limit).get();
    let clients = clients.map_or(limit / 5 * 2, u64::from);
    let spare = SPARE.min(limit / 5);
    limit
        .saturating_sub(clients.saturating_add(spare))
        .max(limit / LEAST_SHARE)
}

/// The least limit that leaves so many descriptors to listeners, in steps of 1,024.
fn limit_for(descriptors: usize, limits: &EdgeLimits) -> u64 {
    let descriptors = descriptors as u64;
    let steps = (1..1_024).map(|step| step * 1_024);
    let mut enough = steps.filter(|limit| share(*limit, limits) >= descriptors);
    enough.next().unwrap_or(1 << 20)
}

/// The worker that opens this copy of a port's listener, of `copies` in all.
pub fn worker_of(port: u16, copy: usize, copies: usize, workers: usize) -> usize {
    if copies == workers {
        copy
    } else {
        usize::from(port) % workers.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::Limit;

    fn clients(most: u32) -> EdgeLimits {
        EdgeLimits {
            configured_max_connections: Some(Limit::new(most)),
            ..EdgeLimits::default()
        }
    }

    #[test]
    fn clients_have_what_they_are_promised_and_listeners_the_rest() {
        let default = EdgeLimits::default();
        assert_eq!(share(1_024, &default), 412);
        assert_eq!(share(20_000, &default), 10_976);
        for (limit, clients, expected) in [
            (1_024, 408, 412),
            (1_024, 100, 720),
            (20_000, 8_000, 10_976),
            (1 << 20, 65_536, 982_016),
            (140_000, 8_000, 130_976),
            // No promise is kept that can't be.
            (1_024, 900, 128),
            (1_024, 100_000, 128),
            (1_024, 0, 412),
        ] {
            assert_eq!(share(limit, &self::clients(clients)), expected, "{limit}");
        }
        assert!(share(u64::MAX, &default) > 1 << 40);
    }

    #[test]
    fn few_ports_are_open_at_every_worker_and_long_ranges_at_one() {
        let limits = EdgeLimits::default();
        let mut descriptors = Descriptors::new(1 << 20);
        for id in 0..64 {
            let next = descriptors.listeners(&limits, 1, 10_000, 8);
            assert_eq!(next, Ok(Listeners::PerWorker));
            assert_eq!(descriptors.listeners(&limits, 17, 0, 8), Ok(Listeners::One));
            descriptors.opened(ListenerId(id), 16);
        }
        let next = || descriptors.listeners(&limits, 1, 0, 8);
        assert_eq!(next(), Ok(Listeners::One));
        descriptors.closed(ListenerId(7));
        let next = descriptors.listeners(&limits, 1, 0, 8);
        assert_eq!(next, Ok(Listeners::PerWorker));
        assert_eq!(descriptors.taken, 63 * 16);
    }

    #[test]
    fn no_port_has_several_where_another_would_have_none() {
        let limits = EdgeLimits::default();
        let mut descriptors = Descriptors::new(1_024);
        let next = descriptors.listeners(&limits, 1, 408, 2);
        assert_eq!(next, Ok(Listeners::PerWorker));
        let next = descriptors.listeners(&limits, 1, 409, 2);
        assert_eq!(next, Ok(Listeners::One));
        for id in 0..412 {
            let next = descriptors.listeners(&limits, 1, 500, 2);
            assert_eq!(next, Ok(Listeners::One));
            descriptors.opened(ListenerId(id), 1);
        }
        let refused = descriptors.listeners(&limits, 500, 88, 2).unwrap_err();
        assert_eq!((refused.most, refused.limit), (412, 1_024));
        // 501 ports, and 40 % for clients.
        assert_eq!(refused.wanted, 2_048);
        assert!(refused.to_string().len() < 200, "{refused}");
        let enough = Descriptors::new(refused.wanted);
        assert!(enough.listeners(&limits, 500, 500, 2).is_ok());
        descriptors.closed(ListenerId(3));
        assert!(descriptors.listeners(&limits, 500, 88, 2).is_ok());
    }

    #[test]
    fn every_port_of_both_protocols_has_a_limit_that_does() {
        let all = 2 * usize::from(u16::MAX);
        for limits in [EdgeLimits::default(), clients(1), clients(65_536)] {
            let limit = limit_for(all, &limits);
            assert!(share(limit, &limits) >= all as u64);
            assert!(limit < 200_000, "{limit}");
        }
    }

    #[test]
    fn single_listeners_are_spread_over_the_workers() {
        assert_eq!(
            (0..4).map(|copy| worker_of(80, copy, 4, 4)).sum::<usize>(),
            6
        );
        let mut ports = [0; 4];
        for port in 1_000..1_400 {
            ports[worker_of(port, 0, 1, 4)] += 1;
        }
        assert_eq!(ports, [100; 4]);
        assert_eq!(worker_of(80, 0, 1, 1), 0);
    }
}
