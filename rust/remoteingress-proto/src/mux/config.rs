//! The terms that a session begins with.

use super::carrier::Carrier;
use super::role::Role;
use std::time::Duration;

/// The largest credit a stream may have: 2^31 - 1 (RFC 9113 section 6.9.1).
pub(super) const MAX_CREDIT: u32 = (1 << 31) - 1;

/// The terms that a session begins with: its own, and those of the handshake.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// This end.
    pub role: Role,
    /// The way frames reach the peer.
    pub carrier: Carrier,
    /// Streams that the peer may have open at once.
    pub max_peer_streams: usize,
    /// Time that the session waits for a new connection.
    pub resume_timeout: Duration,
    /// Longest time between two PINGs, which a session without streams and traffic takes.
    pub keepalive: Duration,
    /// The initial credit that this end announced in the handshake, in bytes.
    pub announced_credit: u32,
    /// The initial credit that the peer announced in the handshake, in bytes; [`EARLY_CREDIT`] before it did.
    pub peer_credit: u32,
    /// An edge's session may begin before the hub has said Welcome (D4).
    pub is_welcome: bool,
    /// Frames that the peer sent ahead for a session that is lost come first, and are dropped (D4).
    pub expects_begin: bool,
}

/// Bytes that a stream may assume of a hub that has not yet announced its credit: the least that it can (D4, D9).
pub const EARLY_CREDIT: u32 = 2 * 1_024;
