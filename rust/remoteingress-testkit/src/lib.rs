//! What tests and benchmarks of the pure crates share. Nothing here waits: time is a number that the test moves.
//!
//! - [`pair`]: two sessions and a link that can be cut at any byte, for tests that follow a script.
//! - [`world`]: two sessions under random operations, held against the [`model`] after every step.
//! - [`victim`]: one session whose peer is the test itself, frame by frame, and breaks the rules.
//! - [`sender`]: one session whose output the test reads piece by piece.

#![forbid(unsafe_code)]

pub mod model;
pub mod pair;
pub mod sender;
pub mod victim;
pub mod world;
