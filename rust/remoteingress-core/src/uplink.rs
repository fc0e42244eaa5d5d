//! What the end that dials decides: when to dial, and over which transport.

pub mod backoff;
pub mod transport_choice;
pub mod trial;
