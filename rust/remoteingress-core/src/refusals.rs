//! Counts of refusals by reason, for status. One lock, taken per refusal and never per byte.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The number of refusals for each reason since the start.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Refusals {
    /// Counts one refusal for this reason, which is the name that status shows.
    pub fn count(&self, reason: &'static str) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(reason)
            .or_default() += 1;
    }

    /// The counts so far, by reason; a reason that hasn't occurred isn't there.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
