//! Callers at an edge's tunnel port that have proved nothing: their limits, and what the log says of them.

use remoteingress_config::reasons::TunnelRefusalReason;
use remoteingress_core::entrance::guard::Guard;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A refusal for the same reason is warned of again after this.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Callers that have proved nothing.
pub(super) struct Strangers {
    guard: Mutex<Guard>,
    /// When a refusal for each reason was warned of last.
    warned: Mutex<HashMap<TunnelRefusalReason, Instant>>,
}

impl Strangers {
    pub(super) fn new(guard: Guard) -> Self {
        Self {
            guard: Mutex::new(guard),
            warned: Mutex::default(),
        }
    }

    /// Their limits.
    pub(super) fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether to warn of a refusal for this reason, and remembers that.
    pub(super) fn is_due(&self, reason: TunnelRefusalReason) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let last = warned.get(&reason);
        let is_due = last.is_none_or(|at| now >= *at + WARNING_INTERVAL);
        if is_due {
            warned.insert(reason, now);
        }
        is_due
    }
}
