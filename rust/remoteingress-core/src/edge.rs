//! What an edge decides: which clients it admits, and what becomes of its ports.

pub mod admission;
pub mod port_table;
