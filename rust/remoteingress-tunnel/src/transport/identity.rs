//! The key and certificate of the end that is dialled: made once in the state directory, in memory, or given by the user.

mod access;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use remoteingress_proto::token::pin::Pin;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use sha2::Sha256;
use zeroize::Zeroizing;

use access::{Process, Rights};
use remoteingress_config::error::ErrorCode;
use remoteingress_os::process_options::{
    effective_group_ids, effective_user_id, is_mounted_read_only,
};

/// Name of a hub's key file in its state directory.
pub const HUB_KEY_FILE: &str = "hub-key.pem";
/// Name of an edge's key file in its state directory.
pub const EDGE_KEY_FILE: &str = "edge-key.pem";
/// Larger files are no key of ours, bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;
/// A certificate and its chain have a few KiB, bytes.
const MAX_CERTIFICATE_FILE: u64 = 1024 * 1024;

/// PKCS #8 of a P-256 key without its public half, up to the private number's 32 bytes (RFC 5958, RFC 5915).
const P256_PREFIX: &[u8] = &[
    0x30, 0x41, 2, 1, 0, // PrivateKeyInfo, version 0
    0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, // id-ecPublicKey
    6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, // prime256v1
    4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20, // ECPrivateKey, version 1
];

/// The key and certificates that the end that is dialled shows in the handshake.
pub struct Identity {
    /// The certificate, then those that lead to its root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// SHA-256 of the public key (SPKI), as tokens carry it.
    pub pin: Pin,
}

/// Reason why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The state directory or the key's file can't be made, read or written.
    #[error("failed to use {path}: {source}")]
    State {
        /// The directory or the file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the owner could read or replace the key.
    #[error("{path} isn't safe: {reason}")]
    Unsafe {
        /// The directory or the file.
        path: PathBuf,
        /// The owner or the rights that make it so.
        reason: String,
    },
    /// The file has other content.
    #[error("{path} holds no usable private key")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The user's own certificate or key can't be used.
    #[error("{field}: {reason}")]
    Pem {
        /// The option that has it.
        field: &'static str,
        /// The fault.
        reason: String,
    },
    /// The key or its certificate can't be made.
    #[error("failed to make a key: {0}")]
    Generate(String),
}

impl IdentityError {
    /// The stable code of the error in the interface.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::State { .. } | Self::Unsafe { .. } | Self::Damaged { .. } => ErrorCode::StateDir,
            Self::Pem { .. } => ErrorCode::InvalidConfig,
            Self::Generate(_) => ErrorCode::Tls,
        }
    }

    fn state(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::State { path, source }
    }
}

impl Identity {
    /// The key of this name in `state_dir`, made now if there is none. Starters that race get the same one.
    pub fn load_or_create(state_dir: &Path, file: &str) -> Result<Self, IdentityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(IdentityError::state(state_dir))?;
        let directory = File::open(state_dir).map_err(IdentityError::state(state_dir))?;
        check_writers(state_dir, &directory)?;

        let path = state_dir.join(file);
        let pem = match read_key_file(&path)? {
            Some(pem) => pem,
            None => {
                let key = generate_key()?;
                publish(state_dir, file, key.serialize_pem().into())?;
                // The file counts: another starter may have been first.
                read_key_file(&path)?
                    .ok_or_else(|| IdentityError::Damaged { path: path.clone() })?
            }
        };
        pem.warn(&path);
        Self::of_file(&pem, path)
    }

    /// The key of this name in `state_dir`, and who could read it besides root and its owner, if anybody could. Where
    /// there is none yet, none is made.
    pub fn load(
        state_dir: &Path,
        file: &str,
    ) -> Result<Option<(Self, Option<String>)>, IdentityError> {
        let directory = match File::open(state_dir) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::state(state_dir)(error)),
        };
        check_writers(state_dir, &directory)?;
        let path = state_dir.join(file);
        let Some(file) = read_key_file(&path)? else {
            return Ok(None);
        };
        Ok(Some((Self::of_file(&file, path)?, file.readers)))
    }

    fn of_file(file: &KeyFile, path: PathBuf) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem(&file.pem).map_err(|_| IdentityError::Damaged { path })?;
        Self::self_signed(&key)
    }

    /// A key that lives as long as this value.
    pub fn in_memory() -> Result<Self, IdentityError> {
        Self::self_signed(&generate_key()?)
    }

    /// The key that belongs to this secret, which strangers must not be able to guess: the certificate gives them
    /// something to check a guess with.
    pub fn of_secret(secret: &[u8]) -> Result<Self, IdentityError> {
        let hkdf = Hkdf::<Sha256>::new(Some(b"remoteingress v1"), secret);
        let mut der = Zeroizing::new(P256_PREFIX.to_vec());
        der.resize(P256_PREFIX.len() + 32, 0);
        // One of four billion numbers is no key of the curve.
        let mut keys = (0..=u8::MAX).filter_map(|attempt| {
            let number = der.get_mut(P256_PREFIX.len()..)?;
            hkdf.expand_multi_info(&[b"tls key", &[attempt]], number)
                .ok()?;
            KeyPair::try_from(der.as_slice()).ok()
        });
        let key = keys.next().ok_or_else(|| generate_error("no number fits"));
        Self::self_signed(&key?)
    }

    /// The user's own certificate (the end entity first, then its chain) and its key.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        Self::own(cert_pem, "tls.certPem", key_pem, "tls.keyPem")
    }

    /// The same in files.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        let failed = |field: &'static str, reason: String| IdentityError::Pem { field, reason };
        let cert_pem = read_bounded(cert)
            .map_err(|error| failed("tls.certFile", format!("{}: {error}", cert.display())))?;
        let key_pem = read_key_file(key)
            .map_err(|error| failed("tls.keyFile", error.to_string()))?
            .ok_or_else(|| failed("tls.keyFile", format!("there is no {}", key.display())))?;
        key_pem.warn(key);
        Self::own(&cert_pem, "tls.certFile", &key_pem.pem, "tls.keyFile")
    }

    fn own(
        cert_pem: &str,
        cert_field: &'static str,
        key_pem: &str,
        key_field: &'static str,
    ) -> Result<Self, IdentityError> {
        let bad_cert = |reason: String| IdentityError::Pem {
            field: cert_field,
            reason,
        };
        let bad_key = |reason: String| IdentityError::Pem {
            field: key_field,
            reason,
        };

        let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad_cert(error.to_string()))?;
        let end_entity = chain.first().ok_or_else(|| {
            bad_cert("no certificate; certPem is PEM text and certFile a file's name".to_owned())
        })?;
        let pin = pin_of(end_entity).map_err(|error| bad_cert(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| bad_key(error.to_string()))?;
        CertifiedKey::from_der(
            chain.clone(),
            key.clone_key(),
            &aws_lc_rs::default_provider(),
        )
        .map_err(|error| bad_key(error.to_string()))?;
        Ok(Self { chain, key, pin })
    }

    /// A new certificate around `key`; its names and dates mean nothing, so that they tell nothing.
    fn self_signed(key: &KeyPair) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, random_hex()?);
        let certificate = params.self_signed(key).map_err(generate_error)?;
        let pin = pin_of(certificate.der()).map_err(generate_error)?;
        Ok(Self {
            chain: vec![certificate.into()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pin,
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Identity")
    }
}

/// The pin of a certificate's public key.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, rustls::Error> {
    let certificate = ParsedCertificate::try_from(certificate)?;
    Ok(Pin::of_public_key(&certificate.subject_public_key_info()))
}

fn generate_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generate_error)
}

fn generate_error(error: impl ToString) -> IdentityError {
    IdentityError::Generate(error.to_string())
}

fn random_hex() -> Result<String, IdentityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(generate_error)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The text of a file that is no secret.
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_CERTIFICATE_FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// A file with a private key.
struct KeyFile {
    pem: Zeroizing<String>,
    /// Who could read it besides root and its owner.
    readers: Option<String>,
}

impl KeyFile {
    fn warn(&self, path: &Path) {
        if let Some(readers) = &self.readers {
            let path = path.display();
            tracing::warn!(
                "{path} holds the hub's private key and can be read by {readers}; let only its owner read it (chmod 600), unless that is meant so"
            );
        }
    }
}

/// The file, or `None` where there is none. It may be a link, which is as safe as its directory.
fn read_key_file(path: &Path) -> Result<Option<KeyFile>, IdentityError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IdentityError::state(path)(error)),
    };
    let readers = check_writers(path, &file)?.readers();
    let metadata = file.metadata().map_err(IdentityError::state(path))?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err(IdentityError::Damaged {
            path: path.to_owned(),
        });
    }
    let mut pem = Zeroizing::new(String::new());
    file.take(MAX_KEY_FILE)
        .read_to_string(&mut pem)
        .map_err(IdentityError::state(path))?;
    Ok(Some(KeyFile { pem, readers }))
}

/// Writes the key so that `path` is either absent or whole at any moment, and never replaces what is there.
fn publish(state_dir: &Path, file: &str, pem: Zeroizing<String>) -> Result<(), IdentityError> {
    let path = &state_dir.join(file);
    let draft = state_dir.join(format!(".{file}.{}", random_hex()?));
    let linked = write_draft(&draft, &pem).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    linked.and(removed).map_err(IdentityError::state(path))?;
    File::open(state_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(IdentityError::state(state_dir))
}

fn write_draft(draft: &Path, pem: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

/// Refuses what others than root, this process's user and its groups could replace.
fn check_writers(path: &Path, file: &File) -> Result<Rights, IdentityError> {
    let metadata = file.metadata().map_err(IdentityError::state(path))?;
    let rights = Rights {
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode(),
        // A file system that doesn't say so is taken for one that can be written.
        read_only: is_mounted_read_only(file).unwrap_or(false),
    };
    let process = Process {
        user: effective_user_id(),
        groups: effective_group_ids().map_err(IdentityError::state(path))?,
    };
    match rights.fault(&process) {
        Some(reason) => Err(IdentityError::Unsafe {
            path: path.to_owned(),
            reason,
        }),
        None => Ok(rights),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use super::HUB_KEY_FILE as KEY_FILE;
    use super::*;

    #[test]
    fn concurrent_starters_agree() {
        let dir = TempDir::new();
        let barrier = Barrier::new(8);
        let pins: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                Identity::load_or_create(&dir.0, KEY_FILE).unwrap().pin
            };
            let starters: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        assert!(pins.iter().all(|pin| *pin == pins[0]));
        assert_eq!(
            fs::read_dir(&dir.0).unwrap().count(),
            1,
            "drafts are removed"
        );
    }

    #[test]
    fn pin_survives_and_key_is_private() {
        let dir = TempDir::new();
        let state_dir = dir.0.join("new");
        let first = Identity::load_or_create(&state_dir, KEY_FILE).unwrap();
        let again = Identity::load_or_create(&state_dir, KEY_FILE).unwrap();
        assert_eq!(first.pin, again.pin);
        assert_ne!(first.pin, Identity::in_memory().unwrap().pin);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&state_dir), 0o700);
        assert_eq!(mode(&state_dir.join(KEY_FILE)), 0o600);
    }

    #[test]
    fn a_look_at_the_key_makes_none() {
        let dir = TempDir::new();
        let load = |path: &Path| Identity::load(path, KEY_FILE).unwrap();
        assert!(load(&dir.0).is_none() && load(&dir.0.join("absent")).is_none());
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
        let made = Identity::load_or_create(&dir.0, KEY_FILE).unwrap();
        let (found, readers) = load(&dir.0).unwrap();
        assert_eq!((found.pin, readers), (made.pin, None));
        let key = dir.0.join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(&dir.0).unwrap().1.as_deref(), Some("everybody"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o646)).unwrap();
        let refused = Identity::load(&dir.0, KEY_FILE);
        assert!(matches!(refused, Err(IdentityError::Unsafe { .. })));
    }

    #[test]
    fn the_key_of_a_secret_is_always_the_same() {
        let [first, again, other] =
            ["one", "one", "two"].map(|secret| Identity::of_secret(secret.as_bytes()).unwrap());
        assert_eq!(first.pin, again.pin);
        assert_ne!(first.pin, other.pin);
        // Calculated by another program.
        let pin = "j2y6QJMJNg7CcFV87nQ5H0RTI-1pSA7OtKlUKV16eMw";
        assert_eq!(first.pin.to_string(), pin);
    }

    #[test]
    fn half_written_draft_does_not_matter() {
        let dir = TempDir::new();
        fs::write(dir.0.join(format!(".{KEY_FILE}.0123")), "-----BEGIN PRIV").unwrap();
        Identity::load_or_create(&dir.0, KEY_FILE).unwrap();
    }

    #[test]
    fn unsafe_and_damaged_files_are_refused() {
        let dir = TempDir::new();
        let key = dir.0.join(KEY_FILE);
        Identity::load_or_create(&dir.0, KEY_FILE).unwrap();
        let refused = || {
            let error = Identity::load_or_create(&dir.0, KEY_FILE).unwrap_err();
            assert_eq!(error.code(), ErrorCode::StateDir);
            error
        };

        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o602, 0o666] {
            set(&key, mode);
            assert!(matches!(refused(), IdentityError::Unsafe { .. }));
        }
        set(&key, 0o600);
        set(&dir.0, 0o777);
        assert!(matches!(refused(), IdentityError::Unsafe { .. }));
        set(&dir.0, 0o700);

        fs::write(&key, "no key").unwrap();
        assert!(matches!(refused(), IdentityError::Damaged { .. }));
        fs::remove_file(&key).unwrap();
        DirBuilder::new().create(&key).unwrap();
        assert!(matches!(refused(), IdentityError::Damaged { .. }));
    }

    #[test]
    fn a_volume_that_the_own_group_may_write_keeps_its_key() {
        let dir = TempDir::new();
        let key = dir.0.join(HUB_KEY_FILE);
        let first = Identity::load_or_create(&dir.0, HUB_KEY_FILE).unwrap();
        for (path, mode) in [(&dir.0, 0o2770), (&key, 0o660), (&key, 0o440)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let again = Identity::load_or_create(&dir.0, HUB_KEY_FILE).unwrap();
            assert_eq!(again.pin, first.pin, "{mode:o}");
        }
        // Mounted secrets are links, which change at one moment.
        let mounted = dir.0.join("..data");
        fs::rename(&key, &mounted).unwrap();
        std::os::unix::fs::symlink(&mounted, &key).unwrap();
        assert_eq!(
            Identity::load_or_create(&dir.0, HUB_KEY_FILE).unwrap().pin,
            first.pin
        );
    }

    #[test]
    fn own_certificate_must_fit_its_key() {
        let key = generate_key().unwrap();
        let cert = CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem();
        let own = Identity::from_pem(&cert, &key.serialize_pem()).unwrap();
        assert_eq!(own.pin, Identity::self_signed(&key).unwrap().pin);

        let other_key = generate_key().unwrap().serialize_pem();
        let message = |cert: &str, key: &str| {
            let error = Identity::from_pem(cert, key).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidConfig);
            error.to_string()
        };
        assert!(message(&cert, &other_key).starts_with("tls.keyPem: "));
        assert!(message(&cert, "nothing").starts_with("tls.keyPem: "));
        assert!(message("nothing", &other_key).starts_with("tls.certPem: "));
    }

    struct TempDir(PathBuf);

    impl TempDir {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("identity-{}", random_hex().unwrap()));
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
