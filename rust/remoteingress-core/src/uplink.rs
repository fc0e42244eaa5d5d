//! The decisions of the end that dials: when, over which transport, and how a session goes on after a loss.
//!
//! - [`keeper`]: a worker's attempts at new sessions;
//! - [`association`]: one session, over one connection after another;
//! - [`caller`]: who may have a session, where the peer dials;
//! - [`gate`]: one worker asks for all;
//! - [`load`]: the load of each worker;
//! - [`proxy`]: a proxy is asked for the way to the peer;
//! - [`race`]: the course of one attempt;
//! - [`trial`]: when QUIC is tried again after a fallback.
//!
//! `handle` of the machines takes what has happened, with the time and a random number, and gives
//! [`Action`](action::Action)s, which are to be carried out in their order.

pub mod action;
pub mod association;
pub mod backoff;
pub mod caller;
pub mod failure;
pub mod gate;
pub mod keeper;
pub mod load;
pub mod proxy;
pub mod race;
pub mod transport_choice;
pub mod trial;
pub mod warnings;

#[cfg(test)]
mod tests;
