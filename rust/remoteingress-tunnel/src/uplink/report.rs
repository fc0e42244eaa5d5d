//! News of an uplink's sessions for whoever has the uplink.

use remoteingress_config::error::CodedError;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::handshake::Transport;
use std::net::SocketAddr;

/// From a worker of an uplink to whoever has it.
#[derive(Debug)]
pub enum Report {
    /// The peer has let a session in, or is heard again after a silence.
    SessionUp(Up),
    /// A session or an attempt carries nothing, for the reason given.
    SessionDown {
        /// The code and the reason.
        error: CodedError,
    },
    /// The peer has sent a control message.
    Control {
        /// The worker whose session brought it.
        worker: usize,
        /// The whole message.
        message: ControlMessage,
    },
}

/// A session that carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Up {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The transport of the session's connection.
    pub transport: Transport,
    /// The session's streams have survived.
    pub is_resumed: bool,
    /// The number of sessions that the peer allows.
    pub max_sessions: u16,
}
