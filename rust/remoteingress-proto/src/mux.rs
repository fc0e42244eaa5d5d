//! The multiplexer of the tcpTls transport: many streams over one connection, and a session that
//! outlives that connection. QUIC multiplexes by itself and uses none of this.

mod closed;
mod glitch;
mod keepalive;
mod send_log;
mod session;
mod unconfirmed;

pub use glitch::GlitchBucket;
pub use session::{
    Event, GoAwayCode, OpenError, Role, Session, SessionConfig, SessionError, StreamKey, Totals,
    Violation,
};
