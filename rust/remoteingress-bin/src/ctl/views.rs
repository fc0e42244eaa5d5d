//! Answers of the admin server as tables. A field that an older server doesn't have is shown as `-`.

use super::table::{Side, bytes, duration, table, time};
use crate::terminal::plain;
use serde_json::Value;
use std::fmt::Write;

const LEFT: Side = Side::Left;
const RIGHT: Side = Side::Right;

pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => "-".to_owned(),
        None => value.to_string(),
    }
}

fn size(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), bytes)
}

fn age(since: &Value, now: u64) -> String {
    let since = since.as_u64();
    since.map_or_else(
        || "-".to_owned(),
        |since| duration(now.saturating_sub(since)),
    )
}

fn round_trip(value: &Value) -> String {
    let millis = value.as_f64();
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1}ms"))
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Lines `name: value`.
pub(super) fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut shown = String::new();
    for (name, value) in pairs {
        let name = format!("{name}:");
        // A string takes whatever comes.
        let _ = writeln!(shown, "{name:width$} {}", plain(value));
    }
    shown
}

/// The counts above zero, as `reason 3, other 1`.
fn counts(value: &Value) -> String {
    let counts = value.as_object().into_iter().flatten();
    let counts = counts.filter(|(_, count)| count.as_u64() != Some(0));
    let counts: Vec<String> = counts
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    }
}

/// Memory that streams have, and may have.
fn budget(value: &Value) -> String {
    let (used, limit) = (size(&value["usedBytes"]), size(&value["limitBytes"]));
    format!("{used} of {limit}")
}

/// Bytes that wait for the tunnel, by tier; none where nothing waits.
fn queued(value: &Value) -> Option<String> {
    let tiers = value.as_object().into_iter().flatten();
    let tiers = tiers.filter(|(_, count)| count.as_u64() != Some(0));
    let tiers: Vec<String> = tiers
        .map(|(tier, count)| format!("{} {tier}", size(count)))
        .collect();
    (!tiers.is_empty()).then(|| tiers.join(", "))
}

/// What was lost for readers that are too slow.
fn losses(status: &Value) -> Vec<(&'static str, String)> {
    let mut losses = vec![("events lost", text(&status["eventsDropped"]))];
    let lines = &status["accessLogLost"];
    if lines.as_u64().is_some_and(|lost| lost > 0) {
        losses.push(("access log lost", format!("{} lines", text(lines))));
    }
    losses
}

/// How many ports are in each state: `3 bound, 1 failed`.
fn port_counts(ports: &Value) -> String {
    let mut states: Vec<(&str, usize)> = Vec::new();
    for port in list(ports) {
        let state = port["state"].as_str().unwrap_or("-");
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    if states.is_empty() {
        "none".to_owned()
    } else {
        states.join(", ")
    }
}

fn ports(ports: &Value) -> String {
    let columns = [
        ("PORT", RIGHT),
        ("PROTOCOL", LEFT),
        ("ADDRESS", LEFT),
        ("STATE", LEFT),
        ("ERROR", LEFT),
    ];
    let row = |port: &Value| {
        let error = match port["error"]["code"].as_str() {
            Some(code) => format!("{code}: {}", text(&port["error"]["message"])),
            None => String::new(),
        };
        let address = port["bindAddress"].as_str().unwrap_or("any").to_owned();
        vec![
            text(&port["port"]),
            text(&port["protocol"]),
            address,
            text(&port["state"]),
            error,
        ]
    };
    table(&columns, list(ports).iter().map(row).collect(), "no ports")
}

/// Answer to `GET /api/v1/status`; `away` is what is to be said of those who aren't connected or
/// take no streams.
pub(super) fn status(answer: &Value, away: Vec<(&'static str, String)>, now: u64) -> String {
    let mut pairs = vec![
        (
            "runs",
            format!("{} {}", text(&answer["role"]), text(&answer["version"])),
        ),
        ("for", age(&answer["startedAt"], now)),
    ];
    if [&answer["hub"], &answer["edge"]]
        .iter()
        .any(|end| end["draining"] == true)
    {
        pairs.push((
            "drains",
            "it takes no new clients, and is about to stop".to_owned(),
        ));
    }
    if let Value::Object(_) = answer["hub"] {
        let hub = &answer["hub"];
        pairs.extend([
            ("tunnel port", text(&hub["tunnelPort"])),
            ("pin", text(&hub["hubPin"])),
            ("memory", budget(&hub["memoryBudget"])),
            ("refused", counts(&hub["rejected"])),
        ]);
        pairs.extend(away);
        pairs.extend(losses(hub));
        let mut shown = lines(&pairs);
        shown += "\n";
        shown += &connected(list(&hub["connectedEdges"]), now);
        shown += &unreachable(list(&hub["unreachableEdges"]), now);
        return shown;
    }
    let edge = &answer["edge"];
    let hub_address = match edge["dialledBy"].as_str() {
        Some("hub") => "it dials this edge".to_owned(),
        _ => text(&edge["hubAddress"]),
    };
    pairs.extend([
        ("edge", text(&edge["edgeId"])),
        ("hub", hub_address),
        ("connected", text(&edge["connected"])),
    ]);
    pairs.extend(away);
    pairs.extend([
        ("transport", text(&edge["transport"])),
        ("sessions", text(&edge["sessions"])),
        (
            "streams",
            format!(
                "{} now, {} in all",
                text(&edge["activeStreams"]),
                text(&edge["totalStreams"])
            ),
        ),
        (
            "bytes",
            format!(
                "{} in, {} out",
                size(&edge["bytesIn"]),
                size(&edge["bytesOut"])
            ),
        ),
        ("round trip", round_trip(&edge["rttMs"])),
        ("public address", text(&edge["publicIp"])),
        (
            "reconnects",
            format!(
                "{}, of which {} resumed",
                text(&edge["reconnects"]),
                text(&edge["resumed"])
            ),
        ),
        ("held clients", text(&edge["heldClients"])),
        ("memory", budget(&edge["memoryBudget"])),
        ("refused", counts(&edge["rejected"])),
    ]);
    pairs.extend(queued(&edge["queuedBytes"]).map(|queued| ("queued", queued)));
    pairs.extend(losses(edge));
    lines(&pairs) + "\n" + &ports(&edge["ports"])
}

fn unreachable(edges: &[Value], now: u64) -> String {
    if edges.is_empty() {
        return String::new();
    }
    let columns = [
        ("UNREACHABLE", LEFT),
        ("SINCE", RIGHT),
        ("CODE", LEFT),
        ("REASON", LEFT),
    ];
    let row = |edge: &Value| {
        vec![
            text(&edge["edgeId"]),
            age(&edge["since"], now),
            text(&edge["code"]),
            text(&edge["reason"]),
        ]
    };
    format!("\n{}", table(&columns, edges.iter().map(row).collect(), ""))
}

fn connected(edges: &[Value], now: u64) -> String {
    let mut columns = vec![
        ("EDGE", LEFT),
        ("ADDRESS", LEFT),
        ("TRANSPORT", LEFT),
        ("UP", RIGHT),
        ("STREAMS", RIGHT),
        ("RTT", RIGHT),
        ("IN", RIGHT),
        ("OUT", RIGHT),
        ("PORTS", LEFT),
    ];
    let has_queue = |edge: &Value| queued(&edge["queuedBytes"]).is_some();
    if edges.iter().any(has_queue) {
        columns.push(("QUEUED", LEFT));
    }
    let row = |edge: &Value| {
        vec![
            text(&edge["edgeId"]),
            text(&edge["remoteAddress"]),
            text(&edge["transport"]),
            age(&edge["connectedAt"], now),
            text(&edge["activeStreams"]),
            round_trip(&edge["rttMs"]),
            size(&edge["bytesIn"]),
            size(&edge["bytesOut"]),
            port_counts(&edge["ports"]),
            queued(&edge["queuedBytes"]).unwrap_or_default(),
        ]
    };
    table(
        &columns,
        edges.iter().map(row).collect(),
        "no edge is connected",
    )
}

fn state(edge: &Value) -> &'static str {
    match (&edge["connected"], &edge["unreachable"]) {
        (Value::Object(tunnel), _) if tunnel.get("draining") == Some(&true.into()) => "draining",
        (Value::Object(_), _) => "connected",
        (_, Value::Object(_)) => "unreachable",
        _ => "away",
    }
}

/// Answer to `GET /api/v1/edges`.
pub(super) fn edges(answer: &Value, now: u64) -> String {
    let columns = [
        ("EDGE", LEFT),
        ("STATE", LEFT),
        ("FROM", LEFT),
        ("ADDRESS", LEFT),
        ("UP", RIGHT),
        ("STREAMS", RIGHT),
        ("PORTS", LEFT),
    ];
    let row = |edge: &Value| {
        let tunnel = &edge["connected"];
        vec![
            text(&edge["id"]),
            state(edge).to_owned(),
            text(&edge["origin"]),
            text(&tunnel["remoteAddress"]),
            age(&tunnel["connectedAt"], now),
            text(&tunnel["activeStreams"]),
            port_counts(&tunnel["ports"]),
        ]
    };
    table(
        &columns,
        list(&answer["edges"]).iter().map(row).collect(),
        "no edge is allowed",
    )
}

/// Answer to `GET /api/v1/edges/{id}`.
pub(super) fn edge(answer: &Value, now: u64) -> String {
    let tunnel = &answer["connected"];
    let mut pairs = vec![
        ("edge", text(&answer["id"])),
        ("state", state(answer).to_owned()),
        ("from", text(&answer["origin"])),
    ];
    if let Value::Object(_) = answer["unreachable"] {
        let unreachable = &answer["unreachable"];
        pairs.push((
            "why",
            format!(
                "{}: {}",
                text(&unreachable["code"]),
                text(&unreachable["reason"])
            ),
        ));
    }
    if tunnel.is_null() {
        return lines(&pairs);
    }
    pairs.extend([
        ("address", text(&tunnel["remoteAddress"])),
        ("version", text(&tunnel["version"])),
        ("transport", text(&tunnel["transport"])),
        ("up", age(&tunnel["connectedAt"], now)),
        ("sessions", text(&tunnel["sessions"])),
        (
            "streams",
            format!(
                "{} now, {} in all",
                text(&tunnel["activeStreams"]),
                text(&tunnel["totalStreams"])
            ),
        ),
        (
            "bytes",
            format!(
                "{} in, {} out",
                size(&tunnel["bytesIn"]),
                size(&tunnel["bytesOut"])
            ),
        ),
        ("round trip", round_trip(&tunnel["rttMs"])),
    ]);
    pairs.extend(queued(&tunnel["queuedBytes"]).map(|queued| ("queued", queued)));
    lines(&pairs) + "\n" + &ports(&tunnel["ports"])
}

/// Answer to `POST …/token`.
pub(super) fn token(answer: &Value) -> String {
    format!("{}\n", plain(&text(&answer["token"])))
}

/// Answer to `GET /api/v1/streams`.
pub(super) fn streams(answer: &Value, now: u64) -> String {
    let columns = [
        ("ID", LEFT),
        ("EDGE", LEFT),
        ("PROTOCOL", LEFT),
        ("CLIENT", LEFT),
        ("PORT", RIGHT),
        ("TARGET", LEFT),
        ("AGE", RIGHT),
        ("IN", RIGHT),
        ("OUT", RIGHT),
        ("TIER", LEFT),
        ("WAITS FOR", LEFT),
    ];
    let row = |stream: &Value| {
        vec![
            text(&stream["id"]),
            text(&stream["edgeId"]),
            text(&stream["protocol"]),
            text(&stream["clientAddress"]),
            text(&stream["port"]),
            text(&stream["target"]),
            age(&stream["openedAt"], now),
            size(&stream["bytesIn"]),
            size(&stream["bytesOut"]),
            text(&stream["tier"]),
            text(&stream["waitsFor"]),
        ]
    };
    let streams = list(&answer["streams"]);
    let mut shown = table(
        &columns,
        streams.iter().map(row).collect(),
        "no stream is open",
    );
    let total = answer["total"].as_u64().unwrap_or(0);
    if total > streams.len() as u64 {
        let _ = writeln!(shown, "{} of {total}; --limit shows more", streams.len());
    }
    shown
}

/// Answer to `GET /api/v1/events`.
pub(super) fn events(answer: &Value) -> String {
    let mut shown: String = list(&answer["events"]).iter().map(event).collect();
    if let Some(lost) = answer["lost"].as_u64().filter(|lost| *lost > 0) {
        let _ = writeln!(shown, "{lost} earlier events aren't kept any more");
    }
    if shown.is_empty() {
        shown += "no events\n";
    }
    shown
}

/// One event, in a line.
pub(super) fn event(event: &Value) -> String {
    let at = event["at"].as_u64().map_or_else(|| "-".to_owned(), time);
    let mut line = format!(
        "{:>6}  {at}  {}",
        text(&event["seq"]),
        text(&event["event"])
    );
    for (field, value) in event["data"].as_object().into_iter().flatten() {
        if let Some(items) = value.as_array() {
            let _ = write!(line, "  {field}={}", items.len());
        } else if !value.is_null() {
            let _ = write!(line, "  {field}={}", text(value));
        }
    }
    plain(&line) + "\n"
}

/// Answer to `GET /api/v1/config`: it is JSON for people, too.
pub(super) fn config(answer: &Value) -> String {
    let config = if answer["hub"].is_null() {
        &answer["edge"]
    } else {
        &answer["hub"]
    };
    // JSON escapes control characters itself.
    serde_json::to_string_pretty(config).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hub_is_shown_with_its_edges() {
        let answer = json!({
            "role": "hub", "version": "0.3.0", "startedAt": 0, "edge": null,
            "hub": {
                "tunnelPort": 8443, "hubPin": null, "rejected": {"wrongProof": 2, "blocked": 0}, "eventsDropped": 0,
                "accessLogLost": 7, "memoryBudget": {"usedBytes": 1_536, "limitBytes": 2_097_152},
                "connectedEdges": [{
                    "edgeId": "a\u{1b}]0;x", "remoteAddress": "192.0.2.1:5", "transport": "quic", "connectedAt": 1_000,
                    "activeStreams": 3, "rttMs": 12.34, "bytesIn": 2_048, "bytesOut": 1,
                    "queuedBytes": {"control": 0, "datagrams": 0, "data": 3_072, "sustained": 5},
                    "ports": [{"state": "bound"}, {"state": "failed"}, {"state": "bound"}],
                }],
                "unreachableEdges": [{"edgeId": "b", "code": "E_X", "reason": "none", "since": 1_000}],
            },
        });
        let shown = status(&answer, vec![("away", "1 of 2 edges".to_owned())], 62_000);
        let expected = "\
runs:            hub 0.3.0
for:             1m02s
tunnel port:     8443
pin:             -
memory:          1.5 KiB of 2.0 MiB
refused:         wrongProof 2
away:            1 of 2 edges
events lost:     0
access log lost: 7 lines

EDGE         ADDRESS      TRANSPORT     UP  STREAMS     RTT       IN  OUT  PORTS              QUEUED
a\\u{1b}]0;x  192.0.2.1:5  quic       1m01s        3  12.3ms  2.0 KiB  1 B  2 bound, 1 failed  3.0 KiB data, 5 B sustained

UNREACHABLE  SINCE  CODE  REASON
b            1m01s  E_X   none
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_edge_is_shown_with_its_ports() {
        let answer = json!({
            "role": "edge", "version": "0.3.0", "startedAt": 0, "hub": null,
            "edge": {"edgeId": "edge-7", "hubAddress": "hub.test:8443", "connected": true, "reconnects": 3, "resumed": 2, "accessLogLost": 0, "queuedBytes": {"data": 0}, "ports": [
                {"port": 443, "protocol": "tcp", "bindAddress": null, "state": "failed",
                 "error": {"code": "E_ADDRESS_IN_USE", "message": "taken"}},
            ]},
        });
        let shown = status(&answer, Vec::new(), 0);
        assert!(
            shown.contains("edge:           edge-7\nhub:            hub.test:8443\n"),
            "{shown}"
        );
        assert!(
            shown.contains("reconnects:     3, of which 2 resumed\n"),
            "{shown}"
        );
        assert!(
            !shown.contains("queued") && !shown.contains("access log"),
            "{shown}"
        );
        assert!(shown.ends_with("PORT  PROTOCOL  ADDRESS  STATE   ERROR\n 443  tcp       any      failed  E_ADDRESS_IN_USE: taken\n"), "{shown}");
    }

    #[test]
    fn streams_and_events_are_short() {
        let shown = streams(
            &json!({"streams": [{"id": "x-1", "edgeId": "a"}], "total": 7}),
            0,
        );
        assert!(shown.ends_with("1 of 7; --limit shows more\n"), "{shown}");
        let event = json!({"seq": 3, "at": 0, "event": "edgeConnected", "data": {"edgeId": "a\n", "ports": [1, 2]}});
        let line = "     3  1970-01-01T00:00:00.000Z  edgeConnected  edgeId=a\\u{a}  ports=2\n";
        assert_eq!(events(&json!({"events": [event], "lost": 0})), line);
        assert_eq!(events(&json!({"events": [], "lost": 0})), "no events\n");
    }
}
