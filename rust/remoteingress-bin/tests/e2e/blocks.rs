//! Wrong secrets and drains: who is kept out, who isn't, and how often the operator hears of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::Cut;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder, merge};
use crate::harness::{SOON, new_secret, run, until, within};

on_both_transports! {
    old_secrets_behind_an_address_keep_nobody_else_out,
    clones_with_an_old_secret_dont_keep_the_proven_edge_out,
    a_block_is_told_once_with_its_reason_and_its_length,
}

/// Wrong proofs after which a hub with defaults blocks.
const FAILURES: usize = 5;

fn old_secrets_behind_an_address_keep_nobody_else_out(transport: Transport) {
    run(120, async {
        let mut live = LiveStream::start(transport).await;
        let _strays = fail(&live.tunnel, "edge-old").await;
        live.survives_a_cut_and_a_restart(transport).await;

        // One that hasn't proved itself from there yet comes in, too.
        let secret = new_secret();
        let entry = json!({"id": "edge-new", "secret": secret});
        let edges = json!({"edges": [live.tunnel.entry(), entry]});
        live.tunnel.hub.call("updateAllowedEdges", edges).await;
        let newcomer = Process::management("new edge").await;
        let mut config = live.tunnel.edge_config();
        merge(&mut config, json!({"edgeId": "edge-new", "secret": secret}));
        newcomer.call("startEdge", config).await;
        newcomer.wait_event("tunnelConnected", SOON, |_| true).await;
    });
}

fn clones_with_an_old_secret_dont_keep_the_proven_edge_out(transport: Transport) {
    run(120, async {
        let mut live = LiveStream::start(transport).await;
        let _strays = fail(&live.tunnel, EDGE_ID).await;
        live.survives_a_cut_and_a_restart(transport).await;
    });
}

fn a_block_is_told_once_with_its_reason_and_its_length(transport: Transport) {
    run(60, async {
        let live = LiveStream::start(transport).await;
        let hub = &live.tunnel.hub;
        let _strays = fail(&live.tunnel, "edge-old").await;
        let late = stray(&live.tunnel, "edge-old").await;
        let is_counted = |status: &Value| status["rejected"]["maxAuthFailuresPerIp"] == 1;
        hub.wait_status(SOON, "a try while blocked", is_counted)
            .await;
        let told = |event: &Value| event["code"] == "E_OVERLOADED";
        late.wait_event("tunnelDisconnected", SOON, told).await;
        let lines = warnings(hub, "maxAuthFailuresPerIp");
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        for part in ["edge-old", "127.0.0.1", "\"secs\":60", "\"failures\":5"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    });
}

#[test]
fn a_draining_hub_tells_of_each_edge_once() {
    run(90, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let mut others = Vec::new();
        let mut edges = vec![tunnel.entry()];
        for number in 1..=3 {
            let (id, secret) = (format!("edge-other-{number}"), new_secret());
            edges.push(json!({"id": id, "secret": secret}));
            tunnel
                .hub
                .call("updateAllowedEdges", json!({"edges": edges}))
                .await;
            let other = Process::management("other edge").await;
            let mut config = tunnel.edge_config();
            merge(&mut config, json!({"edgeId": id, "secret": secret}));
            other.call("startEdge", config).await;
            other.wait_event("tunnelConnected", SOON, |_| true).await;
            others.push(other);
        }
        let (mut client, mut server) = target.connect(entry).await;
        client.write_u8(1).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 1);
        let before = tunnel.relay().accepted();
        tunnel.hub.signal(libc::SIGTERM);
        until(Duration::from_secs(40), "refused attempts", async || {
            (tunnel.relay().accepted() >= before + 24).then_some(())
        })
        .await;
        drop((client, server));
        assert_eq!(tunnel.hub.exit(SOON).await.code(), Some(0));
        tunnel.hub.output().await;
        let told = tunnel.hub.inbox().with(|received| {
            let mut told = BTreeMap::<String, usize>::new();
            for (event, body) in &received.events {
                if event == "edgeRejected" {
                    assert_eq!(body["reason"], "draining");
                    *told.entry(body["edgeId"].to_string()).or_default() += 1;
                }
            }
            told
        });
        let counts: Vec<usize> = told.values().copied().collect();
        assert_eq!(counts, [1; 4], "{told:?}");
    });
}

/// A tunnel with one stream in use, of a hub that blocks after [`FAILURES`].
struct LiveStream {
    tunnel: Tunnel,
    client: TcpStream,
    server: TcpStream,
}

impl LiveStream {
    async fn start(transport: Transport) -> Self {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport)
            .relayed()
            .hub(json!({"limits": {"maxAuthFailuresPerIp": FAILURES}}));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (client, server) = target.connect(entry).await;
        Self {
            tunnel,
            client,
            server,
        }
    }

    /// Over TLS the stream goes on after a cut; over either transport the edge's next start comes in.
    async fn survives_a_cut_and_a_restart(&mut self, transport: Transport) {
        if transport == Transport::TcpTls {
            self.tunnel.path().cut(Cut::Rst);
            self.client.write_u8(7).await.unwrap();
            let read = within(SOON, "a byte after the cut", self.server.read_u8()).await;
            assert_eq!(read.unwrap(), 7);
        }
        self.tunnel.edge.kill().await;
        self.tunnel.edge = Process::management("edge again").await;
        let edge = &self.tunnel.edge;
        edge.call("startEdge", self.tunnel.edge_config()).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
    }
}

/// An edge with this id and a wrong secret.
async fn stray(tunnel: &Tunnel, id: &str) -> Process {
    let stray = Process::management("edge with an old secret").await;
    let mut config = tunnel.edge_config();
    merge(
        &mut config,
        json!({"edgeId": id, "secret": new_secret(), "workers": 1}),
    );
    stray.call("startEdge", config).await;
    stray
}

/// As many wrong proofs as a hub blocks after, one by each of as many edges.
async fn fail(tunnel: &Tunnel, id: &str) -> Vec<Process> {
    let mut strays = Vec::new();
    for _ in 0..FAILURES {
        let stray = stray(tunnel, id).await;
        let is_refused = |event: &Value| event["code"] == "E_AUTH_FAILED";
        stray
            .wait_event("tunnelDisconnected", SOON, is_refused)
            .await;
        strays.push(stray);
    }
    strays
}

/// The warnings in a process's log that name this limit.
fn warnings(process: &Process, limit: &str) -> Vec<String> {
    let log = String::from_utf8(process.log()).unwrap();
    let is_one = |line: &&str| line.contains("\"WARN\"") && line.contains(limit);
    log.lines().filter(is_one).map(str::to_owned).collect()
}
