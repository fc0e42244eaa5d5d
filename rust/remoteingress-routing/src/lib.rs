//! Where a connection of a gateway port goes.
//!
//! ```text
//! first bytes ──► Detector ──► TLS with the name that was asked for ──┐
//!                     │                                              ├──► routes, by name
//!                     ├──────► HTTP ─────────────────────────────────┘
//!                     └──────► neither: the port's own target
//! ```
//!
//! A [`Detector`](detect::Detector) never waits and never answers: whoever reads for it has the deadline, keeps the bytes,
//! and sends them on as they came.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod detect;
pub mod hosts;
pub mod networks;
