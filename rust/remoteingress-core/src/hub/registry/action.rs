//! The consequences of a change of the registry, for its caller to carry out.

use crate::failed_ports::FailedPorts;
use remoteingress_config::AllowedEdge;
use remoteingress_config::reasons::DialledBy;
use remoteingress_proto::control::{ApplyRefusal, Config, PortState};
use remoteingress_proto::handshake::{SessionId, Transport};
use remoteingress_proto::token::edge_id::EdgeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// A consequence of a change.
#[derive(Debug)]
pub enum Action {
    /// Tell the edge its configuration.
    SendConfig {
        /// The worker that has the session.
        worker: usize,
        /// The session that is meant.
        session: SessionId,
        /// The ports that it is to have, and more.
        config: Config,
    },
    /// The edge is too old for its UDP ports: it was told the others only.
    UdpLeftOut {
        /// Id of the edge.
        edge: EdgeId,
    },
    /// The edge is too old for ports that are there on several addresses: it was told the others only.
    SharedPortsLeftOut {
        /// Id of the edge.
        edge: EdgeId,
        /// The ports, for people.
        ports: String,
    },
    /// The edge is too old for so many ports: it was told the others only.
    PortsLeftOut {
        /// Id of the edge.
        edge: EdgeId,
        /// The number of ports that it wasn't told.
        left_out: usize,
    },
    /// The targets of this session's streams have changed.
    ChangeAllowedEdge {
        /// The worker that has the session.
        worker: usize,
        /// The session that is meant.
        session: SessionId,
        /// The edge as it is configured now.
        allowed: Arc<AllowedEdge>,
    },
    /// Reset the session's streams and close its connection.
    Cut {
        /// The worker that has the session.
        worker: usize,
        /// The session that is meant.
        session: SessionId,
        /// Another instance of the edge has taken over.
        replaced: bool,
    },
    /// The edge has its first live session.
    Connected {
        /// Id of the edge.
        edge: EdgeId,
        /// Address of the edge, now or before.
        address: SocketAddr,
        /// The transport of that session.
        transport: Transport,
        /// The edge's software.
        version: String,
        /// The end that has dialled.
        dialled_by: DialledBy,
    },
    /// The edge has lost its last live session.
    Disconnected {
        /// Id of the edge.
        edge: EdgeId,
        /// Address of the edge, now or before.
        address: SocketAddr,
        /// Reason why that session ended, for the operator.
        reason: String,
    },
    /// The edge has answered its configuration: which ports it has.
    PortsApplied {
        /// Id of the edge.
        edge: EdgeId,
        /// Number of the configuration.
        generation: u64,
        /// All ports of that configuration.
        ports: Vec<PortState>,
        /// Those of them whose failure is news, as the log names them.
        failed: Vec<FailedPorts>,
        /// Ports whose failure is news, too, and that `failed` has no room for.
        left_out: usize,
    },
    /// The edge can't take its configuration: say so, since nothing will change until it gets another one.
    ConfigRefused {
        /// Id of the edge.
        edge: EdgeId,
        /// Number of the configuration.
        generation: u64,
        /// The edge's reason.
        refusal: ApplyRefusal,
    },
}
