//! Configuration generations: what didn't change isn't touched, what can't be bound is reported and tried again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::ports::{free_port, free_range};
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{ManualTarget, Target};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, run, run_heavy, seed, until, within};

on_both_transports! {
    two_hundred_generations_touch_no_unchanged_listener,
    the_same_content_is_no_new_generation,
    a_removed_port_lets_its_streams_run_on,
    a_taken_port_is_reported_and_bound_when_it_is_free,
    the_log_names_a_taken_port_among_many_once,
    a_port_outside_the_allowed_ones_is_refused_by_the_edge,
    a_range_maps_port_by_port,
}

fn two_hundred_generations_touch_no_unchanged_listener(transport: Transport) {
    run_heavy(240, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let untouched: Vec<_> = (0..3)
            .map(|_| builder.forward(Proxy::None, target.address()))
            .collect();
        let tunnel = builder.start().await;
        let kept = tunnel.entry()["listenPorts"].as_array().unwrap().clone();
        let pool: Vec<u16> = (0..24).map(|_| free_port()).collect();

        // Short streams come all the time, and long ones stay over all generations.
        let running = Arc::new(AtomicBool::new(true));
        let served = Arc::new(AtomicU64::new(0));
        let mut load = JoinSet::new();
        for &entry in &untouched {
            load.spawn(short_streams(
                entry,
                Arc::clone(&running),
                Arc::clone(&served),
            ));
            load.spawn(long_stream(entry, Arc::clone(&running)));
        }

        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        let mut wanted = BTreeSet::new();
        for generation in 0..200 {
            let size = rng.random_range(0..pool.len());
            let before = std::mem::replace(
                &mut wanted,
                pool.choose_multiple(&mut rng, size).copied().collect(),
            );
            let mut entry = tunnel.entry();
            let added = wanted.iter().map(|&port| {
                json!({"port": port, "targetPort": target.address().port(), "proxyProtocol": "none"})
            });
            entry["listenPorts"] = kept.iter().cloned().chain(added).collect();
            let mark = tunnel.hub.mark();
            tunnel.update(&entry).await;
            // Now and then the next one follows before this one is applied.
            let is_awaited = rng.random_bool(0.7) || generation == 199;
            // The same ports again are no new generation.
            if is_awaited && wanted != before {
                let all: BTreeSet<u16> = untouched
                    .iter()
                    .map(SocketAddr::port)
                    .chain(wanted.iter().copied())
                    .collect();
                let applied = |event: &Value| bound_ports(event) == all;
                tunnel
                    .hub
                    .wait_event_since(mark, "portsApplied", SOON, applied)
                    .await;
                if let Some(&port) = wanted.first() {
                    echo_once(SocketAddr::from(([127, 0, 0, 1], port)))
                        .await
                        .unwrap();
                }
            }
        }
        running.store(false, Ordering::Relaxed);
        for outcome in load.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(served.load(Ordering::Relaxed) > 200, "hardly any load");
        for port in pool.into_iter().filter(|port| !wanted.contains(port)) {
            let closed = async || TcpStream::connect(("127.0.0.1", port)).await.err();
            until(SOON, "closed port", closed).await;
        }
        tunnel.wait_idle(SOON).await;
    });
}

fn the_same_content_is_no_new_generation(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let mark = tunnel.hub.mark();
        let outcome = tunnel.update(&tunnel.entry()).await;
        let expected = json!({"added": [], "removed": [], "changed": [], "unchanged": [EDGE_ID]});
        assert_eq!(outcome, expected);
        // The effects of a later change show that nothing came in between.
        let mut entry = tunnel.entry();
        entry["listenPorts"] = json!([]);
        tunnel.update(&entry).await;
        let applied = tunnel
            .hub
            .wait_event_since(mark, "portsApplied", SOON, |_| true)
            .await;
        assert_eq!(bound_ports(&applied), BTreeSet::new());
    });
}

fn a_removed_port_lets_its_streams_run_on(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry_address = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (mut client, mut server) = target.connect(entry_address).await;
        let mut entry = tunnel.entry();
        entry["listenPorts"] = json!([]);
        tunnel.update(&entry).await;
        until(SOON, "closed port", async || {
            TcpStream::connect(entry_address).await.err()
        })
        .await;
        client.write_all(b"still here").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "still here");
        drop(server);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    });
}

fn a_taken_port_is_reported_and_bound_when_it_is_free(transport: Transport) {
    run(90, async {
        let target = Target::echo().await;
        let taken = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
        let taken_address = taken.local_addr().unwrap();
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, target.address());
        builder.listen(json!({
            "port": taken_address.port(), "targetPort": target.address().port(), "proxyProtocol": "none",
        }));
        let tunnel = builder.start().await;
        let what = "report of the taken port";
        let reported = |status: &Value| {
            port_error(&status["ports"], taken_address.port()) == Some("E_ADDRESS_IN_USE")
        };
        tunnel.edge.wait_status(SOON, what, reported).await;
        let hub_reported = |status: &Value| reported(&status["connectedEdges"][0]);
        tunnel.hub.wait_status(SOON, what, hub_reported).await;
        echo_once(entry).await.unwrap();

        drop(taken);
        let what = "binding of the freed port";
        let bound = |status: &Value| bound_ports(status).contains(&taken_address.port());
        tunnel
            .edge
            .wait_status(Duration::from_secs(35), what, bound)
            .await;
        tunnel
            .hub
            .wait_status(SOON, what, |status| bound(&status["connectedEdges"][0]))
            .await;
        echo_once(taken_address).await.unwrap();
    });
}

/// The event with the states of so many ports is too long for the log.
fn the_log_names_a_taken_port_among_many_once(transport: Transport) {
    run(60, async {
        let first = free_range(40);
        let taken = TcpListener::bind(("127.0.0.1", first + 20)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut builder = TunnelBuilder::new(transport);
        builder.listen(json!({"port": format!("{first}-{}", first + 39), "targetPort": 9}));
        let tunnel = builder.start().await;
        let named = |process: &Process| {
            let log = String::from_utf8(process.log()).unwrap();
            let lines = log.lines().filter(|line| {
                line.contains("failed to open a port") && line.contains(&format!("tcp {port}\""))
            });
            lines.count()
        };
        let mark = tunnel.edge.mark();
        until(SOON, "a line at the hub", async || {
            (named(&tunnel.hub) > 0).then_some(())
        })
        .await;
        // It is tried again after a second, and the edge says so with its next states.
        let other = free_port();
        let mut allowed = tunnel.entry();
        allowed["listenPorts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"port": other, "targetPort": 9}));
        tunnel.update(&allowed).await;
        tunnel
            .edge
            .wait_event_since(mark, "portsUpdated", SOON, |_| true)
            .await;
        let is_told = |status: &Value| bound_ports(&status["connectedEdges"][0]).contains(&other);
        tunnel
            .hub
            .wait_status(SOON, "the other port", is_told)
            .await;
        assert_eq!((named(&tunnel.edge), named(&tunnel.hub)), (1, 1));
    });
}

fn a_port_outside_the_allowed_ones_is_refused_by_the_edge(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let allowed = builder.forward(Proxy::None, target.address());
        let forbidden = builder.forward(Proxy::None, target.address());
        let builder = builder.edge(json!({"allowedPorts": {"tcp": [allowed.port()]}}));
        let tunnel = builder.start().await;
        let what = "report of the forbidden port";
        let reported = |status: &Value| {
            let ports = &status["connectedEdges"][0]["ports"];
            port_error(ports, forbidden.port()) == Some("E_PORT_NOT_ALLOWED")
        };
        tunnel.hub.wait_status(SOON, what, reported).await;
        echo_once(allowed).await.unwrap();
        assert!(TcpStream::connect(forbidden).await.is_err());
    });
}

fn a_range_maps_port_by_port(transport: Transport) {
    run(60, async {
        let first_target = free_range(3);
        let mut targets = Vec::new();
        for port in first_target..first_target + 3 {
            targets.push(TcpListener::bind(("127.0.0.1", port)).await.unwrap());
        }
        let mut builder = TunnelBuilder::new(transport);
        let listen = free_range(3);
        builder.listen(json!({
            "port": format!("{listen}-{}", listen + 2), "targetPort": first_target, "proxyProtocol": "none",
        }));
        let tunnel = builder.start().await;
        let ports: BTreeSet<u16> = (listen..listen + 3).collect();
        let what = "the whole range";
        tunnel
            .edge
            .wait_status(SOON, what, |status| bound_ports(status) == ports)
            .await;
        for (port, target) in ports.into_iter().zip(targets) {
            let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut server, _) = within(SOON, "connection at its target", target.accept())
                .await
                .unwrap();
            server.write_u16(port).await.unwrap();
            assert_eq!(client.read_u16().await.unwrap(), port);
        }
    });
}

/// Echo streams one after the other until told to stop.
async fn short_streams(
    entry: SocketAddr,
    running: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) -> Result<(), String> {
    while running.load(Ordering::Relaxed) {
        echo_once(entry)
            .await
            .map_err(|error| format!("{entry}: {error}"))?;
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One echo stream that is used until told to stop.
async fn long_stream(entry: SocketAddr, running: Arc<AtomicBool>) -> Result<(), String> {
    let talk = async {
        let mut client = TcpStream::connect(entry).await?;
        let mut number = 0_u64;
        while running.load(Ordering::Relaxed) {
            number += 1;
            client.write_u64(number).await?;
            let back = client.read_u64().await?;
            if back != number {
                return Err(std::io::Error::other(format!("{back} instead of {number}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    talk.await
        .map_err(|error| format!("long stream at {entry}: {error}"))
}

async fn echo_once(entry: SocketAddr) -> std::io::Result<()> {
    let mut client = TcpStream::connect(entry).await?;
    client.write_all(b"echo").await?;
    client.shutdown().await?;
    let mut back = Vec::new();
    client.read_to_end(&mut back).await?;
    if back == b"echo" {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("got {back:?}")))
    }
}

fn bound_ports(holder: &Value) -> BTreeSet<u16> {
    let ports = holder["ports"].as_array().unwrap().iter();
    let bound = ports.filter(|port| port["state"] == "bound");
    bound
        .map(|port| u16::try_from(port["port"].as_u64().unwrap()).unwrap())
        .collect()
}

fn port_error(ports: &Value, number: u16) -> Option<&str> {
    let mut ports = ports.as_array()?.iter();
    let port = ports.find(|port| port["port"] == number && port["state"] == "failed")?;
    port["error"]["code"].as_str()
}
