//! Streams that go to another target where one resets them before it says anything.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::pooled::{pool, state, target, with_pool};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::Tunnel;
use crate::harness::{SOON, run, until, within};

/// As much as is kept of what a client says.
const KEPT: usize = 64 * 1_024;

/// A target that reads so many bytes and then resets; it says nothing. With `None` it says all that it has read, at the
/// client's end.
struct Reader {
    name: char,
    address: SocketAddr,
    clients: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Reader {
    async fn start(name: char, resets_after: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clients = Arc::<AtomicUsize>::default();
        Self {
            name,
            address: listener.local_addr().unwrap(),
            clients: clients.clone(),
            serving: tokio::spawn(async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    clients.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(read(client, resets_after));
                }
            }),
        }
    }

    fn target(&self) -> Value {
        target(self.name, self.address, json!({}))
    }

    fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }
}

async fn read(mut client: TcpStream, resets_after: Option<usize>) {
    match resets_after {
        Some(bytes) => {
            let mut said = vec![0; bytes];
            // A client that says less leaves.
            let _ = client.read_exact(&mut said).await;
            client.set_zero_linger().unwrap();
        }
        None => {
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            client.write_all(&said).await.unwrap();
        }
    }
}

/// What a client gets that says so many bytes and then nothing more.
async fn ask(entry: SocketAddr, bytes: usize) -> std::io::Result<bool> {
    let mut client = within(SOON, "connection", TcpStream::connect(entry)).await?;
    let said: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    client.write_all(&said).await?;
    client.shutdown().await?;
    let mut heard = Vec::new();
    within(SOON, "end", client.read_to_end(&mut heard)).await?;
    Ok(heard == said)
}

/// The hub's status once no stream has a place.
async fn idle(tunnel: &Tunnel) -> Value {
    until(SOON, "idle pool", async || {
        let status = tunnel.hub.status().await;
        (pool(&status)["activeStreams"] == 0).then_some(status)
    })
    .await
}

/// Targets `a`, which resets after so many bytes, and `b`, which answers; `a` comes first.
async fn resetting(after: usize) -> (Reader, Reader, Value) {
    let (a, b) = (
        Reader::start('a', Some(after)).await,
        Reader::start('b', None).await,
    );
    let mut backup = b.target();
    backup["priority"] = json!(1);
    let targets = json!([a.target(), backup]);
    (a, b, targets)
}

on_both_transports! {
    a_stream_that_is_reset_before_a_reply_is_said_again_to_the_next_target,
}

fn a_stream_that_is_reset_before_a_reply_is_said_again_to_the_next_target(transport: Transport) {
    run(30, async {
        // It has read all; the next target gets every byte, and the client's end.
        for bytes in [0, 1, 5_000, KEPT] {
            let (a, b, targets) = resetting(bytes).await;
            let config = json!({"resetBeforeReply": true, "targets": targets});
            let (builder, entry) = with_pool(transport, config);
            let tunnel = builder.start().await;
            assert!(ask(entry, bytes).await.unwrap(), "{bytes}");
            assert_eq!((a.clients(), b.clients()), (1, 1), "{bytes}");
            let status = idle(&tunnel).await;
            assert_eq!(
                (&pool(&status)["totalStreams"], &pool(&status)["retries"]),
                (&json!(1), &json!(1)),
                "{status}"
            );
            // What a client has said may be why it reset: that is held against nobody.
            let failed = usize::from(bytes == 0);
            assert_eq!(state(&status, 'a')["failedStreams"], failed, "{status}");
        }
    });
}

#[test]
fn a_stream_that_has_said_more_than_is_kept_is_not_repeated() {
    run(30, async {
        let (_a, b, targets) = resetting(KEPT + 1).await;
        let config = json!({"resetBeforeReply": true, "targets": targets});
        let (builder, entry) = with_pool(Transport::TcpTls, config);
        let _tunnel = builder.start().await;
        let error = ask(entry, KEPT + 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(b.clients(), 0);
    });
}

#[test]
fn unless_it_is_asked_for_a_reset_is_the_clients() {
    run(30, async {
        let (a, b, targets) = resetting(100).await;
        let (builder, entry) = with_pool(Transport::TcpTls, json!({"targets": targets}));
        let _tunnel = builder.start().await;
        let error = ask(entry, 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!((a.clients(), b.clients()), (1, 0));
    });
}

#[test]
fn where_all_targets_reset_the_client_is_told_and_no_place_is_kept() {
    run(30, async {
        let readers = [
            Reader::start('a', Some(10)).await,
            Reader::start('b', Some(10)).await,
            Reader::start('c', Some(10)).await,
            Reader::start('d', Some(10)).await,
        ];
        let targets: Vec<Value> = readers.iter().map(Reader::target).collect();
        let config = json!({"resetBeforeReply": true, "retries": 2, "targets": targets});
        let (builder, entry) = with_pool(Transport::TcpTls, config);
        let tunnel = builder.start().await;
        let error = ask(entry, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let asked: usize = readers.iter().map(Reader::clients).sum();
        assert_eq!(asked, 3);
        let status = idle(&tunnel).await;
        assert_eq!(
            status["rejected"],
            json!({"retriesExhausted": 1}),
            "{status}"
        );
    });
}
