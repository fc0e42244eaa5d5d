//! Observation of a process: the queue of its events, bounded and never waited for, the times of its streams, and its
//! metrics.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod clock;
pub mod events;
pub mod histogram;
pub mod history;
pub mod metrics;
pub mod stream_times;
