//! Routing state from files: edgeProxy's routing.db ([`routing_db`]) and databases that tell the country of an address
//! ([`geo_file`]), which others write, and the hub's own hub.db ([`state_db`]). The files of others are read whole,
//! judged, and watched; they are never written.
//!
//! # For the owner of others' files
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
//!
//! # For the owner of hub.db
//! One blocking thread has the [`StateDb`](state_db::StateDb). A save takes milliseconds, one of a million bindings most
//! of a second, and a disk that hangs any time at all: no worker waits for it.
//!
//! At the start: open it, tell [`broken`](state_db::StateDb::broken), read the seed and the registrations (unless the hub
//! was away for long), then targets (health that is older than 60 s says nothing any more; manual states are of any age)
//! and bindings (those younger than their pool's time to live). What was read of targets that no pool has yet stays in
//! memory: a pool of routing.db or of DNS may get them later, and a target that was drained by hand must not come back
//! active. A hub that can't open the file says why and goes on without it.
//!
//! Every [`SAVE_INTERVAL`]: all targets, with the time; only what has changed is written. Registrations when there are
//! others. At a clean end: the same, and all bindings, the newest first. Then `close`.
//!
//! ```
//! use remoteingress_store::state_db::{SavedBinding, SavedTarget, StateDb, StateDbError, UnixMillis};
//!
//! fn end(
//!     mut state: StateDb,
//!     targets: &[SavedTarget],
//!     bindings: &[SavedBinding<'_>],
//! ) -> Result<(), StateDbError> {
//!     let now = UnixMillis::now();
//!     state.save_targets(targets, now)?;
//!     state.save_bindings(bindings.iter().copied(), now)?;
//!     state.close()
//! }
//! ```
//!
//! After an error a save is tried again at its next time, as a whole.

#![forbid(unsafe_code)]

use std::time::Duration;

pub mod geo_file;
pub mod routing_db;
mod stamp;
pub mod state_db;

/// Time between two polls of a watch.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two saves of targets to hub.db: what a hub that is killed forgets at most.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(5);
