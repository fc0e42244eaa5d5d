//! The process: its options, its worker threads, its signals, its randomness.

pub mod memory;
pub mod options;
pub mod random;
pub mod signals;
pub mod worker;
