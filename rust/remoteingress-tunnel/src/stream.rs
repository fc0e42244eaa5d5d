//! One stream: joined to a socket, or read and written by a program.

mod backlog;
pub(crate) mod direct;
pub(crate) mod face;
pub mod facts;
mod first_byte;
pub mod reset;
pub mod splice;
pub mod tunnel_stream;
mod vitals;

#[cfg(test)]
mod tests;
