//! The other end of a handshake, made of stock rustls or quinn: one test then says the same of either transport.
//! Blocking: use it off the runtime.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use remoteingress_proto::handshake::{self, Hello, InstanceId, PROTOCOL_VERSION};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::quic_peer::{self, QuicClient};
use super::tls_peer::{
    self, ALPN, ClientStream, EXPORTER_LABEL, PATIENCE, ServerStream, TlsServer,
};
use super::transport::Transport;

/// A connection after its handshake; over QUIC the first bidirectional stream of it.
pub(crate) enum WirePeer {
    TlsClient(ClientStream),
    TlsServer(ServerStream),
    Quic(QuicStream),
}

/// See [`WirePeer`].
pub(crate) struct QuicStream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    received: usize,
}

/// A false hub with a certificate of its own.
pub(crate) enum WireServer {
    Tls(TlsServer),
    Quic { endpoint: Endpoint, pin: String },
}

/// The transport as a proof has it.
pub(crate) fn as_proven(transport: Transport) -> handshake::Transport {
    match transport {
        Transport::TcpTls => handshake::Transport::TcpTls,
        Transport::Quic | Transport::QuicWithFallback => handshake::Transport::Quic,
    }
}

/// Hello of an edge that can resume and has 256 KiB of credit for each stream.
pub(crate) fn hello(id: &str) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        edge_id: EdgeId::new(id).unwrap(),
        instance: InstanceId(rand::random()),
        session_ordinal: 0,
        required: Features::NONE,
        optional: Features::RESUME,
        resume: None,
        initial_credit: 256 * 1_024,
        replaces_instance: false,
        resume_timeout_secs: None,
        sessions_wanted: None,
        version: "0.0.0-test".to_owned(),
    }
}

impl WirePeer {
    /// Connects as an edge would, accepts any certificate and ends the handshake.
    pub(crate) fn connect(transport: Transport, hub: SocketAddr) -> io::Result<Self> {
        if transport == Transport::TcpTls {
            return Ok(Self::TlsClient(tls_peer::connect(hub, &[ALPN])?));
        }
        patiently(async {
            let connection = QuicClient::new(&[ALPN]).connect(hub).await?;
            let streams = connection.open_bi().await?;
            Ok(Self::quic(connection, streams))
        })
    }

    fn quic(connection: Connection, (send, receive): (SendStream, RecvStream)) -> Self {
        Self::Quic(QuicStream {
            connection,
            send,
            receive,
            received: 0,
        })
    }

    /// The value that both proofs are bound to, as this end sees it.
    pub(crate) fn exporter(&self) -> [u8; 32] {
        match self {
            Self::TlsClient(stream) => tls_peer::exporter(stream),
            Self::TlsServer(stream) => tls_peer::server_exporter(stream),
            Self::Quic(stream) => {
                let mut ekm = [0; 32];
                let connection = &stream.connection;
                let exported = connection.export_keying_material(&mut ekm, EXPORTER_LABEL, b"");
                exported.expect("32 bytes are not too many");
                ekm
            }
        }
    }

    /// Bytes that a stranger on the way has seen come: of TCP with its records, of QUIC those of the stream, since its
    /// acknowledgements come as they like.
    pub(crate) fn received(&self) -> usize {
        match self {
            Self::TlsClient(stream) => stream.sock.received,
            Self::TlsServer(_) => unreachable!("only clients are asked"),
            Self::Quic(stream) => stream.received,
        }
    }
}

impl Read for WirePeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::TlsClient(stream) => stream.read(buffer),
            Self::TlsServer(stream) => stream.read(buffer),
            Self::Quic(stream) => {
                let read = patiently(async { Ok(stream.receive.read(buffer).await?) })?;
                stream.received += read.unwrap_or(0);
                Ok(read.unwrap_or(0))
            }
        }
    }
}

impl Write for WirePeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::TlsClient(stream) => stream.write(bytes),
            Self::TlsServer(stream) => stream.write(bytes),
            Self::Quic(stream) => patiently(async { Ok(stream.send.write(bytes).await?) }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::TlsClient(stream) => stream.flush(),
            Self::TlsServer(stream) => stream.flush(),
            Self::Quic(_) => Ok(()),
        }
    }
}

impl WireServer {
    /// Call it on the runtime.
    pub(crate) fn start(transport: Transport) -> Self {
        if transport == Transport::TcpTls {
            return Self::Tls(TlsServer::start());
        }
        let (endpoint, pin) = quic_peer::server(ALPN);
        Self::Quic { endpoint, pin }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Tls(server) => server.address(),
            Self::Quic { endpoint, .. } => endpoint.local_addr().unwrap(),
        }
    }

    /// SHA-256 of its public key, as a token has it.
    pub(crate) fn pin(&self) -> &str {
        match self {
            Self::Tls(server) => server.pin(),
            Self::Quic { pin, .. } => pin,
        }
    }

    /// Accepts one connection and ends the handshake.
    pub(crate) fn accept(&self) -> io::Result<WirePeer> {
        match self {
            Self::Tls(server) => Ok(WirePeer::TlsServer(server.accept()?)),
            Self::Quic { endpoint, .. } => patiently(async {
                let incoming = endpoint.accept().await.ok_or(io::ErrorKind::NotConnected)?;
                let connection = incoming.await?;
                let streams = connection.accept_bi().await?;
                Ok(WirePeer::quic(connection, streams))
            }),
        }
    }
}

fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    Handle::current().block_on(async { timeout(PATIENCE, work).await? })
}
