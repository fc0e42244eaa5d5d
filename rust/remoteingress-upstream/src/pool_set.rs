//! All pools of a hub: their targets from every source, what operators say of them, and the generation in force.
//!
//! ```text
//! configuration ─┐
//! routing.db ────┤                                   ┌─► streams: LivePool, by name
//! DNS ───────────┼─► candidates of a pool ─► plan ───┤
//! registrations ─┘        ▲                          └─► status, explain
//!                    operators' words
//! ```
//!
//! A pool whose candidates and settings are as before keeps its generation: nothing of it is touched.

mod candidate;
mod live;
mod memory;
mod told;

pub use self::{
    candidate::Candidate,
    live::{Destination, LivePool, Picks, PoolCounts},
    memory::{KeptTarget, Remembered},
    told::{explain, status},
};

use self::memory::Memory;
use crate::affinity::{BindingKey, SavedBinding};
use crate::breaker::BreakerRules;
use crate::client::{HashSeed, hash_id};
use crate::countries::RegionTable;
use crate::member::{Admin, Checked, Member, Numbers};
use crate::plan::{Entry, Pool, PoolSettings, TargetSettings};
use crate::region::{Country, Place, RegionId, RegionNames};
use crate::time::Moment;
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{PoolsChange, TargetAdmin, TargetSource};
use remoteingress_config::pools::{ALL_ROWS, MAX_POOL_TARGETS, PoolConfig, Pools};
use remoteingress_config::{GeoConfig, RegionName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The pools of a hub.
#[derive(Debug)]
pub struct PoolSet {
    numbers: Arc<Numbers>,
    seed: HashSeed,
    regions: Regions,
    sources: Sources,
    /// What operators said of targets, whether these are there or not.
    said: BTreeMap<(Name, Name), TargetAdmin>,
    pools: BTreeMap<Name, Kept>,
    /// Of an earlier run of the hub.
    memory: Memory,
    /// Targets that are left out, and pools that are missing, which were told of.
    refused: Vec<Refused>,
    missing: BTreeSet<Name>,
    has_read_rows: bool,
    regions_changed: bool,
}

/// The names of regions, and the region of each country and of the hub.
#[derive(Clone, Debug)]
pub struct Regions {
    names: RegionNames,
    table: Arc<RegionTable>,
    hub: Option<RegionId>,
}

/// Targets by where they come from.
#[derive(Debug, Default)]
struct Sources {
    config: Pools,
    /// Rows of routing.db.
    rows: Vec<Candidate>,
    /// Places of the rows of each `app`.
    apps: BTreeMap<Name, Vec<usize>>,
    found: BTreeMap<Name, Vec<Candidate>>,
    registered: BTreeMap<Name, Vec<Candidate>>,
    /// Pools that ports name.
    named: BTreeSet<Name>,
    /// Those of them that ports of TCP name.
    over_tcp: BTreeSet<Name>,
}

#[derive(Debug)]
struct Kept {
    pool: Pool,
    counts: Arc<PoolCounts>,
    candidates: Vec<Candidate>,
    live: Arc<LivePool>,
}

/// A target that can't be one of its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The pool.
    pub pool: Name,
    /// Id of the target.
    pub id: Name,
    /// Where it comes from.
    pub source: TargetSource,
    /// Why, as a sentence.
    pub reason: String,
}

/// What an assembly has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Pools by what became of them.
    pub change: PoolsChange,
    /// Targets that were left out, each told once.
    pub refused: Vec<Refused>,
    /// Bindings of an earlier run to targets that are there now.
    pub bindings: Vec<SavedBinding>,
    /// Pools that ports name and no source has, now that all rows are read. Each is told once.
    pub missing: Vec<Name>,
    /// Clients or targets may be in other regions.
    pub regions_changed: bool,
}

impl Assembled {
    /// True if streams would see nothing new.
    pub fn is_empty(&self) -> bool {
        self.change.is_empty() && !self.regions_changed
    }
}

impl Regions {
    /// Of a configuration. Where there are too many names no country has a region.
    fn new(mut names: RegionNames, geo: &GeoConfig, hub: Option<&RegionName>) -> Self {
        let overrides = geo.regions.iter();
        let overrides = overrides
            .map(|(country, region)| (Country(country.letters()), region.as_str()))
            .collect::<Vec<_>>();
        let fallback = geo.fallback_region.as_ref().map(RegionName::as_str);
        let table = RegionTable::new(&mut names, overrides, fallback);
        let hub = hub.and_then(|name| names.intern(name.as_str()).ok());
        Self {
            table: Arc::new(table.unwrap_or_default()),
            hub,
            names,
        }
    }

    /// The number of a region, if anything is in it.
    pub fn get(&self, name: &str) -> Option<RegionId> {
        self.names.get(name)
    }

    /// The name of a region.
    pub fn name(&self, region: RegionId) -> Option<&str> {
        self.names.name(region)
    }

    /// The region of each country.
    pub fn table(&self) -> &RegionTable {
        &self.table
    }

    /// The hub's own region.
    pub fn hub(&self) -> Option<RegionId> {
        self.hub
    }
}

impl PoolSet {
    /// No pool yet. The seed is that of the hub's hashes of clients.
    pub fn new(seed: HashSeed) -> Self {
        Self {
            numbers: Arc::default(),
            seed,
            regions: Regions::new(RegionNames::new(), &GeoConfig::default(), None),
            sources: Sources::default(),
            said: BTreeMap::new(),
            pools: BTreeMap::new(),
            memory: Memory::default(),
            refused: Vec::new(),
            missing: BTreeSet::new(),
            has_read_rows: false,
            regions_changed: false,
        }
    }

    /// The seed of the hub's hashes of clients.
    pub fn seed(&self) -> HashSeed {
        self.seed
    }

    /// Takes over the configured pools. Like every change, it is in force after [`Self::assemble`].
    pub fn set_config(&mut self, pools: Pools) {
        self.sources.config = pools;
    }

    /// Takes over where the hub and its clients are.
    pub fn set_geo(&mut self, geo: &GeoConfig, hub: Option<&RegionName>) {
        let names = std::mem::take(&mut self.regions.names);
        let regions = Regions::new(names, geo, hub);
        self.regions_changed |=
            regions.table != self.regions.table || regions.hub != self.regions.hub;
        self.regions = regions;
    }

    /// Takes over all rows of routing.db, each with its `app`.
    pub fn set_rows(&mut self, rows: Vec<(Option<Name>, Candidate)>) {
        let mut apps: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        let mut own = Vec::with_capacity(rows.len());
        for (place, (app, row)) in rows.into_iter().enumerate() {
            own.push(row);
            if let Some(app) = app {
                apps.entry(app).or_default().push(place);
            }
        }
        self.sources.rows = own;
        self.sources.apps = apps;
        self.has_read_rows = true;
    }

    /// Takes over what DNS tells of a pool.
    pub fn set_found(&mut self, pool: Name, targets: Vec<Candidate>) {
        replace(&mut self.sources.found, pool, targets);
    }

    /// Takes over the targets of a pool that have registered themselves.
    pub fn set_registered(&mut self, pool: Name, targets: Vec<Candidate>) {
        replace(&mut self.sources.registered, pool, targets);
    }

    /// Takes over which pools ports name, and which of these over TCP: the pool of all rows is made only for those.
    pub fn set_named(&mut self, named: BTreeSet<Name>, over_tcp: BTreeSet<Name>) {
        self.sources.named = named;
        self.sources.over_tcp = over_tcp;
    }

    /// Sets a target's state by an operator's word. False: the pool has no such target.
    pub fn set_admin(&mut self, pool: &Name, target: &Name, admin: TargetAdmin) -> bool {
        let kept = self.pools.get(pool);
        let Some(member) = kept.and_then(|kept| kept.pool.member(target.as_str())) else {
            return false;
        };
        let key = (pool.clone(), target.clone());
        let effective = if admin == TargetAdmin::Active {
            // Nothing is said any more: what the target's source says counts again.
            self.said.remove(&key);
            let candidates = kept.map(|kept| kept.candidates.iter());
            let own = candidates.and_then(|mut all| all.find(|one| one.id == *target));
            own.map_or(TargetAdmin::Active, |own| own.admin)
        } else {
            self.said.insert(key, admin);
            admin
        };
        member.set_admin(effective.into());
        true
    }

    /// What an earlier run of the hub knew: of its targets, and which clients were bound to them, by pool and id. Each is
    /// made use of when its target is there.
    pub fn remember(
        &mut self,
        targets: impl IntoIterator<Item = ((Name, Name), Remembered)>,
        bindings: impl IntoIterator<Item = ((Name, Name), (BindingKey, Duration))>,
        now: Moment,
    ) {
        self.memory.fill(targets, bindings, now);
        let said = self.memory.said();
        self.said.extend(said);
    }

    /// What a later run of the hub is to know of its targets.
    pub fn kept(&self, now: Moment) -> Vec<KeptTarget> {
        let of_pool = |(pool, kept): (&Name, &Kept)| {
            let (pool, entries) = (pool.clone(), kept.live.plan.entries());
            let target = |(entry, destination): (&Entry, &Destination)| KeptTarget {
                said: self
                    .said
                    .get(&(pool.clone(), destination.id.clone()))
                    .copied()
                    .unwrap_or(TargetAdmin::Active),
                pool: pool.clone(),
                id: destination.id.clone(),
                number: entry.member.number(),
                is_checked: kept.live.config.check.is_some(),
                member: entry.member.saved(now),
            };
            let targets = entries.iter().zip(&kept.live.destinations);
            targets.map(target).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }

    /// Pools that ports name and no source has, in the order of their names.
    pub fn missing(&self) -> impl Iterator<Item = &Name> {
        let named = self.sources.named.iter();
        named.filter(|name| !self.pools.contains_key(*name))
    }

    /// The live state of a target.
    pub fn member(&self, pool: &Name, target: &Name) -> Option<&Arc<Member>> {
        self.pools.get(pool)?.pool.member(target.as_str())
    }

    /// The live pools, by name.
    pub fn live(&self) -> HashMap<Name, Arc<LivePool>> {
        let live = self.pools.iter();
        live.map(|(name, kept)| (name.clone(), kept.live.clone()))
            .collect()
    }

    /// The pools in force, in the order of their names.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<LivePool>> {
        self.pools.values().map(|kept| &kept.live)
    }

    /// The regions in force.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Makes the next generation of what has changed.
    pub fn assemble(&mut self, now: Moment) -> Assembled {
        let mut assembled = Assembled::default();
        let wanted = self.wanted();
        let change = &mut assembled.change;
        self.pools.retain(|name, _| {
            let stays = wanted.contains_key(name);
            if !stays {
                change.removed.push(name.clone());
            }
            stays
        });
        for (name, config) in wanted {
            let candidates = self.candidates(&name, &config, &mut assembled.refused);
            let change = &mut assembled.change;
            let known = self.pools.get(&name);
            let is_over_tcp = self.sources.over_tcp.contains(&name);
            let is_same = |kept: &Kept| {
                kept.candidates == candidates
                    && *kept.live.config == config
                    && kept.live.is_over_tcp == is_over_tcp
            };
            let list = match known {
                Some(kept) if is_same(kept) => {
                    change.unchanged.push(name);
                    continue;
                }
                Some(_) => &mut change.changed,
                None => &mut change.added,
            };
            list.push(name.clone());
            let bindings = self.put(name, config, candidates, now);
            assembled.bindings.extend(bindings);
        }
        self.memory.fade(now);
        let refused = std::mem::replace(&mut self.refused, assembled.refused.clone());
        assembled.refused.retain(|one| !refused.contains(one));
        if self.has_read_rows {
            let missing: BTreeSet<Name> = self.missing().cloned().collect();
            assembled.missing = missing.difference(&self.missing).cloned().collect();
            self.missing = missing;
        }
        assembled.regions_changed = std::mem::take(&mut self.regions_changed);
        assembled
    }

    /// Every pool that is to be there, and its settings.
    fn wanted(&self) -> BTreeMap<Name, PoolConfig> {
        let Sources {
            config,
            apps,
            named,
            registered,
            ..
        } = &self.sources;
        let mut wanted = config.clone();
        let all = named.iter().filter(|name| name.as_str() == ALL_ROWS);
        for name in apps.keys().chain(all).chain(registered.keys()) {
            if !wanted.contains_key(name) {
                wanted.insert(name.clone(), PoolConfig::of_routing_db());
            }
        }
        wanted
    }

    /// The targets of a pool from all sources. Of two with one id the first source has it.
    fn candidates(
        &self,
        name: &Name,
        config: &PoolConfig,
        refused: &mut Vec<Refused>,
    ) -> Vec<Candidate> {
        let Sources {
            rows,
            apps,
            found,
            registered,
            ..
        } = &self.sources;
        let configured = config.targets.iter().map(Candidate::from);
        let is_all = name.as_str() == ALL_ROWS;
        let all_rows = is_all.then_some(rows).into_iter().flatten();
        let own = apps.get(name).filter(|_| !is_all).into_iter().flatten();
        let own = own.filter_map(|place| rows.get(*place));
        let rows = all_rows.chain(own).cloned();
        let found = found.get(name).into_iter().flatten().cloned();
        let registered = registered.get(name).into_iter().flatten().cloned();
        let mut ids = BTreeSet::new();
        let mut candidates = Vec::new();
        for candidate in configured.chain(rows).chain(found).chain(registered) {
            let reason = if candidates.len() >= MAX_POOL_TARGETS {
                format!("the pool has {MAX_POOL_TARGETS} targets already")
            } else if ids.insert(candidate.id.clone()) {
                candidates.push(candidate);
                continue;
            } else {
                "another target of the pool has this id".to_owned()
            };
            refused.push(Refused {
                pool: name.clone(),
                id: candidate.id,
                source: candidate.source,
                reason,
            });
        }
        candidates
    }

    /// Puts a pool in force. Gives the bindings of an earlier run to those of its targets that are new.
    fn put(
        &mut self,
        name: Name,
        config: PoolConfig,
        candidates: Vec<Candidate>,
        now: Moment,
    ) -> Vec<SavedBinding> {
        let targets = candidates.iter().map(|one| self.settings(one)).collect();
        let settings = PoolSettings {
            strategy: config.strategy,
            targets,
            slow_start: Duration::from_secs(config.slow_start_secs.into()),
            breaker: BreakerRules::default(),
            max_ejected_percent: config.max_ejected_percent,
            seed: self.seed,
            spills_at_soft: config.spill_at_soft,
            load_bound_percent: config.bounded_load.map(percent),
        };
        let before = self.pools.remove(&name);
        let (mut pool, counts, had) = match before {
            Some(kept) => (kept.pool, kept.counts, kept.candidates),
            None => (Pool::new(&self.numbers), Arc::default(), Vec::new()),
        };
        let plan = pool.plan(&settings, now);
        let was_out: BTreeSet<&Name> = had
            .iter()
            .filter(|one| !one.is_healthy)
            .map(|one| &one.id)
            .collect();
        let mut bindings = Vec::new();
        for (entry, candidate) in plan.entries().iter().zip(&candidates) {
            let key = (name.clone(), candidate.id.clone());
            let is_checked = config.check.is_some();
            bindings.extend(self.memory.recall(&key, &entry.member, is_checked, now));
            let said = self.said.get(&key);
            let admin = said.copied().unwrap_or(candidate.admin);
            entry.member.set_admin(admin.into());
            if !candidate.is_healthy {
                entry.member.set_checked(Checked::Down, now);
            } else if was_out.contains(&candidate.id) {
                entry.member.set_checked(Checked::Up, now);
            }
        }
        let live = Arc::new(LivePool {
            // Stable over restarts, since bindings are.
            number: (hash_id(name.as_str(), self.seed) >> 32) as u32,
            is_over_tcp: self.sources.over_tcp.contains(&name),
            name: name.clone(),
            config: Arc::new(config),
            plan,
            destinations: candidates.iter().map(Destination::from).collect(),
            counts: counts.clone(),
        });
        let kept = Kept {
            pool,
            counts,
            candidates,
            live,
        };
        self.pools.insert(name, kept);
        bindings
    }

    fn settings(&mut self, candidate: &Candidate) -> TargetSettings {
        let names = &mut self.regions.names;
        let region = candidate.region.as_ref();
        TargetSettings {
            id: candidate.id.as_str().to_owned(),
            weight: candidate.weight,
            soft_limit: candidate.soft_limit,
            hard_limit: candidate.hard_limit,
            priority: candidate.priority,
            slow_start: candidate.slow_start,
            place: Place {
                country: candidate.country.map(|country| Country(country.letters())),
                region: region.and_then(|region| names.intern(region.as_str()).ok()),
            },
        }
    }
}

/// A factor from 1 on in percent, at most a whole number of 16 bits.
fn percent(factor: f64) -> u16 {
    (factor * 100.0).round().min(f64::from(u16::MAX)) as u16
}

fn replace(map: &mut BTreeMap<Name, Vec<Candidate>>, pool: Name, targets: Vec<Candidate>) {
    if targets.is_empty() {
        map.remove(&pool);
    } else {
        map.insert(pool, targets);
    }
}

impl From<TargetAdmin> for Admin {
    fn from(admin: TargetAdmin) -> Self {
        match admin {
            TargetAdmin::Active => Self::Active,
            TargetAdmin::Drain => Self::Drain,
            TargetAdmin::Dead => Self::Dead,
        }
    }
}

impl From<Admin> for TargetAdmin {
    fn from(admin: Admin) -> Self {
        match admin {
            Admin::Active => Self::Active,
            Admin::Drain => Self::Drain,
            Admin::Dead => Self::Dead,
        }
    }
}

#[cfg(test)]
mod tests;
