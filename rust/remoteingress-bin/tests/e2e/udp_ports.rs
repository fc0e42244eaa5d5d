//! A machine with few ephemeral ports: UDP flows leave some to other programs, and silent ones make room. Hub and edge in a
//! namespace of their own, with a range of 100 ports.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, skip, until};

on_both_transports! {
    silent_clients_make_room_for_others_and_leave_ports_to_other_programs,
    a_client_is_refused_with_the_reason_while_every_flow_is_answered,
    flows_make_room_where_other_programs_have_the_ports,
}

/// Of the range; flows get three quarters of them.
const PORTS: u16 = 100;
const MOST: u64 = 75;
const SILENT: u16 = 150;

fn silent_clients_make_room_for_others_and_leave_ports_to_other_programs(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport).await else {
            return;
        };
        place.fill_with_silent_clients().await;
        let status = place.hub.status().await;
        let flows = status["connectedEdges"][0]["udp"]["activeFlows"].as_u64();
        assert!(flows <= Some(MOST), "{status}");
        // Some are left for programs that know nothing of us.
        let others: Vec<_> = (0..10).map(|_| place.socket(0)).collect();
        place.ask(9_000).await;
        drop(others);
        let log = String::from_utf8(place.hub.log()).unwrap();
        assert_eq!(log.matches("ephemeralPorts").count(), 1, "{log}");
        assert!(log.contains("net.ipv4.ip_local_port_range"), "{log}");
    });
}

fn a_client_is_refused_with_the_reason_while_every_flow_is_answered(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport).await else {
            return;
        };
        let mut answered = 0;
        for number in 0..SILENT {
            answered += u64::from(place.is_answered(9_000 + number).await);
        }
        assert!((30..=MOST).contains(&answered), "{answered}");
        let status = place.hub.status().await;
        let dropped = &status["connectedEdges"][0]["udp"]["dropped"];
        assert_eq!(
            *dropped,
            json!({"ephemeralPorts": u64::from(SILENT) - answered})
        );
    });
}

fn flows_make_room_where_other_programs_have_the_ports(transport: Transport) {
    run(90, async {
        let Some(place) = Place::start(transport).await else {
            return;
        };
        place.send(8_000, place.silent.0).await;
        let flow = |status: &Value| status["connectedEdges"][0]["udp"]["activeFlows"] == 1;
        place.hub.wait_status(SOON, "a flow", flow).await;
        let mut others = Vec::new();
        while let Ok(socket) = place.try_socket(0) {
            others.push(socket);
        }
        place.ask(9_000).await;
    });
}

/// A hub with one worker, its edge, a target that says nothing and one that answers.
struct Place {
    namespace: Namespace,
    hub: Process,
    _edge: Process,
    /// Listener and target of each.
    silent: (u16, UdpSocket),
    echo: (u16, JoinHandle<()>),
}

impl Place {
    async fn start(transport: Transport) -> Option<Self> {
        let namespace = Namespace::new("ports").filter(|namespace| {
            let _inside = namespace.enter();
            let range = format!("40000 {}", 40_000 + PORTS - 1);
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).is_ok()
        });
        let Some(namespace) = namespace else {
            skip("the right to make network namespaces");
            return None;
        };
        let inside = namespace.enter();
        let (hub, edge) = (
            Process::management("hub").await,
            Process::management("edge").await,
        );
        drop(inside);
        let secret = new_secret();
        let config = json!({"tunnelPort": 8_443, "bindAddress": "127.0.0.1", "workers": 1});
        hub.call("startHub", config).await;
        let port = |port: u16, target: u16| {
            json!({
                "port": port, "targetHost": "127.0.0.1", "targetPort": target, "proxyProtocol": "none",
            })
        };
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0,
            "listenPortsUdp": [port(1_001, 2_001), port(1_002, 2_002)],
        });
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": 8_443, "edgeId": EDGE_ID, "secret": secret,
            "bindAddress": "127.0.0.1", "workers": 1, "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        let mut place = Self {
            namespace,
            hub,
            _edge: edge,
            silent: (1_001, UdpSocket::bind("127.0.0.1:0").await.unwrap()),
            echo: (1_002, tokio::spawn(async {})),
        };
        place.silent.1 = place.socket(2_001);
        place.echo.1 = tokio::spawn(echo(place.socket(2_002)));
        Some(place)
    }

    fn socket(&self, port: u16) -> UdpSocket {
        self.try_socket(port).unwrap()
    }

    fn try_socket(&self, port: u16) -> std::io::Result<UdpSocket> {
        let _inside = self.namespace.enter();
        let socket = std::net::UdpSocket::bind(("127.0.0.1", port))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// A datagram from a client with this port, which is none of the range, to a listener.
    async fn send(&self, from: u16, to: u16) -> UdpSocket {
        let client = self.socket(from);
        client
            .connect(SocketAddr::from(([127, 0, 0, 1], to)))
            .await
            .unwrap();
        client.send(b"datagram").await.unwrap();
        client
    }

    async fn fill_with_silent_clients(&self) {
        for number in 0..SILENT {
            self.send(8_000 + number, self.silent.0).await;
        }
        let mut buffer = [0; 64];
        let mut left = SILENT;
        until(SOON, "datagrams at the silent target", async || {
            while self.silent.1.try_recv(&mut buffer).is_ok() {
                left -= 1;
            }
            (left == 0).then_some(())
        })
        .await;
    }

    /// A new client is answered at once.
    async fn ask(&self, from: u16) {
        assert!(self.is_answered(from).await);
    }

    async fn is_answered(&self, from: u16) -> bool {
        let before = self.dropped().await;
        let client = self.send(from, self.echo.0).await;
        let mut buffer = [0; 64];
        let is_dropped = async {
            until(SOON, "fate of a datagram", async || {
                (self.dropped().await > before).then_some(())
            })
            .await;
        };
        tokio::select! {
            biased;
            length = client.recv(&mut buffer) => length.is_ok(),
            () = is_dropped => false,
        }
    }

    async fn dropped(&self) -> u64 {
        let status = self.hub.status().await;
        let dropped = &status["connectedEdges"][0]["udp"]["dropped"]["ephemeralPorts"];
        dropped.as_u64().unwrap_or(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.echo.1.abort();
    }
}

async fn echo(socket: UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        let (length, source) = socket.recv_from(&mut buffer).await.unwrap();
        socket.send_to(&buffer[..length], source).await.unwrap();
    }
}
