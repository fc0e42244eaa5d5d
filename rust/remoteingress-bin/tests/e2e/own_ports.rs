//! Ports that the kernel gives to the tunnel by chance, and that the hub wants opened.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, skip};

on_both_transports! {
    the_tunnel_leaves_the_ports_that_the_hub_wants,
}

/// All ports from which the kernel may choose are wanted, so that the tunnel surely has some of them.
fn the_tunnel_leaves_the_ports_that_the_hub_wants(transport: Transport) {
    run(60, async {
        let Some(network) = Namespace::new("ports") else {
            skip("the right to make network namespaces");
            return;
        };
        let (hub, edge) = {
            let _inside = network.enter();
            let range = "/proc/sys/net/ipv4/ip_local_port_range";
            std::fs::write(range, "40000 40009").unwrap();
            let hub = Process::management("hub").await;
            (hub, Process::management("edge").await)
        };
        let secret = new_secret();
        let range = json!([{"port": "40000-40009", "targetPort": 9_000}]);
        let allowed = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPorts": range, "listenPortsUdp": range,
        });
        let config = json!({"tunnelPort": 8_443, "bindAddress": "127.0.0.1", "workers": 2});
        hub.call("startHub", config).await;
        hub.call("updateAllowedEdges", json!({"edges": [allowed]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": 8_443, "edgeId": EDGE_ID, "secret": secret, "workers": 2,
            "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        let all_are_bound = |status: &Value| {
            let ports = status["ports"].as_array();
            ports.is_some_and(|ports| {
                ports.len() == 20 && ports.iter().all(|port| port["state"] == "bound")
            })
        };
        edge.wait_status(Duration::from_secs(10), "all ports", all_are_bound)
            .await;
        let is_connected = |status: &Value| all_are_bound(&status["connectedEdges"][0]);
        hub.wait_status(SOON, "all ports at the hub", is_connected)
            .await;
        assert_eq!(edge.status().await["reconnects"], 0);
    });
}
