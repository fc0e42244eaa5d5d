//! The lines that tell the reader of a failed run what has happened.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Lines that are kept of a run that isn't replayed.
const KEPT: usize = 40;

/// The trace of one run. A panic of the run leaves it to whoever has a clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    start: Option<Instant>,
    keeps_all: bool,
    lines: VecDeque<String>,
    /// Of all lines, to compare two runs.
    hash: u64,
}

impl Trace {
    /// A trace of the last lines, or of all.
    pub(crate) fn new(keeps_all: bool) -> Self {
        let lines = Lines {
            keeps_all,
            ..Lines::default()
        };
        Self(Arc::new(Mutex::new(lines)))
    }

    pub(crate) fn add(&self, now: Instant, line: Arguments<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = *lines.start.get_or_insert(now);
        let at = now.saturating_duration_since(start);
        // The oldest line gives its memory to the newest.
        let reused = if lines.keeps_all || lines.lines.len() < KEPT {
            None
        } else {
            lines.lines.pop_front()
        };
        let mut text = reused.unwrap_or_default();
        text.clear();
        // Writing to a string can't fail.
        let _ = write!(text, "{:>9.3} {line}", at.as_secs_f64());
        for byte in text.bytes() {
            lines.hash = (lines.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        lines.lines.push_back(text);
    }

    /// All lines that are kept.
    pub(crate) fn text(&self) -> String {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.make_contiguous().join("\n")
    }

    /// Differs where two runs differ.
    pub(crate) fn hash(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hash
    }
}
