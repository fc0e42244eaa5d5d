//! The one engine of this process: nothing yet, a hub, or an edge.

pub(crate) mod admin;
pub(crate) mod call;
pub(crate) mod kept_edges;
pub(crate) mod metrics;

use crate::edge::{Edge, EdgeControl};
use crate::hub::Hub;
use crate::hub::control::HubControl;
use remoteingress_config::name::Name;
use remoteingress_config::overview::{Overview, Role};
use remoteingress_observe::clock::unix_millis;
use remoteingress_observe::histogram::Counts;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_proto::token::edge_id::EdgeId;
use std::future::Future;

/// A hub or an edge that runs; a process has one at most.
pub(crate) enum Engine {
    Hub(Box<Hub>),
    Edge(Box<Edge>),
}

/// An engine as those see it who ask and change it, also while it drains. Clones are the same engine.
#[derive(Clone)]
pub(crate) enum Control {
    Hub(HubControl),
    Edge(EdgeControl),
}

impl Control {
    /// What runs here, and its status.
    pub(crate) async fn overview(&self) -> Overview {
        let (role, started_at, hub, edge) = match self {
            Self::Hub(hub) => (Role::Hub, hub.started_at(), Some(hub.status().await), None),
            Self::Edge(edge) => (Role::Edge, edge.started_at(), None, edge.status().await),
        };
        Overview {
            role,
            version: crate::version::VERSION.to_owned(),
            started_at: unix_millis(started_at),
            hub,
            edge,
        }
    }

    /// The allowed edges; at an edge, itself.
    pub(crate) fn edge_ids(&self) -> Vec<EdgeId> {
        match self {
            Self::Hub(hub) => hub.edge_ids(),
            Self::Edge(edge) => vec![edge.id()],
        }
    }

    /// Connect times of the targets of each pool; an edge has none.
    pub(crate) fn pool_connects(&self) -> Vec<(Name, Counts)> {
        match self {
            Self::Hub(hub) => hub.pool_connects(),
            Self::Edge(_) => Vec::new(),
        }
    }

    /// Pools that ports name and that aren't there.
    pub(crate) fn missing_pools(&self) -> Vec<Name> {
        match self {
            Self::Hub(hub) => hub.missing_pools(),
            Self::Edge(_) => Vec::new(),
        }
    }

    /// The times of its streams.
    pub(crate) fn times(&self) -> &StreamTimes {
        match self {
            Self::Hub(hub) => hub.times(),
            Self::Edge(edge) => edge.times(),
        }
    }
}

impl Engine {
    /// What is asked of it.
    pub(crate) fn control(&self) -> Control {
        match self {
            Self::Hub(hub) => Control::Hub(hub.control().clone()),
            Self::Edge(edge) => Control::Edge(edge.control().clone()),
        }
    }

    /// Drains and ends; `cut` resolves when what still runs is to be reset at once, `orphaned` when
    /// nobody waits for the end: a successor may start before it.
    pub(crate) async fn stop(
        self,
        cut: impl Future<Output = ()>,
        orphaned: impl Future<Output = ()>,
    ) {
        match self {
            Self::Hub(hub) => hub.stop(cut, orphaned).await,
            Self::Edge(edge) => edge.stop(cut, orphaned).await,
        }
    }
}
