//! The hub's own file, `hub.db` in `stateDir`: what is known of targets, which client had which,
//! which targets had registered themselves, and the seed of the clients' hashes. With it health, manual states,
//! bindings and registrations outlive a restart.
//!
//! # One process
//! The directory and the file are locked as long as a [`StateDb`] lives: a second hub with the same `stateDir` is told
//! so at once. A program that only wants to look, such as sqlite3, has to wait until the hub has ended, or look at a
//! copy.
//!
//! # Crashes and damage
//! Each save is one transaction in a write-ahead log. A process that is killed in the middle of one leaves the state of
//! the save before. A machine that loses power may lose the last saves too, except for the seed, which is on the
//! disk when the call returns.
//!
//! When it is opened, the file is walked from end to end (`PRAGMA quick_check`, about a second for each gigabyte), its
//! tables are compared with those that it should have, and all its text is read. A damaged file is renamed to
//! `hub.db.broken-<seconds since 1970>` and a new one is begun: see [`StateDb::broken`]. SQLite has no checksums, so a
//! flipped bit inside a number or a text isn't seen: it is another number. A file of a newer version is left as it is,
//! and opening it fails.
//!
//! # Bounds
//! The limits of each table stand with its type ([`MAX_TARGETS`], [`MAX_BINDINGS`], …), and the file has
//! [`MAX_BYTES`] at most. Over a limit, a list is cut.

mod bindings;
mod error;
mod file;
mod numbers;
mod registrations;
mod saved;
mod targets;

pub use self::{
    error::StateDbError,
    file::{Broken, FILE_NAME, MAX_BROKEN},
    saved::{
        LoadedTarget, MAX_BINDINGS, MAX_BYTES, MAX_ID, MAX_NAME, MAX_REGISTRATION, MAX_TARGETS,
        SavedAdmin, SavedBinding, SavedBreaker, SavedCheck, SavedTarget, UnixMillis,
    },
};

use self::file::{DirectoryLock, begin, durable};
use rusqlite::Connection;
use std::path::Path;

/// The file, open and held. Its calls block for as long as the disk does.
#[derive(Debug)]
pub struct StateDb {
    /// Closed before the directory's lock is given up.
    connection: Connection,
    broken: Option<Broken>,
    _lock: DirectoryLock,
}

impl StateDb {
    /// Opens `hub.db` in this directory, which must exist, and makes it if there is none. Only the hub's user may read
    /// it (mode 0600). A damaged file is moved aside: [`StateDb::broken`] then says so.
    ///
    /// # Errors
    /// Another process has it, it is of a newer version, or it can't be written. None of these keeps a hub from working
    /// without it.
    pub fn open(directory: &Path) -> Result<Self, StateDbError> {
        let lock = DirectoryLock::take(directory)?;
        let path = directory.join(FILE_NAME);
        let (connection, broken) = match file::open(&path) {
            Err(StateDbError::Damaged(reason)) => {
                let moved_to = file::move_aside(&path, UnixMillis::now())?;
                (file::open(&path)?, Some(Broken { moved_to, reason }))
            }
            opened => (opened?, None),
        };
        Ok(Self {
            connection,
            broken,
            _lock: lock,
        })
    }

    /// The damaged file that opening moved aside, if there was one: worth an event and a line in the log.
    #[must_use]
    pub const fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Closes the file, with all that was written in it and no log beside it. To drop it does the same, but tells no
    /// error.
    ///
    /// # Errors
    /// The last writes couldn't be moved from the log into the file; the next opening does that.
    pub fn close(self) -> Result<(), StateDbError> {
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// Saves what is known of all targets of the hub, at most [`MAX_TARGETS`], and returns how many rows that changed.
    /// A target that was saved before and isn't in the list any more is remembered: for 30 days if it is drained or dead
    /// by hand, else for an hour.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn save_targets(
        &mut self,
        targets: &[SavedTarget],
        at: UnixMillis,
    ) -> Result<usize, StateDbError> {
        let transaction = begin(&mut self.connection)?;
        let written = targets::save(&transaction, targets, at)?;
        transaction.commit()?;
        Ok(written)
    }

    /// All targets that are remembered, in order of pool and id.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn load_targets(&self) -> Result<Vec<LoadedTarget>, StateDbError> {
        targets::load(&self.connection)
    }

    /// Replaces all bindings, and returns how many these are: the first [`MAX_BINDINGS`] of the list.
    ///
    /// # Errors
    /// Nothing was written, and those from before are there.
    pub fn save_bindings<'a>(
        &mut self,
        bindings: impl IntoIterator<Item = SavedBinding<'a>>,
        at: UnixMillis,
    ) -> Result<usize, StateDbError> {
        let transaction = begin(&mut self.connection)?;
        let count = bindings::save(&transaction, bindings, at)?;
        transaction.commit()?;
        Ok(count)
    }

    /// Gives each binding to `visit`, in the order in which they were saved, and returns how many they were. Their ages
    /// are those at `now`; if the clock has gone back since, those at the time of the save.
    ///
    /// # Errors
    /// The file can't be read; `visit` may have got some of them.
    pub fn load_bindings(
        &self,
        now: UnixMillis,
        visit: impl FnMut(SavedBinding<'_>),
    ) -> Result<usize, StateDbError> {
        bindings::load(&self.connection, now, visit)
    }

    /// The seed of the clients' hashes: `random`, from a source that nobody can guess, the first time, and the same for
    /// as long as the file lives.
    ///
    /// # Errors
    /// It can't be read, or not be kept.
    pub fn seed(&mut self, random: u64) -> Result<u64, StateDbError> {
        const SEED: &str = "seed";
        if let Some(seed) = numbers::get(&self.connection, SEED)? {
            return Ok(seed.cast_unsigned());
        }
        durable(&mut self.connection, |transaction| {
            numbers::set(transaction, SEED, random.cast_signed())?;
            Ok(random)
        })
    }

    /// Replaces what targets have said when they registered themselves, each as one text of at most
    /// [`MAX_REGISTRATION`] bytes, and returns how many these are: the first [`MAX_TARGETS`] of the list.
    ///
    /// # Errors
    /// Nothing was written, and those from before are there.
    pub fn save_registrations<'a>(
        &mut self,
        registrations: impl IntoIterator<Item = &'a str>,
    ) -> Result<usize, StateDbError> {
        let transaction = begin(&mut self.connection)?;
        let count = registrations::save(&transaction, registrations)?;
        transaction.commit()?;
        Ok(count)
    }

    /// What targets had said when they registered themselves, in the order in which it was saved.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn load_registrations(&self) -> Result<Vec<String>, StateDbError> {
        Ok(registrations::load(&self.connection)?)
    }

    /// Time of the last save of targets: until then the hub ran. None if there was none.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn saved_at(&self) -> Result<Option<UnixMillis>, StateDbError> {
        Ok(targets::saved_at(&self.connection)?)
    }
}
