use super::{Facts, Format, render};
use crate::histogram::Histogram;
use remoteingress_config::name::Name;
use remoteingress_config::overview::{Overview, Role};
use remoteingress_config::reasons::{EdgeRefusalReason, HubRefusalReason, UdpDropReason};
use remoteingress_config::status::{EdgeStatus, HubStatus};
use remoteingress_proto::token::edge_id::EdgeId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The examples of the management interface have every field.
fn example(role: &str) -> Value {
    let text = include_str!("../../../../test/fixtures/ipc.json");
    let mut fixture: Value = serde_json::from_str(text).expect("JSON");
    fixture["status"][role].take()
}

fn id(text: &str) -> EdgeId {
    serde_json::from_value(json!(text)).expect("an id")
}

fn facts(role: Role, status: Value) -> Facts {
    let (dial, first_byte) = (Histogram::default(), Histogram::default());
    dial.record(Duration::from_millis(3));
    dial.record(Duration::from_secs(60));
    let (mut hub, mut edge): (Option<HubStatus>, Option<EdgeStatus>) = (None, None);
    match role {
        Role::Hub => hub = Some(serde_json::from_value(status).expect("a hub's status")),
        Role::Edge => edge = Some(serde_json::from_value(status).expect("an edge's status")),
    }
    Facts {
        overview: Overview {
            role,
            version: "1.2.3".to_owned(),
            started_at: 1_700_000_000_500,
            hub,
            edge,
        },
        edges: vec![id("edge-1"), id("away")],
        restarts: 4,
        dial: dial.counts(),
        first_byte: first_byte.counts(),
        pool_connects: Vec::new(),
        missing_pools: Vec::new(),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn hub_with(edges: Value) -> String {
    let mut status = example("hub");
    status["connectedEdges"] = edges;
    let facts = facts(Role::Hub, status);
    render(facts, Format::Classic).expect("text")
}

fn assert_has(text: &str, lines: &[&str]) {
    let have: BTreeSet<&str> = text.lines().collect();
    for line in lines {
        assert!(have.contains(line), "no line {line} in\n{text}");
    }
}

/// An edge of the example, with another id.
fn connected(name: &str) -> Value {
    let mut edge = example("hub")["connectedEdges"][0].take();
    edge["edgeId"] = json!(name);
    edge
}

#[test]
fn each_figure_of_a_hub_is_a_sample() {
    let mut edge = connected("edge-1");
    let fields = json!({
        "sessionsByTransport": {"tcpTls": 1, "quic": 2}, "activeStreamsByTransport": {"tcpTls": 3, "quic": 4},
        "totalStreams": 5, "bytesIn": 6, "bytesOut": 7, "rttMs": 12.5,
        "queuedBytes": {"control": 8, "datagrams": 9, "data": 10, "sustained": 11},
        "ports": [{"protocol": "udp", "port": 53, "state": "bound"}],
        "udp": {"activeFlows": 12, "datagramsIn": 13, "datagramsOut": 14, "dropped": {"late": 15}},
    });
    for (name, value) in fields.as_object().expect("an object") {
        edge[name] = value.clone();
    }
    let text = hub_with(json!([edge]));
    assert_has(
        &text,
        &[
            r#"remoteingress_build_info{role="hub",version="1.2.3"} 1"#,
            r#"remoteingress_start_time_seconds{role="hub"} 1700000000.5"#,
            r#"remoteingress_restarts_total{role="hub"} 4"#,
            r#"remoteingress_edge_connected{role="hub",edge="edge-1"} 1"#,
            r#"remoteingress_edge_connected{role="hub",edge="away"} 0"#,
            r#"remoteingress_sessions{role="hub",edge="edge-1",transport="tcpTls"} 1"#,
            r#"remoteingress_sessions{role="hub",edge="edge-1",transport="quic"} 2"#,
            r#"remoteingress_active_streams{role="hub",edge="edge-1",transport="tcpTls"} 3"#,
            r#"remoteingress_active_streams{role="hub",edge="edge-1",transport="quic"} 4"#,
            r#"remoteingress_streams_total{role="hub",edge="edge-1"} 5"#,
            r#"remoteingress_stream_payload_bytes_total{role="hub",edge="edge-1",direction="in"} 6"#,
            r#"remoteingress_stream_payload_bytes_total{role="hub",edge="edge-1",direction="out"} 7"#,
            r#"remoteingress_round_trip_seconds{role="hub",edge="edge-1"} 0.0125"#,
            r#"remoteingress_queued_bytes{role="hub",edge="edge-1",tier="control"} 8"#,
            r#"remoteingress_queued_bytes{role="hub",edge="edge-1",tier="datagrams"} 9"#,
            r#"remoteingress_queued_bytes{role="hub",edge="edge-1",tier="data"} 10"#,
            r#"remoteingress_queued_bytes{role="hub",edge="edge-1",tier="sustained"} 11"#,
            r#"remoteingress_active_flows{role="hub",edge="edge-1"} 12"#,
            r#"remoteingress_datagrams_total{role="hub",edge="edge-1",direction="in"} 13"#,
            r#"remoteingress_datagrams_total{role="hub",edge="edge-1",direction="out"} 14"#,
            r#"remoteingress_datagrams_dropped_total{role="hub",edge="edge-1",reason="late"} 15"#,
            r#"remoteingress_datagrams_dropped_total{role="hub",edge="edge-1",reason="tooLarge"} 0"#,
            r#"remoteingress_ports{role="hub",edge="edge-1",protocol="udp",state="bound"} 1"#,
            r#"remoteingress_ports{role="hub",edge="edge-1",protocol="tcp",state="failed"} 0"#,
            r#"remoteingress_dial_seconds_bucket{role="hub",le="0.0025"} 0"#,
            r#"remoteingress_dial_seconds_bucket{role="hub",le="0.005"} 1"#,
            r#"remoteingress_dial_seconds_bucket{role="hub",le="10"} 1"#,
            r#"remoteingress_dial_seconds_bucket{role="hub",le="+Inf"} 2"#,
            r#"remoteingress_dial_seconds_count{role="hub"} 2"#,
            r#"remoteingress_first_byte_seconds_count{role="hub"} 0"#,
        ],
    );
}

#[test]
fn pools_and_their_sources_are_samples_where_they_are_configured() {
    let mut facts_of_pools = facts(Role::Hub, example("hub"));
    let connects = facts_of_pools.dial;
    facts_of_pools.pool_connects = vec![(name("web"), connects), (name("mail"), connects)];
    facts_of_pools.missing_pools = vec![name("gone")];
    let text = render(facts_of_pools, Format::Classic).expect("text");
    assert_has(
        &text,
        &[
            r#"remoteingress_pool_targets{role="hub",pool="web"} 9"#,
            r#"remoteingress_pool_targets{role="hub",pool="gone"} 0"#,
            r#"remoteingress_pool_picks_total{role="hub",pool="web",reason="binding"} 100"#,
            r#"remoteingress_pool_picks_total{role="hub",pool="web",reason="tier0"} 7000"#,
            r#"remoteingress_pool_picks_total{role="hub",pool="web",reason="lastResort"} 6"#,
            r#"remoteingress_pool_picks_total{role="hub",pool="web",reason="retry"} 20"#,
            r#"remoteingress_pool_connect_seconds_bucket{role="hub",pool="web",le="0.0025"} 0"#,
            r#"remoteingress_pool_connect_seconds_bucket{role="hub",pool="web",le="0.005"} 1"#,
            r#"remoteingress_pool_connect_seconds_bucket{role="hub",pool="mail",le="+Inf"} 2"#,
            r#"remoteingress_pool_connect_seconds_count{role="hub",pool="web"} 2"#,
            r#"remoteingress_pool_active_streams{role="hub",pool="web",target="a"} 25"#,
            r#"remoteingress_pool_streams_total{role="hub",pool="web",target="a"} 1000"#,
            r#"remoteingress_pool_failures_total{role="hub",pool="web",target="a"} 3"#,
            r#"remoteingress_pool_target_up{role="hub",pool="web",target="a"} 1"#,
            r#"remoteingress_pool_target_up{role="hub",pool="web",target="b"} 0"#,
            r#"remoteingress_pool_retries_total{role="hub",pool="web"} 24"#,
            r#"remoteingress_pool_waiting_clients{role="hub",pool="web"} 1"#,
            r#"remoteingress_pool_affinity_total{role="hub",pool="web",result="kept"} 100"#,
            r#"remoteingress_pool_affinity_total{role="hub",pool="web",result="broken"} 2"#,
            r#"remoteingress_pool_refusals_total{role="hub",pool="web",reason="empty"} 0"#,
            r#"remoteingress_pool_refusals_total{role="hub",pool="web",reason="full"} 1"#,
            r#"remoteingress_pool_refusals_total{role="hub",pool="web",reason="unhealthy"} 3"#,
            r#"remoteingress_pool_bindings{role="hub"} 1000"#,
            r#"remoteingress_routing_db_revision{role="hub"} 3"#,
            r#"remoteingress_routing_db_rows{role="hub"} 9"#,
            r#"remoteingress_routing_db_refused_rows{role="hub"} 2"#,
            r#"remoteingress_routing_db_failed{role="hub"} 0"#,
            r#"remoteingress_geo_built_time_seconds{role="hub"} 1700000000.0"#,
        ],
    );
    assert!(!text.contains("10.50.1.1"), "a target has its id\n{text}");

    let mut status = example("hub");
    status["routingDb"]["error"] = json!("it is locked");
    let text = render(facts(Role::Hub, status.clone()), Format::Classic).expect("text");
    assert_has(&text, &[r#"remoteingress_routing_db_failed{role="hub"} 1"#]);
    for (field, none) in [
        ("pools", json!([])),
        ("routingDb", json!(null)),
        ("geo", json!(null)),
    ] {
        status[field] = none;
    }
    let text = render(facts(Role::Hub, status), Format::Classic).expect("text");
    for prefix in ["pool_", "routing_db_", "geo_"] {
        let prefix = format!("remoteingress_{prefix}");
        let samples = text.lines().filter(|line| line.starts_with(&prefix));
        assert_eq!(samples.count(), 0, "{prefix} isn't configured\n{text}");
    }
}

#[test]
fn a_pool_has_the_reasons_of_its_strategy_before_they_occur() {
    let reasons = |strategy: &str, picks: Value| -> Vec<String> {
        let mut status = example("hub");
        let mut pool = status["pools"][0].take();
        pool["strategy"] = json!(strategy);
        pool["picks"] = picks;
        status["pools"] = json!([pool]);
        let text = render(facts(Role::Hub, status), Format::Classic).expect("text");
        let prefix = r#"remoteingress_pool_picks_total{role="hub",pool="web",reason=""#;
        let reasons = text.lines().filter_map(|line| line.strip_prefix(prefix));
        let reasons = reasons.filter_map(|rest| rest.split_once('"'));
        reasons.map(|(reason, _)| reason.to_owned()).collect()
    };
    let of_geo = [
        "binding",
        "tier0",
        "tier1",
        "tier2",
        "tier3",
        "lastResort",
        "retry",
    ];
    assert_eq!(reasons("geo", json!({})), of_geo);
    let others = ["binding", "strategy", "lastResort", "retry"];
    assert_eq!(reasons("ipHash", json!({})), others);
    // Its strategy was another one before.
    let both = ["binding", "tier1", "strategy", "lastResort", "retry"];
    assert_eq!(reasons("ipHash", json!({"tier1": 3})), both);
}

#[test]
fn an_edge_tells_of_itself() {
    let mut status = example("edge");
    status["rejected"] = json!({"noSession": 3});
    status["rttMs"] = json!(null);
    let text = render(facts(Role::Edge, status), Format::Classic).expect("text");
    assert_has(
        &text,
        &[
            r#"remoteingress_edge_connected{role="edge",edge="edge-1"} 1"#,
            r#"remoteingress_reconnects_total{role="edge",edge="edge-1"} 2"#,
            r#"remoteingress_resumes_total{role="edge",edge="edge-1"} 1"#,
            r#"remoteingress_held_clients{role="edge"} 4"#,
            r#"remoteingress_events_dropped_total{role="edge"} 5"#,
            r#"remoteingress_refusals_total{role="edge",reason="noSession"} 3"#,
            r#"remoteingress_memory_budget_used_bytes{role="edge"} 2097152"#,
            r#"remoteingress_memory_budget_limit_bytes{role="edge"} 1073741824"#,
        ],
    );
    assert!(!text.contains("away"), "{text}");
    assert!(
        !text.contains("remoteingress_round_trip_seconds{"),
        "it wasn't measured yet\n{text}"
    );
    assert!(
        !text.contains("remoteingress_dial_seconds"),
        "it dials none"
    );
}

#[test]
fn every_reason_is_there_before_it_occurs() {
    let text = hub_with(json!([]));
    for reason in HubRefusalReason::ALL.iter().map(|reason| reason.as_str()) {
        assert!(text.contains(&format!("reason=\"{reason}\"}}")), "{reason}");
    }
    let mut status = example("edge");
    status["rejected"] = json!({});
    let text = render(facts(Role::Edge, status), Format::Classic).expect("text");
    let edge = EdgeRefusalReason::ALL.iter().map(|reason| reason.as_str());
    let udp = UdpDropReason::ALL.iter().map(|reason| reason.as_str());
    for reason in edge.chain(udp) {
        assert!(text.contains(&format!("reason=\"{reason}\"}}")), "{reason}");
    }
}

#[test]
fn an_edge_without_udp_has_no_lines_of_drops() {
    let mut edge = connected("edge-1");
    edge["udp"]["dropped"] = json!({});
    edge["ports"] = json!([{"protocol": "tcp", "port": 80, "state": "bound"}]);
    let text = hub_with(json!([edge]));
    assert!(!text.contains("datagrams_dropped_total{"), "{text}");
}

#[test]
fn failed_ports_are_named_up_to_a_bound_and_once() {
    let failed = |port: usize, address: &str| {
        json!({
            "protocol": "tcp", "port": port, "state": "failed", "bindAddress": address,
            "error": {"code": "E_ADDRESS_IN_USE", "message": "the port 203.0.113.9:80 is taken"},
        })
    };
    let (mut many, mut few) = (connected("many"), connected("few"));
    let ports = (1..=500).flat_map(|port| [failed(port, "10.0.0.1"), failed(port, "10.0.0.2")]);
    many["ports"] = ports.collect();
    few["ports"] = json!([failed(443, "10.0.0.1")]);
    let text = hub_with(json!([many, few]));
    let named: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("remoteingress_port_failed{"))
        .collect();
    assert_eq!(named.len(), 50);
    let distinct: BTreeSet<&&str> = named.iter().collect();
    assert_eq!(distinct.len(), 50, "each sample is there once");
    assert_has(
        &text,
        &[
            r#"remoteingress_port_failed{role="hub",edge="few",protocol="tcp",port="443",code="E_ADDRESS_IN_USE"} 1"#,
            r#"remoteingress_ports{role="hub",edge="many",protocol="tcp",state="failed"} 1000"#,
        ],
    );
    assert!(!text.contains("203.0.113.9"), "messages aren't shown");
}

#[test]
fn no_sample_is_there_twice_and_no_address_at_all() {
    for (role, name) in [(Role::Hub, "hub"), (Role::Edge, "edge")] {
        let text = render(facts(role, example(name)), Format::Classic).expect("text");
        let samples = || text.lines().filter(|line| !line.starts_with('#'));
        let series: BTreeSet<&str> = samples()
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        assert_eq!(series.len(), samples().count(), "{text}");
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let quoted = text.split('"').skip(1).step_by(2);
        for label in quoted.filter(|label| *label != "1.2.3") {
            let has_address =
                label.contains(':') || label.split('.').filter(|part| digits(part)).count() > 2;
            assert!(!has_address, "{label}");
        }
    }
}

#[test]
fn openmetrics_ends_with_its_mark_and_has_the_same_samples() {
    let facts = facts(Role::Hub, example("hub"));
    let classic = render(facts.clone(), Format::Classic).expect("text");
    let open = render(facts, Format::OpenMetrics).expect("text");
    assert!(open.ends_with("# EOF\n"));
    // The forms differ in how they write numbers, for instance 10 and 10.0.
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
            .collect()
    };
    assert_eq!(names(&classic), names(&open));
}
