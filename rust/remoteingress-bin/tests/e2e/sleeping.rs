//! Sessions that carry nothing sleep, and a client that comes then is served whatever has become of the path.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::proxy_header::Proxy;
use crate::harness::relay::Cut;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run_timed, until, within};
use crate::streams::{wait_line, with_logs};

on_both_transports! {
    an_idle_tunnel_is_quiet_and_a_client_finds_that_its_path_is_gone,
}

/// Sessions sleep after 60 s without use.
const ASLEEP: Duration = Duration::from_secs(65);
/// A path that doesn't answer is gone after 3 s; and some for a loaded machine.
const FOUND: Duration = Duration::from_secs(6);

fn an_idle_tunnel_is_quiet_and_a_client_finds_that_its_path_is_gone(transport: Transport) {
    run_timed(150, async move {
        let target = Target::echo().await;
        let (builder, _, edge_log) = with_logs(transport, json!({}));
        let mut builder = builder.relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        // Time must pass here and below: that is what the test is about.
        tokio::time::sleep(ASLEEP).await;
        let before = carried(&tunnel);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let carried = carried(&tunnel) - before;
        // One question at most in each of two sessions; awake ones ask six times.
        assert!(carried < 500, "{carried} bytes in 10 s");

        let accepted = tunnel.relay().accepted();
        let mark = tunnel.edge.mark();
        tunnel.relay().black_hole(true);
        tunnel.udp_relay().block(true);
        let mut client = TcpStream::connect(entry).await.unwrap();
        match transport {
            Transport::TcpTls => {
                until(FOUND, "dial", async || {
                    (tunnel.relay().accepted() > accepted).then_some(())
                })
                .await;
            }
            Transport::Quic | Transport::QuicWithFallback => {
                let edge = &tunnel.edge;
                edge.wait_event_since(mark, "tunnelDisconnected", FOUND, |_| true)
                    .await;
            }
        }
        tunnel.udp_relay().block(false);
        tunnel.relay().black_hole(false);
        // Connections that were begun meanwhile have lost bytes.
        tunnel.relay().cut(Cut::Rst);
        within(SOON, "the answer", echoed(&mut client, 1 << 16)).await;
        let address = client.local_addr().unwrap().to_string();
        drop(client);
        // The question that nobody answered was a wait for a session.
        let line = wait_line(&edge_log, &address).await;
        let time = |field: &str| line[field].as_f64().unwrap();
        assert!(time("acceptMs") < 500.0, "{line}");
        // Over TCP the stream is opened at once, and sent again over another connection.
        let is_held = !matches!(transport, Transport::TcpTls);
        assert_eq!(time("heldMs") > 500.0, is_held, "{line}");
    });
}

#[test]
fn a_hub_that_died_while_the_tunnel_slept_costs_no_client() {
    run_timed(150, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::Quic)
            .pinned()
            .edge(json!({"keepaliveSecs": 300}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tokio::time::sleep(ASLEEP).await;
        tunnel.hub.kill().await;
        tunnel.start_hub_again().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        within(SOON, "the answer", echoed(&mut client, 1 << 16)).await;
    });
}

/// Nobody can reach its ports before the hub has noticed and called again.
#[test]
fn an_edge_that_was_started_again_while_the_tunnel_slept_is_called_soon() {
    run_timed(150, async {
        let mut tunnel = TunnelBuilder::new(Transport::Quic).called().start().await;
        tunnel.wait_sessions().await;
        tokio::time::sleep(ASLEEP).await;
        tunnel.edge.kill().await;
        tunnel.start_edge_again().await;
        let limit = Duration::from_secs(14);
        let edge = &tunnel.edge;
        edge.wait_event("tunnelConnected", limit, |_| true).await;
    });
}

fn carried(tunnel: &Tunnel) -> u64 {
    tunnel.relay().bytes() + tunnel.udp_relay().bytes()
}
