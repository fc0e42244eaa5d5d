//! The streams that are open, and the access log of those that have ended: what they say, under one id at both ends.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{ManualTarget, Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::udp_oracle::{UdpOracle, UdpProxy};
use crate::harness::{SOON, new_directory, run, until};

on_both_transports! {
    a_stream_has_one_id_everywhere,
    a_stream_says_what_it_waits_for,
    the_oldest_streams_are_listed_first,
    what_has_ended_is_written_at_both_ends,
}

/// `PP2_TYPE_UNIQUE_ID` of the specification.
const TLV_UNIQUE_ID: u8 = 0x05;

fn a_stream_has_one_id_everywhere(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::V2).await;
        let oracle = UdpOracle::start(UdpProxy::None);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::V2, target.address());
        let udp_entry = builder.forward_udp(UdpProxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        for end in [&tunnel.hub, &tunnel.edge] {
            let events = json!({"events": ["streamOpened", "streamClosed"]});
            end.call("subscribe", events).await;
        }
        let client = tokio::net::TcpStream::connect(entry).await.unwrap();
        let (server, header) = target.accept_with_header().await;
        let told = header.unwrap().tlvs.into_iter();
        let told = told.filter(|tlv| tlv.0 == TLV_UNIQUE_ID).map(|tlv| tlv.1);
        let id = String::from_utf8(told.collect::<Vec<_>>().concat()).unwrap();

        let flow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        flow.connect(udp_entry).await.unwrap();
        flow.send(b"x").await.unwrap();
        let mut flows = Vec::new();
        for end in [&tunnel.hub, &tunnel.edge] {
            let has_both =
                |list: &Value| list["total"] == 2 && list["streams"][0]["id"] != json!(null);
            let list = wait_list(end, "a stream and a flow", has_both).await;
            let of = |protocol: &str| {
                let streams = list["streams"].as_array().unwrap();
                let one = streams.iter().find(|stream| stream["protocol"] == protocol);
                one.unwrap().clone()
            };
            let stream = of("tcp");
            assert_eq!(stream["id"], id);
            let at_hub = json!(target.address().to_string());
            assert!(stream["target"] == at_hub || std::ptr::eq(end, &tunnel.edge));
            assert_eq!(stream["edgeId"], EDGE_ID);
            assert_eq!(
                stream["clientAddress"],
                client.local_addr().unwrap().to_string()
            );
            assert_eq!(
                (&stream["port"], &stream["tier"]),
                (&json!(entry.port()), &json!("data"))
            );
            assert_eq!(stream["transport"], transport.word());
            assert_eq!(stream["waitsFor"], json!(null));
            let flow_shown = of("udp");
            assert_eq!(
                flow_shown["clientAddress"],
                flow.local_addr().unwrap().to_string()
            );
            assert_eq!(flow_shown["bytesIn"], 1);
            flows.push(flow_shown["id"].clone());
        }
        assert_eq!(flows[0], flows[1]);
        assert_ne!(flows[0], json!(null));

        drop((client, server));
        for end in [&tunnel.hub, &tunnel.edge] {
            for event in ["streamOpened", "streamClosed"] {
                end.wait_event_since(0, event, SOON, |data| data["id"] == id)
                    .await;
            }
            wait_list(end, "only the flow", |list| list["total"] == 1).await;
        }
    });
}

#[test]
fn a_stream_of_a_lost_session_keeps_its_id() {
    run(60, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let events = json!({"events": ["streamOpened", "streamClosed"]});
        tunnel.edge.call("subscribe", events).await;
        let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1).await;
        let opened = tunnel.edge.wait_event("streamOpened", SOON, |_| true);
        let id = opened.await["id"].clone();
        tunnel.hub.kill().await;
        tunnel.start_hub_again().await;
        let closed = tunnel.edge.wait_event("streamClosed", SOON, |_| true);
        assert_eq!(closed.await["id"], id);
        let mark = tunnel.edge.mark();
        let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1).await;
        let opened = tunnel
            .edge
            .wait_event_since(mark, "streamOpened", SOON, |_| true);
        let session = |id: &Value| id.as_str().unwrap().split('-').next().unwrap().to_owned();
        assert_ne!(session(&opened.await["id"]), session(&id));
    });
}

fn a_stream_says_what_it_waits_for(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(entry).await;
        let waits = |list: &Value| list["streams"][0]["waitsFor"].clone();
        // The client doesn't read.
        let writing = tokio::spawn(async move {
            let written = server.write_all(&vec![0; 64 << 20]).await;
            (server, written)
        });
        wait_list(&tunnel.edge, "the client", |list| waits(list) == "client").await;
        wait_list(&tunnel.hub, "the window", |list| waits(list) == "window").await;
        let mut rest = vec![0; 64 << 20];
        client.read_exact(&mut rest).await.unwrap();
        let (_server, written) = writing.await.unwrap();
        written.unwrap();
        for end in [&tunnel.edge, &tunnel.hub] {
            wait_list(end, "nothing", |list| waits(list) == json!(null)).await;
        }
        // The target doesn't read.
        let writing = tokio::spawn(async move { client.write_all(&vec![0; 64 << 20]).await });
        wait_list(&tunnel.hub, "the target", |list| waits(list) == "target").await;
        wait_list(&tunnel.edge, "the window", |list| waits(list) == "window").await;
        writing.abort();
    });
}

fn the_oldest_streams_are_listed_first(transport: Transport) {
    run(60, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
            echoed(&mut client, 10).await;
            clients.push(client);
        }
        let two = list(&tunnel.hub, json!({"limit": 2})).await;
        assert_eq!(
            (&two["total"], two["streams"].as_array().unwrap().len()),
            (&json!(5), 2)
        );
        let addresses = [
            &two["streams"][0]["clientAddress"],
            &two["streams"][1]["clientAddress"],
        ];
        let oldest = clients
            .iter()
            .take(2)
            .map(|client| json!(client.local_addr().unwrap().to_string()));
        assert_eq!(
            addresses,
            oldest.collect::<Vec<_>>().iter().collect::<Vec<_>>()[..]
        );
        assert_eq!(two["streams"][0]["bytesIn"], 10);
        let other = list(&tunnel.hub, json!({"edgeId": "another"})).await;
        assert_eq!(other, json!({"streams": [], "total": 0}));
        for limit in [0, 10_001] {
            let refused = tunnel
                .hub
                .request("getStreams", json!({"limit": limit}))
                .await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.code, "E_BAD_REQUEST");
        }
    });
}

fn what_has_ended_is_written_at_both_ends(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let oracle = UdpOracle::start(UdpProxy::None);
        let (mut builder, hub_log, edge_log) =
            with_logs(transport, json!({"udpIdleTimeoutSecs": 1}));
        let entry = builder.forward(Proxy::None, target.address());
        let udp_entry = builder.forward_udp(UdpProxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = target.connect(entry).await;
        let address = client.local_addr().unwrap().to_string();
        client.write_all(b"abc").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        server.write_all(b"de").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'd');
        client.shutdown().await.unwrap();
        drop(server);
        let flow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        flow.connect(udp_entry).await.unwrap();
        flow.send(b"x").await.unwrap();
        let flow_address = flow.local_addr().unwrap().to_string();

        let at_hub = wait_line(&hub_log, &address).await;
        let at_edge = wait_line(&edge_log, &address).await;
        assert_eq!(at_hub["id"], at_edge["id"]);
        for line in [&at_hub, &at_edge] {
            assert_eq!(
                (&line["bytesIn"], &line["bytesOut"]),
                (&json!(3), &json!(2)),
                "{line}"
            );
            assert_eq!(line["listener"], entry.to_string());
            assert_eq!(line["protocol"], "tcp");
            assert_eq!(line["transport"], transport.word());
            let time = |field: &str| line[field].as_f64().unwrap();
            assert!(time("firstByteMs") <= time("totalMs"), "{line}");
        }
        assert_eq!(
            (&at_hub["end"], &at_edge["end"]),
            (&json!("hub"), &json!("edge"))
        );
        assert_eq!(at_hub["target"], target.address().to_string());
        assert!(at_hub["dialMs"].is_f64() && at_edge["dialMs"].is_null());
        for field in ["acceptMs", "heldMs", "tunnelMs"] {
            assert!(
                at_edge[field].is_f64() && at_hub[field].is_null(),
                "{at_edge}"
            );
        }
        // The server closed with bytes unread, or after its client: both are its doing or its client's.
        assert!(["client", "target"].contains(&at_edge["endedBy"].as_str().unwrap()));
        assert_eq!(at_edge["endedBy"], at_hub["endedBy"]);

        let at_hub = wait_line(&hub_log, &flow_address).await;
        let at_edge = wait_line(&edge_log, &flow_address).await;
        assert_eq!(
            (&at_hub["id"], &at_hub["reason"]),
            (&at_edge["id"], &json!("idleTimeout"))
        );
        assert_eq!(
            (&at_edge["bytesIn"], &at_edge["protocol"]),
            (&json!(1), &json!("udp"))
        );
    });
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew() {
    run(60, async {
        let target = Target::echo().await;
        let (mut builder, hub_log, _) = with_logs(Transport::TcpTls, json!({}));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let first = one_stream(entry).await;
        wait_line(&hub_log, &first).await;
        let moved = hub_log.with_extension("1");
        std::fs::rename(&hub_log, &moved).unwrap();
        tunnel.hub.signal(libc::SIGHUP);
        until(SOON, "a new file", async || hub_log.exists().then_some(())).await;
        let second = one_stream(entry).await;
        wait_line(&hub_log, &second).await;
        assert!(lines(&moved).iter().all(|line| line["client"] != second));
    });
}

#[test]
fn a_full_disk_loses_lines_and_ends_no_stream() {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"accessLog": {"path": "/dev/full"}}))
            .edge(json!({"accessLog": {"path": "/dev/full"}}));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        for _ in 0..3 {
            one_stream(entry).await;
        }
        for end in [&tunnel.hub, &tunnel.edge] {
            let is_counted = |status: &Value| status["accessLogLost"] == 3;
            end.wait_status(SOON, "three lost lines", is_counted).await;
        }
    });
}

#[test]
fn both_ends_write_the_same_sample() {
    run(60, async {
        let target = Target::echo().await;
        let (hub_log, edge_log) = (log("hub"), log("edge"));
        let of = |path: &Path| json!({"accessLog": {"path": path, "sample": 0.5}});
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(of(&hub_log))
            .edge(of(&edge_log));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        for _ in 0..40 {
            one_stream(entry).await;
        }
        tunnel.wait_idle(SOON).await;
        let ids = |path: &Path| {
            let mut ids: Vec<_> = lines(path)
                .iter()
                .map(|line| line["id"].to_string())
                .collect();
            ids.sort();
            ids
        };
        let same =
            async || Some(ids(&hub_log)).filter(|hub| *hub == ids(&edge_log) && !hub.is_empty());
        let ids = until(SOON, "the same lines at both ends", same).await;
        assert!((1..40).contains(&ids.len()), "{}", ids.len());
    });
}

#[test]
fn a_log_that_cannot_be_opened_fails_the_start() {
    run(30, async {
        let hub = Process::management("hub").await;
        let config = json!({"tunnelPort": 0, "accessLog": {"path": "/nonexistent/access.jsonl"}});
        let refused = hub.request("startHub", config).await.unwrap_err();
        assert_eq!(refused.code, "E_INVALID_CONFIG");
        assert!(
            refused.message.starts_with("accessLog.path: "),
            "{}",
            refused.message
        );
    });
}

pub(crate) fn with_logs(transport: Transport, edge: Value) -> (TunnelBuilder, PathBuf, PathBuf) {
    let (hub_log, edge_log) = (log("hub"), log("edge"));
    let builder = TunnelBuilder::new(transport)
        .hub(json!({"accessLog": {"path": hub_log}}))
        .hub(edge.clone())
        .edge(json!({"accessLog": {"path": edge_log}}))
        .edge(edge);
    (builder, hub_log, edge_log)
}

fn log(of: &str) -> PathBuf {
    new_directory("access").join(format!("{of}.jsonl"))
}

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be about to be written.
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The line of a client.
pub(crate) async fn wait_line(path: &Path, client: &str) -> Value {
    let found = async || {
        lines(path)
            .into_iter()
            .find(|line| line["client"] == client)
    };
    until(SOON, "a line of the access log", found).await
}

/// Opens a stream, uses it, closes it; gives the client's address.
async fn one_stream(entry: std::net::SocketAddr) -> String {
    let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
    echoed(&mut client, 10).await;
    client.local_addr().unwrap().to_string()
}

async fn list(end: &Process, params: Value) -> Value {
    end.call("getStreams", params).await
}

pub(crate) async fn wait_list(end: &Process, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let found = async || Some(list(end, json!({})).await).filter(|list| is_it(list));
    until(SOON, what, found).await
}
