//! Seals and opens single TLS 1.3 records with the keys of one direction (RFC 8446, sections 5.2 to 5.5).
//!
//! In place and without I/O. The meaning of a record is not known here, only its content type.

use std::ops::Range;

use aws_lc_rs::aead::{self, Aad, Algorithm, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{Iv, Nonce};
use rustls::{ConnectionTrafficSecrets, ContentType};

use super::error::{TlsError, Violation};

/// Type, version and length in front of every record, bytes.
pub(super) const HEADER: usize = 5;
/// Largest content of a record, bytes.
pub(super) const MAX_CONTENT: usize = 1 << 14;
/// Largest record with its header (RFC 8446, section 5.2), bytes.
pub(super) const MAX_RECORD: usize = HEADER + MAX_CONTENT + 256;
/// Of all AEADs of TLS 1.3 that we offer, bytes.
const TAG: usize = 16;
/// The first three bytes of a protected record: application data to the outside, and a version that never changes.
const OPAQUE: [u8; 3] = [0x17, 3, 3];

/// Key, nonces and use of one direction. The key is aws-lc's own, which wipes it.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: Iv,
    /// Of the next record; counts from zero with each new key.
    sequence: u64,
}

impl Keys {
    pub(super) fn new(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: Iv,
        sequence: u64,
    ) -> Result<Self, TlsError> {
        let key = UnboundKey::new(algorithm, key)
            .map_err(|_| TlsError::Library("a traffic key doesn't fit its suite"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// No nonce is given twice: the sequence number stops at `limit`, which is also why it can't overflow.
    fn next_nonce(&mut self, limit: u64) -> Result<aead::Nonce, TlsError> {
        if self.sequence >= limit {
            return Err(TlsError::KeyUsedUp);
        }
        let nonce = Nonce::new(&self.iv, self.sequence).0;
        self.sequence += 1;
        Ok(aead::Nonce::assume_unique_for_key(nonce))
    }
}

impl TryFrom<(u64, ConnectionTrafficSecrets)> for Keys {
    type Error = TlsError;

    fn try_from((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => return Err(TlsError::Library("a suite that isn't ours")),
        };
        Self::new(algorithm, key.as_ref(), iv, sequence)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keys")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Seals what we send.
#[derive(Debug)]
pub(super) struct Sealer {
    keys: Keys,
    limit: u64,
}

impl Sealer {
    /// The keys seal `limit` records and no more.
    pub(super) fn new(keys: Keys, limit: u64) -> Self {
        Self { keys, limit }
    }

    /// True if it is time for other keys: half of what these may seal is sealed.
    pub(super) fn is_worn(&self) -> bool {
        self.keys.sequence >= self.limit / 2
    }

    /// Begins a record at the end of `out`; its content is to be appended, up to [`MAX_CONTENT`].
    pub(super) fn begin(out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&OPAQUE);
        out.extend_from_slice(&[0; HEADER - OPAQUE.len()]);
        start
    }

    /// Seals in place what `out` holds since `begin` gave `start`. If that fails, nothing of it stays in `out`.
    pub(super) fn end(
        &mut self,
        kind: ContentType,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        out.push(kind.into());
        let tag = self.seal(out.get_mut(start..).unwrap_or_default());
        match tag {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    fn seal(&mut self, record: &mut [u8]) -> Result<aead::Tag, TlsError> {
        let too_long = TlsError::Library("a record is too long");
        let Some((header, inner)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(TlsError::Library("a record has no header"));
        };
        let length = u16::try_from(inner.len() + TAG).map_err(|_| too_long)?;
        header[OPAQUE.len()..].copy_from_slice(&length.to_be_bytes());
        let nonce = self.keys.next_nonce(self.limit)?;
        self.keys
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(*header), inner)
            .map_err(|_| TlsError::Library("a record can't be sealed"))
    }
}

/// Opens what the peer sends.
#[derive(Debug)]
pub(super) struct Opener {
    keys: Keys,
}

impl Opener {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys }
    }

    /// Opens a whole record in place; gives the type of its content and where that is.
    pub(super) fn open(
        &mut self,
        record: &mut [u8],
    ) -> Result<(ContentType, Range<usize>), TlsError> {
        let Some((header, sealed)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(TlsError::Library("a record has no header"));
        };
        let Some((inner, tag)) = sealed.split_last_chunk_mut::<TAG>() else {
            return Err(Violation::BadRecordMac.into());
        };
        // The peer alone answers for how often it uses its key.
        let nonce = self.keys.next_nonce(u64::MAX)?;
        self.keys
            .key
            .open_in_place_separate_tag(nonce, Aad::from(*header), tag, inner)
            .map_err(|_| Violation::BadRecordMac)?;
        if inner.len() > MAX_CONTENT + 1 {
            return Err(Violation::RecordOverflow.into());
        }
        let end = inner.iter().rposition(|&byte| byte != 0);
        let Some((end, &kind)) = end.and_then(|end| Some((end, inner.get(end)?))) else {
            return Err(Violation::OnlyPadding.into());
        };
        Ok((kind.into(), HEADER..HEADER + end))
    }
}

/// Length of the record at the front of `bytes`, header and all, as soon as its header is there.
///
/// A header that can't be right is refused at the first byte that shows it.
pub(super) fn record_len(bytes: &[u8]) -> Result<Option<usize>, Violation> {
    let mut head = bytes.iter().zip(OPAQUE);
    if head.next().is_some_and(|(&found, kind)| found != kind) {
        return Err(Violation::UnprotectedRecord);
    }
    if head.any(|(&found, version)| found != version) {
        return Err(Violation::WrongVersion);
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_RECORD - HEADER {
        return Err(Violation::RecordOverflow);
    }
    if length < TAG {
        return Err(Violation::BadRecordMac);
    }
    Ok(Some(HEADER + length))
}
