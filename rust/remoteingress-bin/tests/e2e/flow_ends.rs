//! The lines of UDP flows in the access log: each tells the truth, whatever has become of its session.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::Tunnel;
use crate::harness::udp_oracle::{UdpOracle, UdpProxy};
use crate::harness::{SOON, run};
use crate::streams::{lines, wait_line, wait_list, with_logs};

on_both_transports! {
    the_flows_of_an_edge_that_stops_have_ended_at_the_hub_too,
    the_flows_of_a_hub_that_stops_have_ended,
    a_flow_that_ends_without_a_session_is_written_with_the_id_that_it_had,
}

fn the_flows_of_an_edge_that_stops_have_ended_at_the_hub_too(transport: Transport) {
    run(60, async move {
        let flow = Flow::start(transport, json!({})).await;
        flow.tunnel.edge.signal(libc::SIGTERM);
        for log in [&flow.hub_log, &flow.edge_log] {
            let line = wait_line(log, &flow.client).await;
            assert_eq!((&line["id"], &line["reason"]), (&flow.id, &json!("ended")));
        }
    });
}

fn the_flows_of_a_hub_that_stops_have_ended(transport: Transport) {
    run(60, async move {
        let flow = Flow::start(transport, json!({})).await;
        flow.tunnel.hub.signal(libc::SIGTERM);
        let line = wait_line(&flow.hub_log, &flow.client).await;
        assert_eq!((&line["id"], &line["reason"]), (&flow.id, &json!("ended")));
    });
}

fn a_flow_that_ends_without_a_session_is_written_with_the_id_that_it_had(transport: Transport) {
    run(60, async move {
        let timeouts = json!({"udpIdleTimeoutSecs": 1, "resumeTimeoutSecs": 1});
        let mut flow = Flow::start(transport, timeouts).await;
        flow.tunnel.hub.kill().await;
        let line = wait_line(&flow.edge_log, &flow.client).await;
        assert_eq!(
            (&line["id"], &line["reason"], &line["transport"]),
            (&flow.id, &json!("idleTimeout"), &json!(transport.word()))
        );
    });
}

#[test]
fn an_edge_that_stops_without_a_session_writes_its_flows() {
    run(60, async {
        let mut flow = Flow::start(Transport::TcpTls, json!({"resumeTimeoutSecs": 1})).await;
        let has_none = |status: &Value| status["sessions"] == 0;
        flow.tunnel.hub.kill().await;
        let edge = &mut flow.tunnel.edge;
        edge.wait_status(SOON, "end of sessions", has_none).await;
        edge.signal(libc::SIGTERM);
        edge.exit(SOON).await;
        let lines = lines(&flow.edge_log);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["id"], &lines[0]["reason"]),
            (&flow.id, &json!("ended"))
        );
    });
}

/// A tunnel with a flow.
struct Flow {
    tunnel: Tunnel,
    hub_log: PathBuf,
    edge_log: PathBuf,
    client: String,
    id: Value,
    _socket: UdpSocket,
    _target: UdpOracle,
}

impl Flow {
    async fn start(transport: Transport, fields: Value) -> Self {
        let target = UdpOracle::start(UdpProxy::None);
        let (mut builder, hub_log, edge_log) = with_logs(transport, fields);
        let entry = builder.forward_udp(UdpProxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(entry).await.unwrap();
        socket.send(b"x").await.unwrap();
        let has_flow = |list: &Value| list["total"] == 1;
        let list = wait_list(&tunnel.hub, "a flow", has_flow).await;
        Self {
            tunnel,
            hub_log,
            edge_log,
            client: socket.local_addr().unwrap().to_string(),
            id: list["streams"][0]["id"].clone(),
            _socket: socket,
            _target: target,
        }
    }
}
