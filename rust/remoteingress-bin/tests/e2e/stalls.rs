//! Streams on which nothing moves for a while: what then happens at one end still reaches the other.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::proxy_header::Proxy;
use crate::harness::relay::reset;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, within};

on_both_transports! {
    an_upload_that_came_before_the_target_accepts_flows_when_it_does,
    a_client_reset_after_its_fin_reaches_the_target,
    a_target_reset_is_noticed_while_the_client_reads_nothing,
    a_client_reset_is_noticed_while_the_target_reads_nothing,
}

fn an_upload_that_came_before_the_target_accepts_flows_when_it_does(transport: Transport) {
    run(90, async {
        let hole = SlowTarget::new().await;
        let mut builder = TunnelBuilder::new(transport).hub(json!({"connectTimeoutSecs": 60}));
        let entry = builder.forward(Proxy::None, hole.address);
        let tunnel = builder.start().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        // The client's and the edge's sockets take what the tunnel has no credit for yet.
        let upload = tokio::spawn(async move {
            client.write_all(&vec![7; UPLOAD]).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        // All that the credit allows is at the hub, which still dials.
        let is_there = |status: &serde_json::Value| {
            status["connectedEdges"][0]["bytesIn"].as_u64() >= Some(CREDIT)
        };
        let what = "a used up credit";
        tunnel.hub.wait_status(SOON, what, is_there).await;
        let mut server = hole.accept_after_the_queue().await;
        let mut received = Vec::new();
        // Soon: the next PING, up to 3 s later, would wake a session that sleeps.
        let limit = Duration::from_millis(1_500);
        within(limit, "upload", server.read_to_end(&mut received))
            .await
            .unwrap();
        assert_eq!(received.len(), UPLOAD);
        server.write_all(b"thanks").await.unwrap();
        drop(server);
        let mut client = upload.await.unwrap();
        let mut answer = Vec::new();
        within(SOON, "the answer", client.read_to_end(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, b"thanks");
        tunnel.wait_idle(SOON).await;
    });
}

fn a_client_reset_after_its_fin_reaches_the_target(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, mut server) = target.connect(entry).await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.write_all(b"half an answer").await.unwrap();
        client.read_exact(&mut [0; 14]).await.unwrap();
        reset(&client);
        drop(client);
        tunnel.wait_idle(SOON).await;
        let broken = async {
            while server.write_all(b"the other half").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        within(SOON, "RST at the target", broken).await;
    });
}

fn a_target_reset_is_noticed_while_the_client_reads_nothing(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (mut client, server) = target.connect(entry).await;
        client.shutdown().await.unwrap();
        // Fills all windows while the client reads nothing.
        let (mut reader, mut writer) = server.into_split();
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        fill(&mut writer).await;
        let server = writer.reunite(reader).unwrap();
        reset(&server);
        drop(server);
        tunnel.wait_idle(SOON).await;
        let mut rest = Vec::new();
        let ended = within(SOON, "RST at the client", client.read_to_end(&mut rest)).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

fn a_client_reset_is_noticed_while_the_target_reads_nothing(transport: Transport) {
    run(60, async {
        let (tunnel, entry, mut target) = manual(transport).await;
        let (client, mut server) = target.connect(entry).await;
        let (reader, mut writer) = client.into_split();
        fill(&mut writer).await;
        let client = writer.reunite(reader).unwrap();
        reset(&client);
        drop(client);
        tunnel.wait_idle(SOON).await;
        let mut rest = Vec::new();
        let ended = within(SOON, "RST at the target", server.read_to_end(&mut rest)).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

async fn manual(transport: Transport) -> (Tunnel, SocketAddr, ManualTarget) {
    let target = ManualTarget::start(Proxy::None).await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = builder.forward(Proxy::None, target.address());
    (builder.start().await, entry, target)
}

/// Writes until nothing is taken any more.
async fn fill(writer: &mut tokio::net::tcp::OwnedWriteHalf) {
    let part = vec![7; 64 * 1_024];
    while let Ok(written) = timeout(Duration::from_secs(1), writer.write(&part)).await {
        written.unwrap();
    }
}

/// A target whose accept queue is full at first, so that connecting to it takes a while.
struct SlowTarget {
    address: SocketAddr,
    listener: TcpListener,
    queued: usize,
}

impl SlowTarget {
    async fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = 0;
        // The kernel takes one or two; the first that isn't answered shows that the queue is full.
        while let Ok(connected) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            connected.unwrap();
            queued += 1;
        }
        Self {
            address,
            listener,
            queued,
        }
    }

    /// Empties the queue, and takes the connection that then comes in.
    async fn accept_after_the_queue(&self) -> TcpStream {
        for _ in 0..self.queued {
            self.listener.accept().await.unwrap();
        }
        let accepted = within(SOON, "the hub's connection", self.listener.accept()).await;
        accepted.unwrap().0
    }
}

/// Bytes that the client sends in all.
const UPLOAD: usize = 1_024 * 1_024;
/// Bytes that it may send before the target reads.
const CREDIT: u64 = 256 * 1_024;
