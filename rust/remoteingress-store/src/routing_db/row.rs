//! One row of `backends`: a target, or a reason why it can't be one.

use super::cells::{Cell, Cells, Column};
use remoteingress_config::target::is_special;
use remoteingress_proto::token::host::Host;
use std::ops::RangeInclusive;

/// A target as a row gives it, with every value checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Unique in the table; at most 128 bytes without control characters.
    pub id: String,
    /// `app`: the pool that the target is in. A row without one is only in the pool of all rows.
    pub pool: Option<String>,
    /// Name or address to dial.
    pub host: Host,
    /// 1 to 65,535.
    pub port: u16,
    /// A region's name as written, such as `sa`.
    pub region: Option<String>,
    /// Two capital letters (ISO 3166).
    pub country: Option<[u8; 2]>,
    /// 0: no new clients.
    pub weight: u16,
    /// Streams; at least 1.
    pub soft_limit: u32,
    /// Streams; `None` is no limit.
    pub hard_limit: Option<u32>,
    /// False: not chosen, whatever else is known of it.
    pub healthy: bool,
    /// 0 is chosen first.
    pub priority: u16,
    /// What a person decided.
    pub admin: Admin,
    /// Seconds; `None`: as the pool says.
    pub slow_start_secs: Option<u32>,
}

/// The manual state that a row asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Chosen as health and limits allow.
    #[default]
    Active,
    /// No new clients.
    Drain,
    /// No clients.
    Dead,
}

/// A row that can't be a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Unless it is what can't be read.
    pub id: Option<String>,
    /// Its place in the table, from 1, as `SELECT * FROM backends` shows it.
    pub row: u64,
    /// A sentence: what the value is, and what it must be.
    pub reason: String,
}

/// edgeProxy's own defaults of its columns.
const DEFAULT_WEIGHT: u16 = 2;
const DEFAULT_SOFT_LIMIT: u32 = 100;
const DEFAULT_HARD_LIMIT: u32 = 150;
/// Bytes of an id, a pool's name, a region's name.
const MAX_NAME: usize = 128;
/// A day.
const MAX_SLOW_START: i64 = 86_400;

/// Checks a row: `Ok(None)` if it is deleted. `row` is its place in the table, from 1.
///
/// A default gives way to what is written: soft limit 300 without a hard one has the hard limit 300, and hard limit 50
/// without a soft one has the soft limit 50.
///
/// # Errors
/// The first value that can't be.
pub fn check_row(
    cells: &Cells,
    row: u64,
    allow_special_targets: bool,
) -> Result<Option<Row>, Refusal> {
    let refused = |id: Option<&String>, reason| Refusal {
        id: id.cloned(),
        row,
        reason,
    };
    let id = id(cells);
    match flag(cells, Column::Deleted) {
        Ok(None | Some(false)) => {}
        Ok(Some(true)) => return Ok(None),
        Err(reason) => return Err(refused(id.ok().as_ref(), reason)),
    }
    let id = id.map_err(|reason| refused(None, reason))?;
    match values(cells, id.clone(), allow_special_targets) {
        Ok(row) => Ok(Some(row)),
        Err(reason) => Err(refused(Some(&id), reason)),
    }
}

fn values(cells: &Cells, id: String, allow_special_targets: bool) -> Result<Row, String> {
    let (soft_limit, hard_limit) = limits(cells)?;
    let port = integer(cells, Column::Port, 1..=u16::MAX.into())?
        .ok_or("port is missing; it must be 1 to 65535")?;
    Ok(Row {
        id,
        pool: name(cells, Column::App)?,
        host: host(cells, allow_special_targets)?,
        port,
        region: name(cells, Column::Region)?,
        country: country(cells)?,
        weight: integer(cells, Column::Weight, 0..=u16::MAX.into())?.unwrap_or(DEFAULT_WEIGHT),
        soft_limit,
        hard_limit,
        // NULL is not `<> 0`; a table without the column knows nothing of health.
        healthy: cells.get(Column::Healthy).is_none()
            || flag(cells, Column::Healthy)?.unwrap_or(false),
        priority: integer(cells, Column::Priority, 0..=u16::MAX.into())?.unwrap_or(0),
        admin: admin(cells)?,
        slow_start_secs: integer(cells, Column::SlowStartSecs, 0..=MAX_SLOW_START)?,
    })
}

fn id(cells: &Cells) -> Result<String, String> {
    match cells.get(Column::Id) {
        // A table may number its rows.
        Some(Cell::Integer(number)) => Ok(number.to_string()),
        _ => name(cells, Column::Id)?
            .ok_or_else(|| format!("id is missing; it must be a text of at most {MAX_NAME} bytes")),
    }
}

fn host(cells: &Cells, allow_special_targets: bool) -> Result<Host, String> {
    let column = match text(cells, Column::Host)? {
        Some(_) => Column::Host,
        None => Column::WgIp,
    };
    let name = column.name();
    let text = text(cells, column)?
        .ok_or_else(|| format!("{name} is missing; it must be an IP address or a DNS name"))?;
    let host = Host::new(text).map_err(|error| format!("{name} is {}; it {error}", shown(text)))?;
    if !allow_special_targets && host.address().is_some_and(is_special) {
        return Err(format!(
            "{name} is {text}, an address that no target has: metadata service, link-local, unspecified or multicast \
             (see allowSpecialTargets)"
        ));
    }
    Ok(host)
}

fn limits(cells: &Cells) -> Result<(u32, Option<u32>), String> {
    let limit = |column| integer::<u32>(cells, column, 0..=u32::MAX.into());
    let soft = limit(Column::SoftLimit)?.map(|soft| soft.max(1));
    let hard = limit(Column::HardLimit)?;
    let limits = match (soft, hard) {
        (soft, Some(0)) => (soft.unwrap_or(DEFAULT_SOFT_LIMIT), None),
        (Some(soft), Some(hard)) if soft > hard => {
            return Err(format!(
                "soft_limit {soft} is above hard_limit {hard}; it must be at most that, or hard_limit 0 for none"
            ));
        }
        (Some(soft), hard) => (
            soft,
            Some(hard.unwrap_or_else(|| DEFAULT_HARD_LIMIT.max(soft))),
        ),
        (None, Some(hard)) => (DEFAULT_SOFT_LIMIT.min(hard), Some(hard)),
        (None, None) => (DEFAULT_SOFT_LIMIT, Some(DEFAULT_HARD_LIMIT)),
    };
    Ok(limits)
}

fn country(cells: &Cells) -> Result<Option<[u8; 2]>, String> {
    let Some(text) = text(cells, Column::Country)? else {
        return Ok(None);
    };
    match *text.as_bytes() {
        [first, second] if text.bytes().all(|byte| byte.is_ascii_alphabetic()) => Ok(Some([
            first.to_ascii_uppercase(),
            second.to_ascii_uppercase(),
        ])),
        _ => Err(format!(
            "country is {}; it must be two letters, such as BR",
            shown(text)
        )),
    }
}

fn admin(cells: &Cells) -> Result<Admin, String> {
    match text(cells, Column::Admin)? {
        None | Some("active") => Ok(Admin::Active),
        Some("drain") => Ok(Admin::Drain),
        Some("dead") => Ok(Admin::Dead),
        Some(other) => Err(format!(
            "admin is {}; it must be active, drain or dead",
            shown(other)
        )),
    }
}

fn name(cells: &Cells, column: Column) -> Result<Option<String>, String> {
    let Some(text) = text(cells, column)? else {
        return Ok(None);
    };
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is {}; it must have at most {MAX_NAME} bytes and no control characters",
            column.name(),
            shown(text)
        ));
    }
    Ok(Some(text.to_owned()))
}

/// An empty text counts as none: that is what a spreadsheet's empty field becomes.
fn text(cells: &Cells, column: Column) -> Result<Option<&str>, String> {
    let name = column.name();
    match cells.get(column) {
        None | Some(Cell::Null) => Ok(None),
        Some(Cell::Text(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(Cell::Integer(number)) => {
            Err(format!("{name} is the number {number}; it must be a text"))
        }
        Some(Cell::Real(number)) => {
            Err(format!("{name} is the number {number}; it must be a text"))
        }
        Some(Cell::Unreadable) => Err(unreadable(name)),
    }
}

/// A number may be written as text: that is what an imported spreadsheet has.
fn integer<T: TryFrom<i64>>(
    cells: &Cells,
    column: Column,
    range: RangeInclusive<i64>,
) -> Result<Option<T>, String> {
    let name = column.name();
    let (found, value) = match cells.get(column) {
        None | Some(Cell::Null) => return Ok(None),
        Some(Cell::Unreadable) => return Err(unreadable(name)),
        Some(Cell::Integer(number)) => (number.to_string(), Some(*number)),
        Some(Cell::Real(number)) => (number.to_string(), None),
        Some(Cell::Text(text)) => (shown(text), decimal(text)),
    };
    let (least, most) = (range.start(), range.end());
    value
        .filter(|number| range.contains(number))
        .and_then(|number| number.try_into().ok())
        .map(Some)
        .ok_or_else(|| {
            format!("{name} is {found}; it must be a whole number from {least} to {most}")
        })
}

/// As in SQL: 0 is false, any other number is true.
fn flag(cells: &Cells, column: Column) -> Result<Option<bool>, String> {
    integer::<i64>(cells, column, i64::MIN..=i64::MAX)
        .map(|number| number.map(|number| number != 0))
        .map_err(|_| format!("{} is no number; it must be 0 or 1", column.name()))
}

fn decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

fn unreadable(name: &str) -> String {
    format!("{name} is a blob, or text that is too long or no UTF-8")
}

/// In quotes, escaped, and cut where it is long.
fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
