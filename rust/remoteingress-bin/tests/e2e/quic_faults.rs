//! Faults that networks cause in UDP while a tunnel lives on it: no stream is lost and no byte is wrong.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::proxy_header::Proxy;
use crate::harness::steady::Steady;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_quic};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::udp_relay::Faults;
use crate::harness::{SOON, run_heavy, run_timed, seed, until};

on_quic! {
    twenty_transfers_survive_a_new_nat_port_each_second,
    loss_reordering_and_duplicates_change_no_byte,
    flipped_bits_change_no_byte,
    a_black_out_of_five_seconds_is_survived,
    streams_go_on_within_a_second_of_a_black_out_of_twenty,
    streams_go_on_within_a_second_where_the_hub_dials,
    a_path_that_becomes_narrow_is_survived,
}

fn twenty_transfers_survive_a_new_nat_port_each_second(transport: Transport) {
    run_timed(CHANGES * 2 + 90, async move {
        let target = Target::echo().await;
        let oracle = Arc::new(Oracle::start(Proxy::V1).await);
        let mut builder = TunnelBuilder::new(transport).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let bulk_entry = builder.forward(Proxy::V1, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let steady = Steady::start(entry, TRANSFERS);
        let second = Some(Duration::from_secs(1));
        tunnel
            .udp_relay()
            .set(|faults| faults.rebind_every = second);
        let bulk = tokio::spawn({
            let oracle = Arc::clone(&oracle);
            async move {
                oracle
                    .play(bulk_entry, Plan::bulk(seed(), 1, 64 << 20))
                    .await
            }
        });
        let before = tunnel.udp_relay().seen().rebinds;
        let limit = Duration::from_secs(CHANGES * 2);
        until(limit, "changes of the port", async || {
            (tunnel.udp_relay().seen().rebinds >= before + CHANGES).then_some(())
        })
        .await;
        bulk.await.unwrap().unwrap();
        steady.finish().await;
        assert_undisturbed(&tunnel).await;
    });
}

fn loss_reordering_and_duplicates_change_no_byte(transport: Transport) {
    run_timed(180, async {
        let faults = Faults {
            loss: 0.01,
            reorder: 0.02,
            duplicate: 0.02,
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(2),
            ..Faults::none()
        };
        assert_whole_under(transport, faults, 2 << 20).await;
    });
}

fn flipped_bits_change_no_byte(transport: Transport) {
    run_timed(180, async {
        let faults = Faults {
            corrupt: 0.01,
            ..Faults::none()
        };
        assert_whole_under(transport, faults, 4 << 20).await;
    });
}

fn a_black_out_of_five_seconds_is_survived(transport: Transport) {
    run_timed(120, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport).relayed();
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let steady = Steady::start(entry, TRANSFERS);
        wait_moved(&steady, 1 << 20).await;
        tunnel.udp_relay().block(true);
        // The length of the fault, not a wait for something.
        tokio::time::sleep(Duration::from_secs(5)).await;
        tunnel.udp_relay().block(false);
        let after = steady.moved();
        wait_moved(&steady, after + (1 << 20)).await;
        steady.finish().await;
        // Where the machine is slow new streams were held for a moment, and none was lost.
        let status = tunnel.edge.status().await;
        assert_eq!(status["reconnects"], 0, "{status}");
    });
}

fn streams_go_on_within_a_second_of_a_black_out_of_twenty(transport: Transport) {
    run_timed(120, assert_back_at_once(TunnelBuilder::new(transport)));
}

fn streams_go_on_within_a_second_where_the_hub_dials(transport: Transport) {
    let builder = TunnelBuilder::new(transport).called();
    run_timed(120, assert_back_at_once(builder));
}

/// However long the path was gone, something finds out soon that it is back, and it costs little meanwhile.
async fn assert_back_at_once(builder: TunnelBuilder) {
    let target = Target::echo().await;
    let mut builder = builder.relayed().edge(json!({"workers": 1}));
    let entry = builder.forward(Proxy::None, target.address());
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    let steady = Steady::start(entry, TRANSFERS);
    wait_moved(&steady, 1 << 20).await;
    let sent = || {
        let seen = tunnel.udp_relay().seen();
        [seen.from_edge.datagrams, seen.from_hub.datagrams]
    };
    tunnel.udp_relay().block(true);
    // The length of the fault, not a wait for something.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = sent();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (before, after) in before.into_iter().zip(sent()) {
        let packets = after - before;
        assert!(packets <= 25, "{packets} packets of one end in 10 s");
    }
    let moved = steady.moved();
    let begun = tokio::time::Instant::now();
    tunnel.udp_relay().block(false);
    wait_moved(&steady, moved + 1).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    wait_moved(&steady, moved + (1 << 20)).await;
    steady.finish().await;
    let status = tunnel.edge.status().await;
    assert_eq!(status["reconnects"], 0, "{status}");
}

fn a_path_that_becomes_narrow_is_survived(transport: Transport) {
    run_heavy(120, async {
        let oracle = Arc::new(Oracle::start(Proxy::None).await);
        let mut builder = TunnelBuilder::new(transport).relayed();
        let entry = builder.forward(Proxy::None, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        tunnel.udp_relay().record();
        for id in 0..4 {
            let plan = Plan::bulk(seed(), id, 1 << 20);
            oracle.play(entry, plan).await.unwrap();
        }
        // Otherwise nothing would change.
        let recorded = tunnel.udp_relay().recorded();
        let largest = recorded.iter().map(|datagram| datagram.bytes.len()).max();
        assert!(largest > Some(NARROW), "{largest:?}");
        tunnel.udp_relay().set(|faults| faults.largest = NARROW);
        let begun = tokio::time::Instant::now();
        for id in 4..8 {
            let plan = Plan::bulk(seed(), id, 1 << 20);
            oracle.play(entry, plan).await.unwrap();
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_undisturbed(&tunnel).await;
    });
}

/// Sixteen transfers at once arrive whole whatever these faults do.
async fn assert_whole_under(transport: Transport, faults: Faults, bytes: u64) {
    let oracle = Arc::new(Oracle::start(Proxy::V1).await);
    let mut builder = TunnelBuilder::new(transport)
        .relayed()
        .edge(json!({"workers": 1}));
    let entry = builder.forward(Proxy::V1, oracle.address());
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    tunnel.udp_relay().set(|current| *current = faults);
    let mut transfers = JoinSet::new();
    for id in 0..16 {
        let oracle = Arc::clone(&oracle);
        transfers.spawn(async move { oracle.play(entry, Plan::bulk(seed(), id, bytes)).await });
    }
    for outcome in transfers.join_all().await {
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
    assert_undisturbed(&tunnel).await;
}

/// The connection that was there is there: nothing was dialled again.
async fn assert_undisturbed(tunnel: &Tunnel) {
    let status = tunnel.edge.status().await;
    assert_eq!(status["reconnects"], 0, "{status}");
    assert!(!tunnel.edge.has_event_since(0, "tunnelDisconnected"));
    assert!(!tunnel.hub.has_event_since(0, "edgeDisconnected"));
}

async fn wait_moved(steady: &Steady, bytes: u64) {
    until(SOON, "moved bytes", async || {
        (steady.moved() >= bytes).then_some(())
    })
    .await;
}

const TRANSFERS: u64 = 20;
/// Changes of the NAT's port, one each second.
const CHANGES: u64 = 60;
/// Nothing larger passes, in bytes of UDP payload; the smallest that QUIC needs is 1,200.
const NARROW: usize = 1_250;
