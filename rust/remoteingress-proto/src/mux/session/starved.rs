//! Streams that found the memory budget used up, and when they are asked again.

use crate::mux::stream::StreamKey;
use std::time::{Duration, Instant};

/// Streams that found the memory budget used up are asked again after this time.
const RETRY: Duration = Duration::from_millis(50);

/// Each live stream at most once: it remembers that it waits.
#[derive(Debug, Default)]
pub(super) struct Starved {
    keys: Vec<StreamKey>,
    until: Option<Instant>,
}

impl Starved {
    /// One more; `is_new` if it doesn't wait yet.
    #[inline]
    pub(super) fn add(&mut self, now: Instant, key: StreamKey, is_new: bool) {
        if is_new {
            self.keys.push(key);
        }
        self.until.get_or_insert(now + RETRY);
    }

    /// They are to be asked then.
    #[inline]
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// All of them, to be asked now.
    #[inline]
    pub(super) fn take(&mut self) -> Vec<StreamKey> {
        self.until = None;
        std::mem::take(&mut self.keys)
    }
}
