//! The rows in force, and how a reading changes them.

use super::reading::{MAX_TARGETS, Reading};
use super::row::{Refusal, Row};
use std::collections::{BTreeMap, HashSet};

/// The rows in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Counts the changes of `rows`, from 0 for the empty one.
    pub revision: u64,
    /// By id.
    pub rows: BTreeMap<String, Row>,
    /// Rows of the last reading that were refused; those whose id is in `rows` have their last good version there.
    pub refused: Vec<Refusal>,
}

/// Difference of two versions, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// New ones.
    pub added: Vec<String>,
    /// Ones that the table has no longer, or has as deleted.
    pub removed: Vec<String>,
    /// Ones with other values.
    pub changed: Vec<String>,
    /// Refusals that the version before didn't have: each is told once.
    pub refused: Vec<Refusal>,
}

impl Change {
    /// Nothing to do and nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.keeps_rows()
    }

    /// No row is another one.
    fn keeps_rows(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Version {
    /// The version after a reading. A refused row whose id is in force keeps the version of it that is, while there is
    /// room for it beside the good ones ([`MAX_TARGETS`]).
    #[must_use]
    pub fn next(&self, reading: Reading) -> (Self, Change) {
        let mut rows: BTreeMap<String, Row> = reading
            .rows
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        for id in reading.refused.iter().filter_map(|row| row.id.as_ref()) {
            if let Some(good) = self.rows.get(id)
                && rows.len() < MAX_TARGETS
            {
                rows.entry(id.clone()).or_insert_with(|| good.clone());
            }
        }
        let mut change = Change {
            refused: self.news(&reading.refused),
            ..Change::default()
        };
        for (id, row) in &rows {
            match self.rows.get(id) {
                None => change.added.push(id.clone()),
                Some(before) if before != row => change.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        let gone = self.rows.keys().filter(|id| !rows.contains_key(*id));
        change.removed.extend(gone.cloned());
        let revision = self.revision + u64::from(!change.keeps_rows());
        let refused = reading.refused;
        let next = Self {
            revision,
            rows,
            refused,
        };
        (next, change)
    }

    /// A row with an id may move in the table and is still the same one; without an id only its place tells.
    fn news(&self, refused: &[Refusal]) -> Vec<Refusal> {
        let known: HashSet<_> = self.refused.iter().map(key).collect();
        refused
            .iter()
            .filter(|refusal| !known.contains(&key(refusal)))
            .cloned()
            .collect()
    }
}

fn key(refusal: &Refusal) -> (Option<&str>, Option<u64>, &str) {
    let place = refusal.id.is_none().then_some(refusal.row);
    (refusal.id.as_deref(), place, &refusal.reason)
}
