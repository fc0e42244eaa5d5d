//! Lines about clients and callers that were refused: one per reason and minute.

use super::state::EdgeState;
use remoteingress_config::reasons::{EdgeRefusalReason, UdpDropReason};
use remoteingress_core::edge::advice;
use remoteingress_core::refusal_warnings::{Advice, RefusalWarnings};
use remoteingress_core::refusals::Refused;
use std::time::Instant;

/// The refusals that were told already.
#[derive(Default)]
pub(super) struct Warnings {
    clients: RefusalWarnings<EdgeRefusalReason>,
    flows: RefusalWarnings<UdpDropReason>,
}

impl Warnings {
    /// Writes what is due; asked once a second.
    pub(super) fn write(&mut self, now: Instant, state: &EdgeState) {
        for due in self.clients.due(now, state.clients.refusals.all()) {
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
        for (reason, advice) in advice::FLOWS {
            let dropped = Refused {
                count: state.udp.dropped(reason),
                last: None,
            };
            for due in self.flows.due(now, [(reason, dropped)]) {
                tracing::warn!(reason = reason.as_str(), dropped = due.refused, "{advice}");
            }
        }
    }
}
