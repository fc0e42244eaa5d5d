//! Nothing that internet clients do costs the tunnel.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::{Cut, reset};
use crate::harness::target::{ManualTarget, Target};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run, run_heavy, run_timed, seed, system, until, within};

on_both_transports! {
    twenty_thousand_early_resets_leave_the_tunnel_alone,
    a_thousand_idle_clients_at_once_dont_use_the_memory_up,
    streams_for_which_there_is_no_memory_are_counted,
    an_edge_out_of_descriptors_recovers,
    a_hub_out_of_descriptors_refuses_and_recovers,
    one_address_gets_no_more_than_its_share,
}

fn twenty_thousand_early_resets_leave_the_tunnel_alone(transport: Transport) {
    run_heavy(180, async {
        let echo = Target::echo().await;
        let mut steady_target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, echo.address());
        let steady_entry = builder.forward(Proxy::None, steady_target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (mut client, mut server) = steady_target.connect(steady_entry).await;
        let mark = tunnel.edge.mark();

        let mut storms = JoinSet::new();
        for storm in 1..=16 {
            storms.spawn(async move {
                for _ in 0..20_000 / 16 {
                    // An address of its own: other tests use up the free ports of 127.0.0.1.
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(([127, 0, 1, storm], 0).into()).unwrap();
                    match socket.connect(entry).await {
                        Ok(connected) => reset(&connected),
                        // Too many dials at a time: the hub refused the stream already.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    }
                }
            });
        }
        storms.join_all().await;

        for number in 0..100_u64 {
            client.write_u64(number).await.unwrap();
            assert_eq!(server.read_u64().await.unwrap(), number);
        }
        drop((client, server));
        tunnel.wait_idle(Duration::from_secs(30)).await;
        assert!(!tunnel.edge.has_event_since(mark, "tunnelDisconnected"));
        let status = tunnel.edge.status().await;
        assert_eq!(
            (&status["reconnects"], &status["resumed"]),
            (&json!(0), &json!(0)),
            "{status}"
        );
    });
}

fn a_thousand_idle_clients_at_once_dont_use_the_memory_up(transport: Transport) {
    run_timed(120, async {
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport)
            .relayed()
            .edge(json!({"limits": {"holdTimeoutSecs": 60}}))
            .hub(json!({"memoryBudgetMiB": 64, "limits": {"maxPendingDialsPerEdge": 0}}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.path().refuse(true);
        tunnel.path().cut(Cut::Rst);
        let mark = tunnel.edge.mark();
        let edge = &tunnel.edge;
        edge.wait_event_since(mark, "tunnelDisconnected", SOON, |_| true)
            .await;
        let mut clients = Vec::new();
        for _ in 0..1_000 {
            clients.push(TcpStream::connect(entry).await.unwrap());
        }
        let all = |status: &Value| status["heldClients"] == 1_000;
        edge.wait_status(SOON, "1,000 held clients", all).await;
        tunnel.path().refuse(false);
        for client in &mut clients {
            client.write_u8(7).await.unwrap();
            let read = within(SOON, "answer", client.read_u8()).await;
            assert_eq!(read.unwrap(), 7);
        }
        let rejected = &tunnel.hub.status().await["rejected"];
        assert_eq!(rejected["overloaded"], Value::Null, "{rejected}");
    });
}

fn streams_for_which_there_is_no_memory_are_counted(transport: Transport) {
    run_heavy(120, async {
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport)
            .edge(json!({"workers": 1}))
            .hub(json!({"memoryBudgetMiB": 1, "workers": 1}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        let mut clients = Vec::new();
        let is_counted = |status: &Value| status["rejected"]["overloaded"].as_u64() > Some(0);
        until(SOON, "refused stream", async || {
            clients.push(TcpStream::connect(entry).await.ok()?);
            is_counted(&tunnel.hub.status().await).then_some(())
        })
        .await;
        // The first ones take up to half of the budget, the others 2 KiB each up to 15/16.
        assert!(clients.len() > 200, "{} streams fit", clients.len());
    });
}

fn an_edge_out_of_descriptors_recovers(transport: Transport) {
    run_heavy(120, async {
        let oracle = Oracle::start(Proxy::None).await;
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, oracle.address());
        let echo_entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let Some(used) = system::descriptors(tunnel.edge.pid()) else {
            eprintln!("skipped: the kernel doesn't show the edge's descriptors");
            return;
        };
        let few = u64::try_from(used).unwrap() + 20;
        let before = system::limit_descriptors(tunnel.edge.pid(), few);
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(TcpStream::connect(echo_entry).await.unwrap());
        }
        let what = "edge at its limit";
        tunnel
            .edge
            .wait_status(SOON, what, |status| {
                status["activeStreams"].as_u64() >= Some(10)
            })
            .await;
        drop(crowd);
        until(
            Duration::from_secs(10),
            "service after the crowd left",
            async || oracle.play(entry, Plan::bulk(seed(), 1, 1_000)).await.ok(),
        )
        .await;
        tunnel.wait_idle(SOON).await;
        system::limit_descriptors(tunnel.edge.pid(), before);
        oracle
            .play(entry, Plan::random(seed(), 2, 1 << 20))
            .await
            .unwrap();
        assert_eq!(tunnel.edge.status().await["reconnects"], 0);
    });
}

fn a_hub_out_of_descriptors_refuses_and_recovers(transport: Transport) {
    run_heavy(120, async {
        let oracle = Oracle::start(Proxy::None).await;
        let echo = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::None, oracle.address());
        let echo_entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let Some(used) = system::descriptors(tunnel.hub.pid()) else {
            eprintln!("skipped: the kernel doesn't show the hub's descriptors");
            return;
        };
        let few = u64::try_from(used).unwrap() + 20;
        let before = system::limit_descriptors(tunnel.hub.pid(), few);
        let mut refused = 0;
        let mut crowd = Vec::new();
        for _ in 0..60 {
            match visit(echo_entry).await {
                Ok(client) => crowd.push(client),
                Err(_) => refused += 1,
            }
        }
        assert!(
            refused > 0 && !crowd.is_empty(),
            "{refused} refused, {} served",
            crowd.len()
        );
        drop(crowd);
        tunnel.wait_idle(SOON).await;
        oracle
            .play(entry, Plan::bulk(seed(), 1, 1_000))
            .await
            .unwrap();
        system::limit_descriptors(tunnel.hub.pid(), before);
        assert_eq!(tunnel.edge.status().await["reconnects"], 0);
    });
}

fn one_address_gets_no_more_than_its_share(transport: Transport) {
    run(60, async {
        let echo = Target::echo().await;
        let mut builder =
            TunnelBuilder::new(transport).edge(json!({"limits": {"maxConnectionsPerIp": 5}}));
        let entry = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        let mut served = Vec::new();
        for _ in 0..5 {
            let mut client = TcpStream::connect(entry).await.unwrap();
            talk(&mut client).await.unwrap();
            served.push(client);
        }
        // One too many is closed, the others aren't touched, and a free place is given again.
        assert!(visit(entry).await.is_err());
        for client in &mut served {
            talk(client).await.unwrap();
        }
        let status = tunnel.edge.status().await;
        let refusals: u64 = status["rejected"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(refusals, 1, "{status}");
        served.pop();
        until(SOON, "a free place", async || {
            let mut client = TcpStream::connect(entry).await.ok()?;
            talk(&mut client).await.ok()
        })
        .await;
    });
}

/// A client that was served. The reset of one that isn't may come before its connect returns.
async fn visit(entry: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let mut client = TcpStream::connect(entry).await?;
    talk(&mut client).await?;
    Ok(client)
}

async fn talk(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(b"x").await?;
    client.read_u8().await.map(drop)
}
