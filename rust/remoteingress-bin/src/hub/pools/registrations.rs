//! Targets that register themselves: what they say, and a task that ends those that say nothing any more.

use crate::hub::pools::sources::SourceOrders;
use crate::hub::state::HubState;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::TargetSource;
use remoteingress_config::pools::MAX_POOLS;
use remoteingress_config::pools::MAX_TARGETS;
use remoteingress_config::registration::{
    BackendShown, BackendsShown, Deregistered, HeartbeatTaken, LEASE_SECS, Registered, Registration,
};
use remoteingress_upstream::leases::Lease;
use remoteingress_upstream::pool_set::{Assembled, Refused};
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

/// The registrations of a hub. Clones are the same; its task ends with [`Self::stop`].
#[derive(Clone)]
pub(crate) struct Registrations {
    shared: Rc<Shared>,
    task: AbortHandle,
}

struct Shared {
    state: Arc<HubState>,
    /// The file that keeps them over a restart may not be there yet.
    sources: SourceOrders,
    /// Another lease may be the first to end.
    changed: Notify,
}

impl Registrations {
    pub(in crate::hub) fn start(state: Arc<HubState>, sources: SourceOrders) -> Self {
        let shared = Rc::new(Shared {
            state,
            sources,
            changed: Notify::new(),
        });
        let task = spawn_local(expire(shared.clone())).abort_handle();
        Self { shared, task }
    }

    pub(in crate::hub) fn stop(&self) {
        self.task.abort();
    }

    /// A target registers, in the place of one with its id.
    ///
    /// # Errors
    /// A field is wrong, or there are too many targets; nothing has changed.
    pub(crate) fn register(&self, body: &Value) -> Result<Registered, CodedError> {
        let shared = &self.shared;
        let special = shared.state.config().allow_special_targets;
        let registration = Registration::parse(body, special)?;
        let (id, pool) = (registration.id.clone(), registration.app.clone());
        let pools = &shared.state.pools;
        if pools.view().pool(&pool).is_none() && pools.count() >= MAX_POOLS {
            let problem = format!("there are {MAX_POOLS} pools already; name one of them");
            return Err(CodedError::invalid_config("app", problem));
        }
        let now = shared.state.pools.now();
        let changed = shared.state.pools.leases().register(registration, now);
        let changed = changed.map_err(|_| {
            let problem = format!(
                "{MAX_TARGETS} targets have registered, which is the limit; deregister one first"
            );
            CodedError::invalid_config("id", problem)
        })?;
        let refused = shared.hand_over(&changed).refused;
        let is_own = |one: &&Refused| one.id == id && one.source == TargetSource::Registered;
        if let Some(Refused { reason, .. }) = refused.iter().find(is_own) {
            let problem = format!("pool {pool:?} doesn't take it: {reason}");
            shared.state.pools.leases().remove(&id);
            shared.hand_over(&changed);
            return Err(CodedError::invalid_config("id", problem));
        }
        if !changed.is_empty() {
            tracing::info!(%pool, target = %id, "a target has registered");
            if !pools.keeps.load(Ordering::Relaxed) {
                shared.sources.look();
            }
        }
        shared.changed.notify_one();
        Ok(Registered {
            id,
            registered: true,
            message: format!("registered for {LEASE_SECS} s after each heartbeat"),
        })
    }

    /// A target gives a sign of life.
    ///
    /// # Errors
    /// It hasn't registered, or its time was over.
    pub(crate) fn heartbeat(&self, id: Name) -> Result<HeartbeatTaken, CodedError> {
        let now = self.shared.state.pools.now();
        if !self.shared.state.pools.leases().heartbeat(&id, now) {
            return Err(unknown(&id));
        }
        Ok(HeartbeatTaken {
            id,
            status: "ok".to_owned(),
        })
    }

    /// A target leaves. Its streams run on.
    ///
    /// # Errors
    /// It hasn't registered.
    pub(crate) fn deregister(&self, id: Name) -> Result<Deregistered, CodedError> {
        let removed = self.shared.state.pools.leases().remove(&id);
        let pool = removed.ok_or_else(|| unknown(&id))?;
        tracing::info!(%pool, target = %id, "a target has left");
        self.shared.hand_over(&[pool].into());
        Ok(Deregistered {
            id,
            deregistered: true,
        })
    }

    /// All that have registered.
    pub(crate) fn all(&self) -> BackendsShown {
        let leases = self.shared.state.pools.leases();
        let backends: Vec<_> = leases.iter().map(|lease| self.shown(lease)).collect();
        BackendsShown {
            total: backends.len(),
            backends,
        }
    }

    /// The one with this id.
    ///
    /// # Errors
    /// It hasn't registered.
    pub(crate) fn one(&self, id: &Name) -> Result<BackendShown, CodedError> {
        let leases = self.shared.state.pools.leases();
        let lease = leases.get(id).ok_or_else(|| unknown(id))?;
        Ok(self.shown(lease))
    }

    fn shown(&self, lease: &Lease) -> BackendShown {
        let now = self.shared.state.pools.now();
        let registration = &lease.registration;
        BackendShown {
            id: registration.id.clone(),
            app: registration.app.clone(),
            region: registration.region.clone(),
            ip: registration.ip.clone(),
            port: registration.port.get(),
            healthy: true,
            last_heartbeat_secs: now.since(lease.seen).as_secs(),
            registered_secs: now.since(lease.since).as_secs(),
        }
    }
}

impl Shared {
    /// Gives these pools the targets that they have now.
    fn hand_over(&self, pools: &BTreeSet<Name>) -> Assembled {
        let leases = self.state.pools.leases();
        self.state.change_pools(|set| {
            for pool in pools {
                set.set_registered(pool.clone(), leases.of_pool(pool));
            }
        })
    }
}

/// Ends leases in their time.
async fn expire(shared: Rc<Shared>) {
    loop {
        let now = shared.state.pools.now();
        let ended = shared.state.pools.leases().expire(now);
        let mut pools = BTreeSet::new();
        for Registration { id, app: pool, .. } in ended.into_iter().map(|lease| lease.registration)
        {
            tracing::warn!(%pool, target = %id, "a target has given no sign of life for {LEASE_SECS} s: it is gone until it registers again");
            pools.insert(pool);
        }
        if !pools.is_empty() {
            shared.hand_over(&pools);
        }
        let end = shared.state.pools.leases().next_end();
        match end {
            Some(end) => tokio::select! {
                () = sleep(end.since(now)) => {}
                () = shared.changed.notified() => {}
            },
            None => shared.changed.notified().await,
        }
    }
}

fn unknown(id: &Name) -> CodedError {
    let message = format!(
        "no target {id:?} has registered, or its time is over; POST /api/v1/register first"
    );
    CodedError::new(ErrorCode::NotFound, message)
}
