//! A tunnel's connection, whichever transport it is of: the handshake's messages, and a session driven over it.

use super::error::ConnectionError;
use super::quic::connection::QuicConnection;
use super::tcp_tls::TcpTls;
use super::{quic, tcp_tls};
use crate::session::delivery::Owner;
use crate::session::local_session::LocalSession;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::Carrier;
use remoteingress_proto::token::pin::Pin;
use std::net::SocketAddr;

/// A connection between an edge and a hub after its TLS or QUIC handshake. It ends when it is dropped; [`Self::close`] also
/// says so.
pub enum Connection {
    /// TLS 1.3 over one TCP connection.
    TcpTls(Box<TcpTls>),
    /// QUIC over UDP.
    Quic(Box<QuicConnection>),
}

crate::opaque::opaque_debug!(Connection);

impl Connection {
    /// The transport, as events and the handshake name it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::TcpTls(_) => Transport::TcpTls,
            Self::Quic(_) => Transport::Quic,
        }
    }

    /// The way in which sessions over it send their frames.
    pub fn carrier(&self) -> Carrier {
        match self {
            Self::TcpTls(_) => Carrier::Ordered,
            Self::Quic(_) => Carrier::Lanes,
        }
    }

    /// Sends a message of the handshake.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        match self {
            Self::TcpTls(connection) => connection.send(message).await,
            Self::Quic(connection) => connection.send(message).await,
        }
    }

    /// Reads until `parse` makes something of the bytes so far and says how many it used; at most
    /// `most` bytes are kept for it.
    pub async fn receive<T, E: From<ConnectionError>>(
        &mut self,
        most: usize,
        parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, E> {
        match self {
            Self::TcpTls(connection) => connection.receive(most, parse).await,
            Self::Quic(connection) => connection.receive(most, parse).await,
        }
    }

    /// The peer has proved the secret: it may send more.
    pub fn widen(&mut self) {
        match self {
            Self::TcpTls(connection) => connection.widen(),
            Self::Quic(connection) => connection.widen(),
        }
    }

    /// The pin of the key that the peer has shown; none of a peer that has dialled.
    pub fn peer_pin(&self) -> Option<Pin> {
        match self {
            Self::TcpTls(connection) => connection.peer_pin(),
            Self::Quic(connection) => connection.peer_pin(),
        }
    }

    /// True if the hub's key was verified by a pin.
    pub fn peer_pin_verified(&self) -> bool {
        match self {
            Self::TcpTls(connection) => connection.peer_pin_verified(),
            Self::Quic(connection) => connection.peer_pin_verified(),
        }
    }

    /// The peer's address now; on QUIC it may change.
    pub fn peer_address(&self) -> SocketAddr {
        match self {
            Self::TcpTls(connection) => connection.peer_address(),
            Self::Quic(connection) => connection.peer_address(),
        }
    }

    /// Runs a session until the connection ends. Dropping the future is safe at any time: on tcpTls, what was not
    /// written is replayed after a resume; on QUIC the session ends with its connection.
    pub async fn drive(&mut self, local: &LocalSession, owner: &impl Owner) -> ConnectionError {
        match self {
            Self::TcpTls(connection) => tcp_tls::driver::drive(local, connection, owner).await,
            Self::Quic(connection) => quic::driver::drive(local, connection, owner).await,
        }
    }

    /// Says goodbye, so that the peer can tell this end from a cut.
    pub async fn close(self) {
        match self {
            Self::TcpTls(connection) => connection.close().await,
            Self::Quic(connection) => connection.close().await,
        }
    }
}
