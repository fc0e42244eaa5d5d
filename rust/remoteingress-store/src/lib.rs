//! Routing state from files that others write: edgeProxy's routing.db ([`routing_db`]) and databases that tell the
//! country of an address ([`geo_file`]). Both are read whole, judged, and watched; nothing is ever written.
//!
//! # For the owner
//! The owner is one blocking thread, or a task that hands each poll to one: a poll is a `stat` most of the time, but a
//! new file of 10,000 targets takes milliseconds and a large database of countries tens of them. It brings the clock: it
//! calls both `poll` functions every 250 ms ([`POLL_INTERVAL`]).
//!
//! ```no_run
//! use remoteingress_store::routing_db::{Poll, Version, Watch};
//!
//! let mut watch = Watch::new("/srv/routing.db", false);
//! let mut version = Version::default();
//! # let mut tell = |_: &dyn std::fmt::Debug| {};
//! loop {
//!     match watch.poll() {
//!         Poll::Unchanged => {}
//!         Poll::Changed(reading) => {
//!             let (next, change) = version.next(reading);
//!             if !change.is_empty() {
//!                 tell(&change); // its rows to the pools, its refusals as events
//!             }
//!             version = next; // no failure stands any longer
//!         }
//!         // The version stays in force. What is passing (a writer's lock) is worth an event only when it lasts.
//!         Poll::Failed(error) if error.is_passing() => {}
//!         Poll::Failed(error) => tell(&(error.reason(), error.to_string())),
//!     }
//! #   break;
//! }
//! ```
//!
//! An answer that isn't `Unchanged` stands until the next one: after `Failed`, `Unchanged` means that the failure stands,
//! and the first good reading is `Changed` even if it equals the one before.

#![forbid(unsafe_code)]

use std::time::Duration;

pub mod geo_file;
pub mod routing_db;
mod stamp;

/// Time between two polls of a watch.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);
