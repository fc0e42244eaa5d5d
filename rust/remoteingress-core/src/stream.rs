//! One stream that joins a socket to a session: when each of its directions ends, and how the whole ends.

mod life;
mod outcome;

pub use life::{Fin, LINGER, Read, StreamLife, Sweep, Timeouts};
pub use outcome::Outcome;
