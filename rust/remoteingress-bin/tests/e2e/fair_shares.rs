//! Limits per address: an office behind one address is served, a flood from one leaves the others their part, and every
//! limit that refuses somebody says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run, run_heavy, skip, system, until, within};

on_both_transports! {
    an_office_of_500_users_behind_one_address_is_served,
    a_flood_from_one_address_leaves_the_others_their_part,
}

/// The office's users, the connections of each, and the time between two users that begin their day.
const USERS: usize = 500;
const CONNECTIONS: usize = 10;
const ARRIVAL: Duration = Duration::from_millis(12);

fn an_office_of_500_users_behind_one_address_is_served(transport: Transport) {
    run_heavy(240, async {
        if system::raise_descriptors() < 12_000 {
            return skip("a descriptor limit of 12,000");
        }
        let echo = Target::echo().await;
        // As with enough descriptors: of those that the machine grants, 40 % may be too few.
        let mut builder = TunnelBuilder::new(transport)
            .default_limits()
            .edge(json!({"limits": {"maxConnections": 12_000}}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut office = JoinSet::new();
        for user in 0..USERS {
            office.spawn(async move {
                sleep(ARRIVAL * u32::try_from(user).unwrap()).await;
                let mut connections = Vec::new();
                for _ in 0..CONNECTIONS {
                    connections.push(visit(entry, [127, 0, 9, 1]).await.unwrap());
                }
                connections
            });
        }
        let mut connections: Vec<TcpStream> =
            office.join_all().await.into_iter().flatten().collect();
        assert_eq!(connections.len(), USERS * CONNECTIONS);
        for connection in &mut connections {
            talk(connection).await.unwrap();
        }
        for end in [&tunnel.edge, &tunnel.hub] {
            let status = end.status().await;
            assert_eq!(status["rejected"], json!({}), "{status}");
        }
    });
}

/// Clients that come while one address floods, and how many of them may be refused: 0.1 %.
const VISITS: usize = 2_000;
const MAX_REFUSED: usize = VISITS / 1_000;

fn a_flood_from_one_address_leaves_the_others_their_part(transport: Transport) {
    run_heavy(240, async {
        system::raise_descriptors();
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport)
            .default_limits()
            .edge(json!({"limits": {"maxConnections": 1_000}}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut flood = JoinSet::new();
        for _ in 0..16 {
            flood.spawn(async move {
                let mut held = Vec::new();
                loop {
                    if let Ok(connection) = visit(entry, [127, 0, 66, 1]).await {
                        held.push(connection);
                    }
                }
            });
        }
        let has_its_part = |status: &Value| {
            let refused = &status["rejected"]["maxConnectionsPerIp"];
            refused.as_u64() > Some(100)
        };
        tunnel
            .edge
            .wait_status(SOON, "a flood that is refused", has_its_part)
            .await;
        let refused = Arc::new(AtomicUsize::new(0));
        let mut others = JoinSet::new();
        for host in 1..=20 {
            let refused = refused.clone();
            others.spawn(async move {
                for _ in 0..VISITS / 20 {
                    if visit(entry, [127, 0, 100, host]).await.is_err() {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        others.join_all().await;
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused <= MAX_REFUSED, "{refused} of {VISITS} were refused");
        let status = tunnel.edge.status().await;
        // Alone it gets half, and not more.
        let held = status["activeStreams"].as_u64().unwrap();
        let turned_away = &status["rejected"]["maxConnectionsPerIp"];
        eprintln!(
            "flood: holds {held}, {turned_away} turned away; others: {refused} of {VISITS} refused"
        );
        assert!((400..=560).contains(&held), "{status}");
    });
}

#[test]
fn a_network_that_is_exempt_has_no_limit_of_its_own() {
    run(60, async {
        let echo = Target::echo().await;
        let limits = json!({
            "maxConnectionsPerIp": 2, "newConnectionsPerIpPerSec": 1, "newConnectionsPerIpBurst": 3,
            "exempt": ["127.0.8.0/24"],
        });
        let mut builder = TunnelBuilder::new(Transport::TcpTls).edge(json!({"limits": limits}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        let mut served = Vec::new();
        for _ in 0..20 {
            served.push(visit(entry, [127, 0, 8, 77]).await.unwrap());
        }
        for _ in 0..2 {
            served.push(visit(entry, [127, 0, 7, 77]).await.unwrap());
        }
        assert!(visit(entry, [127, 0, 7, 77]).await.is_err());
        let status = tunnel.edge.status().await;
        assert_eq!(status["rejected"], json!({"maxConnectionsPerIp": 1}));
    });
}

/// They say nothing, and hold their part of what may be on its way in.
#[test]
fn strangers_of_one_address_at_the_tunnel_port_keep_no_edge_out() {
    run(60, async {
        let tunnel = TunnelBuilder::new(Transport::TcpTls)
            .default_limits()
            .start()
            .await;
        let mut strangers = Vec::new();
        for _ in 0..600 {
            strangers.extend(connect(tunnel.tunnel_address(), [127, 0, 66, 1]).await.ok());
        }
        let has_its_part = |status: &Value| {
            let refused = &status["rejected"]["maxPreAuthPerIp"];
            refused.as_u64() >= Some(600 - 512 / 2)
        };
        let hub = &tunnel.hub;
        hub.wait_status(SOON, "strangers that are refused", has_its_part)
            .await;
        let mut config = tunnel.edge_config();
        config["replaceInstance"] = json!(true);
        let edge = Process::management("another start of the edge").await;
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        let line = until(SOON, "a warning", async || warning(hub, "maxPreAuthPerIp")).await;
        assert_eq!(line["fields"]["last"], "127.0.66.1");
    });
}

#[test]
fn a_limit_that_refuses_clients_says_so() {
    run(60, async {
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .edge(json!({"limits": {"maxConnectionsPerIp": 5}}))
            .hub(json!({"limits": {"maxStreams": 3}}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        let mut clients = Vec::new();
        for _ in 0..25 {
            // The reset of one that is refused may come before its connect returns.
            clients.extend(TcpStream::connect(entry).await.ok());
        }
        for (end, limit, at_least) in [
            (&tunnel.edge, "maxConnectionsPerIp", 10),
            (&tunnel.hub, "maxStreams", 1),
        ] {
            let line = until(SOON, limit, async || warning(end, limit)).await;
            let fields = &line["fields"];
            assert!(fields["refused"].as_u64() >= Some(at_least), "{line}");
            let advice = fields["message"].as_str().unwrap();
            assert!(advice.contains(&format!("limits.{limit}")), "{line}");
        }
    });
}

/// The first warning in a process's log about this limit.
fn warning(process: &Process, limit: &str) -> Option<Value> {
    let log = String::from_utf8(process.log()).ok()?;
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["level"] == "WARN" && line["fields"]["reason"] == limit).then_some(line)
    })
}

/// A client of this address that was served. The reset of one that isn't may come before its connect returns.
async fn visit(entry: SocketAddr, from: [u8; 4]) -> std::io::Result<TcpStream> {
    let mut client = connect(entry, from).await?;
    talk(&mut client).await?;
    Ok(client)
}

async fn connect(to: SocketAddr, from: [u8; 4]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

async fn talk(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(b"x").await?;
    within(SOON, "an echo", client.read_u8()).await.map(drop)
}
