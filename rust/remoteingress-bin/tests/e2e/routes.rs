//! An edge that has two ways to its hub: when one ends, its streams go on over the other.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_quic};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, skip, until, within};

on_quic! {
    streams_follow_the_route,
}

fn streams_follow_the_route(transport: Transport) {
    run(90, async {
        let Some(network) = Network::new() else {
            skip("the right to make network namespaces");
            return;
        };
        let (mut target, hub) = {
            let _inside = network.hub.enter();
            let target = ManualTarget::start(Proxy::None).await;
            (target, Process::management("hub").await)
        };
        let config = json!({"tunnelPort": 0, "bindAddress": HUB, "workers": 2});
        let started = hub.call("startHub", config).await;
        let (port, secret) = (free_port(), new_secret());
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPorts": [{
                "port": port, "targetHost": "127.0.0.1", "targetPort": target.address().port(),
                "proxyProtocol": "none",
            }],
        });
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let edge = {
            let _inside = network.edge.enter();
            Process::management("edge").await
        };
        let config = json!({
            "hubHost": HUB, "hubPort": started["tunnelPort"], "edgeId": EDGE_ID, "secret": secret,
            "bindAddress": "127.0.0.1", "workers": 2, "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        let mut client = {
            let _inside = network.edge.enter();
            TcpStream::connect(("127.0.0.1", port)).await.unwrap()
        };
        let mut server = target.accept().await;
        server.write_all(&[1]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 1);
        // The first way ends: what is sent to the edge's address there is lost.
        assert!(network.edge.ip("link set v84a down"));
        assert!(network.edge.ip(&format!("route add {HUB} {SECOND_WAY}")));
        // The edge has nothing to say, and tells nevertheless where it is now.
        until(SOON, "an edge that follows", async || {
            let log = String::from_utf8(edge.log()).ok()?;
            log.contains("the route to the hub has changed")
                .then_some(())
        })
        .await;
        server.write_all(&[2]).await.unwrap();
        let second = within(SOON, "a byte", client.read_u8()).await;
        assert_eq!(second.unwrap(), 2);
        let status = edge.status().await;
        assert_eq!(status["reconnects"], 0, "{status}");
    });
}

/// edge 10.84.0.1 - 10.84.0.2 hub, and edge 10.85.0.1 - 10.85.0.2 hub; behind both the hub's own address
struct Network {
    edge: Namespace,
    hub: Namespace,
}

impl Network {
    fn new() -> Option<Self> {
        let network = Self {
            edge: Namespace::new("edge")?,
            hub: Namespace::new("hub")?,
        };
        for net in [84, 85] {
            network.edge.join(&network.hub, net, 1_500)?;
        }
        let is_ready = network.hub.ip(&format!("address add {HUB}/32 dev lo"))
            && network.edge.ip(&format!("route add {HUB} {FIRST_WAY}"));
        is_ready.then_some(network)
    }
}

const HUB: &str = "10.86.0.1";
const FIRST_WAY: &str = "via 10.84.0.2";
const SECOND_WAY: &str = "via 10.85.0.2";
