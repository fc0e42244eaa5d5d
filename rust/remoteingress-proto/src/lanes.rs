//! The same session where each stream has a lane of its own: one QUIC stream per stream, and one for the session
//! itself (D8).
//!
//! Lanes are ordered, but not among each other. Nothing is ever lost while the connection lives, so that ACKs still tell
//! how much is on its way.

mod limits;
pub(crate) mod order;
mod output;
mod probes;
mod waiting;

pub use limits::{LaneAllowance, LaneLimits};
pub use output::{LaneOutput, Urgency};
pub use probes::Probes;
pub use waiting::{LaneRoom, LaneSink, WaitingLanes};
