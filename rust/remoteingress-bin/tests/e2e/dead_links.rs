//! Streams of clients and targets that are cut off without a word: clients, tunnel and targets in namespaces of their own,
//! and one of the links between them goes down.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_secret, run, skip, within};

on_both_transports! {
    a_client_whose_link_has_died_goes_with_its_stream,
    a_target_whose_link_has_died_goes_with_its_stream,
    a_client_that_pauses_for_longer_keeps_its_stream,
}

/// In seconds; the default is 120.
const ACK_TIMEOUT: u64 = 3;
/// Eight looks, one per second, and some for a loaded machine.
const LATEST: Duration = Duration::from_secs(15);

fn a_client_whose_link_has_died_goes_with_its_stream(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport).await else {
            return;
        };
        place.break_link(|place| place.clients.ip("link set v81a down"));
        place.wait_idle().await;
    });
}

fn a_target_whose_link_has_died_goes_with_its_stream(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport).await else {
            return;
        };
        place.break_link(|place| place.targets.ip("link set v82b down"));
        place.wait_idle().await;
    });
}

fn a_client_that_pauses_for_longer_keeps_its_stream(transport: Transport) {
    run(120, async {
        let size = 8 << 20;
        let source = Target::start(Proxy::None, move |mut stream, _| async move {
            stream.write_all(&vec![7; size]).await.unwrap();
        })
        .await;
        let timeout = json!({"ackTimeoutSecs": ACK_TIMEOUT});
        let mut builder = TunnelBuilder::new(transport)
            .edge(timeout.clone())
            .hub(timeout);
        let entry = builder.forward(Proxy::None, source.address());
        let _tunnel = builder.start().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        // Time must pass here: a reader that is wrongly taken for dead is so after it.
        tokio::time::sleep(LATEST).await;
        let mut received = Vec::new();
        let read = client.read_to_end(&mut received);
        within(SOON, "the rest", read).await.unwrap();
        assert_eq!(received.len(), size);
    });
}

/// client 10.81.0.1 - 10.81.0.2 edge, hub 10.82.0.1 - 10.82.0.2 target; both ends of a stream say something all the time.
struct Place {
    clients: Namespace,
    targets: Namespace,
    edge: Process,
    hub: Process,
    talking: [JoinHandle<()>; 2],
    _between: Namespace,
}

impl Place {
    async fn start(transport: Transport) -> Option<Self> {
        let Some([clients, between, targets]) = Self::network() else {
            skip("the right to make network namespaces");
            return None;
        };
        let listener = {
            let _inside = targets.enter();
            let listener = std::net::TcpListener::bind("10.82.0.2:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        };
        let inside = between.enter();
        let (hub, edge) = (
            Process::management("hub").await,
            Process::management("edge").await,
        );
        drop(inside);
        let (port, secret) = (free_port(), new_secret());
        let config = json!({
            "tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1, "ackTimeoutSecs": ACK_TIMEOUT,
        });
        let started = hub.call("startHub", config).await;
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPorts": [{
                "port": port, "targetHost": "10.82.0.2", "targetPort": listener.local_addr().unwrap().port(),
                "proxyProtocol": "none",
            }],
        });
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": started["tunnelPort"], "edgeId": EDGE_ID, "secret": secret,
            "workers": 1, "stunServers": [], "transportMode": transport.word(), "ackTimeoutSecs": ACK_TIMEOUT,
        });
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        let entry = SocketAddr::from(([10, 81, 0, 2], port));
        let client = {
            let _inside = clients.enter();
            let client = std::net::TcpStream::connect(entry).unwrap();
            client.set_nonblocking(true).unwrap();
            TcpStream::from_std(client).unwrap()
        };
        let (target, _) = within(SOON, "stream", listener.accept()).await.unwrap();
        Some(Self {
            clients,
            targets,
            edge,
            hub,
            talking: [tokio::spawn(talk(client)), tokio::spawn(talk(target))],
            _between: between,
        })
    }

    fn network() -> Option<[Namespace; 3]> {
        let clients = Namespace::new("clients")?;
        let between = Namespace::new("between")?;
        let targets = Namespace::new("targets")?;
        clients.join(&between, 81, 1_500)?;
        between.join(&targets, 82, 1_500)?;
        Some([clients, between, targets])
    }

    fn break_link(&self, cut: impl FnOnce(&Self) -> bool) {
        assert!(cut(self));
    }

    /// Waits until neither end has the stream.
    async fn wait_idle(&self) {
        let begun = Instant::now();
        let is_idle = |status: &Value| status["activeStreams"] == 0;
        self.edge
            .wait_status(LATEST, "end of the stream", is_idle)
            .await;
        let is_idle = |status: &Value| status["connectedEdges"][0]["activeStreams"] == 0;
        self.hub
            .wait_status(LATEST, "end of the stream", is_idle)
            .await;
        assert!(begun.elapsed() >= Duration::from_secs(ACK_TIMEOUT - 1));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for task in &self.talking {
            task.abort();
        }
    }
}

/// Says something all the time and reads what comes, until that fails.
async fn talk(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let mut every = tokio::time::interval(Duration::from_millis(50));
    let mut buffer = [0; 1_024];
    loop {
        tokio::select! {
            _ = every.tick() => if writer.write_all(b"something").await.is_err() {
                return;
            },
            read = reader.read(&mut buffer) => if !matches!(read, Ok(1..)) {
                return;
            },
        }
    }
}
