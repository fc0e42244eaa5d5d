//! Targets that register themselves, for as long as they give signs of life.

use crate::pool_set::Candidate;
use crate::time::Moment;
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{TargetAdmin, TargetSource};
use remoteingress_config::pools::MAX_TARGETS;
use remoteingress_config::registration::{LEASE_SECS, Registration};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a sign of life lasts.
pub const LEASE: Duration = Duration::from_secs(LEASE_SECS as u64);

/// The targets that have registered, by id.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<Name, Lease>,
    /// Counts changes of what is registered.
    revision: u64,
}

/// A target that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it has said.
    pub registration: Registration,
    /// When it registered.
    pub since: Moment,
    /// Its last sign of life.
    pub seen: Moment,
}

/// There are as many as a hub may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Lease {
    /// When it ends.
    pub fn until(&self) -> Moment {
        self.seen.after(LEASE)
    }
}

impl Leases {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A target registers, in the place of one with its id. Gives the pools whose targets have changed.
    ///
    /// # Errors
    /// There are too many.
    pub fn register(
        &mut self,
        registration: Registration,
        now: Moment,
    ) -> Result<BTreeSet<Name>, TooMany> {
        let id = registration.id.clone();
        let before = self.by_id.get(&id);
        if before.is_none() && self.by_id.len() >= MAX_TARGETS {
            return Err(TooMany);
        }
        let mut changed = BTreeSet::new();
        if before.is_none_or(|lease| lease.registration != registration) {
            changed.extend(before.map(|lease| lease.registration.app.clone()));
            changed.insert(registration.app.clone());
        }
        let since = before.map_or(now, |lease| lease.since);
        let lease = Lease {
            registration,
            since,
            seen: now,
        };
        self.by_id.insert(id, lease);
        self.revision += u64::from(!changed.is_empty());
        Ok(changed)
    }

    /// A sign of life. False: it hasn't registered, or its time is over.
    pub fn heartbeat(&mut self, id: &Name, now: Moment) -> bool {
        match self.by_id.get_mut(id) {
            Some(lease) if now < lease.until() => {
                lease.seen = now;
                true
            }
            _ => false,
        }
    }

    /// A target leaves. Gives its pool.
    pub fn remove(&mut self, id: &Name) -> Option<Name> {
        let lease = self.by_id.remove(id)?;
        self.revision += 1;
        Some(lease.registration.app)
    }

    /// Takes out those whose time is over. Gives them.
    pub fn expire(&mut self, now: Moment) -> Vec<Lease> {
        let ended: Vec<Name> = self
            .by_id
            .iter()
            .filter(|(_, lease)| lease.until() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        self.revision += u64::from(!ended.is_empty());
        let ended = ended.iter().filter_map(|id| self.by_id.remove(id));
        ended.collect()
    }

    /// Grows with each change of what is registered; signs of life are none.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When the first one ends without a further sign of life.
    pub fn next_end(&self) -> Option<Moment> {
        self.by_id.values().map(Lease::until).min()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_id.values()
    }

    /// The one with this id.
    pub fn get(&self, id: &Name) -> Option<&Lease> {
        self.by_id.get(id)
    }

    /// The pools that they are in.
    pub fn pools(&self) -> BTreeSet<Name> {
        let all = self.by_id.values();
        all.map(|lease| lease.registration.app.clone()).collect()
    }

    /// The targets of a pool.
    pub fn of_pool(&self, pool: &Name) -> Vec<Candidate> {
        let own = self
            .by_id
            .values()
            .filter(|lease| lease.registration.app == *pool);
        own.map(|lease| Candidate::from(&lease.registration))
            .collect()
    }
}

impl From<&Registration> for Candidate {
    fn from(registration: &Registration) -> Self {
        let (soft_limit, hard_limit) = registration.limits();
        Self {
            id: registration.id.clone(),
            host: registration.ip.clone(),
            port: Some(registration.port.get()),
            region: registration.region.clone(),
            country: registration.country,
            weight: registration.weight,
            soft_limit,
            hard_limit,
            priority: 0,
            source: TargetSource::Registered,
            admin: TargetAdmin::Active,
            is_healthy: true,
            is_leaving: false,
            slow_start: None,
            proxy_protocol: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn registration(id: &str, app: &str, port: u16) -> Registration {
        let body = json!({ "id": id, "app": app, "ip": "10.0.0.1", "port": port });
        Registration::parse(&body, false).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_target_lasts_while_it_gives_signs_of_life() {
        let mut leases = Leases::new();
        let secs = |secs: u64| Moment(secs * 1_000);
        let changed = leases
            .register(registration("a", "web", 1), secs(0))
            .unwrap();
        assert_eq!(changed, [name("web")].into());
        assert!(leases.heartbeat(&name("a"), secs(59)));
        assert!(!leases.heartbeat(&name("b"), secs(59)));
        assert_eq!(leases.next_end(), Some(secs(119)));
        assert!(leases.expire(secs(118)).is_empty());
        // One that comes too late is gone already, even if nobody has looked.
        assert!(!leases.heartbeat(&name("a"), secs(119)));
        assert_eq!(leases.expire(secs(119)).len(), 1);
        assert_eq!(
            (leases.next_end(), leases.of_pool(&name("web")).len()),
            (None, 0)
        );
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut leases = Leases::new();
        leases
            .register(registration("a", "web", 1), Moment(0))
            .unwrap();
        let again = leases
            .register(registration("a", "web", 1), Moment(5))
            .unwrap();
        assert!(again.is_empty());
        let revision = leases.revision();
        assert!(leases.heartbeat(&name("a"), Moment(5)) && leases.revision() == revision);
        assert_eq!(leases.get(&name("a")).unwrap().since, Moment(0));
        let moved = leases
            .register(registration("a", "dns", 1), Moment(6))
            .unwrap();
        assert_eq!(moved, [name("dns"), name("web")].into());
        assert!(leases.revision() > revision && leases.pools() == [name("dns")].into());
        assert_eq!(leases.remove(&name("a")), Some(name("dns")));
        assert_eq!(leases.remove(&name("a")), None);
        for id in 0..MAX_TARGETS {
            leases
                .register(registration(&id.to_string(), "web", 1), Moment(7))
                .unwrap();
        }
        let one_more = leases.register(registration("more", "web", 1), Moment(7));
        assert_eq!(one_more, Err(TooMany));
        assert!(
            leases
                .register(registration("7", "web", 2), Moment(7))
                .is_ok()
        );
    }
}
