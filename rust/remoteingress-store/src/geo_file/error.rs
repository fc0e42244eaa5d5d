//! Why a database of countries can't be used.

/// Bytes of a file that is read.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// The file can't be used. Each message says what was met and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeoFileError {
    /// Nothing has this path.
    #[error("there is no such file; put the database there, or correct geo.database")]
    Missing,
    /// A directory, a pipe, a device.
    #[error("this is no file; geo.database must name a file in MaxMind's format (.mmdb)")]
    NotAFile,
    /// The system refuses to open or read it.
    #[error(
        "the file can't be read: {0}; let the hub's user read it and enter its directory, and check the disk"
    )]
    Unreadable(String),
    /// More than [`MAX_BYTES`].
    #[error(
        "the file has more than {} MiB; take a database of countries, not of cities", MAX_BYTES / 1024 / 1024
    )]
    TooLarge,
    /// Not in MaxMind's format, or cut, or broken.
    #[error(
        "the file is damaged or not in MaxMind's format ({0}); get it again, as a .mmdb file that is unpacked, and \
         rename it to its place"
    )]
    Damaged(String),
    /// Sound, but of something else; with what its maker calls it.
    #[error(
        "the database ({0:?}) tells no countries; take one of countries, not of networks or names"
    )]
    NoCountries(String),
}

impl GeoFileError {
    /// One word for events and status; it never changes.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotAFile => "notAFile",
            Self::Unreadable(_) => "unreadable",
            Self::TooLarge => "tooLarge",
            Self::Damaged(_) => "damaged",
            Self::NoCountries(_) => "noCountries",
        }
    }
}
