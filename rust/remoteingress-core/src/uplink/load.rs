//! The load of an uplink's workers.

/// A worker's load in an uplink, as the others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// It has a session that takes new streams.
    pub is_live: bool,
    /// Streams that it carries.
    pub streams: usize,
}
