//! The multiplexer: many streams in one session, over one ordered connection that may come and go (tcpTls)
//! or over a lane for each stream (QUIC).

pub mod budget;
mod carrier;
mod closed;
mod config;
mod cut_message;
mod datagrams;
mod error;
mod event;
mod glitch;
mod keepalive;
pub(crate) mod role;
pub mod scheduler;
mod send_limit;
mod send_log;
mod session;
pub mod stream;
pub mod tier;
mod unconfirmed;
mod window;

pub use crate::lanes::{LaneOutput, Urgency};
pub use carrier::Carrier;
pub use config::{EARLY_CREDIT, SessionConfig};
pub use datagrams::DatagramDrops;
pub use error::{OpenError, SessionError, Violation};
pub use event::{Event, GoAwayCode, Queued, Totals};
pub use keepalive::SILENT;
pub use role::Role;
pub use session::Session;
pub use stream::{StreamKey, StreamView};
