//! The multiplexer: many streams in one session, over one ordered connection that may come and go (tcpTls)
//! or over a lane for each stream (QUIC).

pub mod budget;
mod carrier;
mod closed;
mod datagrams;
mod glitch;
mod keepalive;
mod lanes;
pub mod scheduler;
mod send_limit;
mod send_log;
mod session;
pub mod stream;
pub mod tier;
mod unconfirmed;
pub mod window;

pub use carrier::Carrier;
pub use datagrams::DatagramDrops;
pub use glitch::GlitchBucket;
pub use lanes::{LaneOutput, Urgency};
pub use session::{
    EARLY_CREDIT, Event, GoAwayCode, OpenError, Role, Session, SessionConfig, SessionError,
    StreamKey, Totals, Violation,
};
