//! The admin server of a hub or an edge: health, readiness, status and changes over HTTP.
//!
//! It runs on the control thread and knows no engine: it asks through a [`Console`], and whoever runs the engine answers.
//! Who may ask is decided in `access`, before a route is looked at.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod api;
pub mod client;
mod console;
mod feed;
mod metrics;
pub mod page;
mod places;
mod pools;
mod served;
mod server;
mod site;

pub use console::{Ask, Console, PoolAsk, Question};
pub use server::Admin;
