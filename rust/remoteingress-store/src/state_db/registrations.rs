//! What targets said when they registered themselves: written and read as a whole.

use super::error::StateDbError;
use super::saved::{MAX_REGISTRATION, MAX_TARGETS};
use rusqlite::{Connection, Transaction};

pub(super) fn save<'a>(
    transaction: &Transaction<'_>,
    registrations: impl IntoIterator<Item = &'a str>,
) -> Result<usize, StateDbError> {
    transaction.execute_batch("DELETE FROM registrations")?;
    let mut insert = transaction.prepare("INSERT INTO registrations (json) VALUES (?1)")?;
    let fits = |json: &&str| json.len() <= MAX_REGISTRATION;
    let mut count = 0;
    for json in registrations.into_iter().filter(fits).take(MAX_TARGETS) {
        insert.execute([json])?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT json FROM registrations ORDER BY rowid")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}
