//! Observation of a process: the queue of its events, bounded and never waited for, and the latest of them.

#![forbid(unsafe_code)]

pub mod clock;
pub mod events;
pub mod history;
