//! What follows from a change of the registry, for its caller to carry out.

use remoteingress_config::EdgeEntry;
use remoteingress_proto::control::{ApplyRefusal, Config, PortState};
use remoteingress_proto::handshake::{SessionId, Transport};
use remoteingress_proto::token::edge_id::EdgeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// What follows from a change.
#[derive(Debug)]
pub enum Action {
    /// Tell the edge its configuration.
    SendConfig {
        worker: usize,
        session: SessionId,
        config: Config,
    },
    /// The edge is too old for its UDP ports: it was told the others only.
    UdpLeftOut { edge: EdgeId },
    /// The targets of this session's streams have changed.
    ChangeEntry {
        worker: usize,
        session: SessionId,
        entry: Arc<EdgeEntry>,
    },
    /// Reset the session's streams and close its connection.
    Cut {
        worker: usize,
        session: SessionId,
        /// Another instance of the edge has taken over.
        replaced: bool,
    },
    /// The edge has its first live session.
    Connected {
        edge: EdgeId,
        address: SocketAddr,
        transport: Transport,
        version: String,
    },
    /// The edge has lost its last live session.
    Disconnected {
        edge: EdgeId,
        address: SocketAddr,
        reason: String,
    },
    /// The edge has answered its configuration: which ports it has.
    PortsApplied {
        edge: EdgeId,
        generation: u64,
        ports: Vec<PortState>,
    },
    /// The edge can't take its configuration: say so, since nothing will change until it gets another one.
    ConfigRefused {
        edge: EdgeId,
        generation: u64,
        refusal: ApplyRefusal,
    },
}
