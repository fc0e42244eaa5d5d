//! A session outlives its connection; where it can't, its streams end with a RST and new ones work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::Cut;
use crate::harness::target::{ManualTarget, Target, echoed};
use crate::harness::transport::{Transport, whichever_end_dials};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run, run_heavy, seed, until, within};

// The others are about what only tcpTls does: a session that is resumed over another connection.
whichever_end_dials! {
    tcp_tls over TcpTls {
        clients_are_held_while_the_hub_is_unreachable_and_then_served,
        clients_are_held_while_the_hub_restarts_and_then_served,
    }
    quic over Quic {
        clients_are_held_while_the_hub_is_unreachable_and_then_served,
        clients_are_held_while_the_hub_restarts_and_then_served,
    }
}

#[test]
fn transfers_survive_fifty_cuts_and_ten_seconds_of_outage() {
    run_heavy(240, async {
        let oracle = Arc::new(Oracle::start(Proxy::V1).await);
        let mut builder = TunnelBuilder::new(Transport::TcpTls).relayed();
        let entry = builder.forward(Proxy::V1, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;

        let mut transfers = JoinSet::new();
        for id in 0..TRANSFERS {
            let oracle = Arc::clone(&oracle);
            transfers.spawn(async move {
                oracle
                    .play(entry, Plan::bulk(seed(), id, TRANSFER_BYTES))
                    .await
            });
        }
        let relay = tunnel.relay();
        let start = relay.bytes();
        // Every cut falls in the middle: all of them within the first 70 % of the bytes.
        let step = 2 * TRANSFERS * TRANSFER_BYTES * 7 / 10 / CUTS;
        for cut in 1..=CUTS {
            relay
                .wait_bytes(start + cut * step, Duration::from_secs(60))
                .await;
            if cut == CUTS / 2 {
                relay.refuse(true);
                relay.cut(Cut::Rst);
                tokio::time::sleep(Duration::from_secs(10)).await;
                relay.refuse(false);
            } else {
                relay.cut(if cut % 2 == 0 { Cut::Rst } else { Cut::Fin });
            }
        }
        for outcome in transfers.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
        let status = tunnel.edge.status().await;
        assert!(status["resumed"].as_u64() >= Some(CUTS), "{status}");
        let hub = tunnel.hub.status().await;
        // A Welcome that a cut keeps from the edge counts here alone.
        let at_hub = &hub["connectedEdges"][0]["resumed"];
        assert!(at_hub.as_u64() >= status["resumed"].as_u64(), "{hub}");
        tunnel.wait_idle(SOON).await;
    });
}

/// A connection that is gone as soon as the hub has said Welcome is one of many that may be lost.
#[test]
fn a_reset_anywhere_in_a_handshake_costs_no_stream() {
    run(90, async {
        // Several at once: delays between attempts grow.
        let tunnels = LocalSet::new();
        let parts = (0..TUNNELS).map(|part| tunnels.spawn_local(reset_in_handshakes(part)));
        let parts: Vec<_> = parts.collect();
        tunnels.await;
        for part in parts {
            part.await.unwrap();
        }
    });
}

async fn reset_in_handshakes(part: usize) {
    let target = Target::echo().await;
    let mut builder = TunnelBuilder::new(Transport::TcpTls)
        .relayed()
        .edge(json!({"workers": 1}));
    let entry = builder.forward(Proxy::None, target.address());
    let tunnel = builder.start().await;
    let mut client = TcpStream::connect(entry).await.unwrap();
    echoed(&mut client, 100).await;
    let relay = tunnel.relay();
    relay.record();
    relay.cut(Cut::Rst);
    echoed(&mut client, 100).await;
    let whole = relay.accepted();
    let mut flights = relay.recorded();
    flights.retain(|read| read.connection == whole && !read.is_from_edge);
    // The hub's TLS flight, its tickets, its Welcome, the first frames: as they came, whole or together.
    let ends = flights.iter().take(4).scan(0, |passed, read| {
        *passed += read.bytes.len();
        Some(*passed)
    });
    // Signatures differ in length by some bytes.
    let places: Vec<_> = ends.flat_map(|end| end - 2..=end + 2).collect();
    assert!(places.len() >= 10, "{places:?}");
    for place in places.into_iter().skip(part % SHARES).step_by(SHARES) {
        let accepted = relay.accepted();
        relay.reset_next_at(place);
        relay.cut(Cut::Rst);
        let what = format!("a connection after the one that was reset at {place}");
        let has_next = async || (relay.accepted() > accepted + 1).then_some(());
        until(SOON, &what, has_next).await;
        echoed(&mut client, 100).await;
    }
}

#[test]
fn a_black_hole_is_noticed_and_survived() {
    run(120, async {
        let oracle = Arc::new(Oracle::start(Proxy::None).await);
        let mut builder = TunnelBuilder::new(Transport::TcpTls).relayed();
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let start = tunnel.relay().bytes();
        let transfer = tokio::spawn({
            let oracle = Arc::clone(&oracle);
            async move { oracle.play(entry, Plan::bulk(seed(), 1, 64 << 20)).await }
        });
        tunnel.relay().wait_bytes(start + (4 << 20), SOON).await;
        let accepted = tunnel.relay().accepted();
        tunnel.relay().black_hole(true);
        // No FIN, no RST: only silence tells. A new dial must come although the old connection looks alive.
        until(
            Duration::from_secs(15),
            "new dial after silence",
            async || (tunnel.relay().accepted() > accepted).then_some(()),
        )
        .await;
        tunnel.relay().black_hole(false);
        transfer.await.unwrap().unwrap();
    });
}

#[test]
fn streams_are_reset_after_the_resume_timeout_and_new_ones_work() {
    run(90, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let short = json!({"resumeTimeoutSecs": 2});
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .relayed()
            .hub(short.clone())
            .edge(short);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();

        tunnel.relay().refuse(true);
        tunnel.relay().cut(Cut::Rst);
        for stream in [&mut client, &mut server] {
            let read = within(Duration::from_secs(10), "RST", stream.read_u8()).await;
            assert_eq!(
                read.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
        }
        tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, |_| true)
            .await;

        let mark = tunnel.edge.mark();
        tunnel.relay().refuse(false);
        tunnel
            .edge
            .wait_event_since(mark, "tunnelConnected", Duration::from_secs(40), |_| true)
            .await;
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"y").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'y');
    });
}

#[test]
fn both_ends_give_a_stream_up_after_the_shorter_timeout() {
    for (hub, edge) in [(1, 60), (60, 1)] {
        run(60, async move {
            let mut target = ManualTarget::start(Proxy::None).await;
            let mut builder = TunnelBuilder::new(Transport::TcpTls)
                .relayed()
                .hub(json!({"resumeTimeoutSecs": hub}))
                .edge(json!({"resumeTimeoutSecs": edge}));
            let entry = builder.forward(Proxy::None, target.address());
            let tunnel = builder.start().await;
            let (mut client, mut server) = target.connect(entry).await;
            tunnel.relay().refuse(true);
            tunnel.relay().cut(Cut::Rst);
            for stream in [&mut client, &mut server] {
                let read = within(SOON, "RST", stream.read_u8()).await;
                assert_eq!(
                    read.unwrap_err().kind(),
                    std::io::ErrorKind::ConnectionReset
                );
            }
        });
    }
}

fn clients_are_held_while_the_hub_is_unreachable_and_then_served(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let away = tunnel.edge.mark();
        tunnel.path().refuse(true);
        tunnel.path().cut(Cut::Rst);
        tunnel
            .edge
            .wait_event_since(away, "tunnelDisconnected", SOON, |_| true)
            .await;
        let clients = arriving_clients(entry).await;
        tunnel.path().refuse(false);
        for outcome in clients.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
    });
}

fn clients_are_held_while_the_hub_restarts_and_then_served(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let away = tunnel.edge.mark();
        tunnel.hub.kill().await;
        tunnel
            .edge
            .wait_event_since(away, "tunnelDisconnected", SOON, |_| true)
            .await;
        let clients = arriving_clients(entry).await;
        tunnel.start_hub_again().await;
        for outcome in clients.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
    });
}

/// Starts 100 echo clients, one every 20 ms: they arrive while the hub is away for about 2 s.
async fn arriving_clients(entry: SocketAddr) -> JoinSet<Result<(), String>> {
    let mut clients = JoinSet::new();
    for number in 0..100_u32 {
        clients.spawn(async move {
            let text = format!("client {number}");
            let exchange = async {
                let mut client = TcpStream::connect(entry).await?;
                client.write_all(text.as_bytes()).await?;
                client.shutdown().await?;
                let mut back = String::new();
                client.read_to_string(&mut back).await.map(|_| back)
            };
            match exchange.await {
                Ok(back) if back == text => Ok(()),
                other => Err(format!("{text}: {other:?}")),
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    clients
}

const TRANSFERS: u64 = 20;
/// Bytes of each transfer in each direction.
const TRANSFER_BYTES: u64 = 50 * 1024 * 1024;
const CUTS: u64 = 50;
/// The places at which connections are reset, in shares, and tunnels that take one each: it takes luck to meet an attempt
/// between its Welcome and its next step.
const SHARES: usize = 5;
const TUNNELS: usize = 3 * SHARES;
