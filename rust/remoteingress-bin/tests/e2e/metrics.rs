//! Metrics of a real hub and edge after real traffic, as Prometheus reads them; and the dashboard and the alerts, which
//! use no name that isn't there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;

use crate::harness::http::get;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};
use crate::harness::udp_oracle::UdpProxy;
use crate::harness::{SOON, new_directory, run, skip, until, within};

/// A tunnel that has carried 1,000 bytes of TCP there and back, and one datagram each way.
struct Scene {
    tunnel: Tunnel,
    hub: PathBuf,
    edge: PathBuf,
    /// A port that can't be opened.
    taken: u16,
    _client: TcpStream,
    _holder: std::net::TcpListener,
}

impl Scene {
    async fn start(transport: Transport) -> Self {
        let (hub, edge) = (socket("hub"), socket("edge"));
        let (target, udp_target) = (Target::echo().await, udp_echo().await);
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut builder = TunnelBuilder::new(transport)
            .hub(json!({"admin": {"listen": hub}}))
            .edge(json!({"admin": {"listen": edge}}));
        let entry = builder.forward(Proxy::None, target.address());
        let refused = builder.forward(Proxy::None, nobody);
        let udp_entry = builder.forward_udp(UdpProxy::None, udp_target);
        builder.listen(json!({"port": taken, "targetPort": 80}));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;

        let mut client = TcpStream::connect(entry).await.unwrap();
        client.write_all(&[7; 1_000]).await.unwrap();
        client.read_exact(&mut [0; 1_000]).await.unwrap();
        // It is reset, perhaps before its own connect is over.
        if let Ok(mut other) = TcpStream::connect(refused).await {
            let _ = within(SOON, "a reset", other.read(&mut [0; 1])).await;
        }
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(b"datagram", udp_entry).await.unwrap();
        within(SOON, "a reply", udp.recv(&mut [0; 100]))
            .await
            .unwrap();
        Self {
            tunnel,
            hub,
            edge,
            taken,
            _client: client,
            _holder: holder,
        }
    }
}

#[test]
fn metrics_count_what_has_passed_over_tls() {
    run(60, metrics_count_what_has_passed(Transport::TcpTls));
}

#[test]
fn metrics_count_what_has_passed_over_quic() {
    run(60, metrics_count_what_has_passed(Transport::Quic));
}

async fn metrics_count_what_has_passed(transport: Transport) {
    let scene = Scene::start(transport).await;
    let (word, port) = (transport.word(), scene.taken);
    for (role, place) in [("hub", &scene.hub), ("edge", &scene.edge)] {
        let of_edge = |name: &str, rest: &str| {
            format!("remoteingress_{name}{{role=\"{role}\",edge=\"{EDGE_ID}\"{rest}}}")
        };
        let of_all =
            |name: &str, rest: &str| format!("remoteingress_{name}{{role=\"{role}\"{rest}}}");
        let mut wanted = vec![
            (of_edge("edge_connected", ""), "1"),
            (of_edge("sessions", &format!(",transport=\"{word}\"")), "2"),
            (
                of_edge("active_streams", &format!(",transport=\"{word}\"")),
                "1",
            ),
            (of_edge("streams_total", ""), "2"),
            (
                of_edge("stream_payload_bytes_total", ",direction=\"in\""),
                "1000",
            ),
            (
                of_edge("stream_payload_bytes_total", ",direction=\"out\""),
                "1000",
            ),
            (of_edge("active_flows", ""), "1"),
            (of_edge("datagrams_total", ",direction=\"in\""), "1"),
            (of_edge("datagrams_total", ",direction=\"out\""), "1"),
            (of_edge("datagrams_dropped_total", ",reason=\"late\""), "0"),
            (of_edge("ports", ",protocol=\"tcp\",state=\"bound\""), "2"),
            (of_edge("ports", ",protocol=\"tcp\",state=\"failed\""), "1"),
            (of_edge("ports", ",protocol=\"udp\",state=\"bound\""), "1"),
            (
                of_edge(
                    "port_failed",
                    &format!(",protocol=\"tcp\",port=\"{port}\",code=\"E_ADDRESS_IN_USE\""),
                ),
                "1",
            ),
            (of_edge("queued_bytes", ",tier=\"data\""), "0"),
            (of_all("first_byte_seconds_count", ""), "1"),
            (of_all("first_byte_seconds_bucket", ",le=\"+Inf\""), "1"),
            (of_edge("resumes_total", ""), "0"),
            (of_all("restarts_total", ""), "0"),
            (of_all("events_dropped_total", ""), "0"),
        ];
        if role == "hub" {
            wanted.push((of_all("dial_seconds_count", ""), "1"));
            wanted.push((of_all("refusals_total", ",reason=\"targetRefused\""), "1"));
            wanted.push((of_all("refusals_total", ",reason=\"maxStreams\""), "0"));
        } else {
            wanted.push((of_all("refusals_total", ",reason=\"noSession\""), "0"));
            wanted.push((of_all("held_clients", ""), "0"));
        }
        // The last acknowledgements, and the reset, may be on their way.
        let text = until(SOON, "all counts", async || {
            let text = scrape(place).await;
            let has = |(sample, value): &(String, &str)| {
                text.lines().any(|line| line == format!("{sample} {value}"))
            };
            let missing: Vec<_> = wanted.iter().filter(|one| !has(one)).collect();
            if missing.is_empty() {
                return Some(text);
            }
            eprintln!("{role}: {missing:?}");
            None
        })
        .await;
        assert!(!text.contains("127.0.0.1"), "an address is shown: {text}");
        let took = value(&text, &of_all("first_byte_seconds_sum", ""));
        assert!(took > 0.0 && took < SOON.as_secs_f64(), "{took}");
        let limit = value(&text, &of_all("memory_budget_limit_bytes", ""));
        let used = value(&text, &of_all("memory_budget_used_bytes", ""));
        assert!(used > 0.0 && used < limit, "{used} of {limit}");
    }
}

#[test]
fn an_edge_that_is_away_is_shown_as_0() {
    run(60, async {
        let (hub_socket, edge_socket) = (socket("hub"), socket("edge"));
        let builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket}}))
            .edge(json!({"admin": {"listen": edge_socket}}));
        let mut tunnel = builder.start().await;
        let is = |role: &str, value: u8| {
            format!("remoteingress_edge_connected{{role=\"{role}\",edge=\"{EDGE_ID}\"}} {value}\n")
        };
        assert!(scrape(&hub_socket).await.contains(&is("hub", 1)));
        tunnel.edge.kill().await;
        until(SOON, "the edge as away", async || {
            scrape(&hub_socket)
                .await
                .contains(&is("hub", 0))
                .then_some(())
        })
        .await;
    });
}

#[test]
fn the_management_interface_tells_the_same_and_counts_restarts() {
    run(60, async {
        let environment = [("REMOTEINGRESS_RESTARTS", "3")];
        let hub = Process::management_with("hub", &environment).await;
        let refusal = hub.request("getMetrics", json!({})).await.unwrap_err();
        assert_eq!(refusal.code, "E_NOT_RUNNING");
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1"});
        hub.call("startHub", config).await;
        let answer = hub.call("getMetrics", json!({})).await;
        let text = answer["text"].as_str().unwrap();
        assert!(
            text.contains("remoteingress_restarts_total{role=\"hub\"} 3\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    });
}

#[test]
fn the_form_of_the_text_is_the_callers_choice() {
    run(60, async {
        let place = socket("hub");
        let hub = Process::management("hub").await;
        let config =
            json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "admin": {"listen": place}});
        hub.call("startHub", config).await;
        let classic = get(&place, "/metrics", "").await;
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(classic.head.contains(kind), "{}", classic.head);
        let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
        let open = get(&place, "/metrics", accept).await;
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(open.head.contains(kind), "{}", open.head);
        assert!(open.body.ends_with("# EOF\n") && !classic.body.contains("EOF"));
    });
}

#[test]
fn prometheus_own_parser_takes_the_metrics_the_alerts_and_their_names() {
    run(60, async {
        let scene = Scene::start(Transport::TcpTls).await;
        for place in [&scene.hub, &scene.edge] {
            let text = scrape(place).await;
            if !promtool(&["check", "metrics"], &text).await {
                return;
            }
        }
        let alerts = manual("alerts.yml");
        promtool(&["check", "rules", alerts.to_str().unwrap()], "").await;
    });
}

/// `half` has a target that takes streams, `out` has none of them, and `empty` has no target at all.
const POOLS: &str = r#"
tests:
  - interval: 1m
    input_series:
      - { series: 'remoteingress_pool_targets{instance="h",pool="half"}', values: 2x5 }
      - { series: 'remoteingress_pool_target_up{instance="h",pool="half",target="a"}', values: 0x5 }
      - { series: 'remoteingress_pool_target_up{instance="h",pool="half",target="b"}', values: 1x5 }
      - { series: 'remoteingress_pool_targets{instance="h",pool="out"}', values: 1x5 }
      - { series: 'remoteingress_pool_target_up{instance="h",pool="out",target="a"}', values: 0x5 }
      - { series: 'remoteingress_pool_targets{instance="h",pool="empty"}', values: 0x5 }
    promql_expr_test:
      - expr: 'sum by (pool) (ALERTS{alertname="RemoteIngressPoolDown",alertstate="firing"})'
        eval_time: 3m
        exp_samples: [{ labels: '{pool="empty"}', value: 1 }, { labels: '{pool="out"}', value: 1 }]
"#;

#[test]
fn the_alert_of_pools_fires_where_all_targets_are_out_and_where_there_are_none() {
    run(60, async {
        let rules = json!([manual("alerts.yml")]);
        let file = new_directory("alerts").join("pools.yml");
        std::fs::write(&file, format!("rule_files: {rules}{POOLS}")).unwrap();
        promtool(&["test", "rules", file.to_str().unwrap()], "").await;
    });
}

#[test]
fn dashboard_and_alerts_use_names_that_are_there() {
    run(60, async {
        let scene = Scene::start(Transport::TcpTls).await;
        let mut there = BTreeSet::new();
        for place in [&scene.hub, &scene.edge] {
            let text = scrape(place).await;
            // Also those without a sample for now, such as an edge that can't be reached.
            let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            for (name, kind) in told.filter_map(|line| line.split_once(' ')) {
                there.insert(name.to_owned());
                if kind == "histogram" {
                    there.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
                }
            }
        }
        let dashboard = std::fs::read_to_string(manual("grafana.json")).unwrap();
        let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
        let alerts = std::fs::read_to_string(manual("alerts.yml")).unwrap();
        let operations = std::fs::read_to_string(manual("operations.md")).unwrap();
        for (file, text) in [
            ("grafana.json", dashboard.to_string()),
            ("alerts.yml", alerts),
            ("operations.md", operations.clone()),
        ] {
            let used = names(&text);
            assert!(used.len() > 5, "{file} uses {used:?}");
            let missing: Vec<_> = used.difference(&there).collect();
            assert!(missing.is_empty(), "{file} uses {missing:?}");
        }
        let explained = rows(&operations);
        let plain = there.iter().filter(|name| {
            let parts = ["_bucket", "_sum", "_count"];
            !parts.iter().any(|part| name.ends_with(part))
        });
        let unexplained: Vec<_> = plain.filter(|name| !explained.contains(*name)).collect();
        assert!(
            unexplained.is_empty(),
            "operations.md lacks {unexplained:?}"
        );
        drop(scene.tunnel);
    });
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
    let words = text.split(|one| !is_part(one));
    // The filter of the log names the binary.
    let ours =
        words.filter(|word| word.starts_with("remoteingress_") && *word != "remoteingress_bin");
    ours.map(str::to_owned).collect()
}

/// The names that begin a row of a table: prose that names a metric doesn't explain it.
fn rows(manual: &str) -> BTreeSet<String> {
    let begins = |line: &str| {
        let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
        Some(name.to_owned())
    };
    manual.lines().filter_map(begins).collect()
}

/// The metrics in the classic form.
async fn scrape(place: &Path) -> String {
    let page = get(place, "/metrics", "").await;
    assert_eq!(page.status, 200, "{}", page.body);
    page.body
}

fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample));
    let value = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
    value.trim().parse().unwrap()
}

/// Runs promtool on this input; false if there is none. It must find nothing to say.
async fn promtool(arguments: &[&str], input: &str) -> bool {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = started else {
        skip("promtool");
        return false;
    };
    let mut stdin = child.stdin.take().unwrap();
    let checked = within(SOON, "promtool's word", async {
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        child.wait_with_output().await.unwrap()
    });
    let output = checked.await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "{said}{told}\n{input}"
    );
    true
}

/// A file of the manual.
fn manual(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn socket(name: &str) -> PathBuf {
    new_directory("metrics").join(format!("{name}.sock"))
}

/// A UDP target that sends back what it gets.
async fn udp_echo() -> SocketAddr {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 1_500];
        while let Ok((length, client)) = target.recv_from(&mut datagram).await {
            let _ = target.send_to(&datagram[..length], client).await;
        }
    });
    address
}
