//! A bound UDP socket of a port, and a datagram of it on its way to another worker.

use bytes::Bytes;
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_os::udp::{Fragments, UdpSocket};
use remoteingress_proto::flow::FlowKey;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A bound UDP socket of a port. It outlives its worker's task while other workers answer through it.
#[derive(Debug)]
pub(in crate::edge) struct UdpListener {
    pub(super) id: ListenerId,
    pub(super) socket: UdpSocket,
    pub(super) bound: SocketAddr,
    pub(super) is_closed: AtomicBool,
}

/// A datagram whose worker has no session, on its way to another.
#[derive(Debug)]
pub(in crate::edge) struct StrayDatagram {
    pub(super) listener: Arc<UdpListener>,
    pub(super) key: FlowKey,
    pub(super) payload: Bytes,
}

impl UdpListener {
    pub(in crate::edge) fn new(
        id: ListenerId,
        socket: std::net::UdpSocket,
        is_rare: bool,
    ) -> io::Result<Arc<Self>> {
        let bound = socket.local_addr()?;
        Ok(Arc::new(Self {
            id,
            socket: if is_rare {
                UdpSocket::waiting(socket)?
            } else {
                UdpSocket::new(socket, Fragments::Allowed)?.with_large_buffers()
            },
            bound,
            is_closed: AtomicBool::new(false),
        }))
    }
}
