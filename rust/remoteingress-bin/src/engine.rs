//! The one engine of this process: nothing yet, a hub, or an edge.

pub(crate) mod admin;
pub(crate) mod call;

use crate::edge::{Edge, EdgeControl};
use crate::hub::Hub;
use crate::hub::control::HubControl;
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
