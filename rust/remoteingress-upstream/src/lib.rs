//! Pools of targets: which target a stream or flow gets, and what is learned from how that went.
//!
//! A [`Plan`](plan::Plan) is one generation of a pool: its targets and the tables that its strategy reads. It never
//! changes, so each worker reads its own reference to it without a lock. What does change belongs to a
//! [`Member`](member::Member), one for each target: it outlives the plans, so that a reload forgets no count, no failure
//! and no latency. A pick reserves a place at its target at once, ahead of the dial; the [`Slot`](member::Slot) gives it
//! back.
//!
//! ```text
//! client ──► binding ──► strategy over the eligible ──► reserve ──► dial ──► verdict
//!                                       ▲                             │ full      │
//!                                       └───────── next best ◄────────┴───────────┘ failed
//! ```
//!
//! Time and randomness are arguments. The only state that workers share is atomic, or behind a lock that no pick of a
//! healthy pool takes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod affinity;
mod bank;
pub mod breaker;
pub mod checks;
pub mod client;
pub mod countries;
pub mod discovery;
pub mod latency;
pub mod leases;
pub mod member;
pub mod pick;
pub mod plan;
pub mod pool_set;
pub mod refusals;
pub mod region;
pub mod retries;
mod scan;
mod tables;
pub mod time;
