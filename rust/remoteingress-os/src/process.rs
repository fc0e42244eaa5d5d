//! The process: its worker threads, its signals, its randomness.

pub mod random;
pub mod signals;
pub mod worker;
