//! The management interface under a careless, broken or absent parent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use remoteingress_config::commands::IPC_VERSION;
use remoteingress_proto::handshake::PROTOCOL_VERSION;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{ManualTarget, Target};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_secret, run, run_heavy, seed, system};

on_both_transports! {
    closed_stdout_stops_neither_streams_nor_the_orderly_end,
    a_parent_that_does_not_read_slows_nothing,
    stream_events_come_only_when_asked_for,
    secrets_are_seen_nowhere,
}

#[test]
fn ready_comes_first_and_says_what_the_binary_is() {
    run(60, async {
        let process = Process::management("hub").await;
        let ready = process.wait_event("ready", SOON, |_| true).await;
        assert!(ready["version"].is_string(), "{ready}");
        assert_eq!(ready["protocolVersion"], json!(IPC_VERSION));
        assert_eq!(ready["wireVersion"], json!(PROTOCOL_VERSION));
        assert_eq!(ready["features"], json!(["tcpTls", "quic", "udp"]));
    });
}

#[test]
fn every_mistake_has_its_code_and_changes_nothing() {
    run(60, async {
        let process = Process::management("hub").await;
        let code =
            async |method: &str, params: Value| process.request(method, params).await.unwrap_err();
        assert_eq!(code("getStatus", json!({})).await.code, "E_NOT_RUNNING");
        assert_eq!(
            code("updateAllowedEdges", json!({"edges": []})).await.code,
            "E_NOT_RUNNING"
        );
        assert_eq!(
            code("noSuchMethod", json!({})).await.code,
            "E_UNKNOWN_METHOD"
        );
        let unknown = code("startHub", json!({"tunnelPort": 0, "tunelPort": 1})).await;
        assert_eq!(unknown.code, "E_INVALID_CONFIG");
        assert!(unknown.message.contains("tunelPort"), "{unknown:?}");
        process
            .call(
                "startHub",
                json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1}),
            )
            .await;
        assert_eq!(
            code("startHub", json!({"tunnelPort": 0})).await.code,
            "E_ALREADY_RUNNING"
        );
        assert_eq!(
            code("startEdge", json!({"token": "x"})).await.code,
            "E_ALREADY_RUNNING"
        );
        let nobody = json!({"edgeId": "nobody", "hubHost": "hub.example"});
        assert_eq!(
            code("createConnectionToken", nobody).await.code,
            "E_UNKNOWN_EDGE"
        );

        let edge = |ports: Value| json!({"edges": [{"id": "a", "secret": new_secret(), "listenPorts": ports}]});
        for (ports, path) in [
            (json!([0]), "edges[0].listenPorts[0]"),
            (json!([80, "90-85"]), "edges[0].listenPorts[1]"),
            (json!(["80-90", {"port": 85}]), "edges[0].listenPorts[1]"),
            (
                json!((1..=4_097).collect::<Vec<u16>>()),
                "edges[0].listenPorts",
            ),
            (
                json!([{"port": 80, "targetPort": "x"}]),
                "edges[0].listenPorts[0].targetPort",
            ),
        ] {
            let refusal = code("updateAllowedEdges", edge(ports.clone())).await;
            assert_eq!(refusal.code, "E_INVALID_CONFIG", "{ports}");
            assert!(refusal.message.contains(path), "{ports}: {refusal:?}");
        }
        let added = process.call("updateAllowedEdges", edge(json!([80]))).await;
        assert_eq!(added["added"], json!(["a"]), "{added}");
    });
}

#[test]
fn a_taken_tunnel_port_is_named() {
    run(60, async {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let process = Process::management("hub").await;
        let config =
            json!({"tunnelPort": taken.local_addr().unwrap().port(), "bindAddress": "127.0.0.1"});
        let refusal = process.request("startHub", config).await.unwrap_err();
        assert_eq!(refusal.code, "E_ADDRESS_IN_USE", "{refusal:?}");
        process
            .call(
                "startHub",
                json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1}),
            )
            .await;
    });
}

#[test]
fn bad_lines_are_survived() {
    run(60, async {
        let process = Process::management("hub").await;
        let before = system::resident_bytes(process.pid());
        let mut huge = br#"{"id":"huge","method":"ping","params":{"x":""#.to_vec();
        huge.resize(10 * 1024 * 1024, b'a');
        huge.extend_from_slice(b"\"}}\n");
        process.send_raw(huge);
        process.call("ping", json!({})).await;
        let grown = system::resident_bytes(process.pid()).saturating_sub(before);
        assert!(grown < 8 * 1024 * 1024, "a 10 MiB line cost {grown} bytes");

        let deep = |depth: usize| {
            let (open, close) = ("{\"a\":".repeat(depth), "}".repeat(depth));
            format!("{{\"id\":\"deep{depth}\",\"method\":\"ping\",\"params\":{open}1{close}}}\n")
        };
        process.send_raw(deep(100).into_bytes());
        process.send_raw(deep(100_000).into_bytes());
        for line in [
            "",
            "garbage",
            "[]",
            "17",
            "null",
            "\"text\"",
            "{}",
            "{\"id\":",
            "\u{0}\u{1}",
            "{\"method\":\"ping\"}",
        ] {
            process.send_raw(format!("{line}\n").into_bytes());
        }
        process.send_raw(vec![0xff, 0xfe, b'\n']);
        process.send_raw(b"{\"id\":\"nomethod\"}\n".to_vec());
        process.send_raw(b"{\"id\":\"wrong\",\"method\":7,\"params\":{}}\n".to_vec());
        process.call("ping", json!({})).await;

        for id in ["nomethod", "wrong"] {
            let refusal = process.answer(id, 1).await.unwrap().unwrap_err();
            assert_eq!(refusal.code, "E_BAD_REQUEST");
        }
        process.inbox().with(|received| {
            // The id of a line beyond the limits may be read or not; its request must not be run.
            for id in ["huge", "deep100", "deep100000"] {
                let answers = received.answers.get(id).map_or(&[][..], Vec::as_slice);
                assert!(
                    answers.iter().all(|answer| answer["success"] == false),
                    "{id}: {answers:?}"
                );
            }
            assert_eq!(received.strays, Vec::<String>::new());
        });
    });
}

#[test]
fn a_repeated_id_is_refused_and_each_request_is_answered_once() {
    run(60, async {
        let process = Process::management("hub").await;
        let ping = json!({"id": "same", "method": "ping", "params": {}});
        process.send(&ping);
        process.send(&ping);
        assert_eq!(process.answer("same", 1).await, Some(Ok(json!({}))));
        let second = process.answer("same", 2).await.unwrap().unwrap_err();
        assert_eq!(second.code, "E_DUPLICATE_ID");
        for number in 0..500 {
            process.send(&json!({"id": format!("n{number}"), "method": "ping", "params": {}}));
        }
        process.answer("n499", 1).await.unwrap().unwrap();
        process.call("ping", json!({})).await;
        process.inbox().with(|received| {
            for number in 0..500 {
                assert_eq!(received.answers[&format!("n{number}")].len(), 1);
            }
        });
    });
}

#[test]
fn half_a_line_before_the_end_of_stdin_is_no_request() {
    run(60, async {
        let mut process = Process::management("hub").await;
        process.send_raw(b"{\"id\":\"half\",\"method\":\"pi".to_vec());
        process.close_stdin();
        assert_eq!(process.exit(SOON).await.code(), Some(0));
    });
}

fn closed_stdout_stops_neither_streams_nor_the_orderly_end(transport: Transport) {
    run(60, async {
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, oracle.address());
        let mut tunnel = builder.start().await;
        tunnel
            .edge
            .call(
                "subscribe",
                json!({"events": ["streamOpened", "streamClosed"]}),
            )
            .await;
        tunnel.edge.close_stdout();
        // A parent that can't hear any more is a parent that is gone: either it serves on or it drains, but cleanly.
        let _ = oracle.play(entry, Plan::random(seed(), 1, 1 << 16)).await;
        tunnel.edge.close_stdin();
        assert_eq!(
            tunnel.edge.exit(Duration::from_secs(35)).await.code(),
            Some(0)
        );
    });
}

#[test]
fn closed_stderr_stops_nothing() {
    run(60, async {
        let mut process = Process::management_without_log("hub").await;
        process.send_raw(b"a line to warn about\n".to_vec());
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1});
        process.call("startHub", config).await;
        process.close_stdin();
        assert_eq!(process.exit(SOON).await.code(), Some(0));
    });
}

fn a_parent_that_does_not_read_slows_nothing(transport: Transport) {
    run_heavy(120, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        for process in [&tunnel.hub, &tunnel.edge] {
            process
                .call(
                    "subscribe",
                    json!({"events": ["streamOpened", "streamClosed"]}),
                )
                .await;
            process.pause_stdout();
        }
        let begun = Instant::now();
        let enough = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            clients.spawn(count_streams(
                entry,
                Arc::clone(&enough),
                Arc::clone(&count),
            ));
        }
        // At least 10 s, and at least as many events as fill the queue and the pipe.
        let mut rate = Vec::new();
        while begun.elapsed() < Duration::from_secs(10) || count.load(Ordering::Relaxed) < 8_000 {
            let before = count.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            rate.push(count.load(Ordering::Relaxed) - before);
        }
        enough.store(true, Ordering::Relaxed);
        for outcome in clients.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
        // The queue is full long before the end: a data plane that waited for it would stand still.
        assert!(
            rate.iter().all(|&streams| streams > 50),
            "streams per second: {rate:?}"
        );

        for process in [&tunnel.hub, &tunnel.edge] {
            let mark = process.mark();
            process.resume_stdout();
            let dropped = process
                .wait_event_since(mark, "eventsDropped", SOON, |_| true)
                .await;
            assert!(dropped["count"].as_u64() > Some(0), "{dropped}");
            let status = process.status().await;
            assert!(
                status["eventsDropped"].as_u64() >= dropped["count"].as_u64(),
                "{status}"
            );
        }
    });
}

#[test]
fn a_parent_that_reads_no_answers_can_still_end_the_process() {
    run(90, async {
        let mut process = Process::management("hub").await;
        flood(&process).await;
        process.signal(libc::SIGTERM);
        assert_eq!(process.exit(SOON).await.code(), Some(0));
    });
}

#[test]
fn a_parent_that_reads_no_answers_counts_as_gone() {
    run(90, async {
        let mut process = Process::management("hub").await;
        flood(&process).await;
        process.close_stdin();
        let begun = Instant::now();
        let patience = Duration::from_secs(15);
        assert_eq!(process.exit(patience + SOON).await.code(), Some(0));
        // A parent that is only slow has some time.
        assert!(
            begun.elapsed() > Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_parent_that_reads_late_gets_each_answer_once() {
    run(90, async {
        let mut process = Process::management("hub").await;
        flood(&process).await;
        process.send(&json!({"id": "last", "method": "stop", "params": {}}));
        process.resume_stdout();
        assert_eq!(process.answer("last", 1).await, Some(Ok(json!({}))));
        assert_eq!(process.exit(SOON).await.code(), Some(0));
        let answered: Vec<String> = process
            .output()
            .await
            .lines()
            .filter_map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                line["id"].as_str().map(str::to_owned)
            })
            .collect();
        let mut asked: Vec<String> = (0..FLOOD).map(|number| format!("f{number}")).collect();
        asked.push("last".to_owned());
        assert_eq!(answered, asked);
    });
}

fn stream_events_come_only_when_asked_for(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        drop(target.connect(entry).await);
        tunnel.wait_idle(SOON).await;
        for process in [&tunnel.hub, &tunnel.edge] {
            assert!(
                !process.has_event_since(0, "streamOpened")
                    && !process.has_event_since(0, "streamClosed")
            );
            process
                .call(
                    "subscribe",
                    json!({"events": ["streamOpened", "streamClosed"]}),
                )
                .await;
        }
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"12345").await.unwrap();
        client.shutdown().await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
        server.write_all(b"123").await.unwrap();
        drop(server);
        client.read_to_end(&mut Vec::new()).await.unwrap();
        for process in [&tunnel.hub, &tunnel.edge] {
            let opened = process.wait_event("streamOpened", SOON, |_| true).await;
            assert_eq!(opened["edgeId"], EDGE_ID);
            assert_eq!(
                opened["clientAddress"],
                client.local_addr().unwrap().to_string()
            );
            assert_eq!(
                (&opened["protocol"], &opened["port"]),
                (&json!("tcp"), &json!(entry.port()))
            );
            let closed = process.wait_event("streamClosed", SOON, |_| true).await;
            assert_eq!(closed["streamId"], opened["streamId"]);
            assert_eq!(
                (&closed["bytesIn"], &closed["bytesOut"]),
                (&json!(5), &json!(3)),
                "{closed}"
            );
            assert_eq!(closed["reason"], "finished");
        }
        let opened = tunnel.hub.wait_event("streamOpened", SOON, |_| true).await;
        assert_eq!(opened["target"], target.address().to_string());
    });
}

fn secrets_are_seen_nowhere(transport: Transport) {
    run(90, async {
        let oracle = Oracle::start(Proxy::V2).await;
        let mut builder = TunnelBuilder::new(transport).pinned().traced();
        let entry = builder.forward(Proxy::V2, oracle.address());
        let tunnel = builder.start().await;
        oracle
            .play(entry, Plan::random(seed(), 1, 1 << 16))
            .await
            .unwrap();
        // A canary of our own, that goes through every call that takes a secret, also the refused ones.
        let canary = rand::random::<[u8; 32]>();
        let text = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(canary);
        let mut entry = tunnel.entry();
        entry["nextSecret"] = json!(text);
        tunnel.update(&entry).await;
        let mut bad = entry.clone();
        bad["listenPorts"] = json!([0]);
        let refused = tunnel
            .hub
            .request("updateAllowedEdges", json!({"edges": [bad]}))
            .await;
        assert!(refused.is_err());
        let mut wrong_type = entry.clone();
        wrong_type["secret"] = json!([text]);
        let refused = tunnel
            .hub
            .request("updateAllowedEdges", json!({"edges": [wrong_type]}))
            .await;
        assert!(refused.is_err());
        let other = Process::management("other edge").await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": tunnel.tunnel_address().port(), "edgeId": EDGE_ID,
            "secret": text, "stunServers": [], "instanceOf": text,
        });
        assert!(other.request("startEdge", config).await.is_err());
        for process in [&tunnel.hub, &tunnel.edge, &other] {
            process.call("ping", json!({})).await;
            let mut seen = process.log();
            process
                .inbox()
                .with(|received| seen.extend_from_slice(&received.transcript));
            seen.extend(system::command_line_and_environment(process.pid()));
            let secret = tunnel.entry()["secret"].as_str().unwrap().to_owned();
            assert_absent(&seen, &secret);
            assert_absent(&seen, &text);
            assert_absent(&seen, &base64::prelude::BASE64_STANDARD.encode(canary));
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_absent(&seen, &hex);
        }
    });
}

/// Requests whose answers (`E_NOT_RUNNING`, 120 bytes) fill stdout's pipe and the queue before it, and which fit into
/// stdin's pipe themselves.
const FLOOD: usize = 2_300;

/// Reads no more, and asks until no more is answered.
async fn flood(process: &Process) {
    process.pause_stdout();
    for number in 0..FLOOD {
        process.send(&json!({"id": format!("f{number}"), "method": "getStatus"}));
    }
    // Where it stands still can't be seen from here; what it handles until then takes milliseconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn count_streams(
    entry: SocketAddr,
    enough: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<(), String> {
    while !enough.load(Ordering::Relaxed) {
        let echo = async {
            let mut client = TcpStream::connect(entry).await?;
            client.write_all(b"x").await?;
            client.shutdown().await?;
            client.read_to_end(&mut Vec::new()).await
        };
        let echoed = tokio::time::timeout(Duration::from_secs(5), echo).await;
        match echoed {
            Ok(Ok(1)) => count.fetch_add(1, Ordering::Relaxed),
            other => return Err(format!("{other:?}")),
        };
    }
    Ok(())
}

fn assert_absent(haystack: &[u8], needle: &str) {
    let found = haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes());
    assert!(!found, "a secret was written where others can read it");
}
