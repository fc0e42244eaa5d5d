//! The hub dials: all that an edge that dials can do holds in this direction too.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::Cut;
use crate::harness::target::{ManualTarget, Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_directory, new_secret, run, run_timed, tls_peer, until, within};

on_both_transports! {
    clients_are_served_and_both_ends_say_who_dialled,
    a_hub_that_is_killed_and_started_again_calls_again,
    an_edge_that_is_killed_and_started_again_is_called_again,
    a_wrong_secret_is_refused_and_told,
    an_edge_that_is_removed_is_cut_within_a_second,
    a_secret_is_replaced_without_a_cut,
    a_hub_that_hangs_makes_room_for_the_next,
    a_second_hub_is_refused_and_told_while_the_first_lives,
    the_successor_of_an_orphaned_edge_is_called,
    hubs_with_an_old_secret_dont_keep_the_proven_one_out,
}

fn clients_are_served_and_both_ends_say_who_dialled(transport: Transport) {
    run(60, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1 << 20).await;
        let connected = tunnel.hub.wait_event("edgeConnected", SOON, |_| true).await;
        assert_eq!(connected["dialledBy"], "hub", "{connected}");
        assert_eq!(connected["transport"], transport.word(), "{connected}");
        let status = tunnel.hub.status().await;
        assert_eq!(status["connectedEdges"][0]["dialledBy"], "hub", "{status}");
        assert_eq!(status["unreachableEdges"], json!([]), "{status}");
        assert_eq!(tunnel.edge.status().await["dialledBy"], "hub");
    });
}

#[test]
fn a_stream_goes_on_over_the_next_connection() {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls).called().relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = target.connect(entry).await;
        for cut in [Cut::Rst, Cut::Fin, Cut::Rst] {
            client.write_all(b"x").await.unwrap();
            server.read_u8().await.unwrap();
            tunnel.relay().cut(cut);
            client.write_all(b"y").await.unwrap();
            within(SOON, "the byte sent meanwhile", server.read_u8())
                .await
                .unwrap();
            server.write_all(b"z").await.unwrap();
            within(SOON, "the answer", client.read_u8()).await.unwrap();
        }
        let status = tunnel.edge.status().await;
        assert!(status["resumed"].as_u64() >= Some(1), "{status}");
    });
}

#[test]
fn a_stream_goes_on_over_the_next_connection_while_the_edge_drains() {
    run(90, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls).called().relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = target.connect(entry).await;
        tunnel.edge.signal(libc::SIGTERM);
        until(SOON, "an edge that drains", async || {
            let log = String::from_utf8_lossy(&tunnel.edge.log()).into_owned();
            log.contains("edge drains").then_some(())
        })
        .await;
        tunnel.relay().cut(Cut::Rst);
        client.write_all(b"y").await.unwrap();
        let read = within(SOON, "the byte sent meanwhile", server.read_u8()).await;
        assert_eq!(read.unwrap(), b'y');
        server.write_all(b"z").await.unwrap();
        let read = within(SOON, "the answer", client.read_u8()).await;
        assert_eq!(read.unwrap(), b'z');
    });
}

fn a_hub_that_is_killed_and_started_again_calls_again(transport: Transport) {
    run(60, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.hub.kill().await;
        tunnel.start_hub_again().await;
        tunnel.hub.wait_event("edgeConnected", SOON, |_| true).await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1 << 16).await;
    });
}

fn an_edge_that_is_killed_and_started_again_is_called_again(transport: Transport) {
    run(60, async move {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.edge.kill().await;
        tunnel.start_edge_again().await;
        // The hub hears of it from the new one, at the latest with its next ping.
        let limit = Duration::from_secs(10);
        tunnel
            .edge
            .wait_event("portsAssigned", limit, |_| true)
            .await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1 << 16).await;
        // It has no stateDir, and nevertheless its key.
        assert!(!tunnel.hub.has_event_since(0, "edgeKeyChanged"));
    });
}

fn a_wrong_secret_is_refused_and_told(transport: Transport) {
    run(60, async move {
        let builder = TunnelBuilder::new(transport).called();
        let tunnel = builder.start().await;
        // None of them may still be answered with the old secret.
        tunnel.wait_sessions().await;
        let mark = tunnel.hub.mark();
        let mut entry = tunnel.entry();
        entry["secret"] = json!(new_secret());
        tunnel.update(&entry).await;
        let is_refused = |event: &Value| event["code"] == "E_AUTH_FAILED";
        let event = tunnel
            .hub
            .wait_event_since(mark, "edgeUnreachable", SOON, is_refused)
            .await;
        assert_eq!(event["edgeId"], EDGE_ID);
        let status = tunnel.hub.status().await;
        assert_eq!(
            status["unreachableEdges"][0]["code"], "E_AUTH_FAILED",
            "{status}"
        );
        assert_eq!(status["connectedEdges"], json!([]), "{status}");
        let edge = tunnel.edge.status().await;
        assert!(edge["rejected"]["authFailed"].as_u64() >= Some(1), "{edge}");
        // The right one is tried at once, not after the pause for a wrong one.
        let mark = tunnel.hub.mark();
        tunnel.update(&tunnel.entry()).await;
        tunnel
            .hub
            .wait_event_since(mark, "edgeConnected", Duration::from_secs(5), |_| true)
            .await;
    });
}

fn an_edge_that_is_removed_is_cut_within_a_second(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (mut client, _server) = target.connect(entry).await;
        tunnel
            .hub
            .call("updateAllowedEdges", json!({"edges": []}))
            .await;
        let second = Duration::from_secs(1);
        let read = within(second, "RST", client.read_u8()).await;
        assert!(read.is_err());
        tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, |_| true)
            .await;
        let status = tunnel.hub.status().await;
        assert_eq!(status["unreachableEdges"], json!([]), "{status}");
    });
}

fn a_secret_is_replaced_without_a_cut(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).called();
        let port = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(port).await;
        let (old, next) = (tunnel.entry(), new_secret());
        let mut both = old.clone();
        both["nextSecret"] = json!(next);
        tunnel.update(&both).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        // The edge gets the new secret, then the hub lets go of the old one.
        tunnel.edge.kill().await;
        tunnel.change_edge(json!({"secret": next}));
        tunnel.start_edge_again().await;
        let limit = Duration::from_secs(40);
        tunnel
            .edge
            .wait_event("portsAssigned", limit, |_| true)
            .await;
        let (mut client, mut server) = target.connect(port).await;
        let mark = tunnel.edge.mark();
        let mut new = old;
        new["secret"] = json!(next);
        tunnel.update(&new).await;
        client.write_all(b"y").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'y');
        assert!(!tunnel.edge.has_event_since(mark, "tunnelDisconnected"));
        // The edge has no stateDir, so its key came with the secret, which is no alarm.
        assert!(!tunnel.hub.has_event_since(0, "edgeKeyChanged"));
    });
}

fn a_hub_that_hangs_makes_room_for_the_next(transport: Transport) {
    run_timed(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).called();
        let port = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let sessions = tunnel.edge.status().await["sessions"].clone();
        let (mut client, _server) = target.connect(port).await;
        tunnel.hub.signal(libc::SIGSTOP);
        let hung = tunnel.start_second_hub().await;
        // The edge waits for an answer of the first for three seconds at most.
        let limit = Duration::from_secs(8);
        tunnel
            .hub
            .wait_event("edgeConnected", limit, |_| true)
            .await;
        // What went through the hub that hangs ends with it.
        let end = within(Duration::from_secs(2), "RST", client.read_u8()).await;
        assert!(end.is_err());
        // Another worker of the edge may find out a moment later, and its client would end as this one.
        let of_all = |status: &Value| status["connectedEdges"][0]["sessions"] == sessions;
        tunnel.hub.wait_status(SOON, "all sessions", of_all).await;
        let (mut client, mut server) = target.connect(port).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        drop(hung);
    });
}

fn a_second_hub_is_refused_and_told_while_the_first_lives(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).called();
        let port = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = target.connect(port).await;
        let mark = tunnel.edge.mark();
        let first = tunnel.start_second_hub().await;
        let is_refused = |event: &Value| event["code"] == "E_INSTANCE_CONFLICT";
        tunnel
            .hub
            .wait_event("edgeUnreachable", SOON, is_refused)
            .await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        assert!(!tunnel.edge.has_event_since(mark, "tunnelDisconnected"));
        let rejected = tunnel.edge.status().await["rejected"].clone();
        assert!(
            rejected["instanceConflict"].as_u64() >= Some(1),
            "{rejected}"
        );
        // Once the first is gone, the second has the edge.
        let mut first = first;
        first.kill().await;
        let limit = Duration::from_secs(30);
        tunnel
            .hub
            .wait_event("edgeConnected", limit, |_| true)
            .await;
    });
}

/// A stream over TLS goes on at the orphan; one over QUIC can't do without the socket that the successor needs.
fn the_successor_of_an_orphaned_edge_is_called(transport: Transport) {
    run(60, async move {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport).called();
        let port = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = target.connect(port).await;
        tunnel.edge.close_stdin();
        let mut orphan = tunnel.succeed_edge().await;
        let is_bound = |status: &Value| status["ports"][0]["state"] == "bound";
        tunnel.edge.wait_status(SOON, "bound port", is_bound).await;
        let (mut new_client, mut new_server) = target.connect(port).await;
        new_client.write_all(b"x").await.unwrap();
        assert_eq!(new_server.read_u8().await.unwrap(), b'x');
        if transport == Transport::TcpTls {
            client.write_all(b"y").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'y');
        } else {
            let end = within(SOON, "RST", client.read_u8()).await;
            assert!(end.is_err());
        }
        drop((client, server));
        assert_eq!(orphan.exit(SOON).await.code(), Some(0));
    });
}

/// More than are called at a time, and each attempt waits for QUIC before it is refused over TCP.
#[test]
fn six_hundred_edges_that_dont_answer_are_all_tried_and_told() {
    run(60, async {
        let hub = Process::management("hub").await;
        hub.call("startHub", json!({"listen": false, "workers": 1}))
            .await;
        let edges: Vec<Value> = (0..600)
            .map(|number| {
                let host = format!("127.9.{}.{}", number / 250, number % 250 + 1);
                let dial = json!({"host": host, "port": 9, "transportMode": "quicWithFallback"});
                json!({"id": format!("edge-{number}"), "secret": new_secret(), "dial": dial})
            })
            .collect();
        hub.call("updateAllowedEdges", json!({"edges": edges}))
            .await;
        let are_told = |status: &Value| {
            let unreachable = status["unreachableEdges"].as_array().map(Vec::len);
            unreachable == Some(600)
        };
        let limit = Duration::from_secs(40);
        hub.wait_status(limit, "all of them", are_told).await;
    });
}

/// Behind one address, as hubs behind one carrier's NAT are.
fn hubs_with_an_old_secret_dont_keep_the_proven_one_out(transport: Transport) {
    run(60, async move {
        let builder = TunnelBuilder::new(transport).called();
        let limit = json!({"limits": {"maxAuthFailuresPerIp": 3}});
        let mut tunnel = builder.edge(limit).start().await;
        tunnel.wait_sessions().await;
        let mut old = tunnel.entry();
        old["secret"] = json!(new_secret());
        let mut strays = Vec::new();
        for _ in 0..6 {
            let stray = Process::management("hub with an old secret").await;
            stray.call("startHub", tunnel.hub_config()).await;
            let edges = json!({"edges": [old]});
            stray.call("updateAllowedEdges", edges).await;
            stray.wait_event("edgeUnreachable", SOON, |_| true).await;
            strays.push(stray);
        }
        let rejected = tunnel.edge.status().await["rejected"].clone();
        assert!(rejected["authFailed"].as_u64() >= Some(6), "{rejected}");
        tunnel.hub.kill().await;
        tunnel.start_hub_again().await;
        tunnel.hub.wait_event("edgeConnected", SOON, |_| true).await;
    });
}

#[test]
fn a_token_is_all_that_the_edge_needs() {
    run(60, async {
        let tunnel = TunnelBuilder::new(Transport::TcpTls).called().start().await;
        let wanted = json!({"edgeId": EDGE_ID});
        let created = tunnel.hub.call("createConnectionToken", wanted).await;
        let mut edge = tunnel.edge;
        edge.kill().await;
        let edge = Process::management("edge with a token").await;
        let config = json!({"token": created["token"], "workers": 1, "stunServers": []});
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", Duration::from_secs(40), |_| true)
            .await;
        let refused = tunnel
            .hub
            .request(
                "createConnectionToken",
                json!({"edgeId": EDGE_ID, "hubHost": "h"}),
            )
            .await;
        assert_eq!(refused.unwrap_err().code, "E_INVALID_CONFIG");
    });
}

#[test]
fn strangers_at_the_edges_tunnel_port_learn_nothing_and_are_counted() {
    run(60, async {
        let tunnel = TunnelBuilder::new(Transport::TcpTls).called().start().await;
        let edge = tunnel.tunnel_address();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-probe\r\n"] {
            let mut stream = TcpStream::connect(edge).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an answer without a byte.
            let _ = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
            let is_alert = matches!(answer.as_slice(), [] | [0x15, 3, _, 0, 2, _, _]);
            assert!(is_alert, "{answer:?}");
        }
        // A Hello, half a Call in a long envelope, and a whole Call whose proofs are wrong.
        let mut call = vec![4, 0, 85, 0, 1];
        call.resize(3 + 85, 7);
        let refused: &[u8] = &[3, 0, 5, 1, 0, 0, 0, 0];
        for (sent, expected) in [
            (vec![1, 0, 64], &[][..]),
            (vec![4, 0xff, 0xff], &[]),
            (call, refused),
        ] {
            let exchange = move || {
                let mut stream = tls_peer::connect(edge, &[tls_peer::ALPN]).unwrap();
                stream.write_all(&sent).unwrap();
                stream.flush().unwrap();
                let mut answer = Vec::new();
                // It ends without close_notify, or with it.
                let _ = stream.read_to_end(&mut answer);
                answer
            };
            let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
            assert_eq!(answer, expected);
        }
        until(SOON, "their counts", async || {
            let rejected = tunnel.edge.status().await["rejected"].clone();
            let counts = ["handshakeFailed", "protocol", "authFailed"]
                .map(|reason| rejected[reason].as_u64());
            (counts == [Some(2), Some(2), Some(1)]).then_some(())
        })
        .await;
    });
}

#[test]
fn another_key_of_an_edge_is_told_and_refused_where_a_pin_is() {
    run(60, async {
        let mut tunnel = TunnelBuilder::new(Transport::TcpTls).called().start().await;
        tunnel.edge.kill().await;
        let directory = new_directory("state").join("edge");
        tunnel.change_edge(json!({"stateDir": directory}));
        tunnel.start_edge_again().await;
        let limit = Duration::from_secs(40);
        let changed = tunnel
            .hub
            .wait_event("edgeKeyChanged", limit, |_| true)
            .await;
        assert_eq!(changed["edgeId"], EDGE_ID);
        assert_ne!(changed["pin"], changed["previousPin"]);
        let mut entry = tunnel.entry();
        entry["dial"]["pin"] = changed["previousPin"].clone();
        let mark = tunnel.hub.mark();
        tunnel.update(&entry).await;
        let is_refused = |event: &Value| event["code"] == "E_EDGE_PIN_MISMATCH";
        tunnel
            .hub
            .wait_event_since(mark, "edgeUnreachable", SOON, is_refused)
            .await;
        entry["dial"]["pin"] = changed["pin"].clone();
        let mark = tunnel.hub.mark();
        tunnel.update(&entry).await;
        tunnel
            .hub
            .wait_event_since(mark, "edgeConnected", SOON, |_| true)
            .await;
    });
}
