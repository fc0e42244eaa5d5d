//! A report as a table for people.

use crate::terminal::plain;
use remoteingress_config::doctor::{Check, CheckState, DoctorReport};
use std::fmt::Write;

/// One line per check, and one for its advice; the last line counts.
pub(crate) fn table(report: &DoctorReport) -> String {
    let width = |text: fn(&Check) -> usize| report.checks.iter().map(text).max().unwrap_or(0);
    let states = width(|check| check.state.as_str().len());
    let names = width(|check| check.name.as_str().len());
    let mut out = String::new();
    // Writing to a string can't fail.
    for check in &report.checks {
        let (state, name) = (check.state.as_str(), check.name.as_str());
        let _ = writeln!(
            out,
            "{state:states$}  {name:names$}  {}",
            plain(&check.seen)
        );
        if let Some(advice) = &check.advice {
            let _ = writeln!(out, "{:states$}  {:names$}  -> {}", "", "", plain(advice));
        }
    }
    let count = |state| {
        let found = report.checks.iter().filter(|check| check.state == state);
        found.count()
    };
    let (ok, warnings) = (count(CheckState::Ok), count(CheckState::Warning));
    let failures = count(CheckState::Failure);
    let _ = write!(out, "{ok} ok, {warnings} warnings, {failures} failures");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::doctor::CheckName;

    #[test]
    fn columns_stand_below_each_other() {
        let checks = vec![
            Check::ok(CheckName::Clock, "late\u{1b}[2J"),
            Check::failure(CheckName::TunnelPort, "used", "stop it"),
        ];
        let shown = table(&DoctorReport { checks });
        let expected = "ok       clock       late\\u{1b}[2J\n\
                        failure  tunnelPort  used\n                     \
                        -> stop it\n\
                        1 ok, 0 warnings, 1 failures";
        assert_eq!(shown, expected);
    }
}
