//! The certificate that the hub shows: made by itself, given as text, or in files that are read again when they change.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{HubConfig, TlsConfig, TlsSource};
use remoteingress_proto::token::pin::Pin;
use remoteingress_tunnel::transport::identity::{HUB_KEY_FILE, Identity};
use remoteingress_tunnel::transport::tls::ShownCertificate;
use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How often the files are looked at: renewals come weeks before an end, and tests and people wait.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The key that a hub with this configuration shows, and its pin where tokens carry one (D5).
pub(crate) fn identity(config: &HubConfig) -> Result<(Identity, Option<Pin>), CodedError> {
    let identity = match (&config.tls, &config.state_dir) {
        (Some(tls), _) => own(tls)?,
        (None, Some(directory)) => {
            Identity::load_or_create(directory, HUB_KEY_FILE).map_err(coded)?
        }
        (None, None) => Identity::in_memory().map_err(coded)?,
    };
    let lasts = match &config.tls {
        Some(tls) => tls.pin,
        None => config.state_dir.is_some(),
    };
    let pin = lasts.then_some(identity.pin);
    Ok((identity, pin))
}

fn own(tls: &TlsConfig) -> Result<Identity, CodedError> {
    let made = match &tls.source {
        TlsSource::Pem { cert, key } => Identity::from_pem(cert, key.expose()),
        TlsSource::Files { cert, key } => Identity::from_files(cert, key),
    };
    made.map_err(coded)
}

fn coded(error: remoteingress_tunnel::transport::identity::IdentityError) -> CodedError {
    CodedError::new(error.code(), error.to_string())
}

/// What the hub shows now, and the files that may change it.
pub(super) struct Certificate {
    shown: ShownCertificate,
    /// What tokens carry.
    pin: Cell<Option<Pin>>,
    /// Absent where the certificate is in no files.
    tls: Option<TlsConfig>,
    /// Of the files, when they were read last.
    seen: RefCell<Vec<Option<Stamp>>>,
}

/// All that changes with a file's content or place.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Certificate {
    /// The identity was read by this configuration just now.
    pub(super) fn new(
        config: &HubConfig,
        identity: &Identity,
        pin: Option<Pin>,
    ) -> Result<Rc<Self>, CodedError> {
        let shown = ShownCertificate::new(identity).map_err(|error| {
            let message = format!("the hub's certificate and key: {error}");
            CodedError::new(ErrorCode::Tls, message)
        })?;
        let tls = config.tls.clone();
        let tls = tls.filter(|tls| matches!(tls.source, TlsSource::Files { .. }));
        Ok(Rc::new(Self {
            seen: RefCell::new(tls.as_ref().map(stamps).unwrap_or_default()),
            shown,
            pin: Cell::new(pin),
            tls,
        }))
    }

    pub(super) fn shown(&self) -> &ShownCertificate {
        &self.shown
    }

    pub(super) fn pin(&self) -> Option<Pin> {
        self.pin.get()
    }

    /// Reads the files again whenever they have changed, for as long as somebody else has this. Without files it ends
    /// at once.
    pub(super) fn follow(self: &Rc<Self>) {
        if self.tls.is_none() {
            return;
        }
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let Some(this) = this.upgrade() else { return };
                this.look();
            }
        });
    }

    /// Reads the files again if they have changed. Those that can't be used change nothing, and are told of once.
    pub(super) fn look(&self) {
        let Some(tls) = &self.tls else { return };
        let now = stamps(tls);
        if now == *self.seen.borrow() {
            return;
        }
        *self.seen.borrow_mut() = now;
        let replaced = own(tls).and_then(|identity| {
            self.shown.replace(&identity).map_err(|error| {
                CodedError::new(ErrorCode::InvalidConfig, format!("tls.keyFile: {error}"))
            })?;
            Ok(identity.pin)
        });
        match replaced {
            Ok(pin) => {
                let lasts = self.pin.get().is_some();
                let is_other = lasts && self.pin.get() != Some(pin);
                self.pin.set(lasts.then_some(pin));
                tracing::info!("the certificate has changed; new connections get the new one");
                if is_other {
                    tracing::warn!(
                        "the hub has another key: make new tokens for edges whose tokens carry the old pin"
                    );
                }
            }
            Err(error) => {
                tracing::error!(%error, "failed to read the changed certificate; the old one stays");
            }
        }
    }
}

fn stamps(tls: &TlsConfig) -> Vec<Option<Stamp>> {
    let paths: [&PathBuf; 2] = match &tls.source {
        TlsSource::Pem { .. } => return Vec::new(),
        TlsSource::Files { cert, key } => [cert, key],
    };
    paths.map(|path| stamp(path)).into()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}
