//! What is asked of a hub about its pools, and changes of them.

use crate::hub::pools::checking::Checks;
use crate::hub::pools::discover::Discoveries;
use crate::hub::pools::registrations::Registrations;
use crate::hub::pools::sources::SourceOrders;
use crate::hub::pools::{take_over, unknown};
use crate::hub::state::HubState;
use remoteingress_config::HubConfig;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_rest::{
    BindingDeleted, BindingShown, GeoShown, PoolShown, PoolsShown, TargetTold,
};
use remoteingress_config::pool_status::{
    ExplainParams, PoolExplained, PoolsChange, TargetAdmin, TargetStateParams,
};
use remoteingress_config::pools::{Pools, check_pools, parse_pool};
use remoteingress_proto::token::edge_id::EdgeId;
use serde_json::Value;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The pools of a hub, as those see them who ask and change them. Clones are the same.
#[derive(Clone)]
pub(crate) struct PoolsControl {
    state: Arc<HubState>,
    sources: SourceOrders,
    discoveries: Rc<Discoveries>,
    checks: Rc<Checks>,
    registrations: Registrations,
}

impl PoolsControl {
    pub(super) fn new(state: Arc<HubState>, sources: SourceOrders) -> Self {
        Self {
            discoveries: Rc::new(Discoveries::start(state.clone())),
            checks: Rc::new(Checks::start(state.clone())),
            registrations: Registrations::start(state.clone(), sources.clone()),
            sources,
            state,
        }
    }

    /// Targets that have registered themselves.
    pub(crate) fn registrations(&self) -> &Registrations {
        &self.registrations
    }

    /// Puts the pools of the configuration in force.
    pub(super) fn reload(&self) {
        let config = self.state.config();
        self.state.change_pools(|set| take_over(set, &config));
        self.follow(&config);
    }

    /// What follows from a change of the pools, besides the change itself.
    fn follow(&self, config: &HubConfig) {
        self.sources.look();
        self.discoveries.follow(&config.pools);
    }

    /// Ends what goes on without being asked.
    pub(in crate::hub) fn stop(&self) {
        self.discoveries.stop();
        self.checks.stop();
        self.registrations.stop();
    }

    /// Takes over the whole set of pools.
    ///
    /// # Errors
    /// A port names a pool that would be gone; nothing has changed.
    pub(crate) fn update_pools(&self, pools: Pools) -> Result<PoolsChange, CodedError> {
        if let Some((edge, pool)) = self.named(|name| !pools.contains_key(name)) {
            let problem = format!(
                "a port of edge {edge:?} names {pool:?}, which isn't among them; change the edge first"
            );
            return Err(CodedError::invalid_config("pools", problem));
        }
        Ok(self.take_pools(pools))
    }

    /// A port that names a pool of which this is true: its edge, and the pool. Where there is a routing.db none is looked
    /// for, since its rows may make any pool.
    fn named(&self, is_one: impl Fn(&Name) -> bool) -> Option<(EdgeId, Name)> {
        if self.state.config().routing_db.is_some() {
            return None;
        }
        let registry = self.state.registry();
        registry.all().find_map(|edge| {
            let mut named = edge.tcp.pools().chain(edge.udp.pools());
            let pool = named.find(|pool| is_one(&pool.name))?;
            Some((edge.id.clone(), pool.name.clone()))
        })
    }

    fn take_pools(&self, pools: Pools) -> PoolsChange {
        let mut config = HubConfig::clone(&self.state.config());
        config.pools = pools;
        let assembled = self.state.change_pools(|set| take_over(set, &config));
        self.state.set_config(config);
        self.follow(&self.state.config());
        assembled.change
    }

    /// Adds a pool, or replaces the one of this name. The body is as REST has it.
    ///
    /// # Errors
    /// A field is unknown or has a value that it can't have, or there are too many pools; nothing has changed.
    pub(crate) fn put_pool(&self, name: Name, body: &Value) -> Result<PoolsChange, CodedError> {
        let special = self.state.config().allow_special_targets;
        let pool = parse_pool(body, special).map_err(|error| {
            let message = error.message.strip_prefix("pool.");
            CodedError::new(error.code, message.unwrap_or(&error.message))
        })?;
        let mut pools = self.state.config().pools.clone();
        pools.insert(name, pool);
        check_pools(&pools, "pools", special)?;
        Ok(self.take_pools(pools))
    }

    /// Removes a pool from the configuration.
    ///
    /// # Errors
    /// A port names it, or only routing.db or registrations make it; nothing has changed.
    pub(crate) fn delete_pool(&self, name: &Name) -> Result<PoolsChange, CodedError> {
        let mut pools = self.state.config().pools.clone();
        if pools.remove(name).is_none() {
            self.pool(name)?;
            let problem = format!(
                "{name:?} isn't configured: rows of routing.db or registrations make it; remove those"
            );
            return Err(CodedError::invalid_config("pool", problem));
        }
        if let Some((edge, _)) = self.named(|pool| pool == name) {
            let problem = format!(
                "a port of edge {edge:?} names {name:?}; give the port another pool or target first"
            );
            return Err(CodedError::invalid_config("pool", problem));
        }
        Ok(self.take_pools(pools))
    }

    /// A pool and its state.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn pool(&self, name: &Name) -> Result<PoolShown, CodedError> {
        let shown = self.state.pools.shown(name);
        let (config, status) = shown.ok_or_else(|| unknown(name))?;
        Ok(PoolShown {
            name: name.clone(),
            is_configured: self.state.config().pools.contains_key(name),
            config,
            status,
        })
    }

    /// All pools and their state, by name.
    pub(crate) fn pools(&self) -> PoolsShown {
        PoolsShown {
            pools: self.state.pools.status(),
        }
    }

    /// The target that a client has and keeps.
    ///
    /// # Errors
    /// There is no such pool.
    pub(crate) fn binding(&self, pool: Name, client: IpAddr) -> Result<BindingShown, CodedError> {
        let target = self.state.pools.bound(&pool, client)?;
        Ok(BindingShown {
            pool,
            client,
            target,
        })
    }

    /// Makes a client choose anew.
    ///
    /// # Errors
    /// There is no such pool.
    pub(crate) fn unbind(&self, pool: Name, client: IpAddr) -> Result<BindingDeleted, CodedError> {
        let removed = self.state.pools.unbind(&pool, client)?;
        Ok(BindingDeleted {
            pool,
            client,
            removed,
        })
    }

    /// How long what an operator says of a target counts.
    pub(crate) fn truth_of_target(&self) -> &'static str {
        TargetTold::truth(self.state.pools.keeps.load(Ordering::Relaxed))
    }

    /// Where an address is.
    pub(crate) fn locate(&self, ip: IpAddr) -> GeoShown {
        let (country, region) = self.state.pools.locate(ip);
        GeoShown {
            ip,
            country,
            region,
        }
    }

    /// Says what a target is to do.
    ///
    /// # Errors
    /// There is no such pool or target.
    pub(crate) fn set_target_state(&self, params: &TargetStateParams) -> Result<(), CodedError> {
        let TargetStateParams {
            pool,
            target,
            state,
            cut,
        } = params;
        if *cut && *state != TargetAdmin::Dead {
            let problem = "is for the state dead; leave it out";
            return Err(CodedError::invalid_config("cut", problem));
        }
        let number = self.state.pools.set_admin(pool, target, *state)?;
        tracing::info!(%pool, %target, state = state.as_str(), cut, "an operator has set a target's state");
        self.sources.look();
        if *cut {
            self.state.cut_target(number);
        }
        Ok(())
    }

    /// Why a client would get which target.
    ///
    /// # Errors
    /// There is no such pool, or no such edge.
    pub(crate) fn explain_pool(&self, params: &ExplainParams) -> Result<PoolExplained, CodedError> {
        let allowed = params.edge_id.as_ref().map(|id| {
            let allowed = self.state.registry().allowed(id);
            allowed.ok_or_else(|| {
                let message =
                    format!("there is no edge {id}; the status lists those that there are");
                CodedError::new(ErrorCode::UnknownEdge, message)
            })
        });
        let allowed = allowed.transpose()?;
        let region = allowed.as_ref().and_then(|edge| edge.region.as_ref());
        self.state.pools.explain(params, region)
    }
}
