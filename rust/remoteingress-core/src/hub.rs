//! What a hub decides: who may connect, and what each edge has and gets.

pub mod guard;
pub mod registry;
