//! The file itself: made, checked, held by one process, moved aside when it is damaged.

use super::error::StateDbError;
use super::numbers::{get, set};
use super::saved::{MAX_BYTES, UnixMillis};
use super::{bindings, registrations, targets};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the file in `stateDir`.
pub const FILE_NAME: &str = "hub.db";
/// Damaged files that are kept beside it, the newest ones: a disk that breaks files must not fill up by that.
pub const MAX_BROKEN: usize = 3;

/// What a damaged file's name has between its old one and a number.
const BROKEN: &str = ".broken-";
/// A new file has these tables. Later versions add to this number and lead older files on.
const SCHEMA: i64 = 1;
/// Tells this file from other databases: `RIhb`.
const APPLICATION: i64 = 0x5249_6862;
/// Bytes of a page, SQLite's default.
const PAGE_SIZE: u32 = 4_096;
/// Only the hub's user: bindings tell who was a client.
const MODE: u32 = 0o600;
/// STRICT, so that a check of the file finds values of other types.
const TABLES: [&str; 5] = [
    "CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE targets (pool TEXT NOT NULL, id TEXT NOT NULL, \
     admin INTEGER NOT NULL CHECK (admin BETWEEN 0 AND 2), \
     checked INTEGER NOT NULL CHECK (checked BETWEEN 0 AND 2), \
     open_until INTEGER, opened INTEGER NOT NULL, failures INTEGER NOT NULL, latency_micros INTEGER, gone_at INTEGER, \
     PRIMARY KEY (pool, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE binding_targets (number INTEGER PRIMARY KEY, pool TEXT NOT NULL, id TEXT NOT NULL) STRICT",
    "CREATE TABLE bindings (key INTEGER NOT NULL, target INTEGER NOT NULL, age_millis INTEGER NOT NULL) STRICT",
    "CREATE TABLE registrations (json TEXT NOT NULL) STRICT",
];

/// A file that was damaged, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its new name, in the same directory.
    pub moved_to: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// Holds the directory for one process as long as it lives. SQLite's own lock holds the file; this one covers the time
/// in which a damaged file gives way to a new one.
#[derive(Debug)]
pub(super) struct DirectoryLock(File);

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<Self, StateDbError> {
        let open = File::open(directory).map_err(|error| unwritable(&error))?;
        match rustix::fs::flock(&open, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateDbError::Locked),
            // A file system that can't lock directories: SQLite's lock has to do.
            Ok(()) | Err(_) => Ok(Self(open)),
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // To close it isn't enough: a process that is being started has a copy of the handle for a moment.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Opens a file that is there, or makes one. It is checked as a whole.
pub(super) fn open(path: &Path) -> Result<Connection, StateDbError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(StateDbError::Unwritable("it is no file".into()))
        }
        Ok(metadata) => {
            if metadata.permissions().mode() & 0o777 != MODE {
                fs::set_permissions(path, Permissions::from_mode(MODE))
                    .map_err(|error| unwritable(&error))?;
            }
            check_head(path, metadata.len())?;
            let mut connection = connect(path)?;
            // A damaged file is moved aside as it is: its log doesn't become part of it on the way.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            check_version(&connection)?;
            // Whatever is wrong from here on is wrong with what the file holds.
            let checked = set_up(&connection).and_then(|()| check(&mut connection));
            match checked {
                Err(StateDbError::Failed(text)) => return Err(StateDbError::Damaged(text)),
                checked => checked?,
            }
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            Ok(connection)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|error| unwritable(&error))?;
            let mut connection = connect(path)?;
            set_up(&connection)?;
            fill(&mut connection)?;
            Ok(connection)
        }
        Err(error) => Err(unwritable(&error)),
    }
}

/// Renames the file and what SQLite has beside it, so that a new one can be made.
pub(super) fn move_aside(path: &Path, now: UnixMillis) -> Result<PathBuf, StateDbError> {
    let older = broken_ones(path);
    // The newest one has the highest number, even if the clock has gone back or is slower than the damage.
    let after_newest = older.first().map_or(0, |newest| newest.saturating_add(1));
    let name = |seconds: u64| beside(path, &format!("{BROKEN}{seconds}"));
    let target = name(after_newest.max(now.0 / 1_000));
    // The log first: were it left beside the new file, its pages would become that file's.
    for suffix in ["-wal", "-shm", "-journal", ""] {
        match fs::rename(beside(path, suffix), beside(&target, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(&error));
            }
            _ => {}
        }
    }
    for old in older.into_iter().skip(MAX_BROKEN - 1).map(name) {
        for suffix in ["-wal", "-shm", "-journal", ""] {
            // What can't be removed stays: no reason not to start.
            let _ = fs::remove_file(beside(&old, suffix));
        }
    }
    Ok(target)
}

/// The numbers of damaged files that are there, the newest one first.
fn broken_ones(path: &Path) -> Vec<u64> {
    let prefix = format!("{FILE_NAME}{BROKEN}");
    let entries = path.parent().and_then(|parent| fs::read_dir(parent).ok());
    let names = entries.into_iter().flatten().flatten();
    let number = |name: OsString| name.to_str()?.strip_prefix(&prefix)?.parse().ok();
    let mut numbers: Vec<_> = names
        .filter_map(|entry| number(entry.file_name()))
        .collect();
    numbers.sort_unstable_by(|one: &u64, other| other.cmp(one));
    numbers
}

/// An empty file, without what an older one may have left beside it.
fn create(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map(drop)
}

/// What SQLite would call other things than damage: a size that is no whole page, a version that it only reads. Where a
/// log is left, the process or the machine had no time to end, and the log has what the file lacks.
fn check_head(path: &Path, size: u64) -> Result<(), StateDbError> {
    if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Ok(());
    }
    let damaged = |text: String| Err(StateDbError::Damaged(text));
    let mut head = [0; 100];
    let mut file = File::open(path).map_err(|error| unwritable(&error))?;
    // Closed before SQLite opens it: to close any handle of a file gives up the process's locks of it.
    if let Err(error) = file.read_exact(&mut head) {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return damaged(format!("it has only {size} bytes"));
        }
        return Err(unwritable(&error));
    }
    if !head.starts_with(b"SQLite format 3\0") {
        return damaged("it doesn't begin as a SQLite database".into());
    }
    if !size.is_multiple_of(PAGE_SIZE.into()) {
        return damaged(format!("its {size} bytes are no whole pages"));
    }
    // Who may write and who may read it, as versions of its format; 2 stands for a write-ahead log.
    if head[18..20] != [2, 2] {
        return damaged("its header names another format".into());
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, StateDbError> {
    // Without URI: a path with `?` is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // First of all, so that the first read takes the lock and keeps it. Then there is no shared memory either.
    connection.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;",
    )?;
    Ok(connection)
}

/// A file of a newer program stays as it is.
fn check_version(connection: &Connection) -> Result<(), StateDbError> {
    let application = number(connection, "PRAGMA application_id")?;
    let found = number(connection, "PRAGMA user_version")?;
    if application != APPLICATION || found < 1 {
        return Err(StateDbError::Damaged(
            "it is another program's database".into(),
        ));
    }
    if found > SCHEMA {
        return Err(StateDbError::Newer {
            found,
            known: SCHEMA,
        });
    }
    Ok(())
}

/// A crash of the process loses nothing that was committed; one of the machine may lose the last seconds, unless the
/// write is [`durable`].
fn set_up(connection: &Connection) -> Result<(), StateDbError> {
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StateDbError::Failed(format!(
            "its journal mode stays {mode}"
        )));
    }
    connection.execute_batch(&format!(
        "PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit={}; PRAGMA max_page_count={};",
        4 * 1024 * 1024,
        MAX_BYTES / PAGE_SIZE
    ))?;
    Ok(())
}

fn fill(connection: &mut Connection) -> Result<(), StateDbError> {
    let transaction = begin(connection)?;
    for table in TABLES {
        transaction.execute_batch(table)?;
    }
    transaction.execute_batch(&format!(
        "PRAGMA application_id={APPLICATION}; PRAGMA user_version={SCHEMA};"
    ))?;
    transaction.commit()?;
    // Into the file itself: until then its first page says nothing of what it is.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Walks the whole file, and reads all text once: later reads then meet no damage that was there before. The last step
/// writes.
fn check(connection: &mut Connection) -> Result<(), StateDbError> {
    let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if finding != "ok" {
        return Err(StateDbError::Damaged(finding.replace('\n', " ")));
    }
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let tables: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    drop(statement);
    if tables != TABLES {
        return Err(StateDbError::Damaged("its tables are others".into()));
    }
    let transaction = begin(connection)?;
    targets::load(&transaction)?;
    bindings::targets(&transaction)?;
    registrations::load(&transaction)?;
    let opened = 1 + get(&transaction, "opened")?.unwrap_or(0).max(0);
    set(&transaction, "opened", opened.min(i64::MAX - 1))?;
    transaction.commit()?;
    Ok(())
}

/// Begins a transaction that writes. Dropped, it has never been.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Commits are on the disk when this is over, for writes that somebody was told of.
pub(super) fn durable<T>(
    connection: &mut Connection,
    write: impl FnOnce(&Transaction<'_>) -> Result<T, StateDbError>,
) -> Result<T, StateDbError> {
    connection.execute_batch("PRAGMA synchronous=FULL")?;
    let written = begin(connection)
        .map_err(StateDbError::from)
        .and_then(|transaction| {
            let result = write(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
    connection.execute_batch("PRAGMA synchronous=NORMAL")?;
    written
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(pragma, [], |row| row.get(0))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn unwritable(error: &io::Error) -> StateDbError {
    StateDbError::Unwritable(error.to_string())
}
