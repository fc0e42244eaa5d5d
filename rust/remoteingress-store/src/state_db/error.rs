//! Why a hub's own file can't be used.

use super::saved::MAX_BYTES;
use rusqlite::{ErrorCode, ffi};

/// The file can't be opened, or a write didn't happen. Each message says what was met and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateDbError {
    /// Another process has it.
    #[error(
        "another process, probably a second hub, has hub.db in this stateDir; give each hub a stateDir of its own, or \
         stop the other one"
    )]
    Locked,
    /// Of a later version of this program.
    #[error(
        "hub.db was written by a newer version (its schema is {found}, this one knows {known}); start that version, or \
         move hub.db away to begin anew"
    )]
    Newer {
        /// The file's schema.
        found: i64,
        /// The highest that this program reads.
        known: i64,
    },
    /// The system refuses to create, read or write it.
    #[error(
        "hub.db can't be written: {0}; let the hub's user write in stateDir, and check the disk. Until then a restart \
         forgets health, manual states, bindings and registrations"
    )]
    Unwritable(String),
    /// No room.
    #[error(
        "hub.db can't grow: the disk is full, or the file has its {} MiB; make room in stateDir",
        MAX_BYTES / (1024 * 1024)
    )]
    Full,
    /// SQLite contradicts itself, or a value is none that was written.
    #[error(
        "hub.db is damaged ({0}); the next start of the hub moves it aside and begins a new one"
    )]
    Damaged(String),
    /// Another of SQLite's errors.
    #[error("SQLite can't use hub.db: {0}; look at the file with sqlite3 while no hub runs")]
    Failed(String),
}

impl StateDbError {
    /// One word for events and status; it never changes.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Newer { .. } => "newer",
            Self::Unwritable(_) => "unwritable",
            Self::Full => "full",
            Self::Damaged(_) => "damaged",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<rusqlite::Error> for StateDbError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(&failure) = error.sqlite_error() else {
            return of_value(&error);
        };
        let text = error.to_string();
        match (failure.code, failure.extended_code) {
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Locked,
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)
            | (_, ffi::SQLITE_IOERR_CORRUPTFS) => Self::Damaged(text),
            (ErrorCode::DiskFull, _) => Self::Full,
            (
                ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure,
                _,
            ) => Self::Unwritable(text),
            _ => Self::Failed(text),
        }
    }
}

/// Of a value that isn't of the type that its column has.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other kinds are misuse, all alike"
)]
fn of_value(error: &rusqlite::Error) -> StateDbError {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    let text = error.to_string();
    match error {
        FromSqlConversionFailure(..)
        | IntegralValueOutOfRange(..)
        | InvalidColumnType(..)
        | Utf8Error(..) => StateDbError::Damaged(text),
        _ => StateDbError::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlites_codes_have_their_reasons() {
        for (code, reason) in [
            (ffi::SQLITE_BUSY, "locked"),
            (ffi::SQLITE_LOCKED, "locked"),
            (ffi::SQLITE_CORRUPT, "damaged"),
            (ffi::SQLITE_NOTADB, "damaged"),
            (ffi::SQLITE_IOERR_CORRUPTFS, "damaged"),
            (ffi::SQLITE_FULL, "full"),
            (ffi::SQLITE_READONLY_DIRECTORY, "unwritable"),
            (ffi::SQLITE_CANTOPEN, "unwritable"),
            (ffi::SQLITE_PERM, "unwritable"),
            (ffi::SQLITE_IOERR_WRITE, "unwritable"),
            (ffi::SQLITE_ERROR, "failed"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(StateDbError::from(error).reason(), reason, "{code}");
        }
        let error = rusqlite::Error::IntegralValueOutOfRange(0, -1);
        assert_eq!(StateDbError::from(error).reason(), "damaged");
        let error = rusqlite::Error::InvalidQuery;
        assert_eq!(StateDbError::from(error).reason(), "failed");
    }
}
