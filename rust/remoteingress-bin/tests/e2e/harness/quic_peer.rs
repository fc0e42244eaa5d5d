//! QUIC peers made of stock quinn, for what neither our edge nor our hub would do, and for clients of UDP ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, TransportConfig};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::pki_types::ServerName;

use super::tls_peer::{AnyCertificate, SERVER_NAME, identity};

/// Counts the session tickets that a server gives.
#[derive(Debug)]
pub(crate) struct Tickets {
    count: AtomicU64,
    cache: ClientSessionMemoryCache,
}

/// A client that takes any certificate, and what tickets it got.
pub(crate) struct QuicClient {
    endpoint: Endpoint,
    tickets: Arc<Tickets>,
}

impl QuicClient {
    pub(crate) fn new(alpn: &[&[u8]]) -> Self {
        Self::with_transport(alpn, TransportConfig::default())
    }

    /// One that takes at most `window` bytes of a stream that it doesn't read.
    pub(crate) fn narrow(alpn: &[&[u8]], window: u32) -> Self {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(window.into());
        Self::with_transport(alpn, transport)
    }

    fn with_transport(alpn: &[&[u8]], transport: TransportConfig) -> Self {
        let tickets = Arc::new(Tickets {
            count: AtomicU64::new(0),
            cache: ClientSessionMemoryCache::new(8),
        });
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
        let config = QuicClientConfig::try_from(config).unwrap();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut endpoint = Endpoint::client(local).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        Self { endpoint, tickets }
    }

    /// Connects and ends the handshake.
    pub(crate) async fn connect(&self, server: SocketAddr) -> Result<Connection, ConnectionError> {
        self.endpoint.connect(server, SERVER_NAME).unwrap().await
    }

    /// Begins to connect in the background, whatever comes of it.
    pub(crate) fn begin(&self, server: SocketAddr) -> quinn::Connecting {
        self.endpoint.connect(server, SERVER_NAME).unwrap()
    }

    /// Session tickets received so far.
    pub(crate) fn tickets(&self) -> u64 {
        self.tickets.count.load(Ordering::Relaxed)
    }
}

/// A QUIC server with a certificate of its own, and its pin.
pub(crate) fn server(alpn: &[u8]) -> (Endpoint, String) {
    let (certificate, key, pin) = identity();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = QuicServerConfig::try_from(config).unwrap();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = quinn::ServerConfig::with_crypto(Arc::new(config));
    (Endpoint::server(config, local).unwrap(), pin)
}

/// True if a UDP payload holds a 0-RTT packet (RFC 9000, section 17.2): packets may share a datagram.
pub(crate) fn has_early_data(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    // Short headers end the datagram.
    while rest.first().is_some_and(|first| first & 0x80 != 0) {
        let kind = (rest[0] >> 4) & 3;
        if kind == 1 {
            return true;
        }
        match long_packet_length(rest, kind) {
            Some(length) if length <= rest.len() => rest = &rest[length..],
            _ => return false,
        }
    }
    false
}

/// True if a UDP payload begins with an Initial packet. Its second bit says nothing: peers that agreed on it flip that
/// at random (RFC 9287).
pub(crate) fn is_initial(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xb0 == 0x80)
}

fn long_packet_length(packet: &[u8], kind: u8) -> Option<usize> {
    let mut at = 5;
    for _ in 0..2 {
        at += 1 + usize::from(*packet.get(at)?);
    }
    match kind {
        0 => {
            let (token, bytes) = varint(packet.get(at..)?)?;
            at += bytes + token;
        }
        // A Retry takes the whole datagram.
        3 => return None,
        _ => {}
    }
    let (length, bytes) = varint(packet.get(at..)?)?;
    at.checked_add(bytes)?.checked_add(length)
}

/// A variable-length integer and its size (RFC 9000, section 16).
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    let size = 1 << (first >> 6);
    let mut value = usize::from(first & 0x3f);
    for byte in bytes.get(1..size)? {
        value = value.checked_mul(256)? | usize::from(*byte);
    }
    Some((value, size))
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: rustls::NamedGroup) {
        self.cache.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.cache.kx_hint(server_name)
    }

    fn set_tls12_session(
        &self,
        _server_name: ServerName<'static>,
        _value: rustls::client::Tls12ClientSessionValue,
    ) {
        // TLS 1.3 only.
    }

    fn tls12_session(
        &self,
        _server_name: &ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.cache.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(server_name)
    }
}
