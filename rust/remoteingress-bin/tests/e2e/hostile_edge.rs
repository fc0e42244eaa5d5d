//! An edge that knows its secret and breaks every rule after the handshake: what it costs the hub is bounded.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use remoteingress_proto::handshake::{EdgeHandshake, EdgeProgress, Hello, ProofKeys};
use remoteingress_proto::token::secret::Secret;
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::frame::{FrameKind, StreamId, encode};
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::proxy_header::Proxy;
use crate::harness::quic_peer::QuicClient;
use crate::harness::target::{Target, echoed};
use crate::harness::tls_peer::{ALPN, EXPORTER_LABEL};
use crate::harness::transport::{Transport, on_quic};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::wire_peer::{as_proven, hello};
use crate::harness::{SOON, new_secret, run_heavy, system, within};

on_quic! {
    acknowledging_what_it_lets_nobody_send_gets_no_memory,
}

/// It gives a stream all the credit there is, its lane none, and says that everything has come.
fn acknowledging_what_it_lets_nobody_send_gets_no_memory(transport: Transport) {
    run_heavy(90, async move {
        let source = Target::start(Proxy::None, |mut stream, _| async move {
            while stream.write_all(&[7; 65_536]).await.is_ok() {}
        })
        .await;
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let served = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let secret = new_secret();
        let port = json!({
            "port": PORT, "targetHost": "127.0.0.1", "targetPort": source.address().port(), "proxyProtocol": "none",
        });
        let hostile = json!({"id": HOSTILE, "secret": secret, "listenPorts": [port]});
        let edges = json!({"edges": [tunnel.entry(), hostile]});
        tunnel.hub.call("updateAllowedEdges", edges).await;

        let client = QuicClient::narrow(&[ALPN], LANE_WINDOW);
        let connection = within(
            SOON,
            "a connection",
            client.connect(tunnel.tunnel_address()),
        )
        .await
        .unwrap();
        let (mut send, _receive) = come_in(&connection, transport, &secret).await;
        let before = system::resident_bytes(tunnel.hub.pid());
        let (_lane, mut from_target) = open(&connection).await;
        // The attack is on: the target's bytes come, and nobody takes more of them.
        let mut first = [0; 1_000];
        within(SOON, "the first bytes", from_target.read_exact(&mut first))
            .await
            .unwrap();

        let (mut acknowledged, begun) = (0_u64, Instant::now());
        let mut is_up = true;
        while is_up && begun.elapsed() < Duration::from_secs(6) {
            acknowledged += 32;
            let ack = encode(
                FrameKind::Ack,
                StreamId::SESSION,
                &[&acknowledged.to_be_bytes()],
            );
            // The hub may end it, which is as good.
            is_up = send.write_all(&ack).await.is_ok();
            // The pace of the attack.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let taken = system::resident_bytes(tunnel.hub.pid()).saturating_sub(before);
            assert!(taken < MOST, "{taken} bytes after {acknowledged} frames");
        }
        assert!(acknowledged > 32);
        let mut other = TcpStream::connect(served).await.unwrap();
        echoed(&mut other, 100_000).await;
    });
}

/// The session's lane after Hello and Welcome.
async fn come_in(
    connection: &Connection,
    transport: Transport,
    secret: &str,
) -> (SendStream, RecvStream) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let mut ekm = [0; 32];
    let exported = connection.export_keying_material(&mut ekm, EXPORTER_LABEL, b"");
    exported.unwrap();
    let hello = Hello {
        optional: Features::NONE,
        initial_credit: ALL_CREDIT,
        ..hello(HOSTILE)
    };
    let keys = ProofKeys::derive(&Secret::new(secret.into()));
    let (edge, message) = EdgeHandshake::new(&hello, keys, &ekm, as_proven(transport)).unwrap();
    send.write_all(&message).await.unwrap();
    let mut answer = vec![0; 3];
    receive.read_exact(&mut answer).await.unwrap();
    let length = usize::from(u16::from_be_bytes([answer[1], answer[2]]));
    answer.resize(3 + length, 0);
    receive.read_exact(&mut answer[3..]).await.unwrap();
    let progress = edge.handle(&answer).unwrap();
    assert!(
        matches!(progress, EdgeProgress::Welcomed { .. }),
        "{progress:?}"
    );
    (send, receive)
}

/// A stream with its lane.
async fn open(connection: &Connection) -> (SendStream, RecvStream) {
    let (mut lane, receive) = connection.open_bi().await.unwrap();
    let mut header = Vec::new();
    StreamHeader {
        protocol: Protocol::Tcp,
        listener_port: PORT,
        client: "203.0.113.9:51234".parse().unwrap(),
        listener: "192.0.2.1:9".parse().unwrap(),
    }
    .encode(&mut header);
    // It assumes no credit for its own way.
    let parts: [&[u8]; 3] = [&ALL_CREDIT.to_be_bytes(), &0_u32.to_be_bytes(), &header];
    lane.write_all(&encode(FrameKind::Open, StreamId(1), &parts))
        .await
        .unwrap();
    (lane, receive)
}

const HOSTILE: &str = "edge-hostile";
/// Of the hub's configuration; nobody listens there.
const PORT: u16 = 9;
const ALL_CREDIT: u32 = i32::MAX.unsigned_abs();
/// Bytes that QUIC may bring of a lane that isn't read.
const LANE_WINDOW: u32 = 64 * 1_024;
/// Bytes that wait at the hub for it, and those of QUIC and the allocator; without a bound 50 MB more per second.
const MOST: u64 = 48 * 1_024 * 1_024;
