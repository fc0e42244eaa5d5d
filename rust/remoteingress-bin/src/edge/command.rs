//! The commands that a worker of the edge takes, and its answers.

use super::clients::Client;
use crate::listing::Asked;
use remoteingress_config::streams::StreamList;
use remoteingress_core::edge::place::Place;
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_proto::control::{ControlMessage, SelfTest};
use remoteingress_proto::handshake::{HubEpoch, Transport};
use remoteingress_proto::mux::Queued;
use remoteingress_tunnel::entrance::acceptor::Admitted;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use remoteingress_tunnel::uplink::calls::ProvenCall;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A hub's call that was admitted, with the worker that answers: there, or detached on its way there.
pub(super) type Incoming<C = Connection> = Admitted<usize, C, ProvenCall>;

/// A bound listener.
pub(super) enum ListenerSocket {
    Tcp(TcpListener),
    Udp {
        socket: UdpSocket,
        /// One of many ports, most of which nobody uses.
        is_rare: bool,
    },
}

/// A listener on its way to its worker.
pub(super) struct NewListener {
    pub(super) id: ListenerId,
    pub(super) place: Place,
    pub(super) listener: ListenerSocket,
}

/// To a worker.
pub(super) enum Command {
    /// Keep a session to the hub from now on.
    Connect,
    /// Close the tunnel port.
    ReleasePort(oneshot::Sender<()>),
    /// Answer a hub that has called.
    Called(Box<Incoming<Detached>>),
    /// End the session that takes new streams, if it is this run of a hub's: that doesn't answer, and another one has come.
    Evict(HubEpoch),
    /// Ask the session that takes new streams for a sign of life of its hub.
    Ping(oneshot::Sender<()>),
    AddListeners(Vec<NewListener>),
    RemoveListener {
        id: ListenerId,
    },
    /// Leave these UDP ports to the listeners: the tunnel may have one by chance.
    Vacate(Arc<[u16]>),
    Client(Client),
    /// Tell the hub.
    Control(ControlMessage),
    /// Open the stream of a test that the hub asks for.
    SelfTest(SelfTest),
    Status(oneshot::Sender<WorkerStatus>),
    /// Tell the oldest streams and flows.
    Streams(Asked, oneshot::Sender<StreamList>),
    /// Close the listeners, and say when the clients that waited there have been accepted.
    Drain(oneshot::Sender<()>),
    /// Open nothing more, and tell the hub so.
    GoAway,
    /// Reset what still runs.
    EndStreams,
    /// Send the hub the last frames and end.
    Stop(oneshot::Sender<()>),
}

/// A worker's part of the status.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerStatus {
    pub(super) sessions: usize,
    pub(super) sessions_over_tcp_tls: usize,
    pub(super) sessions_over_quic: usize,
    pub(super) active_streams: usize,
    pub(super) total_streams: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) rtt_ms: Option<f64>,
    /// The transport of new streams.
    pub(super) transport: Option<Transport>,
    pub(super) streams_over_tcp_tls: usize,
    pub(super) streams_over_quic: usize,
    pub(super) active_flows: usize,
    pub(super) queued: Queued,
}

impl WorkerStatus {
    /// Adds another worker's part.
    pub(super) fn add(&mut self, part: &Self) {
        self.sessions += part.sessions;
        self.sessions_over_tcp_tls += part.sessions_over_tcp_tls;
        self.sessions_over_quic += part.sessions_over_quic;
        self.active_streams += part.active_streams;
        self.total_streams += part.total_streams;
        self.bytes_in += part.bytes_in;
        self.bytes_out += part.bytes_out;
        self.rtt_ms = self.rtt_ms.or(part.rtt_ms);
        self.transport = self.transport.or(part.transport);
        self.streams_over_tcp_tls += part.streams_over_tcp_tls;
        self.streams_over_quic += part.streams_over_quic;
        self.active_flows += part.active_flows;
        self.queued.add(&part.queued);
    }
}
