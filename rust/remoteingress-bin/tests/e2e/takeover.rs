//! The owner of a session: neither another edge nor a third instance gets what belongs to a live one.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use remoteingress_proto::handshake::{
    self, EdgeHandshake, EdgeProgress, Hello, ProofKeys, Resume, SessionOutcome, Welcome,
};
use remoteingress_proto::token::secret::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::tls_peer::{self, ALPN, ClientStream};
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::wire_peer::hello;
use crate::harness::{SOON, new_secret, run, until};

#[test]
fn another_edge_cannot_resume_a_session_whose_id_it_knows() {
    run(60, async {
        let tunnel = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"workers": 1}))
            .start()
            .await;
        let hub = tunnel.tunnel_address();
        let [first, second] = [new_secret(), new_secret()];
        let edge = |id, secret: &String| json!({"id": id, "secret": secret, "listenPorts": []});
        let edges = [
            tunnel.entry(),
            edge("edge-test-02", &first),
            edge("edge-test-03", &second),
        ];
        tunnel
            .hub
            .call("updateAllowedEdges", json!({"edges": edges}))
            .await;
        let (_owner, owned) = come_in(hub, "edge-test-02", &first, None).await;
        let resume = Resume {
            session: owned.session,
            attempt: 7,
            received: 0,
        };
        let (_thief, got) = come_in(hub, "edge-test-03", &second, Some(resume)).await;
        assert_eq!(got.outcome, SessionOutcome::SessionLost);
        assert_ne!(got.session, owned.session);
        let status = tunnel.hub.status().await;
        let connected = status["connectedEdges"].as_array().unwrap();
        assert_eq!(connected.len(), 3, "{status}");
    });
}

#[test]
fn of_two_instances_that_wait_for_a_dead_one_only_one_comes_in() {
    run(90, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.edge.signal(libc::SIGSTOP);
        let mark = tunnel.hub.mark();
        let mut config = tunnel.edge_config();
        config["workers"] = json!(1);
        let rivals = [
            Process::management("second edge").await,
            Process::management("third edge").await,
        ];
        for rival in &rivals {
            rival.call("startEdge", config.clone()).await;
        }
        let conflict = |event: &Value| event["reason"] == "instanceConflict";
        tunnel
            .hub
            .wait_event_since(mark, "edgeRejected", SOON, conflict)
            .await;
        let lost = tunnel.hub.inbox().with(|received| {
            let later = received.events.iter().skip(mark);
            later
                .filter(|(event, body)| event == "edgeDisconnected" && body["edgeId"] == EDGE_ID)
                .count()
        });
        // The frozen one, and nobody else.
        assert_eq!(lost, 1);
        tunnel.edge.signal(libc::SIGKILL);
        let served = until(Duration::from_secs(40), "service", async || {
            let mut client = TcpStream::connect(entry).await.ok()?;
            client.write_all(b"x").await.ok()?;
            client.read_u8().await.ok()
        });
        assert_eq!(served.await, b'x');
    });
}

/// The hub can't know that the old one is dead before it has asked it.
#[test]
fn an_edge_over_quic_that_was_killed_serves_again_at_once() {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::Quic).edge(json!({"workers": 1}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.edge.kill().await;
        tunnel.edge = Process::management("edge again").await;
        let begun = Instant::now();
        tunnel.edge.call("startEdge", tunnel.edge_config()).await;
        let is_connected = |status: &Value| status["connected"] == true;
        tunnel.edge.wait_status(SOON, "tunnel", is_connected).await;
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        until(SOON, "echo", async || {
            let mut client = TcpStream::connect(entry).await.ok()?;
            client.write_all(b"x").await.ok()?;
            client.read_u8().await.ok()
        })
        .await;
    });
}

/// An edge's connection after its Welcome.
async fn come_in(
    hub: SocketAddr,
    id: &'static str,
    secret: &str,
    resume: Option<Resume>,
) -> (ClientStream, Welcome) {
    let keys = ProofKeys::derive(&Secret::new(secret.into()));
    let hello = Hello {
        resume,
        ..hello(id)
    };
    let exchange = move || {
        let mut stream = tls_peer::connect(hub, &[ALPN])?;
        let ekm = tls_peer::exporter(&stream);
        let transport = handshake::Transport::TcpTls;
        let (edge, message) = EdgeHandshake::new(&hello, keys, &ekm, transport).unwrap();
        stream.write_all(&message)?;
        stream.flush()?;
        let mut answer = vec![0; 3];
        stream.read_exact(&mut answer)?;
        let length = usize::from(u16::from_be_bytes([answer[1], answer[2]]));
        answer.resize(3 + length, 0);
        stream.read_exact(&mut answer[3..])?;
        Ok::<_, io::Error>((stream, edge.handle(&answer).unwrap()))
    };
    let (stream, progress) = tokio::task::spawn_blocking(exchange)
        .await
        .unwrap()
        .unwrap();
    let EdgeProgress::Welcomed { welcome, .. } = progress else {
        panic!("{id}: no Welcome");
    };
    (stream, welcome)
}
