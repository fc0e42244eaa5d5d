//! What is known of targets: only what has changed is written.

use super::error::StateDbError;
use super::numbers::{get, set};
use super::saved::{
    LoadedTarget, MAX_ID, MAX_NAME, MAX_TARGETS, SavedAdmin, SavedBreaker, SavedCheck, SavedTarget,
    UnixMillis,
};
use rusqlite::{Connection, Row, Statement, Transaction};
use std::cmp::Ordering;
use std::time::Duration;

/// A target that is in no pool any more may come back: a routing.db that can't be read at the hub's start has none. One
/// that an operator has drained or declared dead must not come back active.
const KEEP_MANUAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Of others health alone is kept, which is old after a minute.
const KEEP_OTHERS: Duration = Duration::from_secs(60 * 60);
/// Targets that have gone and are remembered.
const MAX_GONE: usize = MAX_TARGETS;
const WRITE: &str = "INSERT OR REPLACE INTO targets \
     (pool, id, admin, checked, open_until, opened, failures, latency_micros, gone_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL)";
/// Time of the last save.
const SAVED_AT: &str = "targets_at";

/// A row, and when its target went.
struct Stored {
    target: SavedTarget,
    gone_at: Option<i64>,
}

pub(super) fn save(
    transaction: &Transaction<'_>,
    targets: &[SavedTarget],
    at: UnixMillis,
) -> Result<usize, StateDbError> {
    let stored = read(transaction)?;
    let last = get(transaction, SAVED_AT)?;
    let mut is_here = vec![false; stored.len()];
    let mut written = 0;
    let mut write = transaction.prepare(WRITE)?;
    let fits = |target: &&SavedTarget| target.pool.len() <= MAX_NAME && target.id.len() <= MAX_ID;
    for target in targets.iter().filter(fits).take(MAX_TARGETS) {
        let known = stored.binary_search_by(|stored| order(&stored.target, target));
        if let Ok(index) = known
            && let (Some(is_here), Some(stored)) = (is_here.get_mut(index), stored.get(index))
        {
            *is_here = true;
            if stored.gone_at.is_none() && stored.target == *target {
                continue;
            }
        }
        store(&mut write, target)?;
        written += 1;
    }
    let mut leave = transaction.prepare("UPDATE targets SET gone_at=?3 WHERE pool=?1 AND id=?2")?;
    let gone_at = last.unwrap_or_else(|| at.stored());
    let left = stored.iter().zip(&is_here);
    for (stored, _) in left.filter(|(stored, is_here)| !**is_here && stored.gone_at.is_none()) {
        leave.execute((&stored.target.pool, &stored.target.id, gone_at))?;
        written += 1;
    }
    if is_here.contains(&false) {
        forget(transaction, at)?;
    }
    set(transaction, SAVED_AT, at.stored())?;
    Ok(written)
}

pub(super) fn load(connection: &Connection) -> Result<Vec<LoadedTarget>, StateDbError> {
    let last = saved_at(connection)?.unwrap_or_default();
    let loaded = |Stored { target, gone_at }| LoadedTarget {
        target,
        at: gone_at.map_or(last, UnixMillis::read),
    };
    Ok(read(connection)?.into_iter().map(loaded).collect())
}

/// Time of the last save.
pub(super) fn saved_at(connection: &Connection) -> rusqlite::Result<Option<UnixMillis>> {
    Ok(get(connection, SAVED_AT)?.map(UnixMillis::read))
}

/// In order.
fn read(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = connection.prepare(
        "SELECT pool, id, admin, checked, open_until, opened, failures, latency_micros, gone_at FROM targets \
         ORDER BY pool, id",
    )?;
    statement.query_map([], stored)?.collect()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let open_until: Option<i64> = row.get(4)?;
    let opened = row.get(5)?;
    let latency: Option<i64> = row.get(7)?;
    let target = SavedTarget {
        pool: row.get(0)?,
        id: row.get(1)?,
        admin: match row.get(2)? {
            0 => SavedAdmin::Active,
            1 => SavedAdmin::Drain,
            2 => SavedAdmin::Dead,
            other => return Err(rusqlite::Error::IntegralValueOutOfRange(2, other)),
        },
        checked: match row.get(3)? {
            0 => SavedCheck::Unknown,
            1 => SavedCheck::Up,
            2 => SavedCheck::Down,
            other => return Err(rusqlite::Error::IntegralValueOutOfRange(3, other)),
        },
        breaker: open_until.map(|until| SavedBreaker {
            open_until: UnixMillis::read(until),
            opened,
        }),
        failures: row.get(6)?,
        latency_micros: latency.and_then(|micros| u64::try_from(micros).ok()),
    };
    Ok(Stored {
        target,
        gone_at: row.get(8)?,
    })
}

fn store(statement: &mut Statement<'_>, target: &SavedTarget) -> rusqlite::Result<()> {
    let admin = match target.admin {
        SavedAdmin::Active => 0,
        SavedAdmin::Drain => 1,
        SavedAdmin::Dead => 2,
    };
    let checked = match target.checked {
        SavedCheck::Unknown => 0,
        SavedCheck::Up => 1,
        SavedCheck::Down => 2,
    };
    let latency = |micros| i64::try_from(micros).unwrap_or(i64::MAX);
    statement.execute((
        &target.pool,
        &target.id,
        admin,
        checked,
        target.breaker.map(|breaker| breaker.open_until.stored()),
        target.breaker.map_or(0, |breaker| breaker.opened),
        target.failures,
        target.latency_micros.map(latency),
    ))?;
    Ok(())
}

fn forget(transaction: &Transaction<'_>, at: UnixMillis) -> rusqlite::Result<()> {
    let before = |keep: Duration| {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        at.stored().saturating_sub(keep)
    };
    transaction.execute(
        "DELETE FROM targets WHERE gone_at IS NOT NULL AND gone_at < iif(admin = 0, ?1, ?2)",
        (before(KEEP_OTHERS), before(KEEP_MANUAL)),
    )?;
    // The manual ones and the newest stay.
    transaction.execute("DELETE FROM targets WHERE (pool, id) IN (SELECT pool, id FROM targets WHERE gone_at IS NOT NULL \
             ORDER BY admin = 0, gone_at DESC LIMIT -1 OFFSET ?1)", [i64::try_from(MAX_GONE).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// SQLite's: byte by byte.
fn order(one: &SavedTarget, other: &SavedTarget) -> Ordering {
    (&one.pool, &one.id).cmp(&(&other.pool, &other.id))
}
