//! The pools of a hub: the generation in force, the bindings of clients, and how both change.
//!
//! ```text
//! configuration, routing.db, DNS, operators ──► PoolSet ──► PoolsView ──► each worker: Selection ──► HeldSlot
//!                                    (locked, control)     (a snapshot)        (pick)      (a stream's place)
//! ```

pub(super) mod checking;
pub(super) mod dialling;
pub(super) mod discover;
pub(super) mod kept;
pub(super) mod registrations;
pub(super) mod selection;
pub(crate) mod sources;

use super::target::DialError;
use crate::doctor::target::TargetOfPool;
use kept::{KeptState, Recalled};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{
    DiscoveryStatus, ExplainParams, PoolExplained, PoolStatus, TargetAdmin,
};
use remoteingress_config::pools::PoolConfig;
use remoteingress_config::registration::Registration;
use remoteingress_config::status::{GeoStatus, RoutingDbStatus};
use remoteingress_config::{HubConfig, RegionName, TcpProxyProtocol};
use remoteingress_core::hub::upstream::Target;
use remoteingress_observe::histogram::{Counts, Histogram};
use remoteingress_os::random;
use remoteingress_store::geo_file::GeoFile;
use remoteingress_store::state_db::MAX_BINDINGS;
use remoteingress_upstream::affinity::{BindingKey, Bindings};
use remoteingress_upstream::client::{ClientKey, HashSeed};
use remoteingress_upstream::leases::Leases;
use remoteingress_upstream::pick::{Ask, NoTarget};
use remoteingress_upstream::pool_set::{
    Assembled, KeptTarget, LivePool, PoolSet, Refused, Regions, explain, status,
};
use remoteingress_upstream::refusals::{Due, Refusals};
use remoteingress_upstream::region::{Country, Origin, RegionId};
use remoteingress_upstream::time::Moment;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::{Notify, Semaphore};

/// Lines about targets that were left out by one change.
const MAX_REFUSED_TOLD: usize = 10;

/// The pools of one hub.
pub(crate) struct HubPools {
    control: Mutex<Control>,
    view: RwLock<Arc<PoolsView>>,
    pub(super) bindings: Bindings,
    /// The targets that have registered. Locked before `control` where both are.
    leases: Mutex<Leases>,
    /// Something has changed that checks go by.
    pub(super) changed: Notify,
    /// Clients for whom there was no target.
    refusals: Mutex<Refusals>,
    /// What an operator says outlives this run.
    pub(super) keeps: AtomicBool,
    began: Instant,
}

/// What only changes look at.
struct Control {
    set: PoolSet,
    geo: Option<Arc<GeoFile>>,
    shared: HashMap<Name, Arc<Shared>>,
    routing_db_status: Option<RoutingDbStatus>,
    geo_status: Option<GeoStatus>,
    discovery: BTreeMap<Name, DiscoveryStatus>,
}

/// What streams see of the pools: a snapshot that each worker has.
pub(super) struct PoolsView {
    pools: HashMap<Name, Arc<Pooled>>,
    regions: Regions,
    geo: Option<Arc<GeoFile>>,
    seed: HashSeed,
}

/// A generation of a pool, and what all of its generations share.
pub(super) struct Pooled {
    pub(super) live: Arc<LivePool>,
    shared: Arc<Shared>,
}

/// What all generations of a pool share.
#[derive(Default)]
struct Shared {
    queue: Queue,
    /// Connect times of its targets.
    connects: Histogram,
}

/// Where clients of a full pool wait.
struct Queue {
    /// The head of the queue, which clients get in the order in which they came.
    head: Semaphore,
    /// A place has come free: for the client at the head.
    freed: Notify,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            head: Semaphore::new(1),
            freed: Notify::new(),
        }
    }
}

impl HubPools {
    /// The pools of a configuration, with what an earlier run of the hub has kept.
    pub(super) fn new(config: &HubConfig, kept: Option<&mut KeptState>) -> Self {
        let random = u64::from_ne_bytes(random::bytes());
        let (seed, recalled) = match kept {
            Some(kept) => (kept.seed(random), kept.recall(config.allow_special_targets)),
            None => (random, Recalled::default()),
        };
        let mut set = PoolSet::new(HashSeed(seed));
        let Recalled {
            targets,
            bindings,
            registrations,
        } = recalled;
        set.remember(targets, bindings, Moment(0));
        let leases = take_back(&mut set, registrations);
        take_over(&mut set, config);
        let assembled = set.assemble(Moment(0));
        warn_of(&assembled.refused);
        let bindings = Bindings::new(MAX_BINDINGS);
        bindings.import(assembled.bindings, Moment(0));
        let mut control = Control {
            set,
            geo: None,
            shared: HashMap::new(),
            routing_db_status: None,
            geo_status: None,
            discovery: BTreeMap::new(),
        };
        Self {
            view: RwLock::new(control.view()),
            control: Mutex::new(control),
            bindings,
            leases: Mutex::new(leases),
            changed: Notify::new(),
            refusals: Mutex::default(),
            keeps: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    /// The clock of the pools.
    pub(super) fn now(&self) -> Moment {
        let millis = self.began.elapsed().as_millis();
        Moment(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The generation in force.
    pub(super) fn view(&self) -> Arc<PoolsView> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone()
    }

    /// The state of all pools, by name.
    pub(super) fn status(&self) -> Vec<PoolStatus> {
        let (view, now) = (self.view(), self.now());
        let pools = view.pools.values();
        let mut told: Vec<PoolStatus> = pools
            .map(|pool| self.status_of(&pool.live, &view.regions, now))
            .collect();
        told.sort_by(|one, other| one.name.cmp(&other.name));
        told
    }

    fn status_of(&self, live: &LivePool, regions: &Regions, now: Moment) -> PoolStatus {
        PoolStatus {
            discovery: self.control().discovery.get(&live.name).cloned(),
            ..status(live, regions, now)
        }
    }

    /// Connect times of the targets of each pool, in the order of their names.
    pub(super) fn connects(&self) -> Vec<(Name, Counts)> {
        let view = self.view();
        let pools = view.pools.iter();
        let connects = pools.map(|(name, pool)| (name.clone(), pool.shared.connects.counts()));
        let mut connects: Vec<_> = connects.collect();
        connects.sort_by(|(one, _), (other, _)| one.cmp(other));
        connects
    }

    /// Pools that ports name and that aren't there.
    pub(super) fn missing(&self) -> Vec<Name> {
        self.control().set.missing().cloned().collect()
    }

    /// What a later run of the hub is to know of targets.
    fn kept(&self) -> Vec<KeptTarget> {
        self.control().set.kept(self.now())
    }

    /// The seed of clients' hashes.
    fn seed(&self) -> u64 {
        self.control().set.seed().0
    }

    /// A client of this pool, which needn't be there, was refused. `error` is what the last target did that was dialled.
    pub(super) fn refused(&self, pool: &Name, reason: NoTarget, error: Option<&DialError>) {
        let error = || error.map(ToString::to_string);
        self.refusals().count(pool, reason, error);
    }

    /// What is to be told of clients that were refused; it counts as told.
    pub(super) fn due_refusals(&self) -> Vec<Due> {
        self.refusals().due(self.now())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        let refusals = self.refusals.lock();
        refusals.unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of pools.
    pub(super) fn count(&self) -> usize {
        self.view().pools.len()
    }

    /// The state of routing.db.
    pub(super) fn routing_db(&self) -> Option<RoutingDbStatus> {
        self.control().routing_db_status.clone()
    }

    fn set_routing_db(&self, status: Option<RoutingDbStatus>) {
        self.control().routing_db_status = status;
    }

    /// The state of the database of countries.
    pub(super) fn geo(&self) -> Option<GeoStatus> {
        self.control().geo_status.clone()
    }

    fn set_geo(&self, status: Option<GeoStatus>) {
        self.control().geo_status = status;
    }

    fn set_discovery(&self, pool: &Name, status: Option<DiscoveryStatus>) {
        let discovery = &mut self.control().discovery;
        match status {
            Some(status) => discovery.insert(pool.clone(), status),
            None => discovery.remove(pool),
        };
    }

    /// Sets a target's state by an operator's word. Gives the target's number.
    ///
    /// # Errors
    /// There is no such pool or target.
    pub(super) fn set_admin(
        &self,
        pool: &Name,
        target: &Name,
        admin: TargetAdmin,
    ) -> Result<u32, CodedError> {
        let mut control = self.control();
        if control.set.set_admin(pool, target, admin) {
            let number = control
                .set
                .member(pool, target)
                .map(|member| member.number());
            return Ok(number.unwrap_or(0));
        }
        Err(if control.set.pools().any(|live| live.name == *pool) {
            let message = format!(
                "pool {pool:?} has no target {target:?}; its status (ctl pools) lists those that it has"
            );
            CodedError::new(ErrorCode::NotFound, message)
        } else {
            unknown(pool)
        })
    }

    /// Why a client that comes to an edge in this region would get which target.
    pub(super) fn explain(
        &self,
        params: &ExplainParams,
        region: Option<&RegionName>,
    ) -> Result<PoolExplained, CodedError> {
        let view = self.view();
        let pool = view
            .pool(&params.pool)
            .ok_or_else(|| unknown(&params.pool))?;
        let (live, regions, now) = (&pool.live, &view.regions, self.now());
        let client = ClientKey::new(params.client, view.seed);
        let local = region.and_then(|region| regions.get(region.as_str()));
        let ask = Ask {
            client,
            origin: view.origin(params.client, local.or_else(|| regions.hub())),
            bound: self.bound_place(live, client, now),
            tried: &[],
            now,
        };
        let edge = params.edge_id.clone();
        Ok(explain(live, regions, &ask, params.client, edge))
    }

    /// A pool as it is configured, and its state.
    pub(super) fn shown(&self, name: &Name) -> Option<(PoolConfig, PoolStatus)> {
        let view = self.view();
        let pool = view.pool(name)?;
        let status = self.status_of(&pool.live, &view.regions, self.now());
        Some((PoolConfig::clone(&pool.live.config), status))
    }

    /// The target that a client has and keeps, by its id.
    pub(super) fn bound(&self, pool: &Name, client: IpAddr) -> Result<Option<Name>, CodedError> {
        let view = self.view();
        let live = &view.pool(pool).ok_or_else(|| unknown(pool))?.live;
        let client = ClientKey::new(client, view.seed);
        let place = self.bound_place(live, client, self.now());
        let destination = place.and_then(|place| live.destinations.get(place));
        Ok(destination.map(|destination| destination.id.clone()))
    }

    /// Place in the plan of the target that a client has and keeps.
    fn bound_place(&self, live: &LivePool, client: ClientKey, now: Moment) -> Option<usize> {
        let affinity = live.config.affinity?;
        let key = BindingKey::new(live.number, client);
        let number = self.bindings.peek(key, affinity.ttl(), now)?;
        live.plan.place_of(number)
    }

    /// Forgets which target a client has. False: it had none.
    pub(super) fn unbind(&self, pool: &Name, client: IpAddr) -> Result<bool, CodedError> {
        let view = self.view();
        let live = &view.pool(pool).ok_or_else(|| unknown(pool))?.live;
        let key = BindingKey::new(live.number, ClientKey::new(client, view.seed));
        Ok(self.bindings.remove(key).is_some())
    }

    /// Where the targets of all pools are, for a test of them.
    pub(super) fn destinations(&self) -> HashMap<Name, Vec<TargetOfPool>> {
        let view = self.view();
        let pools = view.pools.iter().map(|(name, pool)| {
            let targets = pool.live.destinations.iter().map(|target| TargetOfPool {
                id: target.id.clone(),
                host: target.host.clone(),
                port: target.port,
                proxy_protocol: target.proxy_protocol,
            });
            (name.clone(), targets.collect())
        });
        pools.collect()
    }

    /// The country and the region of an address.
    pub(super) fn locate(&self, ip: IpAddr) -> (Option<String>, Option<String>) {
        let view = self.view();
        let Origin {
            country, region, ..
        } = view.origin(ip, None);
        let region = region.and_then(|region| view.regions.name(region));
        (country.map(Country::text), region.map(str::to_owned))
    }

    /// Changes the pools. `publish` gives the new generation to every worker, under the lock of the change: so workers see
    /// changes in their order.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut PoolSet),
        publish: impl Fn(&Arc<PoolsView>),
    ) -> Assembled {
        let mut control = self.control();
        change(&mut control.set);
        let mut assembled = control.set.assemble(self.now());
        warn_of(&assembled.refused);
        let bindings = std::mem::take(&mut assembled.bindings);
        if !bindings.is_empty() {
            self.bindings.import(bindings, self.now());
        }
        for pool in &assembled.missing {
            tracing::warn!(%pool, "a port names a pool that isn't in pools, and that no row of routing.db has as its app");
        }
        if !assembled.is_empty() {
            self.put_in_force(&mut control, publish);
        }
        assembled
    }

    /// Takes over another database of countries.
    pub(super) fn set_geo_file(
        &self,
        geo: Option<Arc<GeoFile>>,
        publish: impl Fn(&Arc<PoolsView>),
    ) {
        let mut control = self.control();
        control.geo = geo;
        self.put_in_force(&mut control, publish);
    }

    fn put_in_force(&self, control: &mut Control, publish: impl Fn(&Arc<PoolsView>)) {
        let view = control.view();
        let mut in_force = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *in_force = view.clone();
        drop(in_force);
        publish(&view);
        self.changed.notify_one();
        for pool in view.pools.values() {
            // There may be room now, or another target.
            pool.shared.queue.freed.notify_waiters();
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    fn view(&mut self) -> Arc<PoolsView> {
        let live = self.set.live();
        self.shared.retain(|name, _| live.contains_key(name));
        let pooled = |(name, live): (Name, Arc<LivePool>)| {
            let shared = self.shared.entry(name.clone()).or_default().clone();
            (name, Arc::new(Pooled { live, shared }))
        };
        Arc::new(PoolsView {
            pools: live.into_iter().map(pooled).collect(),
            regions: self.set.regions().clone(),
            geo: self.geo.clone(),
            seed: self.set.seed(),
        })
    }
}

/// Takes over the part of a configuration that is about pools.
pub(super) fn take_over(set: &mut PoolSet, config: &HubConfig) {
    set.set_geo(&config.geo, config.region.as_ref());
    set.set_config(config.pools.clone());
}

/// Targets that had registered in an earlier run have done so now.
fn take_back(set: &mut PoolSet, registrations: Vec<Registration>) -> Leases {
    let mut leases = Leases::new();
    for registration in registrations {
        // No more were saved than there may be.
        let _ = leases.register(registration, Moment(0));
    }
    for pool in leases.pools() {
        let targets = leases.of_pool(&pool);
        set.set_registered(pool, targets);
    }
    leases
}

/// There is no such pool.
pub(super) fn unknown(pool: &Name) -> CodedError {
    let message =
        format!("there is no pool {pool:?}; the status (ctl pools) lists those that there are");
    CodedError::new(ErrorCode::NotFound, message)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn warn_of(refused: &[Refused]) {
    for target in refused.iter().take(MAX_REFUSED_TOLD) {
        let Refused {
            pool,
            id,
            source,
            reason,
        } = target;
        tracing::warn!(%pool, target = %id, source = source.as_str(), %reason, "a target was left out");
    }
    let more = refused.len().saturating_sub(MAX_REFUSED_TOLD);
    if more > 0 {
        tracing::warn!(more, "further targets were left out");
    }
}

impl PoolsView {
    /// The pool with this name.
    pub(super) fn pool(&self, name: &Name) -> Option<&Arc<Pooled>> {
        self.pools.get(name)
    }

    /// All pools.
    fn all(&self) -> impl Iterator<Item = &LivePool> {
        self.pools.values().map(|pool| &*pool.live)
    }

    /// The regions in force.
    pub(super) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The seed of clients' hashes.
    pub(super) fn seed(&self) -> HashSeed {
        self.seed
    }

    /// Where a client is, and where it came in.
    pub(super) fn origin(&self, client: IpAddr, local: Option<RegionId>) -> Origin {
        let country = self.geo.as_ref().and_then(|geo| geo.country(client));
        let country = country.map(|country| Country(country.code));
        let table = self.regions.table();
        let region = match country {
            Some(country) => table.region_of(country),
            None => table.fallback(),
        };
        Origin {
            country,
            region,
            local,
        }
    }
}

impl Pooled {
    /// The target at this place of the plan. `of_port` is what the port says of the PROXY header, and whether it does.
    pub(super) fn target<P: From<TcpProxyProtocol>>(
        &self,
        place: usize,
        listener_port: u16,
        of_port: (P, bool),
    ) -> Option<Target<P>> {
        let destination = self.live.destinations.get(place)?;
        Some(Target {
            host: destination.host.bare().to_owned(),
            port: destination.port.unwrap_or(listener_port),
            path: None,
            proxy_protocol: destination.header(of_port),
        })
    }

    /// The pool may retry once more; this counts as that.
    fn may_retry(&self, now: Moment) -> bool {
        let may = self.live.plan.retries().take(now);
        if may {
            add(&self.live.counts.retries);
        }
        may
    }

    /// Clients that wait.
    fn waiting(&self) -> u64 {
        self.live.counts.waiting.load(Ordering::Relaxed)
    }

    /// A place has come free.
    fn free(&self) {
        if self.waiting() > 0 {
            self.shared.queue.freed.notify_one();
        }
    }
}
