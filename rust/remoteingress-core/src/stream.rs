//! One stream that joins a socket to a session: when each of its directions ends, and how the whole ends.

mod ack_watch;
mod life;
mod outcome;

pub use ack_watch::{AckFigures, AckLooks};
pub use life::{Cause, Fin, LINGER, Read, StreamLife, Sweep, Timeouts, Wait};
pub use outcome::Outcome;
