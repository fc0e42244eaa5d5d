//! Every byte arrives, in order, on its own stream, and nothing stays behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run, run_heavy, seed, system, until};

on_both_transports! {
    two_thousand_streams_arrive_whole_and_leave_nothing_behind,
    status_counts_the_bytes_of_each_direction,
    a_flipped_bit_in_the_tunnel_never_reaches_a_client,
}

fn two_thousand_streams_arrive_whole_and_leave_nothing_behind(transport: Transport) {
    let streams = streams();
    run_heavy(300 * streams.div_ceil(STREAMS), async move {
        let oracle = Arc::new(Oracle::start(Proxy::V1).await);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::V1, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        oracle
            .play(entry, Plan::bulk(seed(), streams, 1 << 20))
            .await
            .unwrap();
        tunnel.wait_idle(SOON).await;
        let processes = [&tunnel.hub, &tunnel.edge];
        let before = processes.map(|process| system::descriptors(process.pid()));

        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CONCURRENT {
            let (oracle, next) = (Arc::clone(&oracle), Arc::clone(&next));
            clients.spawn(async move {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= streams {
                        return Ok(());
                    }
                    oracle
                        .play(entry, Plan::random(seed(), id, LARGEST))
                        .await?;
                }
            });
        }
        for outcome in clients.join_all().await {
            outcome.unwrap_or_else(|error: String| panic!("{error}"));
        }

        tunnel.wait_idle(Duration::from_secs(30)).await;
        for (process, before) in processes.into_iter().zip(before) {
            // Where the kernel doesn't show descriptors both are None.
            until(SOON, "return to the descriptors before", async || {
                (system::descriptors(process.pid()) == before).then_some(())
            })
            .await;
        }
        let status = tunnel.edge.status().await;
        assert_eq!(status["totalStreams"], streams + 1);
        assert_eq!(status["reconnects"], 0, "{status}");
    });
}

fn status_counts_the_bytes_of_each_direction(transport: Transport) {
    run(60, async {
        let oracle = Oracle::start(Proxy::V2).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::V2, oracle.address());
        let tunnel = builder.start().await;
        let mut plan = Plan::bulk(seed(), 1, 300_000);
        plan.down = 70_000;
        oracle.play(entry, plan).await.unwrap();
        tunnel.wait_idle(SOON).await;
        let edge = tunnel.edge.status().await;
        let hub = tunnel.hub.status().await["connectedEdges"][0].clone();
        for status in [edge, hub] {
            // The plan itself goes up in front of the bytes; the PROXY header isn't a client's byte.
            assert_eq!(status["bytesIn"], 300_000 + 34, "{status}");
            assert_eq!(status["bytesOut"], 70_000, "{status}");
            assert_eq!(status["totalStreams"], 1, "{status}");
        }
    });
}

fn a_flipped_bit_in_the_tunnel_never_reaches_a_client(transport: Transport) {
    run(120, async {
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport)
            .relayed()
            .edge(serde_json::json!({"workers": 1}));
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.path().flip_bit_after(1_000_000);
        // TLS notices, the connection ends, the session resumes; QUIC drops the packet and sends its content again.
        // Either way the client sees nothing but the right bytes.
        oracle
            .play(entry, Plan::bulk(seed(), 1, 4 << 20))
            .await
            .unwrap();
        let status = tunnel.edge.status().await;
        match transport {
            Transport::TcpTls => assert!(status["resumed"].as_u64() >= Some(1), "{status}"),
            Transport::Quic | Transport::QuicWithFallback => {
                assert_eq!(status["reconnects"], 0, "{status}");
            }
        }
    });
}

// QUIC has no segments to cut: one datagram is one packet.
#[test]
fn one_byte_segments_in_the_tunnel_change_nothing() {
    run_heavy(120, async {
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls).relayed();
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.relay().slice(1);
        oracle
            .play(entry, Plan::bulk(seed(), 1, 200_000))
            .await
            .unwrap();
    });
}

/// The bench asks for ten times as many.
fn streams() -> u64 {
    std::env::var("REMOTEINGRESS_BYTE_TRUTH_STREAMS")
        .map_or(STREAMS, |text| text.parse().expect("a number of streams"))
}

const STREAMS: u64 = 2_000;
const CONCURRENT: usize = 64;
/// Largest size of one direction in bytes; with 2,000 log-uniform streams about 2 GiB in all.
const LARGEST: u32 = 8 * 1024 * 1024;
