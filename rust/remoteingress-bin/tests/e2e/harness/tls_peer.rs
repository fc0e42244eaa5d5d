//! TLS peers made of stock rustls, for what neither our edge nor our hub would do. Blocking: call them off the runtime.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use sha2::{Digest, Sha256};

/// The only protocol a hub speaks.
pub(crate) const ALPN: &[u8] = b"remoteingress/1";

/// A client's connection; its socket counts what comes from the hub.
pub(crate) type ClientStream = StreamOwned<ClientConnection, Counted>;
/// A server's connection.
pub(crate) type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// A socket that counts received bytes.
#[derive(Debug)]
pub(crate) struct Counted {
    socket: TcpStream,
    pub(crate) received: usize,
}

/// Connects, accepts any certificate and ends the handshake.
pub(crate) fn connect(hub: SocketAddr, alpn: &[&[u8]]) -> io::Result<ClientStream> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::IpAddress(hub.ip().into());
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(hub)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut socket = Counted {
        socket,
        received: 0,
    };
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// The value that both proofs are bound to, as a client sees it.
pub(crate) fn exporter(stream: &ClientStream) -> [u8; 32] {
    let material = stream
        .conn
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""));
    material.unwrap()
}

/// The same, as a server sees it.
pub(crate) fn server_exporter(stream: &ServerStream) -> [u8; 32] {
    let material = stream
        .conn
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""));
    material.unwrap()
}

/// A self-signed certificate, its key, and the SHA-256 of its public key as a token has it.
pub(super) fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let public_key = rcgen::PublicKeyData::subject_public_key_info(&key);
    let pin = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(public_key));
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (certificate.der().clone(), key, pin)
}

/// A listening TLS server with a certificate of its own.
pub(crate) struct TlsServer {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pin: String,
}

impl TlsServer {
    pub(crate) fn start() -> Self {
        let (certificate, key, pin) = identity();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        Self {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            config: Arc::new(config),
            pin,
        }
    }

    /// SHA-256 of its public key, as a token has it.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Accepts one connection and ends the handshake.
    pub(crate) fn accept(&self) -> io::Result<ServerStream> {
        let (mut socket, _) = self.listener.accept()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut connection =
            ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buffer)?;
        self.received += read;
        Ok(read)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Takes every certificate but still checks that the peer holds its key.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Time for which a peer may be silent; beyond every deadline the tests look at.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-remoteingress-auth-v1";
/// In the certificates.
pub(super) const SERVER_NAME: &str = "some.example";
