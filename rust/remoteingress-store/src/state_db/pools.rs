//! Pools that were written at run time, and the revision that counts their writes.

use super::error::StateDbError;
use super::numbers::{get, set};
use super::saved::{MAX_NAME, MAX_POOL_JSON, MAX_POOLS, MAX_POOLS_JSON, SavedPool};
use rusqlite::{Connection, Transaction};

const REVISION: &str = "revision";

pub(super) fn revision(connection: &Connection) -> Result<u64, StateDbError> {
    let revision = get(connection, REVISION)?.unwrap_or(0);
    Ok(u64::try_from(revision).unwrap_or(0))
}

pub(super) fn save(
    transaction: &Transaction<'_>,
    name: &str,
    json: &str,
) -> Result<u64, StateDbError> {
    within("a pool's name", name.len(), MAX_NAME)?;
    within("a pool in JSON", json.len(), MAX_POOL_JSON)?;
    let (count, bytes): (i64, i64) = transaction.query_row(
        "SELECT count(*), coalesce(sum(octet_length(json)), 0) FROM pools WHERE name <> ?1",
        [name],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    within("the number of pools", piece(count) + 1, MAX_POOLS)?;
    within(
        "all pools in JSON",
        piece(bytes) + json.len(),
        MAX_POOLS_JSON,
    )?;
    transaction.execute(
        "INSERT INTO pools (name, json) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET json=excluded.json",
        (name, json),
    )?;
    count_up(transaction)
}

/// The new revision; none if there was no such pool.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<Option<u64>, StateDbError> {
    match transaction.execute("DELETE FROM pools WHERE name=?1", [name])? {
        0 => Ok(None),
        _ => count_up(transaction).map(Some),
    }
}

pub(super) fn load(connection: &Connection) -> Result<Vec<SavedPool>, StateDbError> {
    let mut statement = connection.prepare("SELECT name, json FROM pools ORDER BY name")?;
    let pools = statement.query_map([], |row| {
        Ok(SavedPool {
            name: row.get(0)?,
            json: row.get(1)?,
        })
    })?;
    Ok(pools.collect::<rusqlite::Result<_>>()?)
}

/// A count of SQLite's.
pub(super) fn piece(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

pub(super) fn within(what: &'static str, is: usize, most: usize) -> Result<(), StateDbError> {
    if is > most {
        return Err(StateDbError::TooLarge { what, most });
    }
    Ok(())
}

fn count_up(transaction: &Transaction<'_>) -> Result<u64, StateDbError> {
    let next = revision(transaction)?.saturating_add(1);
    set(
        transaction,
        REVISION,
        i64::try_from(next).unwrap_or(i64::MAX),
    )?;
    Ok(next)
}
