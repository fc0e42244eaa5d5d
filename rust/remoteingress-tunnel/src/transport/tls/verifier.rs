//! Decides whether the hub's certificate is the right one: by pins, by host name, by both, or left to the proof.
//!
//! In every mode the signature of the handshake is verified, so that the peer owns the key it shows.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, PeerIncompatible, RootCertStore};

use super::error::{PIN_MISMATCH, TlsError};
use crate::transport::identity::pin_of;
use remoteingress_proto::token::pin::Pin;

/// Certificates beyond this are refused unread; real ones have 1 to 3 KiB.
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Verifies the hub's certificate. Without pins and host name any certificate passes: the secret's proof decides.
#[derive(Debug)]
pub(super) struct HubVerifier {
    pins: Vec<Pin>,
    host_name: Option<HostNameCheck>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The chain to a trusted root and the name, as a browser checks them.
#[derive(Debug)]
struct HostNameCheck {
    name: ServerName<'static>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl HubVerifier {
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        pins: &[Pin],
        host_name: Option<(ServerName<'static>, RootCertStore)>,
    ) -> Result<Self, TlsError> {
        let host_name = host_name
            .map(|(name, roots)| {
                let roots = Arc::new(roots);
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                    .build()
                    .map(|webpki| HostNameCheck { name, webpki })
                    .map_err(|error| TlsError::NoRoots(error.to_string()))
            })
            .transpose()?;
        Ok(Self {
            pins: pins.to_vec(),
            host_name,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Compares with every pin, so that the time doesn't tell which one is near.
    fn verify_pins(&self, end_entity: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let shown = pin_of(end_entity)?;
        let is_pinned = self
            .pins
            .iter()
            .fold(false, |found, pin| found | pin.matches(&shown));
        if self.pins.is_empty() || is_pinned {
            Ok(())
        } else {
            Err(PIN_MISMATCH)
        }
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.len() > MAX_CERTIFICATE {
            return Err(CertificateError::BadEncoding.into());
        }
        self.verify_pins(end_entity)?;
        if let Some(HostNameCheck { name, webpki }) = &self.host_name {
            webpki.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
