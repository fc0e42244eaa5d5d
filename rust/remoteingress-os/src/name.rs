//! Names and addresses: resolving a name, connecting to one, and learning this machine's own public address.

pub mod dial;
pub mod dns;
pub mod resolve;
pub mod stun;
pub mod unix;
