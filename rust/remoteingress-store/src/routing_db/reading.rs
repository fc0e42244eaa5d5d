//! All rows of one snapshot, judged.

use super::cells::Cells;
use super::row::{Refusal, Row, check_row};
use std::collections::HashSet;

/// Rows that are looked at, deleted ones among them.
pub const MAX_ROWS: usize = 100_000;
/// Good rows that are taken.
pub const MAX_TARGETS: usize = 10_000;

/// What one snapshot of the table has, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Good ones, each id once; at most [`MAX_TARGETS`].
    pub rows: Vec<Row>,
    /// Bad ones.
    pub refused: Vec<Refusal>,
    /// Rows left out as deleted.
    pub deleted: usize,
    /// Good rows beyond [`MAX_TARGETS`], left out.
    pub beyond: usize,
    /// The table has more than [`MAX_ROWS`]; the rest wasn't looked at.
    pub is_cut: bool,
}

/// Judges rows one by one.
///
/// # Errors
/// The first error of the iterator, which ends the reading: half a table is no table.
pub fn read_rows<E>(
    rows: impl IntoIterator<Item = Result<Cells, E>>,
    allow_special_targets: bool,
) -> Result<Reading, E> {
    let mut reading = Reading::default();
    let mut ids = HashSet::new();
    for (cells, number) in rows.into_iter().zip(1_u64..) {
        let cells = cells?;
        if number > MAX_ROWS as u64 {
            reading.is_cut = true;
            break;
        }
        match check_row(&cells, number, allow_special_targets) {
            Ok(None) => reading.deleted += 1,
            Err(refusal) => reading.refused.push(refusal),
            Ok(Some(row)) if ids.contains(&row.id) => reading.refused.push(Refusal {
                reason: format!("id {:?} is there twice; the first row counts", row.id),
                row: number,
                id: Some(row.id),
            }),
            Ok(Some(_)) if reading.rows.len() == MAX_TARGETS => reading.beyond += 1,
            Ok(Some(row)) => {
                ids.insert(row.id.clone());
                reading.rows.push(row);
            }
        }
    }
    Ok(reading)
}
