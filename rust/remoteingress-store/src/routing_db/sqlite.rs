//! Snapshots of a database through SQLite, read-only.

use super::cells::{Cell, Cells, Column, MAX_TEXT};
use super::error::RoutingDbError;
use super::reading::{MAX_ROWS, Reading, read_rows};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Transaction};
use std::path::Path;

/// A writer that commits again and again leaves gaps that are shorter than the time between two polls.
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Bytes of a file that is checked as a whole; of a larger one only the pages of `backends`.
pub const WHOLE_CHECK_MAX: i64 = 64 * 1024 * 1024;

/// Steps of SQLite's machine in one reading, about a second of a core; 100,000 rows need a sixth of them.
const MAX_STEPS: u32 = 100_000_000;
/// Steps between two looks at the bound.
const STEPS_PER_LOOK: u16 = 10_000;
/// Findings of a check that are looked at: those about values come last and say nothing.
const MAX_FINDINGS: u8 = 100;

/// A database that is open for reading.
#[derive(Debug)]
pub(super) struct Snapshots(Connection);

impl Snapshots {
    /// Reads nothing of it yet.
    pub(super) fn open(path: &Path) -> Result<Self, RoutingDbError> {
        // Without URI: a path with `?` is a path.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|error| RoutingDbError::of_opening(&error))?;
        // A lock is waited for between two commits of a busy writer, and told if it lasts. The schema is somebody else's: no function with side effects in its views, and
        // its CHECKs judge rows that we judge ourselves.
        connection
            .busy_timeout(LOCK_PATIENCE)
            .and_then(|()| {
                connection.execute_batch(
                    "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA ignore_check_constraints=ON;",
                )
            })
            .map_err(|error| RoutingDbError::of_reading(&error))?;
        Ok(Self(connection))
    }

    /// A number that changes when another connection has committed.
    pub(super) fn data_version(&self) -> Result<i64, RoutingDbError> {
        number(&self.0, "PRAGMA data_version").map_err(|error| RoutingDbError::of_reading(&error))
    }

    /// Checks one snapshot and reads its rows. With them comes its `data_version`. `size` is the file's, in bytes.
    pub(super) fn read(
        &self,
        size: u64,
        allow_special_targets: bool,
    ) -> Result<(Reading, i64), RoutingDbError> {
        let connection = &self.0;
        let mut looks = MAX_STEPS / u32::from(STEPS_PER_LOOK);
        let is_too_much = move || {
            looks = looks.saturating_sub(1);
            looks == 0
        };
        let begun = connection
            .progress_handler(STEPS_PER_LOOK.into(), Some(is_too_much))
            .and_then(|()| connection.unchecked_transaction())
            .map_err(|error| RoutingDbError::of_reading(&error))?;
        // The first statement takes the snapshot, and all others see the same. Dropped, the transaction ends.
        let data_version = self.data_version()?;
        check(&begun, size)?;
        let columns = columns(&begun)?;
        let reading = rows(&begun, &columns, allow_special_targets)
            .map_err(|error| RoutingDbError::of_reading(&error))?;
        Ok((reading, data_version))
    }
}

/// See the module's documentation on damaged files.
fn check(snapshot: &Transaction<'_>, size: u64) -> Result<(), RoutingDbError> {
    let finding = || -> rusqlite::Result<Option<String>> {
        let page_size = number(snapshot, "PRAGMA page_size")?;
        // SQLite fills up a last page that is cut, with zeroes that are values.
        if !i64::try_from(size).is_ok_and(|size| size % page_size.max(1) == 0) {
            return Ok(Some(format!("{size} bytes are no whole pages")));
        }
        let bytes = number(snapshot, "PRAGMA page_count")?.saturating_mul(page_size);
        let pragma = if bytes <= WHOLE_CHECK_MAX {
            format!("PRAGMA quick_check({MAX_FINDINGS})")
        } else {
            "PRAGMA quick_check('backends')".to_owned()
        };
        let mut statement = snapshot.prepare(&pragma)?;
        let mut findings = statement.query([])?;
        while let Some(row) = findings.next()? {
            let text: String = row.get(0)?;
            // "NULL value in t.c", "TEXT value in t.c": the row's own check judges that, and refuses the row alone.
            if text != "ok" && !text.contains(" value in ") {
                return Ok(Some(text));
            }
        }
        Ok(None)
    };
    match finding() {
        Ok(None) => Ok(()),
        Ok(Some(text)) => Err(RoutingDbError::Damaged(text.replace('\n', " "))),
        Err(error) => Err(RoutingDbError::of_reading(&error)),
    }
}

/// Those that are read and that the table has.
fn columns(snapshot: &Transaction<'_>) -> Result<Vec<Column>, RoutingDbError> {
    let described = || -> rusqlite::Result<Vec<(String, String)>> {
        let mut statement = snapshot.prepare("PRAGMA table_info(backends)")?;
        let columns = statement.query_map([], |row| Ok((row.get("name")?, row.get("type")?)))?;
        columns.collect()
    };
    let described = described().map_err(|error| RoutingDbError::of_reading(&error))?;
    if described.is_empty() {
        return Err(RoutingDbError::NoTable);
    }
    if let Some((name, kind)) = described.iter().find(|(_, kind)| !is_one_type(kind)) {
        let text = format!("its schema has a column {name:?} of the type {kind:?}");
        return Err(RoutingDbError::Damaged(text));
    }
    let has = |column: &Column| {
        let mut names = described.iter().map(|(name, _)| name);
        names.any(|name| name.eq_ignore_ascii_case(column.name()))
    };
    if let Some(lacking) = Column::NEEDED.into_iter().find(|column| !has(column)) {
        return Err(RoutingDbError::NoColumn(lacking));
    }
    Ok(Column::ALL.into_iter().filter(has).collect())
}

/// Not two columns that a damaged comma made one: SQLite takes nearly any words for a type, and all values behind them
/// would stand in the column before theirs. `app TEXT$ region TEXT` is a column whose type has two types in it.
fn is_one_type(kind: &str) -> bool {
    const TYPES: [&str; 6] = ["INT", "TEXT", "REAL", "BLOB", "NUM", "BOOL"];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _(),".contains(&byte);
    let words = || kind.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let types = words().filter(|word| {
        let word = word.to_ascii_uppercase();
        TYPES.iter().any(|name| word.starts_with(name))
    });
    let names_column = |word: &str| {
        let mut columns = Column::ALL.into_iter();
        columns.any(|column| word.eq_ignore_ascii_case(column.name()))
    };
    kind.bytes().all(is_plain) && types.count() <= 1 && !words().any(names_column)
}

fn rows(
    snapshot: &Transaction<'_>,
    columns: &[Column],
    allow_special_targets: bool,
) -> rusqlite::Result<Reading> {
    // An oversized value isn't loaded to be refused: it becomes a blob on the way.
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let name = column.name();
            format!("iif(octet_length(\"{name}\")>{MAX_TEXT},x'',\"{name}\")")
        })
        .collect();
    let sql = format!(
        "SELECT {} FROM backends LIMIT {}",
        values.join(","),
        MAX_ROWS + 1
    );
    let mut statement = snapshot.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let mut cells = Cells::default();
        for (index, column) in columns.iter().enumerate() {
            cells.set(*column, cell(row.get_ref(index)?));
        }
        Ok(cells)
    })?;
    read_rows(rows, allow_special_targets)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map_or(Cell::Unreadable, |text| Cell::Text(text.to_owned()))
        }
        ValueRef::Blob(_) => Cell::Unreadable,
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(pragma, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_columns_in_one_are_no_type() {
        for kind in [
            "",
            "TEXT",
            "INTEGER",
            "unsigned big int",
            "DECIMAL(10, 2)",
            "VARYING CHARACTER(255)",
        ] {
            assert!(is_one_type(kind), "{kind}");
        }
        for kind in [
            "TEXT$ region TEXT",
            "TEXT\u{c} note INTEGER",
            "TEXTl note TEXT",
            "VARCHAR region VARCHAR",
            "TEXT-",
        ] {
            assert!(!is_one_type(kind), "{kind}");
        }
    }
}
