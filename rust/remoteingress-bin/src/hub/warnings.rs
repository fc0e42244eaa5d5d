//! Lines about connections, edges and streams that were refused: one per reason and minute.

use super::state::HubState;
use remoteingress_config::events::{Event, PoolRefused};
use remoteingress_config::reasons::{HubRefusalReason, UdpDropReason};
use remoteingress_core::hub::advice;
use remoteingress_core::refusal_warnings::{Advice, RefusalWarnings};
use remoteingress_upstream::pick::NoTarget;
use remoteingress_upstream::refusals::Due;
use std::time::Instant;

/// The refusals that were told already.
#[derive(Default)]
pub(super) struct RefusalLog {
    refusals: RefusalWarnings<HubRefusalReason>,
    doctors: RefusalWarnings<()>,
    flows: RefusalWarnings<UdpDropReason>,
}

impl RefusalLog {
    /// Writes and tells what is due; asked once a second.
    pub(super) fn write(&mut self, now: Instant, state: &HubState) {
        for due in self.refusals.due(now, state.refusals.all()) {
            let (reason, refused) = (due.reason.as_str(), due.refused);
            let last = due.last.map(tracing::field::display);
            match advice::of_refusals(due.reason) {
                Some(Advice::Warning(advice)) => {
                    tracing::warn!(reason, refused, last, "{advice}");
                }
                Some(Advice::Notice(advice)) => {
                    tracing::info!(reason, refused, last, "{advice}");
                }
                None => {}
            }
        }
        for due in self.doctors.due(now, state.doctors.all()) {
            let last = due.last.map(tracing::field::display);
            tracing::info!(
                runs = due.refused,
                last,
                "a doctor has proved the secret of an edge here; it begins no session"
            );
        }
        for due in self.flows.due(now, state.flow_refusals.all()) {
            if let Some(advice) = advice::of_flows(due.reason) {
                tracing::warn!(
                    reason = due.reason.as_str(),
                    dropped = due.refused,
                    "{advice}"
                );
            }
        }
        for due in state.pools.due_refusals() {
            tell(due, state);
        }
    }
}

/// Clients of a pool were refused.
fn tell(due: Due, state: &HubState) {
    let (pool, error) = (&due.pool, due.error);
    let (event, advice): (fn(PoolRefused) -> Event, _) = match due.reason {
        NoTarget::Empty => (
            Event::PoolEmpty,
            "clients were refused: their pool isn't there, or has no target; give it some under pools, in routing.db or by DNS",
        ),
        NoTarget::Full => (
            Event::PoolFull,
            "clients were refused: all targets of their pool have as many streams as they may; add targets, raise their hardLimit, or let clients wait by queue",
        ),
        NoTarget::NoneHealthy => (
            Event::PoolUnhealthy,
            "clients were refused: no target of their pool takes streams, or those that were dialled failed; ctl pools says of each why",
        ),
    };
    if let Some(refused) = due.warning {
        tracing::warn!(%pool, refused, error, "{advice}");
    }
    if let Some(refused) = due.event {
        let pool = due.pool;
        state.events.emit(&event(PoolRefused { pool, refused }));
    }
}
