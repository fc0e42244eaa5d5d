//! The version of this program, as both ends tell each other.

/// As in Cargo.toml, for instance `0.1.0`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
