//! Targets behind the hub: one that serves by itself and one whose connections the test takes and drives.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::proxy_header::{self, Header, Proxy};
use super::{SOON, within};

/// A listening target; it ends when dropped, its connections don't.
pub(crate) struct Target {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Target {
    /// Hands every connection, its PROXY header taken off, to `serve`.
    pub(crate) async fn start<F, S>(proxy: Proxy, serve: F) -> Self
    where
        F: Fn(TcpStream, Option<Header>) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::start_on("127.0.0.1:0", proxy, serve).await
    }

    async fn start_on<F, S>(address: &str, proxy: Proxy, serve: F) -> Self
    where
        F: Fn(TcpStream, Option<Header>) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let serve = Arc::clone(&serve);
                tokio::spawn(async move {
                    // A stream that was reset before its header isn't served.
                    if let Ok(header) = proxy_header::read(&mut stream, proxy).await {
                        serve(stream, header).await;
                    }
                });
            }
        });
        Self { address, accepting }
    }

    /// Sends back what it gets, then FIN.
    pub(crate) async fn echo() -> Self {
        Self::echo_on("127.0.0.1:0").await
    }

    /// The same at an address of the test's choice.
    pub(crate) async fn echo_on(address: &str) -> Self {
        Self::start_on(address, Proxy::None, |mut stream, _| async move {
            let (mut reader, mut writer) = stream.split();
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        })
        .await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A client of [`Target::echo`] sends this many bytes and gets them back.
pub(crate) async fn echoed(client: &mut TcpStream, bytes: usize) {
    let sent = vec![9; bytes];
    let mut received = vec![0; bytes];
    let (mut reader, mut writer) = client.split();
    let both =
        async { tokio::try_join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
    within(SOON, "an echo", both).await.unwrap();
    assert!(sent == received);
}

/// A target whose connections wait for the test to take them.
pub(crate) struct ManualTarget {
    target: Target,
    connections: mpsc::UnboundedReceiver<(TcpStream, Option<Header>)>,
}

impl ManualTarget {
    pub(crate) async fn start(proxy: Proxy) -> Self {
        let (sender, connections) = mpsc::unbounded_channel();
        let target = Target::start(proxy, move |stream, header| {
            let _ = sender.send((stream, header));
            std::future::ready(())
        });
        Self {
            target: target.await,
            connections,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    /// The next connection, with what its PROXY header said.
    pub(crate) async fn accept_with_header(&mut self) -> (TcpStream, Option<Header>) {
        let next = within(SOON, "connection at the target", self.connections.recv()).await;
        next.unwrap()
    }

    /// The next connection, which may take long.
    pub(crate) async fn accept_within(&mut self, limit: Duration) -> TcpStream {
        let next = within(limit, "connection at the target", self.connections.recv()).await;
        next.unwrap().0
    }

    pub(crate) async fn accept(&mut self) -> TcpStream {
        self.accept_with_header().await.0
    }

    /// A client at `entry` and the target's end of its stream.
    pub(crate) async fn connect(&mut self, entry: SocketAddr) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(entry).await.unwrap();
        (client, self.accept().await)
    }
}
