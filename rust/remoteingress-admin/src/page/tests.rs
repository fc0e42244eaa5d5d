use std::collections::BTreeMap;

use remoteingress_config::overview::Overview;
use serde_json::{Value, json};

use super::{EventLine, Page, advice, asset, render};

fn hub(edges: usize) -> Overview {
    let edge = |index: usize| {
        json!({
            "edgeId": format!("edge-{index}"), "remoteAddress": "192.0.2.1:4000", "draining": false, "transport": "quic",
            "connectedAt": 1_000, "sessions": 1, "sessionsByTransport": { "tcpTls": 0, "quic": 1 },
            "queuedBytes": { "control": 0, "datagrams": 0, "data": 0, "sustained": 0 }, "activeStreams": 3,
            "activeStreamsByTransport": { "tcpTls": 1, "quic": 2 }, "totalStreams": 9, "bytesIn": 1_500, "bytesOut": 2_500_000,
            "rttMs": 12.34, "resumed": 0, "publicIp": null, "version": "<0.3.0>", "dialledBy": "edge", "proxy": null,
            "ports": [
                { "protocol": "tcp", "port": 443, "state": "bound" },
                { "protocol": "tcp", "port": 80, "state": "failed",
                  "error": { "code": "E_ADDRESS_IN_USE", "message": "<b>nginx</b> has it" } },
            ],
            "udp": { "activeFlows": 0, "datagramsIn": 0, "datagramsOut": 0, "dropped": {} },
        })
    };
    let hub = json!({
        "running": true, "draining": false, "tunnelPort": 8443, "hubPin": null,
        "connectedEdges": (0..edges).map(edge).collect::<Vec<_>>(), "unreachableEdges": [],
        "rejected": { "authFailed": 12_345 }, "pools": [], "bindings": 0, "routingDb": null, "geo": null, "eventsDropped": 0, "accessLogLost": 0, "memoryBudget": { "usedBytes": 0, "limitBytes": 9 },
    });
    let overview =
        json!({ "role": "hub", "version": "0.3.0", "startedAt": 0, "hub": hub, "edge": null });
    serde_json::from_value(overview).unwrap_or_else(|error| panic!("{error}"))
}

fn page<'a>(overview: &'a Overview, allowed: &'a [String], events: &'a [EventLine]) -> Page<'a> {
    Page {
        overview,
        allowed,
        events,
        now: 61_000,
    }
}

#[test]
fn a_hub_without_script_shows_its_facts_and_escapes_them() {
    let status = hub(1);
    let allowed = ["edge-0", "gone-1"].map(str::to_owned);
    let data = json!({ "reason": "<img src=x>" });
    let events = [EventLine {
        at: 0,
        name: "edgeDisconnected".to_owned(),
        data,
    }];
    let html = render(&page(&status, &allowed, &events));
    for shown in [
        "edge-0",
        "gone-1",
        "Away",
        "Port failed",
        "QUIC",
        "12.3 ms",
        "2.50 MB",
        "12,345",
        "1970-01-01 00:00:00",
        "1 edge away",
        "reaches this hub at port 8443",
        "tcp 80 of edge-0: E_ADDRESS_IN_USE",
        "Stop the program that listens there",
        "make a new token for the edge",
    ] {
        assert!(html.contains(shown), "{shown} isn't in {html}");
    }
    for markup in [
        "<img", "<b>nginx", "<0.3.0>", "style=", "onclick", "<script>",
    ] {
        assert!(!html.contains(markup), "{markup} is in {html}");
    }
    assert!(html.contains("&lt;b&gt;nginx&lt;/b&gt; has it"));
}

fn edge(status: &Value) -> Overview {
    let mut edge = json!({
        "running": true, "edgeId": "edge-7", "hubAddress": "hub.test:8443", "draining": false, "connected": true, "transport": "quic",
        "transportReason": null, "dialledBy": "edge", "proxy": null, "publicIp": null, "sessions": 1,
        "sessionsByTransport": { "tcpTls": 0, "quic": 1 }, "activeStreams": 0,
        "activeStreamsByTransport": { "tcpTls": 0, "quic": 0 }, "totalStreams": 0, "bytesIn": 0, "bytesOut": 0, "rttMs": 1.0,
        "queuedBytes": { "control": 0, "datagrams": 0, "data": 0, "sustained": 0 }, "listenPorts": [], "listenPortsUdp": [],
        "ports": [], "udp": { "activeFlows": 0, "datagramsIn": 0, "datagramsOut": 0, "dropped": {} }, "reconnects": 0,
        "resumed": 0, "heldClients": 0, "rejected": {}, "memoryBudget": { "usedBytes": 0, "limitBytes": 9 },
        "eventsDropped": 0, "accessLogLost": 0,
    });
    for (name, value) in status.as_object().into_iter().flatten() {
        edge[name] = value.clone();
    }
    let overview =
        json!({ "role": "edge", "version": "0.3.0", "startedAt": 0, "hub": null, "edge": edge });
    serde_json::from_value(overview).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_edge_says_which_it_is_and_which_hub_it_has() {
    let html = render(&page(&edge(&json!({})), &[], &[]));
    for shown in [
        "<title>Edge edge-7 · remoteingress</title>",
        "<h1>Edge edge-7</h1>",
        "<dt>Address</dt><dd>hub.test:8443</dd>",
    ] {
        assert!(html.contains(shown), "{shown} isn't in {html}");
    }
    let called = edge(&json!({ "hubAddress": null, "dialledBy": "hub" }));
    let html = render(&page(&called, &[], &[]));
    assert!(html.contains("<dt>Address</dt><dd>none: the hub dials</dd>"));
}

#[test]
fn of_many_edges_some_are_shown_and_the_rest_is_named() {
    let html = render(&page(&hub(1_000), &[], &[]));
    assert_eq!(html.matches("<details>").count(), 200);
    assert!(html.contains("More edges are in"));
    assert!(html.contains("of 1,000 edges"));
}

fn pool(name: &str, states: &[&str]) -> Value {
    let target = |(index, state): (usize, &&str)| {
        json!({
            "id": format!("<{index}>"), "host": "192.0.2.8", "port": 80, "source": "config", "region": "eu", "country": null,
            "state": state, "admin": "active", "retryInMs": null, "failures": 0,
            "checkError": (*state == "down").then_some("status <500>"), "activeStreams": 7, "totalStreams": index,
            "failedStreams": 0, "connectMs": 1.5, "weight": 1, "effectiveWeight": 1.0, "softLimit": 1, "hardLimit": 0,
            "priority": 0,
        })
    };
    let targets: Vec<Value> = states.iter().enumerate().map(target).collect();
    json!({
        "name": name, "strategy": "geo", "activeStreams": 7, "totalStreams": 9, "picks": {}, "retries": 0, "waiting": 0, "affinityHits": 0,
        "affinityBroken": 0, "refusedEmpty": 0, "refusedFull": 0, "refusedUnhealthy": 0, "targets": targets,
    })
}

fn hub_of_pools(pools: &Value) -> Overview {
    let mut overview = serde_json::to_value(hub(0)).unwrap_or_default();
    overview["hub"]["pools"] = pools.clone();
    serde_json::from_value(overview).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn pools_are_shown_with_those_first_that_need_attention() {
    let pools = json!([
        pool("web", &["up", "up", "dead"]),
        pool("checked", &["down"])
    ]);
    let html = render(&page(&hub_of_pools(&pools), &[], &[]));
    for shown in [
        "Last check: status &lt;500&gt;. Its check fails",
        "&lt;2&gt;",
        "Dead",
        "It was told to be dead",
        "66 %",
        "width=\"66\"",
        "1.50 ms",
        "1 target out",
        "web/&lt;2&gt;: dead",
    ] {
        assert!(html.contains(shown), "{shown} isn't in {html}");
    }
    let rows = html.split("id=\"pools\"").nth(1).unwrap_or_default();
    let at = |text: &str| rows.find(text).unwrap_or(usize::MAX);
    assert!(at("&lt;2&gt;") < at("&lt;0&gt;"), "{rows}");
    assert!(!html.contains("id=\"pools-box\" hidden") && !html.contains("style="));

    let without = render(&page(&hub_of_pools(&json!([])), &[], &[]));
    assert!(without.contains("id=\"pools-box\" hidden"));
    let empty = hub_of_pools(&json!([pool("none", &[])]));
    let html = render(&page(&empty, &[], &[]));
    assert!(html.contains("none: no target takes streams"), "{html}");
}

/// The rows of the section of pools, each with the text of its cells.
fn rows_of_pools(html: &str) -> Vec<Vec<String>> {
    let body = html.split("id=\"pools\">").nth(1).unwrap_or_default();
    let body = body.split("</tbody>").next().unwrap_or_default();
    let text = |cell: &str| {
        let texts = cell.split('<').filter_map(|piece| piece.split_once('>'));
        texts.map(|(_, text)| text).collect::<String>()
    };
    let cells = |row: &str| {
        let cells = row.split(" data-label=").skip(1);
        cells.map(|cell| text(&format!("<{cell}"))).collect()
    };
    let rows = body.split("<tr role=\"row\">").skip(1);
    rows.map(cells).collect()
}

#[test]
fn each_column_of_pools_has_its_figure() {
    let mut pools = json!([pool("web", &["up", "up"]), pool("dns", &["up"])]);
    let figures = [
        (0, 0, "a", 3, 30, 4, json!("eu")),
        (0, 1, "b", 0, 70, 12_345, Value::Null),
        (1, 0, "a", 5, 6, 0, json!("us")),
    ];
    for (pool, at, id, active, total, failed, region) in figures {
        let target = &mut pools[pool]["targets"][at];
        target["id"] = json!(id);
        target["activeStreams"] = json!(active);
        target["totalStreams"] = json!(total);
        target["failedStreams"] = json!(failed);
        target["region"] = region;
    }
    pools[0]["targets"][1]["connectMs"] = Value::Null;
    let html = render(&page(&hub_of_pools(&pools), &[], &[]));
    assert_eq!(
        rows_of_pools(&html),
        [
            ["a", "web", "Up", "3", "30 %", "4", "1.50 ms", "eu"],
            ["b", "web", "Up", "0", "70 %", "12,345", "not measured", "–"],
            ["a", "dns", "Up", "5", "100 %", "0", "1.50 ms", "us"],
        ]
    );
}

#[test]
fn each_state_of_a_target_has_its_tone_its_word_and_its_advice() {
    for (state, tone, word) in [
        ("up", "good", "Up"),
        ("full", "warning", "Full"),
        ("weightless", "warning", "No weight"),
        ("drain", "warning", "Draining"),
        ("leaving", "warning", "Leaving"),
        ("dead", "bad", "Dead"),
        ("down", "bad", "Down"),
        ("ejected", "bad", "Ejected"),
        ("trial", "warning", "On trial"),
    ] {
        let status = hub_of_pools(&json!([pool("web", &[state])]));
        let html = render(&page(&status, &[], &[]));
        let row = &rows_of_pools(&html)[0];
        let check = match state {
            "down" => "Last check: status &lt;500&gt;. ",
            _ => "",
        };
        let advice = advice::of_target(state);
        assert_eq!(row[2], format!("{word}{check}{advice}"));
        let section = html.split("id=\"pools\">").nth(1).unwrap_or_default();
        let tone = format!("data-tone=\"{tone}\"");
        assert!(section.contains(&tone), "{state}");
    }
}

#[test]
fn of_many_targets_some_are_shown_and_the_rest_is_named() {
    let status = hub_of_pools(&json!([pool("web", &["up"; 300])]));
    let html = render(&page(&status, &[], &[]));
    assert_eq!(html.matches("class=\"whole\"").count(), 200);
    assert!(html.contains("More targets are in"));
}

#[test]
fn every_file_that_the_page_asks_for_is_there() {
    let mut seen = BTreeMap::new();
    let mut wanted = vec!["page.css".to_owned(), "page.js".to_owned()];
    while let Some(name) = wanted.pop() {
        let (_, text) = asset(&name).unwrap_or_else(|| panic!("{name} isn't in the binary"));
        if seen.insert(name, text).is_none() {
            let imports = text
                .split("from './")
                .skip(1)
                .filter_map(|rest| rest.split('\'').next());
            wanted.extend(imports.map(str::to_owned));
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
    assert!(asset("../Cargo.toml").is_none());
}
