//! Who isn't connected, why, and what to do about it, in the words of the status page.

use remoteingress_admin::page::advice::{HubAway, counted, names, of_away_edges, of_code};
use serde_json::Value;

type Lines = Vec<(&'static str, String)>;

/// What else must be asked to tell of those who are away, if anybody may be.
pub(super) fn question(status: &Value) -> Option<&'static str> {
    if status["hub"].is_object() {
        Some("/api/v1/edges")
    } else {
        (status["edge"]["connected"] == false).then_some("/api/v1/events")
    }
}

/// The lines about them; `more` is the answer to the question, or null.
pub(super) fn lines(status: &Value, more: &Value) -> Lines {
    if status["hub"].is_object() {
        of_hub(&status["hub"], more)
    } else if status["edge"]["connected"] == false {
        of_edge(more)
    } else {
        Lines::new()
    }
}

fn of_edge(events: &Value) -> Lines {
    let mut events = events["events"].as_array().into_iter().flatten();
    let last = events.rfind(|event| event["event"] == "tunnelDisconnected");
    let HubAway { seen, advice } = HubAway::new(last.map(|event| &event["data"]));
    vec![("why", seen), ("to do", advice.to_owned())]
}

fn of_hub(hub: &Value, edges: &Value) -> Lines {
    let edges = edges["edges"].as_array().map_or(&[][..], Vec::as_slice);
    let is_away = |edge: &&Value| edge["connected"].is_null();
    let away: Vec<&Value> = edges.iter().filter(is_away).collect();
    if away.is_empty() {
        return Lines::new();
    }
    let ids: Vec<&str> = away.iter().filter_map(|edge| edge["id"].as_str()).collect();
    let named = names(ids.iter().map(|id| (*id).to_owned()));
    let all = counted(edges.len(), "edge");
    let away_of_all = format!("{} of {all}: {named} (see ctl edges)", ids.len());
    let mut lines = vec![("away", away_of_all)];
    if away.iter().any(|edge| edge["unreachable"].is_null()) {
        let port = hub["tunnelPort"].as_u64().unwrap_or(0);
        lines.push(("to do", of_away_edges(port)));
    }
    // Why the hub doesn't reach an edge stands in a table of its own.
    let mut codes: Vec<&str> = away
        .iter()
        .filter_map(|edge| edge["unreachable"]["code"].as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    let advice = codes.into_iter().map(|code| (code, of_code(code)));
    let advice = advice.filter(|(_, advice)| !advice.is_empty());
    lines.extend(advice.map(|(code, advice)| ("to do", format!("{code}: {advice}"))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edge_without_a_session_says_why_and_what_to_do() {
        let away = json!({"hub": null, "edge": {"connected": false}});
        assert_eq!(question(&away), Some("/api/v1/events"));
        let event = |name: &str, code: &str| json!({"event": name, "data": {"code": code, "reason": "it said no"}});
        let events = [
            event("tunnelDisconnected", "E_HUB_UNREACHABLE"),
            event("tunnelDisconnected", "E_AUTH_FAILED"),
            event("other", "E_TLS"),
        ];
        let shown = lines(&away, &json!({"events": events}));
        let advice = of_code("E_AUTH_FAILED").to_owned();
        assert_eq!(
            shown,
            [
                ("why", "E_AUTH_FAILED, it said no".to_owned()),
                ("to do", advice)
            ]
        );
        assert_eq!(
            lines(&away, &Value::Null)[1].1,
            of_code("E_HUB_UNREACHABLE")
        );
        let connected = json!({"hub": null, "edge": {"connected": true}});
        assert_eq!(
            (question(&connected), lines(&connected, &Value::Null)),
            (None, Lines::new())
        );
    }

    #[test]
    fn a_hub_says_which_of_its_edges_are_away() {
        let status = json!({"hub": {"tunnelPort": 8443}, "edge": null});
        assert_eq!(question(&status), Some("/api/v1/edges"));
        let edge = |id: &str, connected: Value, unreachable: Value| json!({"id": id, "connected": connected, "unreachable": unreachable});
        let here = edge("here", json!({}), Value::Null);
        let all = [here.clone(), edge("e2", Value::Null, Value::Null)];
        let shown = lines(&status, &json!({"edges": all}));
        assert_eq!(
            shown[0],
            ("away", "1 of 2 edges: e2 (see ctl edges)".to_owned())
        );
        assert_eq!(shown[1], ("to do", of_away_edges(8443)));
        let dialled = edge("e3", Value::Null, json!({"code": "E_EDGE_UNREACHABLE"}));
        let shown = lines(&status, &json!({"edges": [dialled]}));
        assert_eq!(shown[0].1, "1 of 1 edge: e3 (see ctl edges)");
        assert!(
            shown.len() == 2
                && shown[1]
                    .1
                    .starts_with("E_EDGE_UNREACHABLE: Check dial.host"),
            "{shown:?}"
        );
        let many: Vec<Value> = (0..6)
            .map(|at| edge(&at.to_string(), Value::Null, Value::Null))
            .collect();
        let shown = lines(&status, &json!({"edges": many}));
        assert_eq!(
            shown[0].1,
            "6 of 6 edges: 0, 1, 2, 3 and 2 more (see ctl edges)"
        );
        assert_eq!(lines(&status, &json!({"edges": [here]})), Lines::new());
    }
}
