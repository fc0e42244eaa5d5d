//! Tables of text.

use crate::terminal::plain;
use remoteingress_config::civil_date::civil_date;

/// A column's side to which its cells are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows below a line of names. An empty table is the text `none`.
pub(super) fn table(columns: &[(&str, Side)], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let head = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let plain_row = |row: Vec<String>| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).map(plain_row).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), (_, side)) in row.iter().zip(&widths).zip(columns) {
            let room = " ".repeat(width.saturating_sub(cell.chars().count()));
            if !line.is_empty() {
                line.push_str("  ");
            }
            match side {
                Side::Left => line.extend([cell.as_str(), &room]),
                Side::Right => line.extend([room.as_str(), cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes with a unit.
pub(super) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A duration in its two largest units.
pub(super) fn duration(millis: u64) -> String {
    let secs = millis / 1_000;
    match secs {
        0 => format!("{millis}ms"),
        1..60 => format!("{secs}s"),
        60..3_600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3_600..86_400 => format!("{}h{:02}m", secs / 3_600, secs / 60 % 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// A time as RFC 3339 writes it, in UTC with milliseconds.
pub(super) fn time(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil_date(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, millis) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let columns = [
            ("ID", Side::Left),
            ("COUNT", Side::Right),
            ("NOTE", Side::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let shown = table(
            &columns,
            vec![row(["edge-ä", "7", ""]), row(["b", "1000000", "x"])],
            "no",
        );
        let expected = "ID        COUNT  NOTE\nedge-ä        7\nb       1000000  x\n";
        assert_eq!(shown, expected);
        assert_eq!(table(&columns, Vec::new(), "no edges"), "no edges\n");
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let shown = plain("a\u{1b}[31m\r\nb\u{202e}c\u{9b}");
        assert_eq!(shown, r"a\u{1b}[31m\u{d}\u{a}b\u{202e}c\u{9b}");
        let shown = table(&[("ID", Side::Left)], vec![vec!["x\u{7}\n".to_owned()]], "");
        assert_eq!(shown, "ID\nx\\u{7}\\u{a}\n");
    }

    #[test]
    fn counts_and_times_are_short() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(
            (duration(999), duration(61_000)),
            ("999ms".into(), "1m01s".into())
        );
        assert_eq!(
            (duration(3_660_000), duration(90_000_000)),
            ("1h01m".into(), "1d01h".into())
        );
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(time(1_796_000_461_000), "2026-11-30T01:01:01.000Z");
    }
}
