//! Ending on purpose: what runs may finish, nothing new begins, and the process leaves with 0.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::quic_peer::QuicClient;
use crate::harness::target::ManualTarget;
use crate::harness::tls_peer::ALPN;
use crate::harness::transport::{Transport, on_quic, on_tcp_tls, where_the_hub_dials};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::udp_relay::UdpRelay;
use crate::harness::{SOON, run, until, within};

on_tcp_tls! {
    clients_of_a_draining_hub_wait_as_long_as_clients_without_one,
    sigterm_lets_the_edges_streams_finish,
    sigterm_lets_the_hubs_streams_finish,
    stop_lets_the_edges_streams_finish,
    stop_lets_the_hubs_streams_finish,
    end_of_stdin_lets_the_edges_streams_finish,
    end_of_stdin_lets_the_hubs_streams_finish,
    a_stream_that_outlives_the_drain_timeout_is_reset,
    a_second_sigterm_cuts,
    the_successor_of_an_orphaned_hub_takes_its_port_over,
    the_successor_of_an_orphaned_hub_waits_for_no_stranger,
    the_successor_of_an_orphaned_edge_takes_over,
    the_signal_of_a_dead_parent_drains_however_often_it_comes,
}

on_quic! {
    sigterm_lets_the_edges_streams_finish,
    sigterm_lets_the_hubs_streams_finish,
    stop_lets_the_edges_streams_finish,
    stop_lets_the_hubs_streams_finish,
    end_of_stdin_lets_the_edges_streams_finish,
    a_stream_that_outlives_the_drain_timeout_is_reset,
    a_second_sigterm_cuts,
    the_successor_of_an_orphaned_hub_has_the_port_and_not_its_streams,
    the_successor_of_an_orphaned_edge_takes_over,
    the_signal_of_a_dead_parent_drains_however_often_it_comes,
}

where_the_hub_dials! {
    tcp_tls over TcpTls {
        clients_of_a_draining_hub_wait_as_long_as_clients_without_one,
        sigterm_lets_the_edges_streams_finish,
        sigterm_lets_the_hubs_streams_finish,
        end_of_stdin_lets_the_edges_streams_finish,
        end_of_stdin_lets_the_hubs_streams_finish,
        a_stream_that_outlives_the_drain_timeout_is_reset,
        the_successor_of_an_orphaned_hub_takes_its_port_over,
    }
    quic over Quic {
        sigterm_lets_the_edges_streams_finish,
        sigterm_lets_the_hubs_streams_finish,
        a_stream_that_outlives_the_drain_timeout_is_reset,
    }
}

#[derive(Clone, Copy)]
enum End {
    Hub,
    Edge,
}

#[derive(Clone, Copy)]
enum Means {
    Sigterm,
    Stop,
    ClosedStdin,
}

fn sigterm_lets_the_edges_streams_finish(transport: Transport) {
    run(
        60,
        live_stream_finishes(transport, End::Edge, Means::Sigterm),
    );
}

fn sigterm_lets_the_hubs_streams_finish(transport: Transport) {
    run(
        60,
        live_stream_finishes(transport, End::Hub, Means::Sigterm),
    );
}

fn stop_lets_the_edges_streams_finish(transport: Transport) {
    run(60, live_stream_finishes(transport, End::Edge, Means::Stop));
}

fn stop_lets_the_hubs_streams_finish(transport: Transport) {
    run(60, live_stream_finishes(transport, End::Hub, Means::Stop));
}

fn end_of_stdin_lets_the_edges_streams_finish(transport: Transport) {
    run(
        60,
        live_stream_finishes(transport, End::Edge, Means::ClosedStdin),
    );
}

fn end_of_stdin_lets_the_hubs_streams_finish(transport: Transport) {
    run(
        60,
        live_stream_finishes(transport, End::Hub, Means::ClosedStdin),
    );
}

fn a_stream_that_outlives_the_drain_timeout_is_reset(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).edge(json!({"drainTimeoutSecs": 1}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(entry).await;
        tunnel.edge.signal(libc::SIGTERM);
        for stream in [&mut client, &mut server] {
            let read = within(Duration::from_secs(5), "RST", stream.read_u8()).await;
            assert_eq!(
                read.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
        }
        assert_eq!(tunnel.edge.exit(SOON).await.code(), Some(0));
    });
}

/// With a pin the edge sends clients' streams ahead of the answer of the hub, which refuses them.
fn clients_of_a_draining_hub_wait_as_long_as_clients_without_one(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).pinned();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(entry).await;
        tunnel.hub.signal(libc::SIGTERM);
        let is_away = |status: &Value| status["connected"] == false;
        tunnel.edge.wait_status(SOON, "drain", is_away).await;
        // As they come, some find an attempt under way and some don't.
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..20 {
            waiting.spawn(async move {
                tokio::time::sleep(Duration::from_millis(50 * n)).await;
                let mut client = TcpStream::connect(entry).await.unwrap();
                let begun = Instant::now();
                client.write_all(b"x").await.unwrap();
                client.read_u8().await.unwrap_err();
                begun.elapsed()
            });
        }
        while let Some(waited) = waiting.join_next().await {
            let waited = waited.unwrap();
            let limit = Duration::from_secs(10);
            assert!(
                waited < limit,
                "{waited:?}, the limit is 5 s from an attempt"
            );
        }
        let rejected = &tunnel.edge.status().await["rejected"];
        assert_eq!(rejected["noSession"], 20, "{rejected}");
        assert_moves(&mut client, &mut server).await;
    });
}

fn a_second_sigterm_cuts(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let (_client, _server) = target.connect(entry).await;
        tunnel.edge.signal(libc::SIGTERM);
        until(SOON, "closed listener", async || is_closed(entry).await).await;
        tunnel.edge.signal(libc::SIGTERM);
        tunnel.edge.exit(Duration::from_secs(5)).await;
    });
}

fn the_successor_of_an_orphaned_hub_takes_its_port_over(transport: Transport) {
    run(60, async {
        let (mut tunnel, mut client, mut server, mut target, entry) = with_stream(transport).await;
        let mut orphan = succeed_hub(&mut tunnel, &mut target, entry).await;
        assert_moves(&mut client, &mut server).await;
        drop((client, server));
        assert_eq!(orphan.exit(SOON).await.code(), Some(0));
    });
}

/// A QUIC connection can't do without the socket that its successor needs.
fn the_successor_of_an_orphaned_hub_has_the_port_and_not_its_streams(transport: Transport) {
    run(60, async {
        let (mut tunnel, mut client, mut server, mut target, entry) = with_stream(transport).await;
        let mut orphan = succeed_hub(&mut tunnel, &mut target, entry).await;
        for stream in [&mut client, &mut server] {
            let read = within(SOON, "RST", stream.read_u8()).await;
            assert_eq!(
                read.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
        }
        assert_eq!(orphan.exit(SOON).await.code(), Some(0));
    });
}

/// Handshakes over QUIC hold the tunnel port, and the orphan lives on for a stream over TLS.
fn the_successor_of_an_orphaned_hub_waits_for_no_stranger(transport: Transport) {
    run(60, async {
        let (mut tunnel, mut client, mut server, mut target, entry) = with_stream(transport).await;
        let relay = UdpRelay::start(tunnel.tunnel_address());
        relay.set(|faults| faults.drop_from_hub = true);
        let strangers = QuicClient::new(&[ALPN]);
        // Enough that each worker of the hub has some.
        let half_open: Vec<_> = (0..8).map(|_| strangers.begin(relay.address())).collect();
        let mut silent = Vec::new();
        for _ in 0..8 {
            let connecting = strangers.connect(tunnel.tunnel_address());
            silent.push(within(SOON, "a handshake", connecting).await.unwrap());
        }
        until(SOON, "half-open handshakes", async || {
            (relay.seen().from_hub.datagrams >= 8).then_some(())
        })
        .await;
        let begun = Instant::now();
        let mut orphan = succeed_hub(&mut tunnel, &mut target, entry).await;
        let took = begun.elapsed();
        // A handshake may take 10 s.
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert_moves(&mut client, &mut server).await;
        drop((half_open, silent, client, server));
        assert_eq!(orphan.exit(SOON).await.code(), Some(0));
    });
}

/// The hub's parent ends; another hub takes its place and serves. Gives the orphan.
async fn succeed_hub(tunnel: &mut Tunnel, target: &mut ManualTarget, entry: SocketAddr) -> Process {
    tunnel.hub.close_stdin();
    let orphan = std::mem::replace(&mut tunnel.hub, Process::management("successor").await);
    let config = tunnel.hub_config();
    until(SOON, "free tunnel port", async || {
        let started = tunnel.hub.request("startHub", config.clone()).await;
        started.ok()
    })
    .await;
    tunnel.update(&tunnel.entry()).await;
    tunnel.hub.wait_event("edgeConnected", SOON, |_| true).await;
    let (mut new_client, mut new_server) = target.connect(entry).await;
    assert_moves(&mut new_client, &mut new_server).await;
    orphan
}

fn the_successor_of_an_orphaned_edge_takes_over(transport: Transport) {
    run(60, async {
        let (mut tunnel, mut client, mut server, mut target, entry) = with_stream(transport).await;
        tunnel.edge.close_stdin();
        let mut orphan =
            std::mem::replace(&mut tunnel.edge, Process::management("successor").await);
        tunnel.edge.call("startEdge", tunnel.edge_config()).await;
        let is_bound = |status: &Value| status["ports"][0]["state"] == "bound";
        tunnel.edge.wait_status(SOON, "bound port", is_bound).await;
        let (mut new_client, mut new_server) = target.connect(entry).await;
        assert_moves(&mut new_client, &mut new_server).await;
        assert_moves(&mut client, &mut server).await;
        drop((client, server));
        assert_eq!(orphan.exit(SOON).await.code(), Some(0));
    });
}

fn the_signal_of_a_dead_parent_drains_however_often_it_comes(transport: Transport) {
    run(60, async {
        let (mut tunnel, mut client, mut server, _target, entry) = with_stream(transport).await;
        for _ in 0..3 {
            tunnel.edge.signal(libc::SIGUSR2);
        }
        until(SOON, "closed listener", async || is_closed(entry).await).await;
        assert_moves(&mut client, &mut server).await;
        drop((client, server));
        assert_eq!(tunnel.edge.exit(SOON).await.code(), Some(0));
    });
}

#[test]
fn a_killed_parent_leaves_no_child() {
    run(60, async {
        let script = r#""$0" --management <&0 2>/dev/null & echo $! >&2; wait"#;
        let mut parent = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_remoteingress-bin")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        let mut stderr = BufReader::new(parent.stderr.take().unwrap());
        stderr.read_line(&mut pid).await.unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(parent.stdout.take().unwrap());
        within(SOON, "ready", stdout.read_line(&mut ready))
            .await
            .unwrap();
        assert!(ready.contains("ready"), "{ready}");
        // Its stdin stays open: only the parent's death can tell it.
        let _stdin = parent.stdin.take();
        parent.kill().await.unwrap();
        let child = PathBuf::from(format!("/proc/{}/exe", pid.trim()));
        until(SOON, "end of the child", async || {
            std::fs::read_link(&child).err()
        })
        .await;
    });
}

async fn with_stream(
    transport: Transport,
) -> (Tunnel, TcpStream, TcpStream, ManualTarget, SocketAddr) {
    let mut target = ManualTarget::start(Proxy::None).await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = builder.forward(Proxy::None, target.address());
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    let (client, server) = target.connect(entry).await;
    (tunnel, client, server, target, entry)
}

async fn assert_moves(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"x").await.unwrap();
    let byte = within(SOON, "byte", server.read_u8()).await.unwrap();
    assert_eq!(byte, b'x');
}

async fn live_stream_finishes(transport: Transport, end: End, means: Means) {
    let mut target = ManualTarget::start(Proxy::None).await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = builder.forward(Proxy::None, target.address());
    let mut tunnel = builder.start().await;
    let (mut client, mut server) = target.connect(entry).await;
    client.write_all(b"before ").await.unwrap();
    server.read_exact(&mut [0; 7]).await.unwrap();

    let process = ending(&mut tunnel, end);
    match means {
        Means::Sigterm => process.signal(libc::SIGTERM),
        Means::Stop => process.send(&json!({"id": "last", "method": "stop", "params": {}})),
        Means::ClosedStdin => process.close_stdin(),
    }
    if let End::Edge = end {
        until(SOON, "closed listener", async || is_closed(entry).await).await;
        is_seen_to_drain(&tunnel).await;
    }
    client.write_all(b"after").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "after");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");

    let process = ending(&mut tunnel, end);
    assert_eq!(process.exit(SOON).await.code(), Some(0));
    if let Means::Stop = means {
        assert_eq!(process.answer("last", 1).await, Some(Ok(json!({}))));
    }
}

/// A hub says of its edge that it drains.
async fn is_seen_to_drain(tunnel: &Tunnel) {
    let drains = |status: &Value| {
        let edge = &status["connectedEdges"][0];
        edge["draining"] == true && edge["ports"][0]["state"] == "draining"
    };
    tunnel.hub.wait_status(SOON, "edge's drain", drains).await;
}

/// Gives `()` if nothing listens any more. A client that gets in resets, so its stream doesn't wait for the target.
async fn is_closed(entry: SocketAddr) -> Option<()> {
    let client = TcpStream::connect(entry).await.ok();
    client.is_none().then_some(()).or_else(|| {
        socket2::SockRef::from(client.as_ref()?)
            .set_linger(Some(Duration::ZERO))
            .ok();
        None
    })
}

fn ending(tunnel: &mut Tunnel, end: End) -> &mut Process {
    match end {
        End::Hub => &mut tunnel.hub,
        End::Edge => &mut tunnel.edge,
    }
}
