//! The state of pools, and the reasons why a client would get which target.

use std::{collections::BTreeMap, net::IpAddr};

use remoteingress_proto::token::edge_id::EdgeId;
use serde::{Deserialize, Serialize};

use crate::{name::Name, pools::Strategy, words::words};

words! {
    /// Where a target comes from.
    TargetSource {
        /// The configuration, or a change of it at run time.
        Config = "config",
        /// A row of edgeProxy's database.
        RoutingDb = "routingDb",
        /// An answer of DNS.
        Dns = "dns",
        /// It has registered itself.
        Registered = "registered",
    }

    /// A target's state by an operator's word.
    TargetAdmin {
        /// It takes streams.
        Active = "active",
        /// It takes no new clients; those that it has may come back while their affinity lasts.
        Drain = "drain",
        /// It takes no streams.
        Dead = "dead",
    }

    /// How far the targets that DNS names can be relied on.
    DiscoveryState {
        /// No lookup has ended well yet, and there are no targets.
        Unanswered = "unanswered",
        /// The targets are those of the last lookup.
        Current = "current",
        /// The last lookup gave nothing; the targets are those of an earlier one.
        Held = "held",
        /// The name has had no records for longer than `holdSecs`, and its targets are gone.
        Emptied = "emptied",
    }

    /// Reason why a stream or flow got its target and no other, in `picks`.
    PickReason {
        /// The client had it already, by the pool's `affinity`.
        Binding = "binding",
        /// `"geo"` found it in the nearest [tier](pools.md#geography).
        Tier0 = "tier0",
        /// `"geo"` found it in the second tier.
        Tier1 = "tier1",
        /// `"geo"` found it in the third tier.
        Tier2 = "tier2",
        /// `"geo"` found it in the fourth tier.
        Tier3 = "tier3",
        /// Another strategy chose it.
        Strategy = "strategy",
        /// No target took streams: of those that were ejected it is the one whose time is up first.
        LastResort = "lastResort",
        /// Another one refused the stream, failed or was silent before.
        Retry = "retry",
    }

    /// `up` if a target takes streams, else the reason why not.
    TargetState {
        /// It takes streams.
        Up = "up",
        /// It has as many streams as its `hardLimit` lets it have.
        Full = "full",
        /// Its weight is 0: it takes no new clients.
        Weightless = "weightless",
        /// An operator has said `drain`.
        Drain = "drain",
        /// DNS names it no more: it takes no new clients, and is removed within 30 s.
        Leaving = "leaving",
        /// An operator has said `dead`.
        Dead = "dead",
        /// Its checks fail, or its row has `healthy` 0.
        Down = "down",
        /// Streams to it have failed; it is left alone for a while.
        Ejected = "ejected",
        /// It was left alone and is tried with one stream at a time, which is on its way.
        Trial = "trial",
    }
}

/// State of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolStatus {
    /// Name of the pool.
    pub name: Name,
    /// How it chooses.
    pub strategy: Strategy,
    /// Streams and flows that its targets have now.
    pub active_streams: u64,
    /// Streams and flows that were given a target, each counted once.
    pub total_streams: u64,
    /// The same by why they got that target, see [Reasons in `picks`](#reasons-in-picks). A reason that hasn't occurred is
    /// absent.
    ///
    /// Unit: count by reason
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"$ref": "#/$defs/PickReason"})))]
    pub picks: BTreeMap<PickReason, u64>,
    /// Dials beyond the first of a stream.
    pub retries: u64,
    /// Clients that wait for a place.
    pub waiting: u64,
    /// Clients that came back to the target that they had.
    pub affinity_hits: u64,
    /// Clients whose target was gone, out or full, so that they got another one.
    pub affinity_broken: u64,
    /// Streams and flows that got no target, because the pool has none.
    pub refused_empty: u64,
    /// The same, because all targets were full.
    pub refused_full: u64,
    /// The same, because no target takes streams, or those that were dialled failed.
    pub refused_unhealthy: u64,
    /// Its [lookups by DNS](#discovery); null without `discover`.
    pub discovery: Option<DiscoveryStatus>,
    /// The targets, in the order of their ids.
    pub targets: Vec<TargetStatus>,
}

/// State of a pool's lookups by DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiscoveryStatus {
    /// Name that is looked up.
    pub name: String,
    /// How far the targets can be relied on.
    pub state: DiscoveryState,
    /// Why the last lookup gave nothing; null if it did.
    pub error: Option<String>,
    /// Records that are no targets, since there are more than 256.
    ///
    /// Unit: records
    pub left_out: u64,
}

/// State of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetStatus {
    /// Id of the target in its pool.
    pub id: Name,
    /// Host of the target.
    pub host: String,
    /// Port of the target; null: the listener's.
    pub port: Option<u16>,
    /// Where it comes from.
    pub source: TargetSource,
    /// Its region, if it has one.
    pub region: Option<String>,
    /// Its country, if it has one.
    pub country: Option<String>,
    /// `up` if it takes streams, else the reason why not.
    pub state: TargetState,
    /// State by the word of an operator, or of its row.
    pub admin: TargetAdmin,
    /// Time until it is tried again; null unless it is ejected.
    ///
    /// Unit: ms
    pub retry_in_ms: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// Why its last check failed, such as `refused` or `status 500, not 200-399`; null if that was good, or it isn't
    /// checked.
    pub check_error: Option<String>,
    /// Streams and flows that it has now.
    pub active_streams: u32,
    /// Streams and flows that it was chosen for so far, also those that failed. A stream that tries two targets counts at
    /// both.
    pub total_streams: u64,
    /// Those of them that failed.
    pub failed_streams: u64,
    /// Time that a connect takes, over UDP the time to a flow's first answer: a slower one counts at once, faster ones
    /// little by little; null before the first.
    ///
    /// Unit: ms
    pub connect_ms: Option<f64>,
    /// Share of new streams, as it is configured.
    pub weight: u16,
    /// The same while it starts slowly.
    pub effective_weight: f64,
    /// Streams that it handles comfortably.
    ///
    /// Unit: streams
    pub soft_limit: u32,
    /// Streams that it has at most; 0: any number.
    ///
    /// Unit: streams
    pub hard_limit: u32,
    /// Targets of a higher number get new clients only while all of lower ones are out or full.
    pub priority: u8,
}

/// Why a client would get which target: a dry run that changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolExplained {
    /// Name of the pool.
    pub pool: Name,
    /// How it chooses.
    pub strategy: Strategy,
    /// Address of the client.
    pub client: IpAddr,
    /// Country of the client; null if it isn't known.
    pub country: Option<String>,
    /// Region of the client; null if it isn't known.
    pub region: Option<String>,
    /// Edge that the client comes to; null if none was named.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub edge_id: Option<EdgeId>,
    /// Region of that edge, or of the hub; null if neither has one.
    pub local_region: Option<String>,
    /// Target that the client had and keeps; null if none.
    pub bound: Option<Name>,
    /// Every target, the best first.
    pub targets: Vec<TargetExplained>,
}

/// Reasons for and against a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetExplained {
    /// Id of the target.
    pub id: Name,
    /// `up` if it takes this client's stream, else the reason why not.
    pub state: TargetState,
    /// Time until it is tried again; null unless it is ejected.
    ///
    /// Unit: ms
    pub retry_in_ms: Option<u64>,
    /// Targets of a higher number get new clients only while all of lower ones are out or full.
    pub priority: u8,
    /// Distance from the client, 0 is the nearest; null unless the strategy is `"geo"`.
    pub tier: Option<u8>,
    /// Its streams over its soft limit and weight.
    pub load: f64,
    /// Score by which `"geo"` chooses, the lowest first: 100 times the tier, and the load; null with other strategies.
    pub score: Option<f64>,
    /// Streams and flows that it has now.
    pub active_streams: u32,
}

/// Parameters of `explainPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainParams {
    /// Name of the pool.
    pub pool: Name,
    /// Address of the client.
    pub client: IpAddr,
    /// Edge that the client comes to.
    ///
    /// Default: none: the hub's own region counts
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub edge_id: Option<EdgeId>,
}

/// Parameters of `setTargetState`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetStateParams {
    /// Name of the pool.
    pub pool: Name,
    /// Id of the target.
    pub target: Name,
    /// State of the target from now on.
    pub state: TargetAdmin,
    /// With `"dead"`, resets the streams and ends the flows that it has, within a second.
    ///
    /// Default: `false`
    #[serde(default)]
    pub cut: bool,
}

/// Names of pools, by what a change did to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolsChange {
    /// Pools that weren't there before.
    pub added: Vec<Name>,
    /// Pools that are there no more.
    pub removed: Vec<Name>,
    /// Pools of which something has changed.
    pub changed: Vec<Name>,
    /// Pools that are as before: nothing of them was touched.
    pub unchanged: Vec<Name>,
}

impl PoolsChange {
    /// True if nothing is other than before.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}
