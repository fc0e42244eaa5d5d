//! The one engine of this process: nothing yet, a hub, or an edge.

use crate::edge::Edge;
use crate::hub::Hub;
use std::future::Future;

/// A hub or an edge that runs; a process has one at most.
pub(crate) enum Engine {
    Hub(Box<Hub>),
    Edge(Box<Edge>),
}

impl Engine {
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
