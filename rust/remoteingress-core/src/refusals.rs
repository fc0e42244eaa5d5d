//! Counts of refusals by reason, for status. One lock, taken per refusal and never per byte.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts of each reason `R`.
#[derive(Debug)]
pub struct Refusals<R>(Mutex<BTreeMap<R, u64>>);

impl<R> Default for Refusals<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Copy + Ord> Refusals<R> {
    /// Counts one refusal.
    pub fn count(&self, reason: impl Into<R>) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(reason.into())
            .or_default() += 1;
    }

    /// The counts so far; a reason that hasn't occurred is absent.
    pub fn snapshot(&self) -> BTreeMap<R, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
