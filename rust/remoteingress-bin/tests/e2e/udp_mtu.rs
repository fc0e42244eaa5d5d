//! Large datagrams where the path is small: clients, edge and hub in namespaces joined by links of 1,500 bytes.

use std::net::SocketAddr;

use serde_json::json;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::udp_oracle::{HEADER, LARGEST, UdpOracle, UdpPlan, UdpProxy};
use crate::harness::{SOON, new_secret, run_heavy, seed, skip};

on_both_transports! {
    large_datagrams_pass_links_of_1500_bytes,
    large_datagrams_pass_links_of_1280_bytes,
}

fn large_datagrams_pass_links_of_1500_bytes(transport: Transport) {
    run_heavy(180, large_datagrams_pass(transport, 1_500));
}

fn large_datagrams_pass_links_of_1280_bytes(transport: Transport) {
    run_heavy(180, large_datagrams_pass(transport, 1_280));
}

async fn large_datagrams_pass(transport: Transport, mtu: u16) {
    let Some(network) = Network::new(mtu) else {
        skip("the right to make network namespaces");
        return;
    };
    let (oracle, hub) = {
        let _inside = network.hub.enter();
        let target = SocketAddr::from(([127, 0, 0, 1], 0));
        let oracle = UdpOracle::start_on(UdpProxy::FirstDatagram, target);
        (oracle, Process::management("hub").await)
    };
    let (port, secret) = (free_port(), new_secret());
    let config = json!({"tunnelPort": 0, "bindAddress": "10.82.0.2", "workers": 2});
    let started = hub.call("startHub", config).await;
    let entry = json!({
        "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPortsUdp": [{
            "port": port, "targetHost": "127.0.0.1", "targetPort": oracle.address().port(),
            "proxyProtocol": UdpProxy::FirstDatagram.word(),
        }],
    });
    hub.call("updateAllowedEdges", json!({"edges": [entry]}))
        .await;
    let edge = {
        let _inside = network.edge.enter();
        Process::management("edge").await
    };
    let config = json!({
        "hubHost": "10.82.0.2", "hubPort": started["tunnelPort"], "edgeId": EDGE_ID, "secret": secret,
        "bindAddress": "10.81.0.2", "workers": 2, "stunServers": [], "transportMode": transport.word(),
    });
    edge.call("startEdge", config).await;
    edge.wait_event("tunnelConnected", SOON, |_| true).await;
    hub.wait_event("portsApplied", SOON, |_| true).await;

    let mut sizes = vec![0, HEADER, 1_200, 1_472, 1_473, 2_000, 9_000, LARGEST];
    let step = (LARGEST - 1_473) / LARGE;
    sizes.extend((0..LARGE).map(|number| 1_473 + number * step));
    let mut plan = UdpPlan::new(seed(), 0, 20, sizes);
    // A large datagram is 45 fragments: more of them at once would only test the kernel's buffers.
    plan.in_flight = 4;
    let _inside = network.clients.enter();
    let entry = SocketAddr::from(([10, 81, 0, 2], port));
    oracle.play(entry, &plan).await.assert_whole();
}

/// clients 10.81.0.1 - 10.81.0.2 edge 10.82.0.1 - 10.82.0.2 hub, target
struct Network {
    clients: Namespace,
    edge: Namespace,
    hub: Namespace,
}

impl Network {
    fn new(mtu: u16) -> Option<Self> {
        let network = Self {
            clients: Namespace::new("clients")?,
            edge: Namespace::new("edge")?,
            hub: Namespace::new("hub")?,
        };
        network.clients.join(&network.edge, 81, mtu)?;
        network.edge.join(&network.hub, 82, mtu)?;
        Some(network)
    }
}

const LARGE: usize = 2_000;
