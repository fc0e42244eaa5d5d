//! Stock rustls peers, and the random numbers of the tests.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use remoteingress_proto::token::pin::Pin;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::transport::identity::Identity;
use crate::transport::tls::config::{ALPN, ClientTls, ServerTls, provider};
use crate::transport::tls::verifier::HubVerifier;
use crate::transport::tls::{TlsConnection, TlsError, accept, connect};

/// Our end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    Client,
    Server,
}

pub(super) const BOTH: [Ours; 2] = [Ours::Client, Ours::Server];

/// Settings of a stock peer.
pub(super) struct Stock {
    pub(super) provider: CryptoProvider,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) fragment: Option<usize>,
    pub(super) identity: Identity,
}

impl Default for Stock {
    fn default() -> Self {
        Self {
            provider: provider(),
            alpn: vec![ALPN.to_vec()],
            fragment: None,
            identity: Identity::in_memory().unwrap(),
        }
    }
}

impl Stock {
    pub(super) fn client(self) -> Connection {
        let provider = Arc::new(self.provider);
        let verifier = HubVerifier::new(&provider, &[], None).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = self.alpn;
        config.max_fragment_size = self.fragment;
        let name = ServerName::try_from("hub.example").unwrap();
        ClientConnection::new(Arc::new(config), name)
            .unwrap()
            .into()
    }

    pub(super) fn server(self) -> Connection {
        let mut config = ServerConfig::builder_with_provider(Arc::new(self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.identity.chain, self.identity.key)
            .unwrap();
        config.alpn_protocols = self.alpn;
        config.max_fragment_size = self.fragment;
        // The socket ends with the handshake: what comes after it would be missed.
        config.send_tls13_tickets = 0;
        ServerConnection::new(Arc::new(config)).unwrap().into()
    }
}

/// Ours as an edge with `pins`, or as a hub.
pub(super) fn client_tls(pins: &[Pin]) -> ClientTls {
    ClientTls::new("hub.example", pins, None).unwrap()
}

pub(super) fn server_tls() -> ServerTls {
    ServerTls::new(&Identity::in_memory().unwrap()).unwrap()
}

/// An established connection: our end and the stock one.
pub(super) async fn pair(ours: Ours, stock: Stock) -> (TlsConnection, Connection) {
    let (mut socket, far) = sockets();
    let (established, peer) = match ours {
        Ours::Client => {
            let peer = shake(stock.server(), far);
            (connect(&mut socket, &client_tls(&[]), soon()).await, peer)
        }
        Ours::Server => {
            let peer = shake(stock.client(), far);
            (accept(&mut socket, &server_tls(), soon()).await, peer)
        }
    };
    (established.unwrap(), peer.join().unwrap().unwrap())
}

/// Our edge's outcome with the stock hub `server`.
pub(super) async fn call(tls: &ClientTls, server: Connection) -> Result<TlsConnection, TlsError> {
    let (mut socket, far) = sockets();
    let peer = shake(server, far);
    let established = connect(&mut socket, tls, soon()).await;
    drop(socket);
    let _ = peer.join().unwrap();
    established
}

/// The handshake of a stock peer, on a thread of its own.
pub(super) fn shake(
    mut tls: Connection,
    mut socket: StdStream,
) -> JoinHandle<io::Result<Connection>> {
    std::thread::spawn(move || {
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut socket)?;
        }
        Ok(tls)
    })
}

/// Both ends of a loopback connection: one for us, one for the peer.
pub(super) fn sockets() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (TcpStream::from_std(near).unwrap(), far)
}

/// Everything that the peer has to send.
pub(super) fn take_sent(peer: &mut Connection) -> Vec<u8> {
    let mut sent = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut sent).unwrap();
    }
    sent
}

/// Gives the peer `sent`; returns the plaintext and whether it ended properly.
pub(super) fn receive(peer: &mut Connection, mut sent: &[u8]) -> (Vec<u8>, bool) {
    let mut plaintext = Vec::new();
    let mut has_ended = false;
    while !sent.is_empty() {
        peer.read_tls(&mut sent).unwrap();
        has_ended |= peer.process_new_packets().unwrap().peer_has_closed();
        match peer.reader().read_to_end(&mut plaintext) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    (plaintext, has_ended)
}

/// Lets the peer seal `plaintext`.
pub(super) fn send(peer: &mut Connection, plaintext: &[u8]) -> Vec<u8> {
    peer.set_buffer_limit(None);
    peer.writer().write_all(plaintext).unwrap();
    take_sent(peer)
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Repeatable random numbers (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 1 to `most`.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % most + 1
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words
            .take(length.div_ceil(8))
            .flatten()
            .take(length)
            .collect()
    }
}
