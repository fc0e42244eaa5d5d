//! Counts of refusals by reason, for status and warnings. One lock, taken per refusal and never per byte.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of each reason `R`.
#[derive(Debug)]
pub struct Refusals<R>(Mutex<BTreeMap<R, Refused>>);

/// Those who were refused for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// Where the last one was, if that says something.
    pub last: Option<IpAddr>,
}

impl<R> Default for Refusals<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Copy + Ord> Refusals<R> {
    /// Counts one refusal.
    pub fn count(&self, reason: impl Into<R>) {
        self.map().entry(reason.into()).or_default().count += 1;
    }

    /// Counts one refusal of somebody at this address, if there is one.
    pub fn count_from(&self, reason: impl Into<R>, address: impl Into<Option<IpAddr>>) {
        let mut map = self.map();
        let refused = map.entry(reason.into()).or_default();
        refused.count += 1;
        refused.last = address.into();
    }

    /// The counts so far; a reason that hasn't occurred is absent.
    pub fn snapshot(&self) -> BTreeMap<R, u64> {
        let map = self.map();
        map.iter()
            .map(|(reason, refused)| (*reason, refused.count))
            .collect()
    }

    /// The same with addresses.
    pub fn all(&self) -> BTreeMap<R, Refused> {
        self.map().clone()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<R, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
