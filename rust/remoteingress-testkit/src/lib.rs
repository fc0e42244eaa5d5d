//! Sessions, peers, networks and files for tests and benchmarks. Nothing here waits: the test moves time.
//!
//! - [`builder`]: makes every session, so that defaults are the same for all.
//! - [`frames`]: frames by hand. [`chance`]: random numbers from a seed.
//! - [`pair`]: two sessions and a link that can be cut at any byte, for tests that follow a script.
//! - [`world`]: two sessions under random operations, held against the [`model`] after every step.
//! - [`victim`]: one session whose peer is the test itself, frame by frame, and breaks the rules.
//! - [`sender`]: one session whose output the test reads piece by piece.
//! - [`net`]: a network of many endpoints in one virtual time, which delays, cuts, refuses and swallows.
//! - [`mmdb`]: writes databases of countries in MaxMind's format, whole and damaged ones.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod builder;
pub mod chance;
pub mod frames;
pub mod mmdb;
pub mod model;
pub mod net;
pub mod pair;
pub mod sender;
pub mod victim;
pub mod world;

use std::time::Instant;

/// The index of the edge's end wherever there is an array of both.
pub const EDGE: usize = 0;
/// The index of the hub's end wherever there is an array of both.
pub const HUB: usize = 1;

/// Start of virtual time. Nothing may depend on which instant it is.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to get one"
)]
pub fn any_instant() -> Instant {
    Instant::now()
}
