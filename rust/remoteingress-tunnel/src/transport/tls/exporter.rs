//! The TLS exporter (RFC 8446, section 7.5) for rustls' unbuffered connections, which don't offer it.
//!
//! A connection gets its own `KeyLog`, which keeps the exporter secret and nothing else. It is taken once, and
//! every copy of ours is zeroized.

use std::sync::{Mutex, PoisonError};

use rustls::crypto::tls13::OkmBlock;
use rustls::{KeyLog, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::Zeroizing;

/// Names the use of the exported key; the proof of the secret is its only one.
pub(crate) const LABEL: &[u8] = b"EXPORTER-remoteingress-auth-v1";

/// The exported key of one connection: both ends have the same, nobody in between has it.
pub type ExportedKey = Zeroizing<[u8; 32]>;

/// Catches the exporter secret of one connection.
#[derive(Default)]
pub(super) struct ExporterLog {
    secret: Mutex<Option<Zeroizing<Vec<u8>>>>,
}

impl ExporterLog {
    /// Derives the connection's key and forgets the secret; `None` before the handshake gave one, and ever after.
    pub(super) fn take(&self, suite: SupportedCipherSuite) -> Option<ExportedKey> {
        let secret = self
            .secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        derive(suite, &secret)
    }
}

impl KeyLog for ExporterLog {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if self.will_log(label) {
            let mut slot = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(Zeroizing::new(secret.to_vec()));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == "EXPORTER_SECRET"
    }
}

impl std::fmt::Debug for ExporterLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ExporterLog")
    }
}

/// `TLS-Exporter(LABEL, "", 32)` with the hash of the suite.
fn derive(suite: SupportedCipherSuite, secret: &[u8]) -> Option<ExportedKey> {
    let suite = suite.tls13()?;
    let empty_hash = suite.common.hash_provider.hash(&[]);
    let empty_hash = empty_hash.as_ref();

    let mut derived = Zeroizing::new(vec![0; empty_hash.len()]);
    expand_label(suite, secret, LABEL, empty_hash, &mut derived)?;
    let mut key = Zeroizing::new([0; 32]);
    expand_label(suite, &derived, b"exporter", empty_hash, key.as_mut())?;
    Some(key)
}

/// `HKDF-Expand-Label` of RFC 8446, section 7.1.
pub(super) fn expand_label(
    suite: &Tls13CipherSuite,
    secret: &[u8],
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let output_len = u16::try_from(output.len()).ok()?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_len = [u8::try_from(context.len()).ok()?];
    suite
        .hkdf_provider
        .expander_for_okm(&OkmBlock::new(secret))
        .expand_slice(
            &[
                &output_len,
                &label_len,
                PREFIX,
                label,
                &context_len,
                context,
            ],
            output,
        )
        .ok()
}
