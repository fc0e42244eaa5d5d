//! Questions to the admin server about pools, and its answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    name::Name,
    pool_status::{PoolStatus, PoolsChange, TargetStatus},
    pools::PoolConfig,
    words::words,
};

words! {
    /// How long a change of a pool over REST is kept.
    PoolKept {
        /// Until the configuration is read again, or the process ends.
        UntilReload = "untilReload",
        /// Until the program that drives this process says something else, or the process ends.
        UntilProgram = "untilProgram",
    }
}

impl PoolKept {
    /// The rule, in a sentence for whoever has made the change.
    pub fn truth(self) -> &'static str {
        match self {
            Self::UntilReload => {
                "kept until the configuration is read again (SIGHUP) or the process ends; write it into the configuration file to keep it"
            }
            Self::UntilProgram => {
                "kept until the program that drives this process replaces the pools, or the process ends; that program isn't told"
            }
        }
    }
}

/// Answer to `GET /api/v1/pools`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolsShown {
    /// The pools, by name.
    pub pools: Vec<PoolStatus>,
}

/// Answer to `GET /api/v1/pools/{pool}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolShown {
    /// Name of the pool.
    pub name: Name,
    /// The pool as it is configured; its targets from other sources are in the status.
    pub config: PoolConfig,
    /// False: only rows of routing.db, or registrations, make this pool.
    pub is_configured: bool,
    /// State of the pool.
    pub status: PoolStatus,
}

/// Answer to `PUT` and `DELETE` of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolChanged {
    /// What has changed.
    #[serde(flatten)]
    pub change: PoolsChange,
    /// How long the change is kept.
    pub kept: PoolKept,
    /// The same as a sentence.
    pub truth: String,
}

/// Answer to `POST` of a target's state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetTold {
    /// Name of the pool.
    pub pool: Name,
    /// State of the target from now on.
    pub target: TargetStatus,
    /// How long what was said counts, as a sentence.
    pub truth: String,
}

impl TargetTold {
    /// How long an operator's word counts at a hub that has a state directory, or none.
    pub fn truth(has_state_dir: bool) -> &'static str {
        if has_state_dir {
            "in force over SIGHUP, every change of the pool and restarts, since it is kept in stateDir, until another state is said"
        } else {
            "in force over SIGHUP and every change of the pool until another state is said, or the process ends, because the hub has no stateDir"
        }
    }
}

/// Answer to `GET` of a client's binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BindingShown {
    /// Name of the pool.
    pub pool: Name,
    /// Address of the client; all of an IPv6 /64 are one client.
    pub client: IpAddr,
    /// Target that the client has and keeps; null if none.
    pub target: Option<Name>,
}

/// Answer to `DELETE` of a client's binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BindingDeleted {
    /// Name of the pool.
    pub pool: Name,
    /// Address of the client; all of an IPv6 /64 are one client.
    pub client: IpAddr,
    /// False: it had no target.
    pub removed: bool,
}

/// Answer to `GET /api/v1/geo/{ip}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GeoShown {
    /// The address.
    pub ip: IpAddr,
    /// Its country by the database of countries; null if that doesn't know it, or there is none.
    pub country: Option<String>,
    /// Region of the country, else the one for unknown clients; null if there is none.
    pub region: Option<String>,
}

/// The client that `explain` is asked about.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// Address of the client.
    pub client: IpAddr,
    /// Edge that the client comes to.
    ///
    /// Default: none: the hub's own region counts
    pub edge: Option<String>,
}

/// How a target's state is set.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TargetQuery {
    /// With `dead`, resets the streams and ends the flows that it has, within a second.
    ///
    /// Default: `false`
    #[serde(default)]
    pub cut: bool,
}
