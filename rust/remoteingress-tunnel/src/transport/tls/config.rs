//! The TLS configuration of both ends: 1.3 only, one ALPN, no tickets, no resumption, no early data.

use std::sync::{Arc, PoisonError, RwLock};

use remoteingress_proto::token::pin::Pin;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

use super::error::TlsError;
use super::exporter::ExporterLog;
use super::verifier::HubVerifier;
use crate::transport::identity::Identity;

/// The protocol's name in the handshake; a peer without it is refused.
pub(super) const ALPN: &[u8] = b"remoteingress/1";

/// The edge's side of TLS: whom it calls and how it knows the hub.
#[derive(Debug)]
pub struct ClientTls {
    config: ClientConfig,
    server_name: ServerName<'static>,
    has_pins: bool,
}

impl ClientTls {
    /// For the hub at `host` (a name or an address, brackets allowed).
    ///
    /// With `pins` the hub's key must be one of them; with `verify_hostname` its certificate must chain to a root
    /// of this machine and hold that name; with both, both must hold; with neither, any certificate passes.
    pub fn new(host: &str, pins: &[Pin], verify_hostname: Option<&str>) -> Result<Self, TlsError> {
        let roots = match verify_hostname {
            Some(_) => native_roots()?,
            None => RootCertStore::empty(),
        };
        Self::with_roots(host, pins, verify_hostname, roots)
    }

    pub(super) fn with_roots(
        host: &str,
        pins: &[Pin],
        verify_hostname: Option<&str>,
        roots: RootCertStore,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let host_name = verify_hostname.map(parse_name).transpose()?;
        let server_name = match &host_name {
            Some(name) => name.clone(),
            None => parse_name(host)?,
        };
        let verifier = HubVerifier::new(&provider, pins, host_name.map(|name| (name, roots)))?;

        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Self {
            config,
            server_name,
            has_pins: !pins.is_empty(),
        })
    }

    /// True if a handshake that succeeds has verified the hub's key by a pin.
    pub(crate) fn has_pins(&self) -> bool {
        self.has_pins
    }

    /// The same for a QUIC connection.
    pub(crate) fn quic_config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// The name in the handshake.
    pub fn server_name(&self) -> String {
        self.server_name.to_str().into_owned()
    }

    pub(super) fn connection(
        &self,
    ) -> Result<(UnbufferedClientConnection, Arc<ExporterLog>), TlsError> {
        let exporter = Arc::new(ExporterLog::default());
        let mut config = self.config.clone();
        config.key_log = Arc::clone(&exporter) as _;
        config.enable_secret_extraction = true;
        let connection =
            UnbufferedClientConnection::new(Arc::new(config), self.server_name.clone())?;
        Ok((connection, exporter))
    }
}

/// The hub's side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    config: ServerConfig,
    quic_resolver: Arc<dyn ResolvesServerCert>,
}

/// The certificate that a hub shows, which may change while it runs. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ShownCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl ShownCertificate {
    /// At first that of `identity`.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        Ok(certified(identity, &provider())?.into())
    }

    /// Shows `identity` in all handshakes from now on, over TLS and QUIC.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        let key = certified(identity, &provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }

    fn now(&self) -> Arc<CertifiedKey> {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        key.clone()
    }
}

impl From<CertifiedKey> for ShownCertificate {
    fn from(key: CertifiedKey) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(key))))
    }
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

impl ServerTls {
    /// Shows `identity` to every peer that asks for our protocol.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        Self::showing(&ShownCertificate::new(identity)?)
    }

    /// The same with a certificate that may change.
    pub fn showing(shown: &ShownCertificate) -> Result<Self, TlsError> {
        let mut tls = Self::with_resolver(provider(), Arc::new(OneCertificate(shown.clone())))?;
        tls.quic_resolver = Arc::new(AlwaysCertificate(shown.clone()));
        Ok(tls)
    }

    pub(super) fn with_resolver(
        provider: CryptoProvider,
        resolver: Arc<dyn ResolvesServerCert>,
    ) -> Result<Self, TlsError> {
        let favourite = provider
            .cipher_suites
            .first()
            .map(SupportedCipherSuite::suite);
        let prefers_chacha = favourite == Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        // The edge's order counts, but for a hub without AES instructions: so the weaker end decides.
        config.ignore_client_order = prefers_chacha;
        Ok(Self {
            quic_resolver: config.cert_resolver.clone(),
            config,
        })
    }

    /// The same for QUIC connections, where rustls itself refuses a peer without ALPN, and says why (RFC 9001 section 8.1).
    pub(crate) fn quic_config(&self) -> ServerConfig {
        let mut config = self.config.clone();
        config.cert_resolver = self.quic_resolver.clone();
        config
    }

    pub(super) fn connection(
        &self,
    ) -> Result<(UnbufferedServerConnection, Arc<ExporterLog>), TlsError> {
        let exporter = Arc::new(ExporterLog::default());
        let mut config = self.config.clone();
        config.key_log = Arc::clone(&exporter) as _;
        config.enable_secret_extraction = true;
        Ok((UnbufferedServerConnection::new(Arc::new(config))?, exporter))
    }
}

/// Shows the certificate only to peers that name a protocol: rustls itself lets a peer without ALPN pass.
#[derive(Debug)]
pub(super) struct OneCertificate(pub(super) ShownCertificate);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        client_hello.alpn().map(|_| self.0.now())
    }
}

/// Shows the certificate to every peer.
#[derive(Debug)]
struct AlwaysCertificate(ShownCertificate);

impl ResolvesServerCert for AlwaysCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.now())
    }
}

/// Post-quantum hybrid first, and the AEAD that this CPU is fastest with.
pub(super) fn provider() -> CryptoProvider {
    provider_for(has_aes_instructions())
}

pub(super) fn provider_for(has_aes_instructions: bool) -> CryptoProvider {
    use aws_lc_rs::kx_group;
    CryptoProvider {
        cipher_suites: cipher_suites(has_aes_instructions),
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// In order of preference.
///
/// A full record of 16 KiB takes AES-128-GCM 1.3 µs, AES-256-GCM 1.5 to 1.6 and ChaCha20-Poly1305 8.7: medians of
/// 45 runs of 2,400 records each, aws-lc-rs 1.19 on a Xeon with VAES. Without any AES instructions, ChaCha20-Poly1305
/// is the one made for software.
pub(super) fn cipher_suites(has_aes_instructions: bool) -> Vec<SupportedCipherSuite> {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    if has_aes_instructions {
        vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ]
    } else {
        vec![
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
        ]
    }
}

/// True if this CPU has instructions for both halves of AES-GCM.
fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        // With the multiplication: both are one feature of the architecture.
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

fn parse_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    // A zone id belongs to the route, not to the name.
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::InvalidName(host.to_owned()))
}

/// The trusted roots of this machine. Single unreadable files don't matter as long as some root was found.
fn native_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "none installed".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(reason));
    }
    Ok(roots)
}
