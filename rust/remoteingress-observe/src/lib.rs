//! How a process is watched: the queue of events, bounded and never waited for.

#![forbid(unsafe_code)]

pub mod events;
