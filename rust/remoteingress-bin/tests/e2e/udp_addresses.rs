//! UDP to a target whose name has several addresses, of which one serves: hub and edge in a namespace of their own, with a
//! hosts file of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::udp_oracle::UdpProxy;
use crate::harness::{SOON, new_secret, run, skip, until, within};

on_both_transports! {
    the_first_datagram_reaches_the_address_that_serves,
    a_target_that_moves_to_its_other_address_is_followed,
    a_target_that_serves_nowhere_gets_each_datagram_once_per_address,
}

/// Every name here.
const HOSTS: &str = "::1 pair.test\n127.0.0.1 pair.test\n";

fn the_first_datagram_reaches_the_address_that_serves(transport: Transport) {
    run(90, async {
        for proxy in [UdpProxy::None, UdpProxy::FirstDatagram] {
            for ip in ["127.0.0.1", "::1"] {
                let Some(place) = Place::start(transport, proxy).await else {
                    return;
                };
                let target = place.echo(ip);
                // Open until the end: another client on the same port would be the same flow, and get no header.
                let clients: Vec<UdpSocket> = (0..30).map(|_| place.client()).collect();
                // Each datagram is sent once: one that is lost fails the test.
                for (number, client) in (0..).zip(&clients) {
                    client.send(&[number]).await.unwrap();
                    assert_eq!(answer(client).await, [number], "{proxy:?} {ip}");
                }
                let headers = if proxy == UdpProxy::None { 0 } else { 30 };
                // Loopback may swap datagrams whose sender changes its CPU.
                until(SOON, "headers", async || {
                    (target.headers.load(Ordering::Relaxed) == headers).then_some(())
                })
                .await;
                let udp = place.udp().await;
                assert_eq!(udp["dropped"], json!({}), "{udp}");
            }
        }
    });
}

fn a_target_that_moves_to_its_other_address_is_followed(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport, UdpProxy::None).await else {
            return;
        };
        let client = place.client();
        for ip in ["127.0.0.1", "::1", "127.0.0.1"] {
            let target = place.echo(ip);
            // The datagram that finds the target gone is lost, as it is to a target of one address.
            until(SOON, ip, async || {
                client.send(&[1]).await.unwrap();
                let answered = timeout(Duration::from_millis(500), answer(&client));
                answered.await.ok()
            })
            .await;
            target.stop().await;
        }
    });
}

fn a_target_that_serves_nowhere_gets_each_datagram_once_per_address(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport, UdpProxy::None).await else {
            return;
        };
        let client = place.client();
        for sent in 1..=20_u64 {
            client.send(&[1]).await.unwrap();
            let refused = |udp: &Value| udp["dropped"]["targetRefused"].as_u64() >= Some(sent);
            place.wait_udp(refused).await;
        }
        let udp = place.udp().await;
        assert_eq!(udp["dropped"], json!({ "targetRefused": 20 }), "{udp}");
    });
}

/// A hub whose target's name has two addresses, and its edge.
struct Place {
    namespace: Namespace,
    hub: Process,
    _edge: Process,
    entry: SocketAddr,
    target_port: u16,
}

impl Place {
    async fn start(transport: Transport, proxy: UdpProxy) -> Option<Self> {
        let Some(namespace) = Namespace::new("addresses") else {
            skip("the right to make network namespaces");
            return None;
        };
        let inside = namespace.enter();
        let hub = Process::management_with_hosts("hub", HOSTS).await;
        let edge = Process::management("edge").await;
        let (port, target_port) = (free_port(), free_port());
        drop(inside);
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1});
        let started = hub.call("startHub", config).await;
        let secret = new_secret();
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPortsUdp": [{
                "port": port, "targetHost": "pair.test", "targetPort": target_port,
                "proxyProtocol": proxy.word(),
            }],
        });
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": started["tunnelPort"], "edgeId": EDGE_ID, "secret": secret,
            "bindAddress": "127.0.0.1", "workers": 1, "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        Some(Self {
            namespace,
            hub,
            _edge: edge,
            entry: SocketAddr::from(([127, 0, 0, 1], port)),
            target_port,
        })
    }

    /// A target at one of the addresses.
    fn echo(&self, ip: &str) -> Echo {
        let _inside = self.namespace.enter();
        let socket = std::net::UdpSocket::bind((ip, self.target_port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Echo::start(UdpSocket::from_std(socket).unwrap())
    }

    /// A client with a flow of its own.
    fn client(&self) -> UdpSocket {
        let _inside = self.namespace.enter();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(self.entry).unwrap();
        UdpSocket::from_std(socket).unwrap()
    }

    async fn udp(&self) -> Value {
        self.hub.status().await["connectedEdges"][0]["udp"].clone()
    }

    async fn wait_udp(&self, accept: impl Fn(&Value) -> bool) {
        let is_so = |status: &Value| accept(&status["connectedEdges"][0]["udp"]);
        self.hub.wait_status(SOON, "UDP counts", is_so).await;
    }
}

/// Sends back what it gets, except PROXY headers, which it counts.
struct Echo {
    headers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Echo {
    fn start(socket: UdpSocket) -> Self {
        let headers = Arc::new(AtomicUsize::new(0));
        let counted = headers.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            loop {
                let (length, source) = socket.recv_from(&mut buffer).await.unwrap();
                if buffer.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
                    counted.fetch_add(1, Ordering::Relaxed);
                } else {
                    socket.send_to(&buffer[..length], source).await.unwrap();
                }
                buffer.fill(0);
            }
        });
        Self { headers, task }
    }

    /// Ends it, and waits until its port is free.
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn answer(client: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 2_048];
    let length = within(SOON, "answer", client.recv(&mut answer))
        .await
        .unwrap();
    answer.truncate(length);
    answer
}
