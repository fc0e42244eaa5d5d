//! The test of an edge over its live tunnel: what it tells, and that it hurts nobody.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use remoteingress_config::doctor::{Check, CheckName, CheckState, SelfTestReport};
use remoteingress_proto::handshake::{EdgeHandshake, EdgeProgress, ProofKeys};
use remoteingress_proto::token::secret::Secret;
use remoteingress_proto::wire::frame::{FrameKind, StreamId, encode};
use remoteingress_proto::wire::header::TestNonce;
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
use crate::harness::tls_peer::{self, ALPN, ClientStream};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};
use crate::harness::wire_peer::{as_proven, hello};
use crate::harness::{SOON, new_secret, run, until};

#[test]
fn a_report_tells_of_session_ports_and_targets() {
    run(60, async {
        let target = Target::echo().await;
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, target.address());
        builder.forward(Proxy::None, nobody);
        builder.listen(json!({"port": taken, "targetPort": 80}));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;

        let report = test(&tunnel).await;
        assert_eq!(report.edge_id.as_str(), EDGE_ID);
        let session = only(&report, CheckName::Session);
        assert_eq!(session.state, CheckState::Ok);
        assert!(session.seen.contains("over tcpTls"), "{}", session.seen);
        let ports = only(&report, CheckName::Ports);
        assert_eq!(ports.state, CheckState::Failure);
        assert!(
            ports.seen.contains(&format!("tcp {taken}: ")),
            "{}",
            ports.seen
        );
        let targets = report.checks.iter();
        let targets = targets.filter(|check| check.name == CheckName::Target);
        let bad = targets.filter(|check| check.state == CheckState::Failure);
        assert!(
            bad.clone()
                .any(|check| check.seen.contains(&nobody.to_string()))
        );
        assert!(
            !bad.clone()
                .any(|check| check.seen.contains(&target.address().to_string()))
        );
    });
}

#[test]
fn each_target_of_a_pool_is_tried_and_not_the_hubs_own() {
    run(60, async {
        let target = Target::echo().await;
        let (port, dead, empty, udp) = (free_port(), free_port(), free_port(), free_port());
        let of_pool = |id: &str, port: u16| json!({"id": id, "host": "127.0.0.1", "port": port});
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "targetHost": "127.0.0.77",
            "pools": {
                "web": {"targets": [of_pool("one", target.address().port()), of_pool("two", dead)]},
                "empty": {}, "dns": {"targets": [{"host": "localhost"}]},
            },
        }));
        builder.listen(json!({"port": port, "pool": "web", "proxyProtocol": "none"}));
        builder.listen(json!({"port": empty, "pool": "empty"}));
        builder.listen_udp(json!({"port": udp, "pool": "dns"}));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;

        let report = test(&tunnel).await;
        let seen = |state: CheckState, part: &str| {
            let mut checks = report.checks.iter();
            checks.any(|check| check.state == state && check.seen.contains(part))
        };
        let at = target.address();
        let told = format!("web/one at {at} takes connections (edge {EDGE_ID})");
        assert!(seen(CheckState::Ok, &told), "{report:?}");
        let told = format!("web/two at 127.0.0.1:{dead}: ");
        assert!(seen(CheckState::Failure, &told), "{report:?}");
        let told = format!("pool empty has no target (edge {EDGE_ID})");
        assert!(seen(CheckState::Failure, &told), "{report:?}");
        assert!(seen(CheckState::Ok, "localhost"), "{report:?}");
        assert!(!format!("{report:?}").contains("127.0.0.77"), "{report:?}");
    });
}

#[test]
fn an_edge_that_is_unknown_or_away() {
    run(60, async {
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, Target::echo().await.address());
        let tunnel = builder.start().await;
        let refusal = tunnel
            .hub
            .request("selfTest", json!({"edgeId": "nobody"}))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, "E_UNKNOWN_EDGE");
        let away = json!({"id": "away", "secret": new_secret()});
        tunnel
            .hub
            .call("upsertEdges", json!({"edges": [away]}))
            .await;
        let report = tunnel.hub.call("selfTest", json!({"edgeId": "away"})).await;
        let report: SelfTestReport = serde_json::from_value(report).unwrap();
        let session = only(&report, CheckName::Session);
        assert_eq!(session.state, CheckState::Failure);
    });
}

on_both_transports! {
    a_test_measures_beside_traffic_and_blocks_nobody,
    a_drain_ends_a_test,
}

/// Figures are sensible, the traffic goes on, other requests are answered meanwhile, and no second test begins.
fn a_test_measures_beside_traffic_and_blocks_nobody(transport: Transport) {
    run(90, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1_000).await;

        let testing = test(&tunnel);
        let beside = async {
            until(SOON, "the stream of the test", async || {
                (active(&tunnel.hub).await == 2).then_some(())
            })
            .await;
            let refusal = tunnel
                .hub
                .request("selfTest", json!({"edgeId": EDGE_ID}))
                .await;
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.code, "E_BAD_REQUEST");
            assert!(refusal.message.contains("runs already"), "{refusal:?}");
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let begun = Instant::now();
                echoed(&mut client, 1_000).await;
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        };
        let (report, slowest) = tokio::join!(testing, beside);
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        for name in [CheckName::ThroughputToEdge, CheckName::ThroughputFromEdge] {
            let check = only(&report, name);
            assert_eq!(check.state, CheckState::Ok, "{check:?}");
            assert!(check.seen.contains(" Mbit/s "), "{}", check.seen);
        }
        assert_eq!(only(&report, CheckName::Loss).state, CheckState::Ok);
        let round_trip = only(&report, CheckName::RoundTrip);
        assert!(
            round_trip.seen.contains("of a byte on a stream"),
            "{}",
            round_trip.seen
        );
        until(SOON, "the end of the stream", async || {
            let both = (active(&tunnel.hub).await, active(&tunnel.edge).await);
            (both == (1, 1)).then_some(())
        })
        .await;
        // Another one may begin.
        test(&tunnel).await;
        echoed(&mut client, 100_000).await;
    });
}

/// It is told nothing of a test, and its own stream of one is refused as a bad header.
#[test]
fn an_edge_of_the_version_before_is_too_old_and_no_edge_begins_a_test() {
    run(90, async {
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, Target::echo().await.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let secret = new_secret();
        let old = json!({"id": OLD, "secret": secret});
        let edges = json!({"edges": [old]});
        tunnel.hub.call("upsertEdges", edges).await;
        let hub = tunnel.tunnel_address();
        let coming = tokio::task::spawn_blocking(move || come_in_and_test(hub, &secret));
        let _edge = coming.await.unwrap();
        until(SOON, "the refusal of its stream", async || {
            let status = tunnel.hub.status().await;
            (status["rejected"]["badHeader"] == 1).then_some(())
        })
        .await;
        let report = tunnel.hub.call("selfTest", json!({"edgeId": OLD})).await;
        let report: SelfTestReport = serde_json::from_value(report).unwrap();
        assert_eq!(only(&report, CheckName::Session).state, CheckState::Ok);
        for name in [CheckName::ThroughputToEdge, CheckName::ThroughputFromEdge] {
            let check = only(&report, name);
            assert_eq!(check.state, CheckState::Warning);
            assert!(check.seen.contains("0.0.0-test"), "{}", check.seen);
        }
        assert_eq!(tunnel.hub.status().await["rejected"]["badHeader"], 1);
    });
}

fn a_drain_ends_a_test(transport: Transport) {
    run(60, async move {
        let mut builder = TunnelBuilder::new(transport);
        builder.forward(Proxy::None, Target::echo().await.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let testing = tunnel.hub.request("selfTest", json!({"edgeId": EDGE_ID}));
        let stopping = async {
            until(SOON, "the stream of the test", async || {
                (active(&tunnel.hub).await == 1).then_some(())
            })
            .await;
            let begun = Instant::now();
            tunnel.hub.call("stop", json!({})).await;
            begun.elapsed()
        };
        let (tested, stopped) = tokio::join!(testing, stopping);
        // A quick machine may have ended it before.
        if let Err(refusal) = tested {
            assert_eq!(refusal.code, "E_NOT_RUNNING");
        }
        assert!(stopped < Duration::from_secs(5), "{stopped:?}");
    });
}

const OLD: &str = "edge-old";

/// An edge that knows nothing of tests, and opens the stream of one nevertheless.
fn come_in_and_test(hub: SocketAddr, secret: &str) -> ClientStream {
    let mut stream = tls_peer::connect(hub, &[ALPN]).unwrap();
    let keys = ProofKeys::derive(&Secret::new(secret.into()));
    let (ekm, transport) = (tls_peer::exporter(&stream), as_proven(Transport::TcpTls));
    let (edge, message) = EdgeHandshake::new(&hello(OLD), keys, &ekm, transport).unwrap();
    stream.write_all(&message).unwrap();
    stream.flush().unwrap();
    let mut answer = vec![0; 3];
    stream.read_exact(&mut answer).unwrap();
    let length = usize::from(u16::from_be_bytes([answer[1], answer[2]]));
    answer.resize(3 + length, 0);
    stream.read_exact(&mut answer[3..]).unwrap();
    let progress = edge.handle(&answer).unwrap();
    assert!(
        matches!(progress, EdgeProgress::Welcomed { .. }),
        "{progress:?}"
    );
    let header = TestNonce([7; 16]).header();
    let parts: [&[u8]; 3] = [&65_536_u32.to_be_bytes(), &[0; 4], &header];
    let open = encode(FrameKind::Open, StreamId(1), &parts);
    stream.write_all(&open).unwrap();
    stream.flush().unwrap();
    stream
}

async fn test(tunnel: &Tunnel) -> SelfTestReport {
    let report = tunnel
        .hub
        .call("selfTest", json!({"edgeId": EDGE_ID}))
        .await;
    serde_json::from_value(report).unwrap()
}

/// The one check of this name.
fn only(report: &SelfTestReport, name: CheckName) -> &Check {
    let mut checks = report.checks.iter().filter(|check| check.name == name);
    let check = checks.next();
    assert!(checks.next().is_none(), "{report:?}");
    check.unwrap_or_else(|| panic!("no {name:?} in {report:?}"))
}

/// Streams that hub or edge count now.
async fn active(process: &Process) -> u64 {
    let status = process.status().await;
    let edge = status["connectedEdges"].as_array();
    let counts = edge.map_or(&status, |edges| edges.first().unwrap_or(&status));
    counts["activeStreams"].as_u64().unwrap_or(0)
}
