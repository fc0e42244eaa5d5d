//! The proofs: keys from the secret, the transcript both ends hash, and constant-time verification.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::transport::Transport;
use crate::token::secret::Secret;

/// The length of a proof, in bytes.
pub const PROOF_LENGTH: usize = 32;

/// An HMAC-SHA256; compared in constant time.
#[derive(Clone, Copy)]
pub struct Proof([u8; PROOF_LENGTH]);

impl Proof {
    /// The bytes that go on the wire.
    pub const fn as_bytes(&self) -> &[u8; PROOF_LENGTH] {
        &self.0
    }
}

impl From<[u8; PROOF_LENGTH]> for Proof {
    fn from(bytes: [u8; PROOF_LENGTH]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Proof {}

/// Redacted: with its transcript, a proof allows to guess a weak secret.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof([redacted])")
    }
}

/// The keys made of one secret, one per role and message, so that no proof can be reflected.
#[derive(Clone)]
pub struct ProofKeys {
    edge: Zeroizing<[u8; 32]>,
    hub: Zeroizing<[u8; 32]>,
    call: Zeroizing<[u8; 32]>,
}

impl ProofKeys {
    /// The keys of a secret, by HKDF-SHA256.
    pub fn derive(secret: &Secret) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), secret.expose().as_bytes());
        let expand = |label: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf.expand(label, key.as_mut())
                .expect("HKDF-SHA256 gives up to 8,160 bytes");
            key
        };
        Self {
            edge: expand(LABEL_EDGE),
            hub: expand(LABEL_HUB),
            call: expand(LABEL_CALL),
        }
    }

    /// Keys that stand in where there is no secret, so that the work is the same. They are no
    /// secret: a proof made with them is refused like any other wrong one.
    pub fn dummy() -> Self {
        Self {
            edge: Zeroizing::new([0x65; 32]),
            hub: Zeroizing::new([0x68; 32]),
            call: Zeroizing::new([0x63; 32]),
        }
    }
}

#[cfg(test)]
impl ProofKeys {
    pub(super) fn edge_key(&self) -> &[u8; 32] {
        &self.edge
    }

    pub(super) fn hub_key(&self) -> &[u8; 32] {
        &self.hub
    }

    pub(super) fn call_key(&self) -> &[u8; 32] {
        &self.call
    }
}

impl PartialEq for ProofKeys {
    fn eq(&self, other: &Self) -> bool {
        let pairs = [
            (&self.edge, &other.edge),
            (&self.hub, &other.hub),
            (&self.call, &other.call),
        ];
        let equal = pairs.map(|(ours, theirs)| ours.ct_eq(theirs.as_slice()));
        equal
            .into_iter()
            .fold(Choice::from(1), |all, one| all & one)
            .into()
    }
}

impl Eq for ProofKeys {}

impl fmt::Debug for ProofKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKeys([redacted])")
    }
}

/// The subject of both proofs: this very connection and this very Hello.
#[derive(Clone, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// `ekm` is the exporter value of the finished TLS handshake, `hello` the Hello, or the Call, as it is on the wire.
    pub fn new(protocol_version: u16, transport: Transport, ekm: &[u8; 32], hello: &[u8]) -> Self {
        let mut hash = Sha256::new();
        let fields: [&[u8]; 4] = [
            &protocol_version.to_be_bytes(),
            transport.as_str().as_bytes(),
            ekm,
            hello,
        ];
        for field in fields {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Self(hash.finalize().into())
    }
}

#[cfg(test)]
impl Transcript {
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transcript([redacted])")
    }
}

/// The edge's proof that it knows the secret.
pub fn edge_proof(keys: &ProofKeys, transcript: &Transcript) -> Proof {
    hmac(&keys.edge, &[&transcript.0])
}

/// The hub's proof that it knows the secret and said exactly this Welcome.
pub fn hub_proof(keys: &ProofKeys, transcript: &Transcript, welcome: &[u8]) -> Proof {
    hmac(&keys.hub, &[&transcript.0, welcome])
}

/// The proof of a hub that has dialled that it knows the secret and said exactly this Call.
pub(super) fn call_proof(keys: &ProofKeys, transcript: &Transcript) -> Proof {
    hmac(&keys.call, &[&transcript.0])
}

/// True if the hub knows the secret and said exactly this Welcome. Compares in constant time.
#[must_use]
pub fn verify_hub_proof(
    keys: &ProofKeys,
    transcript: &Transcript,
    welcome: &[u8],
    proof: &Proof,
) -> bool {
    hub_proof(keys, transcript, welcome) == *proof
}

/// The secrets an edge may prove: always two, dummies where there is none, so that the work says nothing.
#[derive(Debug, Clone)]
pub struct Candidates {
    current: Slot,
    next: Slot,
}

#[derive(Debug, Clone)]
struct Slot {
    keys: ProofKeys,
    is_real: Choice,
}

impl Candidates {
    /// For a known edge: its secret, and the one that is to replace it.
    pub fn new(current: ProofKeys, next: Option<ProofKeys>) -> Self {
        Self {
            current: Slot::new(Some(current)),
            next: Slot::new(next),
        }
    }

    /// For an edge id that isn't known, or not any more.
    pub fn unknown() -> Self {
        Self {
            current: Slot::new(None),
            next: Slot::new(None),
        }
    }

    pub(super) fn into_keys(self, candidate: Candidate) -> ProofKeys {
        match candidate {
            Candidate::Current => self.current.keys,
            Candidate::Next => self.next.keys,
        }
    }
}

impl Slot {
    fn new(keys: Option<ProofKeys>) -> Self {
        let is_real = Choice::from(u8::from(keys.is_some()));
        Self {
            keys: keys.unwrap_or_else(ProofKeys::dummy),
            is_real,
        }
    }

    fn verify(&self, transcript: &Transcript, proof: &Proof) -> Choice {
        edge_proof(&self.keys, transcript).0.ct_eq(&proof.0) & self.is_real
    }
}

/// The secret that an edge proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// The one in use.
    Current,
    /// The one that is to replace it.
    Next,
}

/// Verifies an edge's proof with exactly two HMACs, whatever there is to verify it against.
#[must_use]
pub fn verify_edge_proof(
    candidates: &Candidates,
    transcript: &Transcript,
    proof: &Proof,
) -> Option<Candidate> {
    let current = candidates.current.verify(transcript, proof);
    let next = candidates.next.verify(transcript, proof);
    if current.into() {
        Some(Candidate::Current)
    } else if next.into() {
        Some(Candidate::Next)
    } else {
        None
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Proof {
    #[cfg(test)]
    count::HMACS.with(|count| count.set(count.get() + 1));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    Proof(mac.finalize().into_bytes().into())
}

const SALT: &[u8] = b"remoteingress v1";
const LABEL_EDGE: &[u8] = b"edge proof";
const LABEL_HUB: &[u8] = b"hub proof";
const LABEL_CALL: &[u8] = b"hub call";

/// Counts the HMACs of a test's thread: the same number for every edge is what hides which ones exist.
#[cfg(test)]
pub(super) mod count {
    use std::cell::Cell;

    thread_local! {
        pub(super) static HMACS: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn hmacs_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = HMACS.with(Cell::get);
        let result = work();
        (HMACS.with(Cell::get) - before, result)
    }
}
