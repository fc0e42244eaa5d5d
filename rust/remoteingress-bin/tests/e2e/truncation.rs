//! A part of a transfer never looks like all of it: whatever ends a process, streams in use end with a reset.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::harness::proxy_header::Proxy;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, within};

on_both_transports! {
    clients_of_a_killed_edge_are_reset,
    targets_of_a_killed_hub_are_reset,
    an_edge_that_stops_while_its_hub_is_away_resets_all_clients,
    a_hub_that_stops_while_its_edge_is_away_resets_all_targets,
}

/// More than a worker's tasks get a turn at once.
const STREAMS: usize = 300;

fn clients_of_a_killed_edge_are_reset(transport: Transport) {
    run(60, async {
        let (mut tunnel, streams) = with_streams(transport, 1).await;
        tunnel.edge.kill().await;
        for (client, _) in streams {
            assert_reset(client).await;
        }
    });
}

fn targets_of_a_killed_hub_are_reset(transport: Transport) {
    run(60, async {
        let (mut tunnel, streams) = with_streams(transport, 1).await;
        tunnel.hub.kill().await;
        for (_, server) in streams {
            assert_reset(server).await;
        }
    });
}

fn an_edge_that_stops_while_its_hub_is_away_resets_all_clients(transport: Transport) {
    run(60, async {
        let (mut tunnel, streams) = with_streams(transport, STREAMS).await;
        tunnel.hub.kill().await;
        tunnel.edge.signal(libc::SIGTERM);
        for (client, _) in streams {
            assert_reset(client).await;
        }
        assert_eq!(tunnel.edge.exit(SOON).await.code(), Some(0));
    });
}

fn a_hub_that_stops_while_its_edge_is_away_resets_all_targets(transport: Transport) {
    run(60, async {
        let (mut tunnel, streams) = with_streams(transport, STREAMS).await;
        tunnel.edge.kill().await;
        tunnel.hub.signal(libc::SIGTERM);
        for (_, server) in streams {
            assert_reset(server).await;
        }
        assert_eq!(tunnel.hub.exit(SOON).await.code(), Some(0));
    });
}

async fn with_streams(transport: Transport, count: usize) -> (Tunnel, Vec<(TcpStream, TcpStream)>) {
    let mut target = ManualTarget::start(Proxy::None).await;
    let at_once = json!({"drainTimeoutSecs": 0});
    let mut builder = TunnelBuilder::new(transport)
        .hub(at_once.clone())
        .edge(at_once);
    let entry = builder.forward(Proxy::None, target.address());
    let tunnel = builder.start().await;
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(target.connect(entry).await);
    }
    (tunnel, streams)
}

async fn assert_reset(mut stream: TcpStream) {
    let limit = SOON + Duration::from_secs(10);
    let read = within(limit, "end", stream.read_u8()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
