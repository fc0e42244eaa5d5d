//! Edges that may connect: secrets that change, edges that are removed, a second one with the same name, wrong hubs.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{ManualTarget, Target};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder, merge};
use crate::harness::{SOON, new_secret, run, run_timed, until, within};

on_both_transports! {
    removing_an_edge_cuts_it_within_a_second_and_refuses_it,
    a_removed_edge_closes_its_ports,
    an_edge_that_comes_before_the_hub_is_told_its_edges_is_let_in_soon_after,
    changing_the_secret_cuts_the_edge,
    rotating_the_secret_cuts_nobody,
    a_second_instance_is_refused_while_the_first_lives,
    a_second_instance_takes_over_when_it_says_so,
    a_crashed_edge_is_replaced_by_its_next_start,
    a_hub_with_another_key_is_not_trusted,
    the_right_pin_is_found_at_each_place,
    a_wrong_secret_is_told_to_the_edges_operator,
    a_refused_edge_that_sends_ahead_is_patient,
    workers_of_an_edge_with_a_changed_secret_dont_get_its_address_blocked,
}

fn removing_an_edge_cuts_it_within_a_second_and_refuses_it(transport: Transport) {
    run_timed(90, async {
        let mut live = LiveStream::start(transport).await;
        let begun = Instant::now();
        let mark = live.tunnel.hub.mark();
        let outcome = live
            .tunnel
            .hub
            .call("updateAllowedEdges", json!({"edges": []}))
            .await;
        assert_eq!(outcome["removed"], json!([EDGE_ID]));
        live.assert_cut(begun).await;
        let rejected = |event: &Value| event["reason"] == "authFailed";
        live.tunnel
            .hub
            .wait_event_since(mark, "edgeRejected", SOON, rejected)
            .await;
        let status = live.tunnel.hub.status().await;
        assert_eq!(status["connectedEdges"], json!([]));
        assert!(
            status["rejected"]["authFailed"].as_u64() > Some(0),
            "{status}"
        );

        // Let in again, it comes back by itself.
        let mark = live.tunnel.edge.mark();
        live.tunnel.update(&live.tunnel.entry()).await;
        live.tunnel
            .edge
            .wait_event_since(mark, "tunnelConnected", Duration::from_secs(40), |_| true)
            .await;
    });
}

fn a_removed_edge_closes_its_ports(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        TcpStream::connect(entry).await.unwrap();
        tunnel
            .hub
            .call("updateAllowedEdges", json!({"edges": []}))
            .await;
        let refused = async || TcpStream::connect(entry).await.err();
        until(SOON, "closed port", refused).await;
        let is_bare = |status: &Value| status["ports"] == json!([]);
        tunnel.edge.wait_status(SOON, "no port", is_bare).await;
    });
}

fn an_edge_that_comes_before_the_hub_is_told_its_edges_is_let_in_soon_after(transport: Transport) {
    run(60, async {
        let mut tunnel = TunnelBuilder::new(transport)
            .hub(json!({"limits": {"maxAuthFailuresPerIp": 1}}))
            .start()
            .await;
        tunnel.hub.kill().await;
        tunnel.hub = Process::management("hub again").await;
        tunnel.hub.call("startHub", tunnel.hub_config()).await;
        let has_knocked = |status: &Value| status["rejected"]["notReady"].as_u64() > Some(0);
        // Over QUIC the edge may keep its connection to the hub that is gone for the idle timeout of 30 s.
        tunnel
            .hub
            .wait_status(2 * SOON, "an edge that is early", has_knocked)
            .await;
        tunnel.update(&tunnel.entry()).await;
        tunnel.hub.wait_event("edgeConnected", SOON, |_| true).await;
        let rejected = &tunnel.hub.status().await["rejected"];
        assert_eq!(rejected["authFailed"], Value::Null, "{rejected}");
    });
}

fn changing_the_secret_cuts_the_edge(transport: Transport) {
    run_timed(60, async {
        let mut live = LiveStream::start(transport).await;
        let mut entry = live.tunnel.entry();
        entry["secret"] = json!(new_secret());
        let begun = Instant::now();
        live.tunnel.update(&entry).await;
        live.assert_cut(begun).await;
    });
}

fn rotating_the_secret_cuts_nobody(transport: Transport) {
    run(60, async {
        let mut live = LiveStream::start(transport).await;
        let old = live.tunnel.entry()["secret"].clone();
        let new = json!(new_secret());
        let mark = live.tunnel.edge.mark();
        let mut entry = live.tunnel.entry();
        entry["nextSecret"] = new.clone();
        live.tunnel.update(&entry).await;
        live.assert_alive().await;
        // The new one becomes the current one while the old one is still let in.
        merge(&mut entry, json!({"secret": new, "nextSecret": old}));
        live.tunnel.update(&entry).await;
        live.assert_alive().await;
        assert!(!live.tunnel.edge.has_event_since(mark, "tunnelDisconnected"));

        // An edge with the new secret stays when the old one goes.
        let mut config = live.tunnel.edge_config();
        merge(&mut config, json!({"secret": new, "replaceInstance": true}));
        let second = Process::management("edge with the new secret").await;
        second.call("startEdge", config).await;
        second.wait_event("tunnelConnected", SOON, |_| true).await;
        entry.as_object_mut().unwrap().remove("nextSecret");
        let mark = second.mark();
        live.tunnel.update(&entry).await;
        second.call("ping", json!({})).await;
        let status = second
            .wait_status(SOON, "tunnel", |status| status["connected"] == true)
            .await;
        assert_eq!(status["reconnects"], 0, "{status}");
        assert!(!second.has_event_since(mark, "tunnelDisconnected"));
    });
}

fn a_second_instance_is_refused_while_the_first_lives(transport: Transport) {
    run(90, async {
        let mut live = LiveStream::start(transport).await;
        let second = Process::management("second edge").await;
        second.call("startEdge", live.tunnel.edge_config()).await;
        let rejected = live.tunnel.hub.wait_event("edgeRejected", SOON, |event| {
            event["reason"] == "instanceConflict"
        });
        let rejected = rejected.await;
        assert_eq!(rejected["edgeId"], EDGE_ID);
        assert!(
            rejected["remoteAddress"].is_string() && rejected["otherAddress"].is_string(),
            "{rejected}"
        );
        let told = |event: &Value| event["code"] == "E_INSTANCE_CONFLICT";
        second.wait_event("tunnelDisconnected", SOON, told).await;
        live.assert_alive().await;
    });
}

fn a_second_instance_takes_over_when_it_says_so(transport: Transport) {
    run(90, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let mut config = tunnel.edge_config();
        config["replaceInstance"] = json!(true);
        let second = Process::management("second edge").await;
        second.call("startEdge", config).await;
        second.wait_event("tunnelConnected", SOON, |_| true).await;
        let is_told = |event: &Value| event["code"] == "E_INSTANCE_CONFLICT";
        tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, is_told)
            .await;
        tunnel.edge.kill().await;
        // The port is free as soon as the first edge is gone, and the second one tries again by itself.
        let bound = |status: &Value| status["ports"][0]["state"] == "bound";
        second
            .wait_status(Duration::from_secs(35), "bound port", bound)
            .await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    });
}

fn a_crashed_edge_is_replaced_by_its_next_start(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.edge.kill().await;
        let second = Process::management("edge again").await;
        second.call("startEdge", tunnel.edge_config()).await;
        second.wait_event("tunnelConnected", SOON, |_| true).await;
        second
            .wait_event("portsAssigned", SOON, |event| {
                event["ports"][0]["state"] == "bound"
            })
            .await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    });
}

fn a_hub_with_another_key_is_not_trusted(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).pinned().start().await;
        let mut config = tunnel.edge_config();
        let pin = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let access = json!({
            "hubHost": "127.0.0.1", "hubPort": tunnel.tunnel_address().port(), "edgeId": EDGE_ID,
            "secret": tunnel.entry()["secret"], "hubPins": [pin], "replaceInstance": true,
        });
        config.as_object_mut().unwrap().remove("token");
        merge(&mut config, access);
        let edge = Process::management("edge with a wrong pin").await;
        edge.call("startEdge", config).await;
        let told = |event: &Value| event["code"] == "E_HUB_PIN_MISMATCH";
        edge.wait_event("tunnelDisconnected", SOON, told).await;
        assert_eq!(edge.status().await["connected"], false);
        assert_eq!(tunnel.edge.status().await["connected"], true);
    });
}

fn the_right_pin_is_found_at_each_place(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).pinned().start().await;
        let right = tunnel.hub.status().await["hubPin"].clone();
        assert!(right.is_string(), "{right}");
        for place in 0..4 {
            let mut pins =
                vec![json!(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())); 4];
            pins[place] = right.clone();
            let mut config = tunnel.edge_config();
            config.as_object_mut().unwrap().remove("token");
            merge(
                &mut config,
                json!({
                    "hubHost": "127.0.0.1", "hubPort": tunnel.tunnel_address().port(), "edgeId": EDGE_ID,
                    "secret": tunnel.entry()["secret"], "hubPins": pins, "replaceInstance": true,
                }),
            );
            let edge = Process::management("edge with four pins").await;
            edge.call("startEdge", config).await;
            edge.wait_event("tunnelConnected", SOON, |_| true).await;
        }
    });
}

fn a_wrong_secret_is_told_to_the_edges_operator(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let mut config = tunnel.edge_config();
        config["secret"] = json!(new_secret());
        let edge = Process::management("edge with a wrong secret").await;
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelDisconnected", SOON, |event| {
            event["code"] == "E_AUTH_FAILED"
        })
        .await;
    });
}

/// Bytes that it sends after Hello don't make its connection one that was let in.
fn a_refused_edge_that_sends_ahead_is_patient(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).pinned().start().await;
        tunnel.wait_sessions().await;
        let mut entry = tunnel.entry();
        entry["secret"] = json!(new_secret());
        tunnel.update(&entry).await;
        let refusals = |status: &Value| status["rejected"]["authFailed"].as_u64().unwrap_or(0);
        tunnel
            .hub
            .wait_status(SOON, "a refusal", |status| refusals(status) > 0)
            .await;
        // It is watched for longer than impatience would take.
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(refusals(&tunnel.hub.status().await), 1);
    });
}

fn workers_of_an_edge_with_a_changed_secret_dont_get_its_address_blocked(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport)
            .hub(json!({"limits": {"maxAuthFailuresPerIp": 5}}))
            .edge(json!({"workers": 8}))
            .start()
            .await;
        let is_complete = |status: &Value| status["sessions"] == 8;
        let edge = &tunnel.edge;
        edge.wait_status(SOON, "8 sessions", is_complete).await;
        let mark = edge.mark();
        let mut entry = tunnel.entry();
        entry["secret"] = json!(new_secret());
        tunnel.update(&entry).await;
        let is_refused = |event: &Value| event["code"] == "E_AUTH_FAILED";
        edge.wait_event_since(mark, "tunnelDisconnected", SOON, is_refused)
            .await;
        // Each worker has either knocked by now or been told that it needn't.
        until(SOON, "8 workers that gave up", async || {
            let log = String::from_utf8(edge.log()).ok()?;
            let gave_up = |worker: usize| {
                let worker = format!("\"worker\":{worker},");
                let refused = |line: &str| line.contains("E_AUTH_FAILED") && line.contains(&worker);
                log.lines().any(refused)
            };
            (0..8).all(gave_up).then_some(())
        })
        .await;
        let successor = Process::management("edge with the new secret").await;
        let mut config = tunnel.edge_config();
        config["secret"] = entry["secret"].clone();
        successor.call("startEdge", config).await;
        successor
            .wait_event("tunnelConnected", SOON, |_| true)
            .await;
        let rejected = &tunnel.hub.status().await["rejected"];
        assert_eq!(rejected["authFailed"], 1, "{rejected}");
    });
}

/// A tunnel with one stream in use.
struct LiveStream {
    tunnel: Tunnel,
    client: TcpStream,
    server: TcpStream,
}

impl LiveStream {
    async fn start(transport: Transport) -> Self {
        let mut target = ManualTarget::start(Proxy::None).await;
        let short = json!({"resumeTimeoutSecs": 2});
        let mut builder = TunnelBuilder::new(transport).hub(short.clone()).edge(short);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (client, server) = target.connect(entry).await;
        let mut live = Self {
            tunnel,
            client,
            server,
        };
        live.assert_alive().await;
        live
    }

    async fn assert_alive(&mut self) {
        self.client.write_all(b"x").await.unwrap();
        assert_eq!(
            within(SOON, "byte", self.server.read_u8()).await.unwrap(),
            b'x'
        );
        self.server.write_all(b"y").await.unwrap();
        assert_eq!(
            within(SOON, "byte", self.client.read_u8()).await.unwrap(),
            b'y'
        );
    }

    /// The target's end is reset within a second, the client's at the latest when resuming has failed.
    async fn assert_cut(&mut self, begun: Instant) {
        let read = within(SOON, "RST at the target", self.server.read_u8()).await;
        assert_eq!(
            read.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        let read = within(
            Duration::from_secs(10),
            "RST at the client",
            self.client.read_u8(),
        )
        .await;
        assert_eq!(
            read.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        self.tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, |_| true)
            .await;
        self.tunnel
            .hub
            .wait_event("edgeDisconnected", SOON, |event| event["edgeId"] == EDGE_ID)
            .await;
    }
}
