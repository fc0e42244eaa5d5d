//! Targets that registered themselves.

use super::error::StateDbError;
use super::pools::{piece, within};
use super::saved::{MAX_ID, MAX_LEASE_JSON, MAX_LEASES, MAX_NAME, SavedLease, UnixMillis};
use rusqlite::{Connection, Transaction};

pub(super) fn save(transaction: &Transaction<'_>, lease: &SavedLease) -> Result<(), StateDbError> {
    within("a pool's name", lease.pool.len(), MAX_NAME)?;
    within("a target's id", lease.id.len(), MAX_ID)?;
    within(
        "a registered target in JSON",
        lease.json.len(),
        MAX_LEASE_JSON,
    )?;
    let others: i64 = transaction.query_row(
        "SELECT (SELECT count(*) FROM leases) - (SELECT count(*) FROM leases WHERE pool=?1 AND id=?2)",
        (&lease.pool, &lease.id),
        |row| row.get(0),
    )?;
    within(
        "the number of registered targets",
        piece(others) + 1,
        MAX_LEASES,
    )?;
    transaction.execute(
        "INSERT OR REPLACE INTO leases (pool, id, json, until) VALUES (?1, ?2, ?3, ?4)",
        (&lease.pool, &lease.id, &lease.json, lease.until.stored()),
    )?;
    Ok(())
}

pub(super) fn remove(
    transaction: &Transaction<'_>,
    pool: &str,
    id: &str,
) -> rusqlite::Result<bool> {
    let removed = transaction.execute("DELETE FROM leases WHERE pool=?1 AND id=?2", (pool, id))?;
    Ok(removed > 0)
}

/// How many ended.
pub(super) fn expire(transaction: &Transaction<'_>, now: UnixMillis) -> rusqlite::Result<usize> {
    transaction.execute("DELETE FROM leases WHERE until <= ?1", [now.stored()])
}

pub(super) fn load(connection: &Connection) -> Result<Vec<SavedLease>, StateDbError> {
    let mut statement =
        connection.prepare("SELECT pool, id, json, until FROM leases ORDER BY pool, id")?;
    let leases = statement.query_map([], |row| {
        Ok(SavedLease {
            pool: row.get(0)?,
            id: row.get(1)?,
            json: row.get(2)?,
            until: UnixMillis::read(row.get(3)?),
        })
    })?;
    Ok(leases.collect::<rusqlite::Result<_>>()?)
}
