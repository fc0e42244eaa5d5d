//! What the doctor examines: a configuration, and the files that it came from.

use remoteingress_config::error::CodedError;
use remoteingress_config::{EdgeConfig, HubConfig};
use std::path::PathBuf;

/// What is examined.
pub(crate) struct Patient {
    /// The configuration, or the reason why there is none.
    pub(crate) config: Result<Config, CodedError>,
    /// The files that it was read from.
    pub(crate) files: Vec<ReadFile>,
}

/// A checked configuration.
pub(crate) enum Config {
    Hub(Box<HubConfig>),
    Edge(Box<EdgeConfig>),
}

/// A file that the configuration was read from, or that it names.
pub(crate) struct ReadFile {
    pub(crate) path: PathBuf,
    pub(crate) holds_secret: bool,
}
