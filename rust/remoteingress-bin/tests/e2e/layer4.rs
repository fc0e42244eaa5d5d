//! A client and a target see of each other what they would see without a tunnel: FIN, RST, refusal, silence.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::reset;
use crate::harness::target::{ManualTarget, Target};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, seed, within};

on_both_transports! {
    client_fin_leaves_the_way_back_open,
    target_fin_leaves_the_way_there_open,
    client_rst_becomes_target_rst,
    target_rst_becomes_client_rst,
    rst_after_client_fin_still_reaches_the_client,
    an_answer_before_the_targets_reset_is_not_lost,
    refused_target_becomes_rst_at_once,
    black_holed_target_becomes_rst_after_the_connect_timeout,
    a_client_that_gives_up_ends_a_pending_dial,
    an_empty_connection_ends_cleanly,
    a_target_may_speak_first,
    bytes_after_urgent_data_arrive,
    a_client_that_never_reads_stops_nobody_else,
}

fn client_fin_leaves_the_way_back_open(transport: Transport) {
    run(60, async {
        let (_tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await.unwrap(), b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"answer");
    });
}

fn target_fin_leaves_the_way_there_open(transport: Transport) {
    run(60, async {
        let (_tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        server.write_all(b"banner").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"banner");
        client.write_all(b"last words").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await.unwrap(), b"last words");
    });
}

fn client_rst_becomes_target_rst(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"begun").await.unwrap();
        read_exactly(&mut server, b"begun").await;
        reset(&client);
        drop(client);
        assert_reset(&mut server).await;
        tunnel.wait_idle(SOON).await;
    });
}

fn target_rst_becomes_client_rst(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        server.write_all(b"begun").await.unwrap();
        read_exactly(&mut client, b"begun").await;
        reset(&server);
        drop(server);
        assert_reset(&mut client).await;
        tunnel.wait_idle(SOON).await;
    });
}

fn rst_after_client_fin_still_reaches_the_client(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await.unwrap(), b"");
        reset(&server);
        drop(server);
        assert_reset(&mut client).await;
        tunnel.wait_idle(SOON).await;
    });
}

fn an_answer_before_the_targets_reset_is_not_lost(transport: Transport) {
    run(60, async {
        let (_tunnel, entry, mut target) = manual(transport).await;
        let (client, mut server) = target.connect(entry).await;
        let (mut reader, mut writer) = client.into_split();
        // More than all windows and socket buffers together: the target closes while the client still sends.
        let upload = tokio::spawn(async move {
            let part = vec![7; 64 * 1024];
            for _ in 0..1_024 {
                if writer.write_all(&part).await.is_err() {
                    break;
                }
            }
        });
        let mut some = [0; 1_000];
        server.read_exact(&mut some).await.unwrap();
        let answer = vec![b'x'; 20_000];
        server.write_all(&answer).await.unwrap();
        // Closing with unread bytes makes the kernel send a RST, as a server that answers 413 does.
        drop(server);
        let mut got = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = within(SOON, "answer", reader.read(&mut buffer)).await {
            got.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(got.len(), answer.len());
        within(SOON, "end of the upload", upload).await.unwrap();
    });
}

fn refused_target_becomes_rst_at_once(transport: Transport) {
    run(60, async {
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::V1, closed);
        let tunnel = builder.start().await;
        let begun = Instant::now();
        // So soon that the client may not even have seen its connection.
        match TcpStream::connect(entry).await {
            Ok(mut client) => assert_reset(&mut client).await,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        tunnel.wait_idle(SOON).await;
    });
}

fn black_holed_target_becomes_rst_after_the_connect_timeout(transport: Transport) {
    run(60, async {
        let hole = BlackHole::new().await;
        let mut builder = TunnelBuilder::new(transport).hub(json!({"connectTimeoutSecs": 1}));
        let entry = builder.forward(Proxy::V1, hole.address);
        let tunnel = builder.start().await;
        let begun = Instant::now();
        let mut client = TcpStream::connect(entry).await.unwrap();
        assert_reset(&mut client).await;
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(900) && took < Duration::from_secs(3),
            "{took:?}"
        );
        tunnel.wait_idle(SOON).await;
    });
}

fn a_client_that_gives_up_ends_a_pending_dial(transport: Transport) {
    run(60, async {
        let hole = BlackHole::new().await;
        let mut builder = TunnelBuilder::new(transport).hub(json!({"connectTimeoutSecs": 60}));
        let entry = builder.forward(Proxy::V1, hole.address);
        let tunnel = builder.start().await;
        let client = TcpStream::connect(entry).await.unwrap();
        tunnel
            .edge
            .wait_status(SOON, "the stream", |status| status["activeStreams"] == 1)
            .await;
        reset(&client);
        drop(client);
        tunnel.wait_idle(SOON).await;
    });
}

fn an_empty_connection_ends_cleanly(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await.unwrap(), b"");
        drop(server);
        assert_eq!(read_all(&mut client).await.unwrap(), b"");
        tunnel.wait_idle(SOON).await;
    });
}

/// A read ends at TCP's urgent mark, and the kernel says nothing of what has come after it.
fn bytes_after_urgent_data_arrive(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.write_all(b"begun").await.unwrap();
        read_exactly(&mut server, b"begun").await;
        // All of it is there before the edge reads.
        tunnel.edge.signal(libc::SIGSTOP);
        client.write_all(b"ab").await.unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        // More than one read takes.
        let rest = [7; 60_000];
        client.write_all(&rest).await.unwrap();
        tunnel.edge.signal(libc::SIGCONT);
        read_exactly(&mut server, &[b"ab", &rest[..]].concat()).await;
    });
}

fn a_target_may_speak_first(transport: Transport) {
    run(60, async {
        let (_tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        server.write_all(b"220 ready\r\n").await.unwrap();
        read_exactly(&mut client, b"220 ready\r\n").await;
        client.write_all(b"QUIT\r\n").await.unwrap();
        read_exactly(&mut server, b"QUIT\r\n").await;
    });
}

fn a_client_that_never_reads_stops_nobody_else(transport: Transport) {
    run(120, async {
        let flood = Target::start(Proxy::None, |mut stream, _| async move {
            let part = vec![1; 64 * 1024];
            while stream.write_all(&part).await.is_ok() {}
        });
        let flood = flood.await;
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let stalled_entry = builder.forward(Proxy::None, flood.address());
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        let mut stalled = Vec::new();
        for _ in 0..8 {
            stalled.push(TcpStream::connect(stalled_entry).await.unwrap());
        }
        tunnel
            .edge
            .wait_status(SOON, "8 streams", |status| status["activeStreams"] == 8)
            .await;
        for id in 0..50 {
            oracle
                .play(entry, Plan::random(seed(), id, 1 << 20))
                .await
                .unwrap();
        }
        oracle
            .play(entry, Plan::bulk(seed(), 50, 16 << 20))
            .await
            .unwrap();
        let status = tunnel.edge.status().await;
        assert_eq!(status["activeStreams"], 8, "{status}");
        drop(stalled);
        tunnel.wait_idle(SOON).await;
    });
}

async fn manual(transport: Transport) -> (Tunnel, SocketAddr, ManualTarget) {
    let target = ManualTarget::start(Proxy::V1).await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = builder.forward(Proxy::V1, target.address());
    (builder.start().await, entry, target)
}

async fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within(SOON, "FIN", stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

async fn read_exactly(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    within(SOON, "bytes", stream.read_exact(&mut bytes))
        .await
        .unwrap();
    assert_eq!(bytes, expected);
}

/// The next thing on this stream is a RST, not FIN and not data.
async fn assert_reset(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = within(SOON, "RST", stream.read(&mut byte)).await;
    let error = read.expect_err("RST instead of FIN or data");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// An address that answers no SYN: its accept queue is full.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        // The kernel takes one or two; the first that isn't answered shows that the queue is full.
        while let Ok(connected) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            queued.push(connected.unwrap());
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}
