//! Which client had which target: written and read as a whole.

use super::error::StateDbError;
use super::numbers::{get, set};
use super::saved::{MAX_BINDINGS, MAX_ID, MAX_NAME, SavedBinding, UnixMillis, millis};
use rusqlite::{Connection, Transaction};
use std::collections::HashMap;
use std::time::Duration;

/// Time of the save.
const SAVED_AT: &str = "bindings_at";

pub(super) fn save<'a>(
    transaction: &Transaction<'_>,
    bindings: impl IntoIterator<Item = SavedBinding<'a>>,
    at: UnixMillis,
) -> Result<usize, StateDbError> {
    transaction.execute_batch("DELETE FROM bindings; DELETE FROM binding_targets;")?;
    let mut name = transaction
        .prepare("INSERT INTO binding_targets (number, pool, id) VALUES (?1, ?2, ?3)")?;
    let mut insert = transaction
        .prepare("INSERT INTO bindings (key, target, age_millis) VALUES (?1, ?2, ?3)")?;
    let mut numbers: HashMap<(&str, &str), i64> = HashMap::new();
    let mut next = 0;
    let mut count = 0;
    let fits = |binding: &SavedBinding<'_>| {
        binding.pool.len() <= MAX_NAME && binding.target.len() <= MAX_ID
    };
    for binding in bindings.into_iter().filter(fits).take(MAX_BINDINGS) {
        let of = (binding.pool, binding.target);
        let number = if let Some(number) = numbers.get(&of) {
            *number
        } else {
            next += 1;
            name.execute((next, binding.pool, binding.target))?;
            numbers.insert(of, next);
            next
        };
        let age = i64::try_from(millis(binding.age)).unwrap_or(i64::MAX);
        insert.execute((binding.key.cast_signed(), number, age))?;
        count += 1;
    }
    set(transaction, SAVED_AT, at.stored())?;
    Ok(count)
}

pub(super) fn load(
    connection: &Connection,
    now: UnixMillis,
    mut visit: impl FnMut(SavedBinding<'_>),
) -> Result<usize, StateDbError> {
    let saved_at = get(connection, SAVED_AT)?.map_or(now, UnixMillis::read);
    let since = now.since(saved_at);
    let targets = targets(connection)?;
    let mut statement = connection.prepare("SELECT key, target, age_millis FROM bindings")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (key, number, age): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some((pool, target)) = targets.get(&number) else {
            continue;
        };
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        visit(SavedBinding {
            key: key.cast_unsigned(),
            pool,
            target,
            age: age.saturating_add(since),
        });
        count += 1;
    }
    Ok(count)
}

/// Pool and id by number.
pub(super) fn targets(connection: &Connection) -> rusqlite::Result<HashMap<i64, (String, String)>> {
    let mut statement = connection.prepare("SELECT number, pool, id FROM binding_targets")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    rows.collect()
}
