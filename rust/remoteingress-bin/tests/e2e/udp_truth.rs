//! Every datagram arrives as it was sent, once, on its own flow, with its flow's first among them.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Duration;

use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::udp_oracle::{HEADER, LARGEST, UdpOracle, UdpPlan, UdpProxy};
use crate::harness::{run, run_heavy, seed};

on_both_transports! {
    two_hundred_thousand_datagrams_arrive_whole_on_their_flows,
    the_target_is_told_the_client_as_the_port_says,
    the_first_datagrams_of_all_flows_at_once_arrive,
    idle_flows_begin_anew,
}

fn two_hundred_thousand_datagrams_arrive_whole_on_their_flows(transport: Transport) {
    run_heavy(600, async {
        let oracle = UdpOracle::start(UdpProxy::FirstDatagram);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::FirstDatagram, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        let mut sizes: Vec<usize> = Vec::new();
        sizes.extend((0..SMALL).map(|_| rng.random_range(HEADER..=ETHERNET)));
        sizes.extend((0..LARGE).map(|_| rng.random_range(ETHERNET + 1..=LARGEST)));
        sizes.extend([ETHERNET, ETHERNET + 1, LARGEST]);
        sizes.extend([0; EMPTY]);
        sizes.shuffle(&mut rng);
        let plan = UdpPlan::new(seed(), 0, FLOWS, sizes);
        oracle.play(entry, &plan).await.assert_whole();
        assert_eq!(oracle.empty(), EMPTY as u64);
        // One socket of the hub per flow.
        assert_eq!(oracle.peers(), FLOWS as usize);
    });
}

fn the_target_is_told_the_client_as_the_port_says(transport: Transport) {
    run_heavy(180, async {
        for proxy in [
            UdpProxy::None,
            UdpProxy::FirstDatagram,
            UdpProxy::EveryDatagram,
        ] {
            // The oracle checks where headers are, that they say UDP, and whom they name.
            let oracle = UdpOracle::start(proxy);
            let mut builder = TunnelBuilder::new(transport);
            let entry = builder.forward_udp(proxy, oracle.address());
            let _tunnel = builder.start().await;
            let sizes = (0..1_000).map(|number| match number % 10 {
                0 => 0,
                1 => ETHERNET + 1 + number,
                2 => 60_000,
                _ => HEADER + number,
            });
            let plan = UdpPlan::new(seed(), 0, 50, sizes.collect());
            oracle.play(entry, &plan).await.assert_whole();
        }
    });
}

fn the_first_datagrams_of_all_flows_at_once_arrive(transport: Transport) {
    run_heavy(90, async {
        let oracle = UdpOracle::start(UdpProxy::FirstDatagram);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::FirstDatagram, oracle.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut plan = UdpPlan::new(seed(), 0, 200, vec![300; 400]);
        plan.in_flight = 200;
        let report = oracle.play(entry, &plan).await;
        assert_eq!(report.first_lost, 0, "{report:?}");
        report.assert_whole();
    });
}

/// A flow that the hub has forgotten, because its other end is new, begins again with a header.
fn idle_flows_begin_anew(transport: Transport) {
    run(90, async {
        let oracle = UdpOracle::start(UdpProxy::EveryDatagram);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::EveryDatagram, oracle.address());
        let mut tunnel = builder.start().await;
        let before = UdpPlan::new(seed(), 0, 8, vec![200; 80]);
        oracle.play(entry, &before).await.assert_whole();
        let mark = tunnel.edge.mark();
        tunnel.hub.kill().await;
        tunnel.start_hub_again().await;
        let again = |_: &serde_json::Value| true;
        let limit = Duration::from_secs(40);
        tunnel
            .edge
            .wait_event_since(mark, "tunnelConnected", limit, again)
            .await;
        // The edge may still count one that the new hub doesn't know.
        let is_whole = |status: &serde_json::Value| status["connectedEdges"][0]["sessions"] == 2;
        let what = "hub with all sessions";
        tunnel.hub.wait_status(limit, what, is_whole).await;
        let after = UdpPlan::new(seed(), 8, 8, vec![200; 80]);
        oracle.play(entry, &after).await.assert_whole();
    });
}

const FLOWS: u32 = 500;
const SMALL: usize = 200_000;
const LARGE: usize = 2_000;
const EMPTY: usize = 500;
/// The largest payload of one Ethernet frame over IPv4, in bytes.
const ETHERNET: usize = 1_472;
