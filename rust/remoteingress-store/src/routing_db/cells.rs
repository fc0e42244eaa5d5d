//! The columns that are read, and their values as they come.

/// Bytes of a text that are read; longer ones count as unreadable.
pub const MAX_TEXT: usize = 1024;

/// A column of `backends` that is read if the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Of the target; needed.
    Id,
    /// The host to dial; needed.
    WgIp,
    /// Of the host; needed.
    Port,
    /// The pool.
    App,
    /// Where the target stands.
    Region,
    /// Where the target stands.
    Country,
    /// 0 and NULL: gets no streams.
    Healthy,
    /// Share of the streams.
    Weight,
    /// Streams that it bears well.
    SoftLimit,
    /// Streams that it never has more of.
    HardLimit,
    /// Neither 0 nor NULL: as if the row weren't there.
    Deleted,
    /// Not edgeProxy's: backups have a higher one.
    Priority,
    /// Not edgeProxy's: manual state.
    Admin,
    /// Not edgeProxy's.
    SlowStartSecs,
    /// Not edgeProxy's: goes before `wg_ip`.
    Host,
}

impl Column {
    /// In the order of their cells.
    pub const ALL: [Self; 15] = [
        Self::Id,
        Self::WgIp,
        Self::Port,
        Self::App,
        Self::Region,
        Self::Country,
        Self::Healthy,
        Self::Weight,
        Self::SoftLimit,
        Self::HardLimit,
        Self::Deleted,
        Self::Priority,
        Self::Admin,
        Self::SlowStartSecs,
        Self::Host,
    ];

    /// A table without them is none of edgeProxy's.
    pub const NEEDED: [Self; 3] = [Self::Id, Self::WgIp, Self::Port];

    /// In SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::WgIp => "wg_ip",
            Self::Port => "port",
            Self::App => "app",
            Self::Region => "region",
            Self::Country => "country",
            Self::Healthy => "healthy",
            Self::Weight => "weight",
            Self::SoftLimit => "soft_limit",
            Self::HardLimit => "hard_limit",
            Self::Deleted => "deleted",
            Self::Priority => "priority",
            Self::Admin => "admin",
            Self::SlowStartSecs => "slow_start_secs",
            Self::Host => "host",
        }
    }
}

/// A value, by the type that it has itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT of at most [`MAX_TEXT`] bytes.
    Text(String),
    /// BLOB, text that is no UTF-8, or longer text.
    Unreadable,
}

/// The values of one row; none where the table lacks the column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells([Option<Cell>; Column::ALL.len()]);

impl Cells {
    /// Of a column; `None` where the table lacks it.
    #[must_use]
    pub fn get(&self, column: Column) -> Option<&Cell> {
        self.0.get(column as usize)?.as_ref()
    }

    /// Puts a value into a column.
    pub fn set(&mut self, column: Column, cell: Cell) {
        if let Some(place) = self.0.get_mut(column as usize) {
            *place = Some(cell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_own_cell() {
        for (index, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, index);
        }
    }
}
