//! The handshake on the wire: what strangers, replayers, men in the middle and false hubs get, which is nothing.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, Hello, Message, PROTOCOL_VERSION, ProofKeys, RefuseCode, Refused,
    SessionId, SessionOutcome, Transcript, Welcome, decode_message, hub_proof,
};
use remoteingress_proto::token::secret::Secret;
use remoteingress_proto::wire::features::Features;
use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder, merge};
use crate::harness::wire_peer::{self, WirePeer, WireServer, as_proven};
use crate::harness::{SOON, new_secret, run};

on_both_transports! {
    wrong_secret_unknown_edge_and_removed_edge_look_alike,
    a_hello_taken_from_one_connection_is_worth_nothing_on_another,
    a_man_in_the_middle_with_his_own_certificate_fails_at_the_proof,
    a_false_hub_with_the_pinned_key_but_a_wrong_secret_is_not_believed,
    a_hub_that_never_says_welcome_is_given_up,
    another_protocol_version_is_told_only_after_a_good_proof,
    malformed_hellos_end_without_harm,
}

fn wrong_secret_unknown_edge_and_removed_edge_look_alike(transport: Transport) {
    run(60, async move {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let hub = tunnel.tunnel_address();
        let secret = secret_of(&tunnel);
        let gone = new_secret();
        let removed = json!({"id": "edge-test-02", "secret": gone, "listenPorts": []});
        tunnel
            .hub
            .call(
                "updateAllowedEdges",
                json!({"edges": [tunnel.entry(), removed]}),
            )
            .await;
        let welcomed = say_hello(transport, hub, "edge-test-02", &gone).await;
        assert!(
            matches!(welcomed.progress, Some(EdgeProgress::Welcomed { .. })),
            "{welcomed:?}"
        );
        tunnel.update(&tunnel.entry()).await;

        let cases = [
            say_hello(transport, hub, EDGE_ID, &new_secret()).await,
            say_hello(transport, hub, "edge-test-99", &secret).await,
            say_hello(transport, hub, "edge-test-02", &gone).await,
        ];
        let expected = Refused::new(RefuseCode::AuthFailed).message();
        for case in &cases {
            assert_eq!(case.answer, expected);
            assert_eq!(case, &cases[0]);
        }
    });
}

fn a_hello_taken_from_one_connection_is_worth_nothing_on_another(transport: Transport) {
    run(60, async move {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let hub = tunnel.tunnel_address();
        let secret = secret_of(&tunnel);
        // One made here and used a second time, and one that a real edge sent to somebody who listens in.
        let own = blocking(move || {
            let stream = WirePeer::connect(transport, hub)?;
            Ok(hello_message(transport, &stream.exporter(), EDGE_ID, &secret).1)
        })
        .await
        .unwrap();
        let server = WireServer::start(transport);
        let mut config = tunnel.edge_config();
        merge(&mut config, json!({"hubPort": server.address().port()}));
        let edge = Process::management("deceived edge").await;
        edge.call("startEdge", config).await;
        let captured = blocking(move || read_message(&mut server.accept()?))
            .await
            .unwrap();
        for replayed in [own, captured] {
            let answer = blocking(move || {
                let mut stream = WirePeer::connect(transport, hub)?;
                stream.write_all(&replayed)?;
                stream.flush()?;
                Ok(read_to_the_end(&mut stream))
            });
            assert_eq!(
                answer.await.unwrap(),
                Refused::new(RefuseCode::AuthFailed).message()
            );
        }
    });
}

fn a_man_in_the_middle_with_his_own_certificate_fails_at_the_proof(transport: Transport) {
    run(60, async move {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let hub = tunnel.tunnel_address();
        let server = WireServer::start(transport);
        let mut config = tunnel.edge_config();
        merge(
            &mut config,
            json!({"hubPort": server.address().port(), "workers": 1}),
        );
        let edge = Process::management("edge without a pin").await;
        edge.call("startEdge", config).await;
        let middle = blocking(move || {
            let mut to_edge = server.accept()?;
            let mut to_hub = WirePeer::connect(transport, hub)?;
            let hello = read_message(&mut to_edge)?;
            to_hub.write_all(&hello)?;
            to_hub.flush()?;
            let answer = read_to_the_end(&mut to_hub);
            to_edge.write_all(&answer)?;
            to_edge.flush()?;
            // The edge must say nothing more on this connection.
            Ok((answer, read_to_the_end(&mut to_edge)))
        });
        let (answer, rest) = middle.await.unwrap();
        assert_eq!(answer, Refused::new(RefuseCode::AuthFailed).message());
        assert_eq!(rest, b"");
        edge.wait_event("tunnelDisconnected", SOON, |event| {
            event["code"] == "E_AUTH_FAILED"
        })
        .await;
        assert!(!edge.has_event_since(0, "tunnelConnected"));
        let status = tunnel.hub.status().await;
        assert!(
            status["rejected"]["authFailed"].as_u64() > Some(0),
            "{status}"
        );
    });
}

fn a_false_hub_with_the_pinned_key_but_a_wrong_secret_is_not_believed(transport: Transport) {
    run(60, async move {
        let server = Arc::new(WireServer::start(transport));
        let edge = Process::management("edge").await;
        edge.call("startEdge", edge_of(transport, &server)).await;
        for tampered in [false, true] {
            let server = Arc::clone(&server);
            let answered = blocking(move || {
                let mut stream = server.accept()?;
                let hello = read_message(&mut stream)?;
                let ekm = stream.exporter();
                stream.write_all(&false_welcome(transport, &hello, &ekm, tampered))?;
                stream.flush()?;
                Ok(read_to_the_end(&mut stream))
            });
            // With a pinned key the edge may send ahead; it must hang up, though.
            answered.await.unwrap();
        }
        edge.wait_event("tunnelDisconnected", SOON, |event| {
            event["code"] == "E_AUTH_FAILED"
        })
        .await;
        assert!(
            !edge.has_event_since(0, "tunnelConnected")
                && !edge.has_event_since(0, "portsAssigned")
        );
    });
}

/// With a pinned key the edge doesn't wait for the Welcome before it sends; it must not wait for ever, either.
fn a_hub_that_never_says_welcome_is_given_up(transport: Transport) {
    run(60, async move {
        let server = WireServer::start(transport);
        let edge = Process::management("edge").await;
        edge.call("startEdge", edge_of(transport, &server)).await;
        let silent = blocking(move || {
            let mut stream = server.accept()?;
            read_message(&mut stream)?;
            let begun = Instant::now();
            read_to_the_end(&mut stream);
            let took = begun.elapsed();
            // It knocks again.
            read_message(&mut server.accept()?)?;
            Ok(took)
        });
        let took = silent.await.unwrap();
        // Less than the 8 s after which any silent connection is given up.
        assert!(took < Duration::from_secs(7), "{took:?}");
        assert!(!edge.has_event_since(0, "tunnelConnected"));
    });
}

fn another_protocol_version_is_told_only_after_a_good_proof(transport: Transport) {
    run(60, async move {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let hub = tunnel.tunnel_address();
        for (secret, expected) in [
            (secret_of(&tunnel), RefuseCode::UnsupportedVersion),
            (new_secret(), RefuseCode::AuthFailed),
        ] {
            let answer = blocking(move || {
                let mut stream = WirePeer::connect(transport, hub)?;
                let mut hello = hello(EDGE_ID);
                hello.protocol_version = PROTOCOL_VERSION + 1;
                let message = sign(transport, &hello, &stream.exporter(), &secret).1;
                stream.write_all(&message)?;
                stream.flush()?;
                Ok(read_to_the_end(&mut stream))
            });
            assert_eq!(answer.await.unwrap(), Refused::new(expected).message());
        }
    });
}

fn malformed_hellos_end_without_harm(transport: Transport) {
    run(60, async move {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let hub = tunnel.tunnel_address();
        let messages: [&[u8]; 6] = [
            &[0],
            &[1, 0xff, 0xff],
            &[1, 0, 0],
            &[2, 0, 1, 0],
            &[9, 9, 9, 9],
            &[1, 3, 0xfd],
        ];
        for message in messages {
            let message = [message, &[0; 1_100]].concat();
            let answer = blocking(move || {
                let mut stream = WirePeer::connect(transport, hub)?;
                stream.write_all(&message)?;
                stream.flush()?;
                Ok(read_to_the_end(&mut stream))
            });
            let answer = answer.await.unwrap();
            assert!(
                answer.is_empty() || answer == Refused::new(RefuseCode::AuthFailed).message(),
                "{answer:?}"
            );
        }
        assert_eq!(tunnel.edge.status().await["reconnects"], 0);
    });
}

/// An edge that has this server's pin.
fn edge_of(transport: Transport, server: &WireServer) -> Value {
    json!({
        "hubHost": "127.0.0.1", "hubPort": server.address().port(), "edgeId": EDGE_ID,
        "secret": new_secret(), "hubPins": [server.pin()], "stunServers": [], "workers": 1, "transportMode": transport.word(),
    })
}

/// The hub's reaction to a Hello.
#[derive(Debug, PartialEq)]
struct Answered {
    answer: Vec<u8>,
    /// Bytes on the wire after the Hello, so that records are alike too.
    on_the_wire: usize,
    progress: Option<EdgeProgress>,
}

/// Says Hello on a new connection and reads all that comes back, or the Welcome.
async fn say_hello(
    transport: Transport,
    hub: SocketAddr,
    id: &'static str,
    secret: &str,
) -> Answered {
    let secret = secret.to_owned();
    blocking(move || {
        let mut stream = WirePeer::connect(transport, hub)?;
        let (edge, message) = hello_message(transport, &stream.exporter(), id, &secret);
        let before = stream.received();
        stream.write_all(&message)?;
        stream.flush()?;
        let first = read_message(&mut stream)?;
        let progress = edge.handle(&first).ok();
        let mut answer = first;
        if progress.is_none() {
            answer.extend(read_to_the_end(&mut stream));
        }
        Ok(Answered {
            answer,
            on_the_wire: stream.received() - before,
            progress,
        })
    })
    .await
    .unwrap()
}

/// One that comes in whoever is there.
fn hello(id: &str) -> Hello {
    Hello {
        replaces_instance: true,
        ..wire_peer::hello(id)
    }
}

fn hello_message(
    transport: Transport,
    ekm: &[u8; 32],
    id: &str,
    secret: &str,
) -> (EdgeHandshake, Vec<u8>) {
    sign(transport, &hello(id), ekm, secret)
}

fn sign(
    transport: Transport,
    hello: &Hello,
    ekm: &[u8; 32],
    secret: &str,
) -> (EdgeHandshake, Vec<u8>) {
    let keys = ProofKeys::derive(&Secret::new(secret.into()));
    EdgeHandshake::new(hello, keys, ekm, as_proven(transport)).unwrap()
}

/// A Welcome proven with a secret that isn't the edge's; `tampered`: also one bit of its proof is wrong.
fn false_welcome(transport: Transport, hello: &[u8], ekm: &[u8; 32], tampered: bool) -> Vec<u8> {
    let Ok(Some((Message::Hello(proven), _))) = decode_message(hello) else {
        panic!("the edge said no Hello");
    };
    let transcript = Transcript::new(PROTOCOL_VERSION, as_proven(transport), ekm, proven.bytes);
    let welcome = Welcome {
        session: SessionId(rand::random()),
        outcome: SessionOutcome::New,
        max_sessions: 1,
        initial_credit: 256 * 1024,
        features: Features::RESUME,
        version: "0.0.0-test".to_owned(),
        resume_timeout_secs: None,
        observed_address: None,
    };
    let mut body = welcome.encode().unwrap();
    let keys = ProofKeys::derive(&Secret::new(new_secret().as_str().into()));
    let proof = hub_proof(&keys, &transcript, &body);
    body.extend_from_slice(proof.as_bytes());
    if let (true, Some(last)) = (tampered, body.last_mut()) {
        *last ^= 1;
    }
    let length = u16::try_from(body.len()).unwrap();
    [&[WELCOME][..], &length.to_be_bytes(), &body].concat()
}

/// One message of the handshake, as its envelope says.
fn read_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 3];
    stream.read_exact(&mut message)?;
    let length = usize::from(u16::from_be_bytes([message[1], message[2]]));
    message.resize(3 + length, 0);
    stream.read_exact(&mut message[3..])?;
    Ok(message)
}

/// All that comes until the peer closes, however it does.
fn read_to_the_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn secret_of(tunnel: &Tunnel) -> String {
    tunnel.entry()["secret"].as_str().unwrap().to_owned()
}

/// Runs a blocking peer off the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let running = tokio::task::spawn_blocking(work);
    tokio::time::timeout(Duration::from_secs(40), running)
        .await
        .expect("an end of the peer")
        .unwrap()
}

/// Kind of a Welcome in the envelope.
const WELCOME: u8 = 2;
