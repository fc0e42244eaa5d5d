//! Why a command has no answer, and the exit code that says so.

/// The exit code of wrong usage, and of a server that can't be reached.
const UNREACHED: u8 = 2;

/// Why there is no answer.
pub(super) struct Failed {
    pub(super) exit: u8,
    pub(super) message: String,
}

impl Failed {
    /// Wrong usage, or no server.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: UNREACHED,
            message: message.into(),
        }
    }
}
