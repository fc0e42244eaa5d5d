//! The two ends of a session, and whose stream ids are whose.

/// Which end this is. It decides the parity of stream ids and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens odd ids.
    Edge,
    /// Opens even ids.
    Hub,
}
