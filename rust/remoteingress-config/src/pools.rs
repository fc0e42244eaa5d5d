//! Pools: targets behind one name, and how one of them is chosen and dialled.

mod check;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    check::{Bytes, CheckConfig, CheckKind, StatusRange},
    target::{DiscoverConfig, DiscoverKind, PoolTarget, SOFT_LIMIT},
};
use crate::{decode, error::CodedError, name::Name};

/// The pools of a hub, by name.
pub type Pools = BTreeMap<Name, PoolConfig>;

/// Pools of a hub.
pub const MAX_POOLS: usize = 1_024;
/// Targets of one pool.
pub const MAX_POOL_TARGETS: usize = 4_096;
/// Targets of all pools of a hub.
pub const MAX_TARGETS: usize = 10_000;
/// The pool of all rows of routing.db, whatever their `app`.
pub const ALL_ROWS: &str = "*";

/// How a pool chooses among the targets that take streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// The nearest to the client by region, of these the least loaded.
    Geo,
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// By the client's address, so that each client has its target; IPv6 clients by their /64.
    IpHash,
    /// The least loaded: streams over soft limit and weight.
    LeastConnections,
    /// The better of two in connect time and streams.
    LeastLatency,
    /// The less loaded of two that are drawn by weight.
    TwoChoices,
}

/// The fate of UDP flows whose target is dead or fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum UdpUnhealthy {
    /// They go over to another target.
    #[default]
    Move,
    /// They stay until they end.
    Stay,
}

/// A pool: targets behind one name, see [pools.md](pools.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Pool"))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolConfig {
    /// How a target is chosen, see [Strategies](pools.md#strategies).
    ///
    /// Default: `"roundRobin"`; `"geo"` for a pool that isn't in the configuration
    pub strategy: Strategy,
    /// Targets of the pool, besides those of routing.db, DNS and registrations.
    ///
    /// Default: `[]` · Range: [targets](#target)
    pub targets: Vec<PoolTarget>,
    /// Targets that DNS names.
    ///
    /// Default: none · Range: [discovery](#discovery)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discover: Option<DiscoverConfig>,
    /// Keeps a client at the target that it had, over TCP and UDP alike.
    ///
    /// Default: none; 600 s for a pool that isn't in the configuration · Range: [affinity](#affinity)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Further targets that a stream or flow tries where one refuses, fails or is silent. The client notices nothing:
    /// its bytes wait. In all a pool retries at most 20 % of its dials and 10 per second.
    ///
    /// Unit: targets · Default: 2 · Range: 0 to 8
    pub retries: u8,
    /// Time after which a target that hasn't answered the dial is raced: a second one is dialled as well, and the first to
    /// answer gets the stream. 0 turns it off.
    ///
    /// Unit: ms · Default: 1000
    pub try_next_after_ms: u32,
    /// TCP only: gives a stream to the next target, with the client's first bytes again, where one resets it before it
    /// sends a byte. Safe only for [requests that may be carried out twice](pools.md#resets-before-a-reply).
    ///
    /// Default: `false`
    pub reset_before_reply: bool,
    /// Time in which a target that comes back, or joins others, gets from a tenth to all of its share.
    ///
    /// Unit: s · Default: 0 = at once
    pub slow_start_secs: u32,
    /// Targets that may be out because streams to them failed, in percent of the pool; the rest is used whatever happens.
    /// Targets that checks or operators take out don't count.
    ///
    /// Unit: % · Default: 50 · Range: 0 to 100
    pub max_ejected_percent: u8,
    /// Clients that wait for a place where all targets are at their hard limit.
    ///
    /// Default: none: they are refused at once · Range: [queue](#queue)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueConfig>,
    /// Checks of the targets, besides what streams show.
    ///
    /// Default: none · Range: [checks](#checks)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckConfig>,
    /// Without `check`, time between two TCP checks of an ejected target. 0 turns them off.
    ///
    /// Unit: s · Default: 60
    pub recovery_interval_secs: u32,
    /// `"geo"` only: leaves a region whose targets are all at their soft limit, rather than fill them to their hard one.
    ///
    /// Default: `false`
    pub spill_at_soft: bool,
    /// `"ipHash"` only: a client goes to its next target where its own has this much more than the mean load, for
    /// instance 1.25.
    ///
    /// Default: none · Range: from 1
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<f64>,
    /// UDP flows whose target is dead or fails: `"move"` sends their next datagram to another one, `"stay"` leaves them.
    ///
    /// Default: `"move"`
    pub udp_unhealthy: UdpUnhealthy,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            targets: Vec::new(),
            discover: None,
            affinity: None,
            retries: 2,
            try_next_after_ms: 1_000,
            reset_before_reply: false,
            slow_start_secs: 0,
            max_ejected_percent: 50,
            queue: None,
            check: None,
            recovery_interval_secs: 60,
            spill_at_soft: false,
            bounded_load: None,
            udp_unhealthy: UdpUnhealthy::default(),
        }
    }
}

/// A client keeps its target while it comes again in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Affinity {
    /// How long a client's target is kept after its last new stream or flow.
    ///
    /// Unit: s · Default: 600 · Range: 1 to 604,800
    pub ttl_secs: u32,
}

impl Affinity {
    /// The time to live.
    pub fn ttl(self) -> Duration {
        Duration::from_secs(self.ttl_secs.into())
    }
}

impl Default for Affinity {
    fn default() -> Self {
        Self { ttl_secs: 600 }
    }
}

/// Clients that wait for a place at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PoolQueue"))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueConfig {
    /// Clients that may wait.
    ///
    /// Unit: clients · Default: 0 = none
    pub max: u32,
    /// How long each may wait.
    ///
    /// Unit: s · Default: 5 · Range: from 1
    pub timeout_secs: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max: 0,
            timeout_secs: 5,
        }
    }
}

impl PoolConfig {
    /// The pool of an `app` of routing.db that is configured nowhere: chosen and kept as edgeProxy does.
    pub fn of_routing_db() -> Self {
        Self {
            strategy: Strategy::Geo,
            affinity: Some(Affinity::default()),
            ..Self::default()
        }
    }

    /// Checks what the types alone don't say. `path` is the pool's.
    fn check(&self, path: &str, allow_special_targets: bool) -> Result<(), CodedError> {
        let fault = |field: &str, problem: &str| {
            Err(CodedError::invalid_config(
                format!("{path}.{field}"),
                problem,
            ))
        };
        if self.targets.len() > MAX_POOL_TARGETS {
            let problem = format!("has more than {MAX_POOL_TARGETS} targets");
            return fault("targets", &problem);
        }
        if self.retries > MAX_RETRIES {
            return fault("retries", "must be a whole number from 0 to 8");
        }
        if self.max_ejected_percent > 100 {
            return fault("maxEjectedPercent", "must be a whole number from 0 to 100");
        }
        if self
            .affinity
            .is_some_and(|affinity| !(1..=MAX_TTL_SECS).contains(&affinity.ttl_secs))
        {
            return fault(
                "affinity.ttlSecs",
                "must be a whole number from 1 to 604800",
            );
        }
        if self.queue.is_some_and(|queue| queue.timeout_secs == 0) {
            return fault(
                "queue.timeoutSecs",
                "must be a whole number from 1 to 4294967295",
            );
        }
        if let Some(factor) = self.bounded_load {
            if !(factor.is_finite() && factor >= 1.0) {
                return fault("boundedLoad", "must be a number from 1");
            }
            if self.strategy != Strategy::IpHash {
                return fault(
                    "boundedLoad",
                    "is for the strategy ipHash; leave it out, or choose that",
                );
            }
        }
        if self.spill_at_soft && self.strategy != Strategy::Geo {
            return fault(
                "spillAtSoft",
                "is for the strategy geo; leave it out, or choose that",
            );
        }
        if let Some(discover) = &self.discover {
            discover.check(&format!("{path}.discover"))?;
        }
        if let Some(check) = &self.check {
            check.check(&format!("{path}.check"))?;
        }
        let mut ids = HashSet::new();
        for (index, target) in self.targets.iter().enumerate() {
            let path = format!("{path}.targets[{index}]");
            target.check(&path, allow_special_targets)?;
            let id = target.id();
            if !ids.insert(id.clone()) {
                let problem = format!("{id:?} is the id of an earlier target of this pool too");
                return Err(CodedError::invalid_config(format!("{path}.id"), problem));
            }
        }
        Ok(())
    }
}

/// Checks pools together; `path` is where they stand.
pub fn check_pools(
    pools: &Pools,
    path: &str,
    allow_special_targets: bool,
) -> Result<(), CodedError> {
    if pools.len() > MAX_POOLS {
        let problem = format!("has more than {MAX_POOLS} pools");
        return Err(CodedError::invalid_config(path, problem));
    }
    let mut targets = 0;
    for (name, pool) in pools {
        pool.check(&format!("{path}.{name}"), allow_special_targets)?;
        targets += pool.targets.len();
    }
    if targets > MAX_TARGETS {
        let problem = format!("has more than {MAX_TARGETS} targets in all");
        return Err(CodedError::invalid_config(path, problem));
    }
    Ok(())
}

/// Parameters of `updatePools`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolsParams {
    /// All pools, by name.
    pools: Pools,
}

/// Reads the parameters of `updatePools`: `{pools: {...}}`.
///
/// # Errors
/// A field is unknown or has a value that it can't have, told by its path.
pub fn parse_pools(params: &Value, allow_special_targets: bool) -> Result<Pools, CodedError> {
    let PoolsParams { pools } = decode(params)?;
    check_pools(&pools, "pools", allow_special_targets)?;
    Ok(pools)
}

/// Reads one pool, as REST has it in a body.
///
/// # Errors
/// As those of [`parse_pools`].
pub fn parse_pool(body: &Value, allow_special_targets: bool) -> Result<PoolConfig, CodedError> {
    let pool: PoolConfig = decode(body)?;
    pool.check("pool", allow_special_targets)?;
    Ok(pool)
}

/// Each further target costs the client a dial; of nine that fail something else is wrong.
const MAX_RETRIES: u8 = 8;
/// A week, as the longest session affinity of others has it.
const MAX_TTL_SECS: u32 = 604_800;
