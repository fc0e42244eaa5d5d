//! The process: its options, its worker threads, its signals, its randomness, the files of its secrets and of its state.

pub mod memory;
pub mod options;
pub mod random;
pub mod secret_file;
pub mod signals;
pub mod whole_file;
pub mod worker;
