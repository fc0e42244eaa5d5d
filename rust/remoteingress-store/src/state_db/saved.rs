//! What a hub keeps over a restart, as data: nothing here knows SQLite or the hub.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the system's clock, which may be set back: a restart has no better clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// By the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, millis))
    }

    /// The time from `earlier` to this; none if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// For SQLite, whose numbers have a sign.
    pub(super) fn stored(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    pub(super) fn read(stored: i64) -> Self {
        Self(u64::try_from(stored).unwrap_or(0))
    }
}

/// Whole milliseconds, as many as there can be.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the operator has said of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SavedAdmin {
    /// Nothing.
    #[default]
    Active,
    /// No new clients.
    Drain,
    /// None at all.
    Dead,
}

/// What active checks last found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SavedCheck {
    /// No answer yet, or no check.
    #[default]
    Unknown,
    /// It is well.
    Up,
    /// It isn't.
    Down,
}

/// A breaker that is open or half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedBreaker {
    /// Begin of its trials.
    pub open_until: UnixMillis,
    /// Times that it has opened without closing, which decide how long the next time is.
    pub opened: u32,
}

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTarget {
    /// Name of its pool, at most [`MAX_NAME`] bytes.
    pub pool: String,
    /// Its id in the pool, at most [`MAX_ID`] bytes.
    pub id: String,
    /// Manual state.
    pub admin: SavedAdmin,
    /// Active checks.
    pub checked: SavedCheck,
    /// None while it is closed.
    pub breaker: Option<SavedBreaker>,
    /// In a row, while the breaker is closed.
    pub failures: u32,
    /// Average time of its connects in microseconds, if it had any.
    pub latency_micros: Option<u64>,
}

/// A target that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedTarget {
    /// What was known of it.
    pub target: SavedTarget,
    /// When that was so: the last save that had this target.
    pub at: UnixMillis,
}

/// A client's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedBinding<'a> {
    /// The client as a number, which the owner makes and understands.
    pub key: u64,
    /// Name of the pool, at most [`MAX_NAME`] bytes.
    pub pool: &'a str,
    /// Id of the target in the pool, at most [`MAX_ID`] bytes.
    pub target: &'a str,
    /// Time since its last use.
    pub age: Duration,
}

/// Bytes of a pool's name, as in a configuration.
pub const MAX_NAME: usize = 128;
/// Bytes of a target's id: a host of 253 bytes and a port, rounded up.
pub const MAX_ID: usize = 512;
/// Targets that are saved, as a hub has at most. As many again are remembered after they have gone.
pub const MAX_TARGETS: usize = 10_000;
/// Bindings that a hub has at most, and that are saved: 48 MiB of its memory.
pub const MAX_BINDINGS: usize = 1_048_576;
/// Bytes of what a target says of itself. Chosen: it takes about 200.
pub const MAX_REGISTRATION: usize = 4 * 1024;
/// Bytes of the file: all that is saved at its limits takes about a third.
pub const MAX_BYTES: u32 = 512 * 1024 * 1024;
