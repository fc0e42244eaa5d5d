//! `quicWithFallback`: clients are served over TLS while UDP doesn't work, and over QUIC when it does.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_quic_with_fallback, where_the_hub_dials};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, run_timed, seed, within};

on_quic_with_fallback! {
    where_udp_works_quic_is_used,
    udp_dropped_from_the_start_is_served_soon_and_taken_back,
    all_workers_fall_back_as_soon_as_one_does,
    udp_dropped_for_twenty_seconds_costs_no_client_more_than_ten,
    large_datagrams_dropped_from_the_start,
    large_datagrams_dropped_in_mid_life,
}

where_the_hub_dials! {
    quic_with_fallback over QuicWithFallback {
        where_udp_works_quic_is_used,
        udp_dropped_from_the_start_is_served_soon_and_taken_back,
        udp_dropped_for_twenty_seconds_costs_no_client_more_than_ten,
        large_datagrams_dropped_from_the_start,
        large_datagrams_dropped_in_mid_life,
    }
}

fn where_udp_works_quic_is_used(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let mut builder = builder(transport).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        wait_transport(&tunnel, "quic", SOON).await;
        let before = tunnel.relay().bytes();
        echo(entry).await.unwrap();
        assert_eq!(tunnel.relay().bytes(), before, "bytes went over TCP");
        assert_steady(&tunnel, tunnel.edge.mark()).await;
    });
}

fn udp_dropped_from_the_start_is_served_soon_and_taken_back(transport: Transport) {
    run_timed(120, async {
        let target = Target::echo().await;
        let mut builder = builder(transport).relayed_with(|path| path.udp.block(true));
        let entry = builder.forward(Proxy::None, target.address());
        let begun = Instant::now();
        let tunnel = builder.start().await;
        echo(entry).await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert_eq!(tunnel.edge.status().await["transport"], "tcpTls");

        let mut old = Live::start(entry).await;
        let mark = tunnel.edge.mark();
        tunnel.udp_relay().block(false);
        wait_transport(&tunnel, "quic", BACK).await;
        let changed = |event: &Value| event["transport"] == "quic" && event["reason"].is_string();
        tunnel
            .edge
            .wait_event_since(mark, "transportChanged", SOON, changed)
            .await;
        // The stream of before goes on where it was, new ones go over QUIC.
        let (tcp, udp) = (tunnel.relay().bytes(), tunnel.udp_relay().bytes());
        old.exchange().await.unwrap();
        assert!(tunnel.relay().bytes() > tcp, "the old stream moved");
        for _ in 0..50 {
            echo(entry).await.unwrap();
        }
        assert!(tunnel.udp_relay().bytes() > udp + 50 * 2 * ECHO as u64);
        assert_steady(&tunnel, tunnel.edge.mark()).await;
        assert_eq!(changes_since(&tunnel, mark), 1);
    });
}

fn all_workers_fall_back_as_soon_as_one_does(transport: Transport) {
    run_timed(120, async {
        let target = Target::echo().await;
        let mut builder = builder(transport)
            .pinned()
            .relayed()
            .edge(json!({"workers": WORKERS}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut live = Live::start(entry).await;
        let mark = tunnel.edge.mark();
        tunnel.hub.kill().await;
        // A reset passes, and no handshake does.
        tunnel
            .udp_relay()
            .set(|faults| faults.largest = BELOW_INITIAL);
        tunnel.start_hub_again().await;
        // The edge hears of the reset by this, unless a packet that it sent again has brought one already.
        let _ = live.client.write_all(&[7]).await;
        tunnel
            .edge
            .wait_event_since(mark, "tunnelDisconnected", SOON, |_| true)
            .await;
        let begun = Instant::now();
        let is_there =
            |status: &Value| status["transport"] == "tcpTls" && status["sessions"] == WORKERS;
        tunnel.edge.wait_status(SOON, "all on TLS", is_there).await;
        let took = begun.elapsed();
        // Five seconds once, not once more for those that waited for the first.
        assert!(took < Duration::from_secs(8), "{took:?}");
    });
}

fn udp_dropped_for_twenty_seconds_costs_no_client_more_than_ten(transport: Transport) {
    run_timed(150, async {
        let target = Target::echo().await;
        let mut builder = builder(transport).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        wait_transport(&tunnel, "quic", SOON).await;
        let mut old = Live::start(entry).await;
        let mark = tunnel.edge.mark();
        tunnel.udp_relay().block(true);
        let begun = Instant::now();
        serve_within(entry, Duration::from_secs(10)).await;
        wait_transport(&tunnel, "tcpTls", SOON).await;
        tokio::time::sleep_until(begun + Duration::from_secs(20)).await;
        tunnel.udp_relay().block(false);
        // Its connection's idle timeout is 30 s: it was only slow.
        within(SOON, "the old stream", old.exchange())
            .await
            .unwrap();
        wait_transport(&tunnel, "quic", BACK).await;
        echo(entry).await.unwrap();
        assert_steady(&tunnel, tunnel.edge.mark()).await;
        assert_eq!(changes_since(&tunnel, mark), 2, "there and back");
    });
}

fn large_datagrams_dropped_from_the_start(transport: Transport) {
    run_timed(120, async {
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder =
            builder(transport).relayed_with(|path| path.udp.set(|faults| faults.largest = NARROW));
        let entry = builder.forward(Proxy::None, oracle.address());
        let begun = Instant::now();
        let tunnel = builder.start().await;
        oracle
            .play(entry, Plan::bulk(seed(), 1, 1 << 20))
            .await
            .unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        let mark = tunnel.edge.mark();
        tunnel.udp_relay().set(|faults| faults.largest = usize::MAX);
        wait_transport(&tunnel, "quic", BACK).await;
        assert_steady(&tunnel, tunnel.edge.mark()).await;
        assert!(changes_since(&tunnel, mark) <= 1);
    });
}

fn large_datagrams_dropped_in_mid_life(transport: Transport) {
    run_timed(150, async {
        let oracle = Oracle::start(Proxy::None).await;
        let mut builder = builder(transport).relayed();
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        wait_transport(&tunnel, "quic", SOON).await;
        let wide = Plan::bulk(seed(), 1, 4 << 20);
        oracle.play(entry, wide).await.unwrap();
        let mark = tunnel.edge.mark();
        tunnel.udp_relay().set(|faults| faults.largest = NARROW);
        let begun = Instant::now();
        let narrow = Plan::bulk(seed(), 2, 1 << 20);
        oracle.play(entry, narrow).await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        tunnel.udp_relay().set(|faults| faults.largest = usize::MAX);
        wait_transport(&tunnel, "quic", BACK).await;
        let again = Plan::bulk(seed(), 3, 1 << 20);
        oracle.play(entry, again).await.unwrap();
        assert_steady(&tunnel, tunnel.edge.mark()).await;
        assert!(changes_since(&tunnel, mark) <= 2);
    });
}

/// A tunnel that tries QUIC each second and trusts it after two.
fn builder(transport: Transport) -> TunnelBuilder {
    let quick = json!({"quicProbeIntervalSecs": TRIAL_SECS, "quicStableSecs": STABLE_SECS});
    TunnelBuilder::new(transport).route(quick)
}

/// Waits until new streams go over this transport.
async fn wait_transport(tunnel: &Tunnel, word: &str, limit: Duration) {
    let is_there = |status: &Value| status["transport"] == word;
    let what = format!("status with transport {word}");
    tunnel.edge.wait_status(limit, &what, is_there).await;
}

/// Nothing changes for as long as it could take to change twice.
async fn assert_steady(tunnel: &Tunnel, mark: usize) {
    let watched = Duration::from_secs(2 * (TRIAL_SECS + STABLE_SECS));
    let wait = tunnel.edge.inbox().find(watched, |received| {
        let mut later = received.events.iter().skip(mark);
        later
            .find(|(name, _)| name == "transportChanged")
            .map(|(_, body)| body.clone())
    });
    let change = wait.await;
    assert!(change.is_none(), "{change:?}");
}

fn changes_since(tunnel: &Tunnel, mark: usize) -> usize {
    tunnel.edge.inbox().with(|received| {
        let later = received.events.iter().skip(mark);
        later.filter(|(name, _)| name == "transportChanged").count()
    })
}

/// Clients come one after another; one of them must be served before `limit` is over, as must all after it.
async fn serve_within(entry: SocketAddr, limit: Duration) {
    let begun = Instant::now();
    while timeout(CLIENT_PATIENCE, echo(entry))
        .await
        .map_or(true, |outcome| outcome.is_err())
    {
        let took = begun.elapsed();
        assert!(took < limit, "no client was served in {took:?}");
    }
    let took = begun.elapsed();
    assert!(took < limit, "{took:?}");
    for _ in 0..10 {
        within(CLIENT_PATIENCE, "echo", echo(entry)).await.unwrap();
    }
}

/// One client from connect to FIN.
async fn echo(entry: SocketAddr) -> std::io::Result<()> {
    let mut live = Live {
        client: TcpStream::connect(entry).await?,
    };
    live.exchange().await?;
    live.client.shutdown().await?;
    let mut rest = Vec::new();
    live.client.read_to_end(&mut rest).await.map(drop)
}

/// A client that stays.
struct Live {
    client: TcpStream,
}

impl Live {
    async fn start(entry: SocketAddr) -> Self {
        let client = TcpStream::connect(entry).await.unwrap();
        let mut live = Self { client };
        live.exchange().await.unwrap();
        live
    }

    async fn exchange(&mut self) -> std::io::Result<()> {
        self.client.write_all(&[7; ECHO]).await?;
        let mut back = [0; ECHO];
        self.client.read_exact(&mut back).await?;
        assert_eq!(back, [7; ECHO]);
        Ok(())
    }
}

const WORKERS: usize = 4;
const TRIAL_SECS: u64 = 1;
const STABLE_SECS: u64 = 2;
/// Time until QUIC is used again: a trial whose interval was doubled, the time of trust, and some.
const BACK: Duration = Duration::from_secs(40);
/// Time that a client waits before it tries anew.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
const ECHO: usize = 500;
/// Nothing larger passes, in bytes of UDP payload; the smallest that QUIC needs is 1,200.
const NARROW: usize = 1_250;
/// Datagrams with Initial packets have at least 1,200 bytes (RFC 9000, section 14.1).
const BELOW_INITIAL: usize = 1_100;
