//! Where the time of streams goes, as histograms. Nothing is timed until somebody wants to know.

use crate::histogram::Histogram;
use std::sync::atomic::{AtomicBool, Ordering};

/// Times of the streams of one process.
#[derive(Debug, Default)]
pub struct StreamTimes {
    is_on: AtomicBool,
    /// From the pick of a target until it is connected; a hub's.
    pub dial: Histogram,
    /// From the client's arrival, or at a hub from the edge's word of it, until the first byte from the target.
    pub first_byte: Histogram,
}

impl StreamTimes {
    /// Times streams from now on.
    pub fn turn_on(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// True if somebody wants to know.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }
}
