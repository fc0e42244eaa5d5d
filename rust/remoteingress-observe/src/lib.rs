//! Observation of a process: the queue of its events, bounded and never waited for.

#![forbid(unsafe_code)]

pub mod events;
