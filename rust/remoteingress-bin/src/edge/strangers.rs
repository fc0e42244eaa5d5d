//! Callers at an edge's tunnel port that have proved nothing, and their limits.

use remoteingress_core::entrance::guard::Guard;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Callers that have proved nothing.
pub(super) struct Strangers {
    guard: Mutex<Guard>,
}

impl Strangers {
    pub(super) fn new(guard: Guard) -> Self {
        Self {
            guard: Mutex::new(guard),
        }
    }

    /// Their limits.
    pub(super) fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
