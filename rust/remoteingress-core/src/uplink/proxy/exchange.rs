//! The parts of an exchange with a proxy: who is wanted, who asks, and the next step.

use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::secret::Secret;
use std::fmt;
use zeroize::Zeroizing;

/// The most that a proxy may say until the connection is open, in bytes.
pub const MAX_ANSWER: usize = 8 * 1_024;

/// Bytes for the proxy, which may hold a password.
pub type Outgoing = Zeroizing<Vec<u8>>;

/// The peer to which the proxy is to connect.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// User and password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: Secret,
    /// The password.
    pub password: Secret,
}

/// The next step.
#[derive(Debug)]
pub enum Progress {
    /// The answer isn't whole yet.
    NeedMore,
    /// These bytes are to be sent.
    Send(Outgoing),
    /// From here on the bytes are the peer's.
    Open,
}

/// A step that an answer leads to, and the bytes that the answer takes.
pub(super) struct Step {
    pub(super) progress: Progress,
    pub(super) consumed: usize,
}
