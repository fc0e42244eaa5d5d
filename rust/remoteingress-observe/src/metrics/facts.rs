//! What the metrics are made from.

use crate::histogram::Counts;
use remoteingress_config::name::Name;
use remoteingress_config::overview::Overview;
use remoteingress_proto::token::edge_id::EdgeId;

/// All that the metrics of one process are made from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What runs here, and its status.
    pub overview: Overview,
    /// The allowed edges; at an edge, itself.
    pub edges: Vec<EdgeId>,
    /// Restarts of the process by the program that drives it.
    pub restarts: u64,
    /// Times of dials to targets; a hub's.
    pub dial: Counts,
    /// Times until the first byte from the target.
    pub first_byte: Counts,
    /// Connect times of the targets of each pool; a hub's.
    pub pool_connects: Vec<(Name, Counts)>,
    /// Pools that ports name and that aren't there; a hub's.
    pub missing_pools: Vec<Name>,
}
