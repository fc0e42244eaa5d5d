//! Targets that DNS names: a task for each such pool looks its name up, and hands over what has changed.

use crate::hub::state::HubState;
use remoteingress_config::events::{DiscoveryFailed, Event, TargetRefused};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{
    DiscoveryState, DiscoveryStatus, TargetAdmin, TargetSource,
};
use remoteingress_config::pools::{DiscoverConfig, DiscoverKind, Pools, SOFT_LIMIT};
use remoteingress_config::target::check_target;
use remoteingress_os::dns::{self, LookupError, Record, RecordKind, Resolver};
use remoteingress_proto::token::host::Host;
use remoteingress_upstream::discovery::{
    Answer, Discovery, Failure, Family, Found, MAX_RECORDS, State, Target,
};
use remoteingress_upstream::pool_set::Candidate;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

/// The lookups of a hub's pools. Dropping it ends them.
pub(in crate::hub) struct Discoveries {
    state: Arc<HubState>,
    running: RefCell<BTreeMap<Name, Running>>,
}

struct Running {
    config: DiscoverConfig,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discoveries {
    /// Of the hub's configuration, which is followed from now on.
    pub(in crate::hub) fn start(state: Arc<HubState>) -> Self {
        let discoveries = Self {
            running: RefCell::default(),
            state,
        };
        discoveries.follow(&discoveries.state.config().pools);
        discoveries
    }

    /// Begins and ends lookups as the pools say. One whose settings are the same goes on.
    pub(in crate::hub) fn follow(&self, pools: &Pools) {
        let mut running = self.running.borrow_mut();
        let config = |name: &Name| pools.get(name).and_then(|pool| pool.discover.as_ref());
        let ended: Vec<Name> = running
            .iter()
            .filter(|(name, one)| config(name) != Some(&one.config))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            running.remove(&name);
            if config(&name).is_none() {
                self.state
                    .change_pools(|set| set.set_found(name.clone(), Vec::new()));
                self.state.pools.set_discovery(&name, None);
            }
        }
        for (name, pool) in pools {
            if let Some(config) = &pool.discover
                && !running.contains_key(name)
            {
                let one = Lookups::new(self.state.clone(), name.clone(), config.clone());
                let task = spawn_local(one.run()).abort_handle();
                let config = config.clone();
                running.insert(name.clone(), Running { config, task });
            }
        }
    }

    /// Ends all lookups.
    pub(in crate::hub) fn stop(&self) {
        self.running.borrow_mut().clear();
    }
}

/// The lookups of one pool's name.
struct Lookups {
    state: Arc<HubState>,
    pool: Name,
    config: DiscoverConfig,
    discovery: Discovery,
    /// Why the last lookup gave nothing, and what was told of that.
    error: Option<String>,
    told: Option<DiscoveryState>,
    /// The last good answer had too many records, which was told.
    is_cut: bool,
    /// Records that were told to be no targets.
    refused: BTreeSet<String>,
}

impl Lookups {
    fn new(state: Arc<HubState>, pool: Name, config: DiscoverConfig) -> Self {
        let hold = Duration::from_secs(config.hold_secs.into());
        Self {
            discovery: Discovery::new(hold, state.pools.now()),
            state,
            pool,
            config,
            error: None,
            told: None,
            is_cut: false,
            refused: BTreeSet::new(),
        }
    }

    async fn run(mut self) {
        let resolver = Resolver::with_servers(self.config.servers.clone());
        loop {
            let now = self.state.pools.now();
            let refresh = self.discovery.refresh_at();
            let next = self
                .discovery
                .poll_timeout()
                .map_or(refresh, |end| end.min(refresh));
            if next > now {
                sleep(next.since(now)).await;
                continue;
            }
            let has_changed = if refresh <= now {
                self.look_up(&resolver).await
            } else {
                self.discovery.handle_timeout(now)
            };
            if has_changed {
                self.hand_over();
            }
            self.tell();
        }
    }

    async fn look_up(&mut self, resolver: &Resolver) -> bool {
        let kind = match self.config.kind {
            DiscoverKind::Address => RecordKind::Address,
            DiscoverKind::Srv => RecordKind::Srv,
        };
        let looked_up = resolver.lookup(&self.config.name, kind).await;
        let now = self.state.pools.now();
        match looked_up {
            Ok(found) => {
                self.error = None;
                let mut answer = answer(found);
                // Ahead of all else: an answer of nothing but such addresses is as good as an empty one.
                self.refuse(&mut answer);
                if answer.records.is_empty() {
                    self.error = Some("no record can be a target".to_owned());
                }
                self.discovery.handle_answer(answer, now)
            }
            Err(error) => {
                self.error = Some(error.to_string());
                self.discovery.handle_failure(failure(&error), now)
            }
        }
    }

    /// Takes out the records that can't be targets, and tells of each once.
    fn refuse(&mut self, answer: &mut Answer) {
        let special = self.state.config().allow_special_targets;
        let mut refused = BTreeMap::new();
        answer.records.retain(|record| {
            let problem = problem(record, special);
            let is_good = problem.is_none();
            refused.extend(problem.map(|problem| (record.id.clone(), problem)));
            is_good
        });
        for (id, reason) in &refused {
            if !self.refused.contains(id) {
                self.tell_refused(id, reason);
            }
        }
        self.refused = refused.into_keys().collect();
    }

    /// Gives the pool what the name has now.
    fn hand_over(&mut self) {
        let targets = self.discovery.targets().iter();
        let candidates: Vec<Candidate> = targets
            .filter_map(|target| candidate(target, &self.config))
            .collect();
        let pool = self.pool.clone();
        let count = candidates.len();
        tracing::info!(%pool, name = %self.config.name, targets = count, "DNS has told the targets of a pool");
        self.state
            .change_pools(|set| set.set_found(pool, candidates));
    }

    fn tell_refused(&self, id: &str, reason: &str) {
        let pool = &self.pool;
        tracing::warn!(%pool, %id, %reason, "a record of DNS is no target");
        self.state.events.emit(&Event::TargetRefused(TargetRefused {
            source: TargetSource::Dns,
            id: Some(id.to_owned()),
            row: None,
            reason: reason.to_owned(),
        }));
    }

    /// Shows how far the targets can be relied on, and tells of a change of that.
    fn tell(&mut self) {
        let state = match self.discovery.state() {
            State::Unanswered { .. } => DiscoveryState::Unanswered,
            State::Current => DiscoveryState::Current,
            State::Held { .. } => DiscoveryState::Held,
            State::Emptied { .. } => DiscoveryState::Emptied,
        };
        let left_out = self.discovery.cut();
        let status = DiscoveryStatus {
            name: self.config.name.clone(),
            state,
            error: self.error.clone(),
            left_out: left_out as u64,
        };
        self.state.pools.set_discovery(&self.pool, Some(status));
        let was_cut = std::mem::replace(&mut self.is_cut, left_out > 0);
        let before = self.told.replace(state);
        let (pool, name) = (&self.pool, &self.config.name);
        if self.is_cut && !was_cut {
            tracing::warn!(%pool, %name, left_out, "a name has too many records: the first {MAX_RECORDS} are targets");
        }
        if before == Some(state) {
            return;
        }
        match &self.error {
            None if before.is_some() => {
                tracing::info!(%pool, %name, "the targets of a pool can be looked up again");
            }
            None => {}
            Some(error) => {
                tracing::warn!(%pool, %name, %error, state = state.as_str(), "the targets of a pool can't be looked up");
                self.state
                    .events
                    .emit(&Event::DiscoveryFailed(DiscoveryFailed {
                        pool: pool.clone(),
                        name: name.clone(),
                        state,
                        error: error.clone(),
                    }));
            }
        }
    }
}

fn answer(found: dns::Found) -> Answer {
    let record = |record: Record| match record {
        Record::Address(address) => Found::address(address),
        Record::Service {
            host,
            port,
            priority,
            weight,
        } => Found::service(&host, port, priority, weight),
    };
    Answer {
        records: found.records.into_iter().map(record).collect(),
        ttl: found.ttl,
        missing: found.missing.map(|family| match family {
            dns::Family::V4 => Family::V4,
            dns::Family::V6 => Family::V6,
        }),
    }
}

fn failure(error: &LookupError) -> Failure {
    match error {
        LookupError::Empty { .. } => Failure::Empty,
        LookupError::NoSuchName { .. } => Failure::NoSuchName,
        LookupError::BadName { .. } | LookupError::Failed { .. } => Failure::Error,
    }
}

/// Why a record can't be a target, if it can't.
fn problem(record: &Found, allow_special_targets: bool) -> Option<String> {
    let host = match Host::new(&record.host) {
        Ok(host) => host,
        Err(error) => return Some(format!("the host {error}")),
    };
    let checked = check_target(&host, allow_special_targets, "the host");
    checked.err().map(|error| error.message)
}

/// A record as a target; its host was looked at.
fn candidate(target: &Target, config: &DiscoverConfig) -> Option<Candidate> {
    Some(Candidate {
        id: Name::cut(&target.id),
        host: Host::new(&target.host).ok()?,
        port: target.port.or_else(|| config.port.map(|port| port.get())),
        region: None,
        country: None,
        weight: target.weight,
        soft_limit: SOFT_LIMIT,
        hard_limit: 0,
        priority: target.priority,
        source: TargetSource::Dns,
        admin: if target.leaving.is_some() {
            TargetAdmin::Drain
        } else {
            TargetAdmin::Active
        },
        is_healthy: true,
        is_leaving: target.leaving.is_some(),
        slow_start: None,
        proxy_protocol: None,
    })
}
