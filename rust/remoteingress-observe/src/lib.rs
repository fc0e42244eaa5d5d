//! Observation of a process: the queue of its events, bounded and never waited for, and the times of its streams.

#![forbid(unsafe_code)]

pub mod clock;
pub mod events;
pub mod histogram;
pub mod history;
pub mod stream_times;
