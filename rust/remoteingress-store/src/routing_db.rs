//! edgeProxy's routing.db: its table `backends`, read as it is and never written.
//!
//! - [`Cells`] are the values of one row as SQLite gives them: of any type, whatever the [`Column`] says.
//! - [`check_row`] makes a [`Row`] of them, or says why they can't be one.
//! - [`read_rows`] does that for all rows, and refuses bad ones alone.
//! - [`Version::next`] merges a [`Reading`] into the version in force: a refused row whose id was good before keeps its
//!   last good version.
//! - [`Watch::poll`] does the I/O: it reads one snapshot of the file when that has changed.
//!
//! # Damaged files
//! SQLite has no checksums, so a file can be half new and half old and still answer. Before rows are taken from a snapshot,
//! `PRAGMA quick_check` walks it: every page of the whole file up to [`WHOLE_CHECK_MAX`] bytes, beyond that only the
//! pages of `backends` and its indexes. The walk of the whole file matters for one fault: a flipped bit in the schema
//! that makes `backends` begin at the page of another, empty table. The walk of one table would call that good and
//! empty. Damage in another table of a file of that size refuses the reading too: that the operator hears of it early is
//! worth more than rows from a file that is breaking. The check runs only when the file has changed, costs as
//! much as reading the rows does (10,000 rows: 18 ms for both, without optimisation; 64 MiB: 66 ms), and no stream waits
//! for it. What it says of single
//! values (a number where the column is text) is left to the check of each row.
//!
//! Two faults pass that check and are looked for besides: a last page that is cut, which SQLite fills with zeroes, and a
//! flipped comma in the schema, which makes two columns one and moves the values of all columns behind it. A flipped bit
//! inside a value can't be seen by anyone, nor one inside a column's name: the first is a row with another value, the
//! second a table without that column.
//!
//! # Bounds
//! [`MAX_ROWS`] rows are looked at, [`MAX_TARGETS`] good ones taken, text of at most [`MAX_TEXT`] bytes is read, and a
//! statement ends after a fixed number of steps: `backends` may be a view, and a view may be anything.

mod cells;
mod error;
mod reading;
mod row;
mod sqlite;
mod version;

pub use self::{
    cells::{Cell, Cells, Column, MAX_TEXT},
    error::RoutingDbError,
    reading::{MAX_ROWS, MAX_TARGETS, Reading, read_rows},
    row::{Admin, Refusal, Row, check_row},
    sqlite::WHOLE_CHECK_MAX,
    version::{Change, Version},
};

use self::sqlite::Snapshots;
use crate::stamp::Stamp;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;

/// Looks at a routing.db for changes, whoever makes them: a commit (with or without WAL), a copy over the file, another
/// file renamed to its path.
///
/// It keeps the file open between polls, so that it can ask SQLite for commits of others. A writer that leaves a
/// database in WAL mode then leaves its `-wal` and `-shm` too.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    wal: PathBuf,
    allow_special_targets: bool,
    open: Option<Open>,
    /// Of the reading that was told last; none after a failure.
    told: Option<u64>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Open {
    snapshots: Snapshots,
    stamp: Stamp,
    /// As SQLite counts the commits of others, at the last reading.
    data_version: i64,
    /// The stamp had just changed: what was read may be the middle of a copy that goes on within the clock's step.
    is_fresh: bool,
}

/// The last attempt failed; the same content is tried again after 1, 2, 4 … polls.
#[derive(Debug)]
struct Failed {
    /// Of the file and of its WAL.
    stamps: (Option<Stamp>, Option<Stamp>),
    pause: u32,
    left: u32,
}

/// Polls between two attempts at the same bad content: 10 s.
const MAX_PAUSE: u32 = 40;

/// What a poll found.
#[derive(Debug)]
pub enum Poll {
    /// Nothing new since the last other answer.
    Unchanged,
    /// The file has other rows now, or is good again.
    Changed(Reading),
    /// It can't be read now; whatever was read before stays in force. Told again at each attempt.
    Failed(RoutingDbError),
}

impl Watch {
    /// Opens nothing yet. `allow_special_targets` is the hub's setting of that name: rows may then have addresses that
    /// no target legitimately has.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, allow_special_targets: bool) -> Self {
        let path = path.into();
        let mut wal = OsString::from(&path);
        wal.push("-wal");
        Self {
            path,
            wal: wal.into(),
            allow_special_targets,
            open: None,
            told: None,
            failed: None,
        }
    }

    /// Looks once. Blocks for as long as the disk does, but never for another program's lock.
    pub fn poll(&mut self) -> Poll {
        let stamp = match Stamp::of(&self.path) {
            Ok(stamp) if stamp.is_file => stamp,
            Ok(_) => return self.fail(RoutingDbError::NotAFile, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.fail(RoutingDbError::Missing, None);
            }
            Err(error) => return self.fail(RoutingDbError::Unreadable(error.to_string()), None),
        };
        if self.is_resting(stamp) {
            return Poll::Unchanged;
        }
        let same = self
            .open
            .take_if(|open| open.stamp == stamp && !open.is_fresh);
        let Some(mut open) = same else {
            return self.read_anew(stamp);
        };
        let now = open.snapshots.data_version();
        if matches!(now, Ok(version) if version == open.data_version) {
            self.open = Some(open);
            return Poll::Unchanged;
        }
        match now.and_then(|_| open.snapshots.read(stamp.size, self.allow_special_targets)) {
            Ok((reading, data_version)) => {
                open.data_version = data_version;
                self.open = Some(open);
                self.tell(reading)
            }
            Err(error) => self.fail(error, Some(stamp)),
        }
    }

    /// With a new handle: the old one may stand for a file that has no name any more, and its cache for other content.
    fn read_anew(&mut self, stamp: Stamp) -> Poll {
        let is_fresh = self.open.take().is_none_or(|open| open.stamp != stamp);
        let read = Snapshots::open(&self.path).and_then(|snapshots| {
            let (reading, data_version) = snapshots.read(stamp.size, self.allow_special_targets)?;
            Ok((snapshots, reading, data_version))
        });
        match read {
            Ok((snapshots, reading, data_version)) => {
                self.open = Some(Open {
                    snapshots,
                    stamp,
                    data_version,
                    is_fresh,
                });
                self.tell(reading)
            }
            Err(error) => self.fail(error, Some(stamp)),
        }
    }

    fn tell(&mut self, reading: Reading) -> Poll {
        self.failed = None;
        let mut hasher = DefaultHasher::new();
        reading.hash(&mut hasher);
        let digest = hasher.finish();
        if self.told.replace(digest) == Some(digest) {
            return Poll::Unchanged;
        }
        Poll::Changed(reading)
    }

    /// The handle goes too: one that met damage may keep it in its cache.
    fn fail(&mut self, error: RoutingDbError, stamp: Option<Stamp>) -> Poll {
        self.open = None;
        self.told = None;
        let stamps = (stamp, Stamp::of(&self.wal).ok());
        let again = self.failed.take().filter(|before| before.stamps == stamps);
        let pause = match again {
            _ if !error.is_about_content() => 0,
            None => 1,
            Some(before) => (before.pause * 2).clamp(1, MAX_PAUSE),
        };
        self.failed = Some(Failed {
            stamps,
            pause,
            left: pause.saturating_sub(1),
        });
        Poll::Failed(error)
    }

    /// The content is the one that failed, and its next attempt isn't due.
    fn is_resting(&mut self, stamp: Stamp) -> bool {
        let Some(failed) = &mut self.failed else {
            return false;
        };
        if failed.left == 0 || failed.stamps != (Some(stamp), Stamp::of(&self.wal).ok()) {
            return false;
        }
        failed.left -= 1;
        true
    }
}
