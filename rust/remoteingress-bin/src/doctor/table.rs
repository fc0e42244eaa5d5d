//! A report as a table for people.

use crate::terminal::plain;
use remoteingress_config::doctor::CheckState;
use serde_json::Value;
use std::fmt::Write;

/// One line per check, and one for its advice; the last line counts. A report is JSON here, because that of a newer server
/// may have checks that this binary doesn't know.
pub(crate) fn table(report: &Value) -> String {
    let checks = report["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let cell = |check: &Value, field| plain(check[field].as_str().unwrap_or("-"));
    let width = |field| {
        let cells = checks.iter().map(|check| cell(check, field));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (states, names) = (width("state"), width("name"));
    let mut out = String::new();
    // Writing to a string can't fail.
    for check in checks {
        let [state, name, seen] = ["state", "name", "seen"].map(|field| cell(check, field));
        let _ = writeln!(out, "{state:states$}  {name:names$}  {seen}");
        if let Some(advice) = check["advice"].as_str() {
            let _ = writeln!(out, "{:states$}  {:names$}  -> {}", "", "", plain(advice));
        }
    }
    let count = |state: CheckState| {
        let found = checks.iter();
        found
            .filter(|check| check["state"] == state.as_str())
            .count()
    };
    let (ok, warnings) = (count(CheckState::Ok), count(CheckState::Warning));
    let failures = count(CheckState::Failure);
    let _ = write!(out, "{ok} ok, {warnings} warnings, {failures} failures");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::doctor::{Check, CheckName, DoctorReport};
    use serde_json::json;

    #[test]
    fn columns_stand_below_each_other() {
        let checks = vec![
            Check::ok(CheckName::Clock, "late\u{1b}[2J"),
            Check::failure(CheckName::TunnelPort, "used", "stop it"),
        ];
        let shown = table(&json!(DoctorReport { checks }));
        let expected = "ok       clock       late\\u{1b}[2J\n\
                        failure  tunnelPort  used\n                     \
                        -> stop it\n\
                        1 ok, 0 warnings, 1 failures";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_check_of_a_newer_server_is_shown() {
        let report = json!({"checks": [{"name": "newer", "state": "unsure", "seen": "x"}]});
        let expected = "unsure  newer  x\n0 ok, 0 warnings, 0 failures";
        assert_eq!(table(&report), expected);
    }
}
