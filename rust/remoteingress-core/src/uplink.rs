//! What the end that dials decides: when to dial, over which transport, and what becomes of a session after a loss.
//!
//! - [`keeper`]: a worker's attempts at new sessions;
//! - [`association`]: one session, over one connection after another;
//! - [`gate`]: one worker knocks for all;
//! - [`race`]: the course of one attempt;
//! - [`trial`]: when QUIC is tried again after a fallback.
//!
//! `handle` of the machines takes what has happened, with the time and a random number, and gives
//! [`Action`](action::Action)s, which are to be carried out in their order.

pub mod action;
pub mod association;
pub mod backoff;
pub mod failure;
pub mod gate;
pub mod keeper;
pub mod race;
pub mod transport_choice;
pub mod trial;
pub mod warnings;

#[cfg(test)]
mod tests;
