//! Answers to changes of an edge, for people.

use super::views::{list, text};
use crate::terminal::plain;
use serde_json::Value;
use std::fmt::Write as _;

/// Answer to `PUT` of an edge.
pub(super) fn put(answer: &Value) -> String {
    let mut shown = named(answer, &["added", "changed", "removed", "unchanged"]);
    if answer["secretMade"] == true {
        shown += "A secret was made for it; ctl token ID prints the edge's token.\n";
    }
    let is_change = ["added", "changed"]
        .iter()
        .any(|what| !list(&answer[*what]).is_empty());
    shown + &kept("It", answer, is_change)
}

/// Answer to `DELETE` of an edge.
pub(super) fn deleted(answer: &Value) -> String {
    let mut shown = named(answer, &["removed", "unknown"]);
    if !list(&answer["unknown"]).is_empty() {
        shown += "Nothing was removed; ctl edges shows the edges.\n";
    }
    let is_change = !list(&answer["removed"]).is_empty();
    shown + &kept("The removal", answer, is_change)
}

fn named(answer: &Value, kinds: &[&str]) -> String {
    let mut shown = String::new();
    for what in kinds {
        for id in list(&answer[*what]) {
            // A string takes whatever comes.
            let _ = writeln!(shown, "{what}: {}", plain(&text(id)));
        }
    }
    shown
}

/// How long a change is kept.
fn kept(what: &str, answer: &Value, is_change: bool) -> String {
    match answer["truth"].as_str() {
        Some(truth) if is_change => format!("{what} is {}.\n", plain(truth)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_says_how_long_it_is_kept_where_it_is_one() {
        let answer = json!({"added": ["a"], "secretMade": true, "truth": "kept"});
        assert_eq!(
            put(&answer),
            "added: a\nA secret was made for it; ctl token ID prints the edge's token.\nIt is kept.\n"
        );
        let answer = json!({"unchanged": ["a"], "truth": "kept"});
        assert_eq!(put(&answer), "unchanged: a\n");
        let answer = json!({"removed": ["a"], "unknown": [], "truth": "kept"});
        assert_eq!(deleted(&answer), "removed: a\nThe removal is kept.\n");
        let answer = json!({"removed": [], "unknown": ["a"], "truth": "kept"});
        assert_eq!(
            deleted(&answer),
            "unknown: a\nNothing was removed; ctl edges shows the edges.\n"
        );
    }
}
