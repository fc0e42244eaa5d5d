//! One stream joined to a socket.

pub mod splice;
mod vitals;
