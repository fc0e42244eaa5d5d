//! A `bindAddress` that the machine doesn't have yet, as one that floats between machines or comes by DHCP: hub and edge in
//! a namespace of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use serde_json::{Value, json};

use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, merge};
use crate::harness::{SOON, new_directory, new_secret, run, skip};

on_both_transports! {
    clients_are_served_as_soon_as_the_edge_has_the_address,
    edges_connect_as_soon_as_the_hub_has_the_address,
    a_hub_that_dials_connects_as_soon_as_the_edge_has_the_address,
}

const LATER: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

fn clients_are_served_as_soon_as_the_edge_has_the_address(transport: Transport) {
    run(60, async {
        let Some(place) = Place::start().await else {
            return;
        };
        let secret = new_secret();
        let port = |number: u16, address: Option<&str>| {
            let mut port = json!({"port": number, "targetPort": 9_000, "proxyProtocol": "none"});
            if let Some(address) = address {
                port["bindAddress"] = address.into();
            }
            port
        };
        // The edge's own address, and one of the ports'.
        let ports = json!([port(443, None), port(444, Some(LATER[1]))]);
        let allowed = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPorts": ports, "listenPortsUdp": ports,
        });
        let config = json!({"tunnelPort": 8_443, "bindAddress": "127.0.0.1"});
        place.start_hub(config, &allowed).await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": 8_443, "secret": secret, "bindAddress": LATER[0],
        });
        place.start_edge(transport, config).await;
        let all_are_bound = |status: &Value| {
            let ports = status["connectedEdges"][0]["ports"].as_array();
            ports.is_some_and(|ports| {
                ports.len() == 4 && ports.iter().all(|port| port["state"] == "bound")
            })
        };
        place
            .hub
            .wait_status(SOON, "all ports bound", all_are_bound)
            .await;
        place.add_later_addresses();
        for (address, port) in [(LATER[0], 443), (LATER[1], 444)] {
            place.ask(SocketAddr::new(address.parse().unwrap(), port));
            place.ask_udp(SocketAddr::new(address.parse().unwrap(), port));
            assert_eq!(place.warnings("edge", address), 1);
        }
    });
}

fn edges_connect_as_soon_as_the_hub_has_the_address(transport: Transport) {
    run(60, async {
        let Some(place) = Place::start().await else {
            return;
        };
        let secret = new_secret();
        let allowed = json!({"id": EDGE_ID, "secret": secret, "listenPorts": []});
        let config = json!({"tunnelPort": 8_443, "bindAddress": LATER[0]});
        place.start_hub(config, &allowed).await;
        assert_eq!(place.warnings("hub", LATER[0]), 1);
        place.add_later_addresses();
        let config = json!({"hubHost": LATER[0], "hubPort": 8_443, "secret": secret});
        place.start_edge(transport, config).await;
    });
}

fn a_hub_that_dials_connects_as_soon_as_the_edge_has_the_address(transport: Transport) {
    run(60, async {
        let Some(place) = Place::start().await else {
            return;
        };
        let secret = new_secret();
        let config = json!({
            "listenTunnel": {"port": 8_443, "bindAddress": LATER[0]}, "secret": secret,
            "stateDir": new_directory("state"),
        });
        let config = with_defaults(config);
        place.edge.call("startEdge", config).await;
        place.add_later_addresses();
        let allowed = json!({
            "id": EDGE_ID, "secret": secret, "listenPorts": [],
            "dial": {"host": LATER[0], "port": 8_443, "transportMode": transport.word()},
        });
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "stateDir": new_directory("state")});
        place.start_hub(config, &allowed).await;
        place
            .edge
            .wait_event("tunnelConnected", SOON, |_| true)
            .await;
    });
}

struct Place {
    namespace: Namespace,
    hub: Process,
    edge: Process,
}

impl Place {
    async fn start() -> Option<Self> {
        let Some(namespace) = Namespace::new("later") else {
            skip("the right to make network namespaces");
            return None;
        };
        let inside = namespace.enter();
        let (hub, edge) = (
            Process::management("hub").await,
            Process::management("edge").await,
        );
        let tcp = TcpListener::bind("127.0.0.1:9000").unwrap();
        thread::spawn(move || {
            for client in tcp.incoming() {
                let mut client = client.unwrap();
                let mut bytes = [0; 5];
                client.read_exact(&mut bytes).unwrap();
                client.write_all(&bytes).unwrap();
            }
        });
        let udp = UdpSocket::bind("127.0.0.1:9000").unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 64];
            loop {
                let (length, source) = udp.recv_from(&mut bytes).unwrap();
                udp.send_to(&bytes[..length], source).unwrap();
            }
        });
        drop(inside);
        Some(Self {
            namespace,
            hub,
            edge,
        })
    }

    async fn start_hub(&self, mut config: Value, allowed: &Value) {
        config["workers"] = 2.into();
        self.hub.call("startHub", config).await;
        let edges = json!({"edges": [allowed]});
        self.hub.call("updateAllowedEdges", edges).await;
    }

    async fn start_edge(&self, transport: Transport, config: Value) {
        let mut config = with_defaults(config);
        config["transportMode"] = transport.word().into();
        self.edge.call("startEdge", config).await;
        self.edge
            .wait_event("tunnelConnected", SOON, |_| true)
            .await;
    }

    fn add_later_addresses(&self) {
        assert!(
            self.namespace
                .ip(&format!("address add {}/32 dev lo", LATER[0]))
        );
        let v6 = format!("address add {}/128 dev lo nodad", LATER[1]);
        assert!(self.namespace.ip(&v6));
    }

    /// A client of TCP is served at once.
    fn ask(&self, entry: SocketAddr) {
        let _inside = self.namespace.enter();
        let mut client = TcpStream::connect(entry).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }

    /// A client of UDP is served at once, from the address that it asks.
    fn ask_udp(&self, entry: SocketAddr) {
        let _inside = self.namespace.enter();
        let client = UdpSocket::bind(SocketAddr::new(entry.ip(), 0)).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.connect(entry).unwrap();
        client.send(b"hello").unwrap();
        let mut answer = [0; 64];
        assert_eq!(client.recv(&mut answer).unwrap(), 5);
    }

    /// Warnings about an address in the log of one end.
    fn warnings(&self, end: &str, address: &str) -> usize {
        let process = if end == "hub" { &self.hub } else { &self.edge };
        let log = String::from_utf8(process.log()).unwrap();
        let is_warning = |line: &&str| line.contains("isn't there yet") && line.contains(address);
        log.lines().filter(is_warning).count()
    }
}

fn with_defaults(mut config: Value) -> Value {
    let defaults = json!({"edgeId": EDGE_ID, "workers": 2, "stunServers": []});
    merge(&mut config, defaults);
    config
}
