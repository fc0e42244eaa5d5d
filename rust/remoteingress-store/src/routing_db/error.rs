//! Why a routing.db can't be read.

use super::cells::Column;
use rusqlite::{ErrorCode, ffi};

/// The file can't be read now. Each message says what was met and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutingDbError {
    /// Nothing has this path.
    #[error("there is no such file; create it with a table backends, or correct routingDb.path")]
    Missing,
    /// A directory, a pipe, a device.
    #[error("this is no file; routingDb.path must name a SQLite database")]
    NotAFile,
    /// The system refuses to open or read it.
    #[error(
        "the file can't be read: {0}; let the hub's user read it and enter its directory, and check the disk"
    )]
    Unreadable(String),
    /// It begins with something else.
    #[error(
        "this is no SQLite database, or an encrypted or half-copied one; copy to another name and rename it to this one"
    )]
    NotADatabase,
    /// SQLite contradicts itself: half-copied or broken.
    #[error(
        "the database is damaged ({0}); if it is being copied, copy to another name and rename, else restore it"
    )]
    Damaged(String),
    /// A database without it.
    #[error("the database has no table backends; create it, see the manual's page on edgeProxy")]
    NoTable,
    /// A table that can't hold targets.
    #[error("the table backends has no column {}; add it", .0.name())]
    NoColumn(Column),
    /// A writer holds it.
    #[error(
        "another program has locked the database; it is read as soon as that one commits, so keep its transactions short"
    )]
    Locked,
    /// WAL needs a shared-memory file, and the hub can't make it.
    #[error(
        "the database is in WAL mode and the hub can't make its -shm file ({0}); let the hub's user write in its \
         directory, or set PRAGMA journal_mode=DELETE"
    )]
    WalUnwritable(String),
    /// A writer died, and only another writer can undo its half transaction.
    #[error(
        "a writer ended in the middle of a transaction, and the hub only reads; open the database once with its writer \
         or with sqlite3"
    )]
    HotJournal,
    /// A view that doesn't come to an end.
    #[error("reading backends took too many steps; it should be a table, or a view of few joins")]
    TooMuchWork,
    /// Another of SQLite's errors.
    #[error("SQLite can't read the table backends: {0}; try SELECT * FROM backends with sqlite3")]
    Failed(String),
}

impl RoutingDbError {
    /// One word for events and status; it never changes.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotAFile => "notAFile",
            Self::Unreadable(_) => "unreadable",
            Self::NotADatabase => "notADatabase",
            Self::Damaged(_) => "damaged",
            Self::NoTable => "noTable",
            Self::NoColumn(_) => "noColumn",
            Self::Locked => "locked",
            Self::WalUnwritable(_) => "walUnwritable",
            Self::HotJournal => "hotJournal",
            Self::TooMuchWork => "tooMuchWork",
            Self::Failed(_) => "failed",
        }
    }

    /// It ends by itself, and is worth telling only when it lasts.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Locked)
    }

    /// The same bytes would fail again: a watch waits longer before it tries them again.
    pub(super) const fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::NotADatabase
                | Self::Damaged(_)
                | Self::NoTable
                | Self::NoColumn(_)
                | Self::TooMuchWork
                | Self::Failed(_)
        )
    }

    /// Of opening the file itself, before anything is read.
    pub(super) fn of_opening(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) => Self::Unreadable(error.to_string()),
            _ => Self::of_reading(error),
        }
    }

    /// Of a statement.
    pub(super) fn of_reading(error: &rusqlite::Error) -> Self {
        let Some(&failure) = error.sqlite_error() else {
            return Self::Failed(error.to_string());
        };
        let text = error.to_string();
        match (failure.code, failure.extended_code) {
            (_, ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY) => Self::HotJournal,
            // The file itself is open by now: what can't be opened is beside it.
            (ErrorCode::ReadOnly | ErrorCode::CannotOpen, _) => Self::WalUnwritable(text),
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Locked,
            (ErrorCode::DatabaseCorrupt, _) => Self::Damaged(text),
            (ErrorCode::NotADatabase, _) => Self::NotADatabase,
            (ErrorCode::OperationInterrupted, _) => Self::TooMuchWork,
            (ErrorCode::SystemIoFailure | ErrorCode::PermissionDenied, _) => Self::Unreadable(text),
            _ => Self::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlites_codes_have_their_reasons() {
        for (code, reason) in [
            (ffi::SQLITE_BUSY, "locked"),
            (ffi::SQLITE_BUSY_RECOVERY, "locked"),
            (ffi::SQLITE_LOCKED, "locked"),
            (ffi::SQLITE_READONLY_ROLLBACK, "hotJournal"),
            (ffi::SQLITE_READONLY_CANTINIT, "walUnwritable"),
            (ffi::SQLITE_READONLY_DIRECTORY, "walUnwritable"),
            (ffi::SQLITE_CANTOPEN, "walUnwritable"),
            (ffi::SQLITE_CORRUPT, "damaged"),
            (ffi::SQLITE_NOTADB, "notADatabase"),
            (ffi::SQLITE_INTERRUPT, "tooMuchWork"),
            (ffi::SQLITE_IOERR_READ, "unreadable"),
            (ffi::SQLITE_ERROR, "failed"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(
                RoutingDbError::of_reading(&error).reason(),
                reason,
                "{code}"
            );
        }
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), None);
        assert_eq!(RoutingDbError::of_opening(&error).reason(), "unreadable");
    }
}
