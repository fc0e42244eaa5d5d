//! Single numbers that the file keeps by name: times of saves, the seed.

use rusqlite::{Connection, OptionalExtension, Transaction};

/// None if it was never set.
pub(super) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT value FROM numbers WHERE name=?1";
    connection
        .query_row(sql, [name], |row| row.get(0))
        .optional()
}

/// Keeps a number.
pub(super) fn set(transaction: &Transaction<'_>, name: &str, value: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO numbers (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value=excluded.value";
    transaction.execute(sql, (name, value))?;
    Ok(())
}
