//! UDP flows at a pool: each keeps its target while that is there and well, and goes over to another one when it isn't.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::harness::pooled::{
    Lateness, NamedUdp, POOL, ask, ask_until_answered, client, pool as pool_of, port_of_pool, say,
    state, target, udp_client, wait_active,
};
use crate::harness::ports::free_port;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, run_heavy, run_timed, until, within};

on_both_transports! {
    a_flow_keeps_its_target_over_changes_of_others,
    a_flow_leaves_a_target_that_refuses_and_is_announced_to_the_next,
    a_flow_leaves_a_target_that_the_pool_has_no_more,
    a_drained_target_keeps_its_flows_and_a_dead_one_doesnt,
    a_flow_that_is_to_stay_stays,
    the_first_datagrams_reach_a_target_that_serves,
    no_datagram_is_sent_to_more_targets_than_retries_allow,
    flows_of_targets_that_all_refuse_have_the_retries_of_their_pool,
    a_flow_without_another_target_waits_for_its_own,
    flows_count_as_streams_of_their_target,
}

/// Flows leave a target that is dead or fails within this, or at the client's next datagram after it.
const MOVES_WITHIN: Duration = Duration::from_millis(1_500);

/// A tunnel with this pool, which a port of UDP names.
async fn start(transport: Transport, proxy: &str, pool: &Value) -> (Tunnel, SocketAddr) {
    let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut builder = TunnelBuilder::new(transport).hub(json!({"pools": {POOL: pool}}));
    builder.listen_udp(json!({"port": entry.port(), "pool": POOL, "proxyProtocol": proxy}));
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    (tunnel, entry)
}

/// A target that refuses datagrams, at a port that nobody else gets.
fn refusing(name: char) -> Value {
    target(name, ([127, 0, 0, 1], free_port()).into(), json!({}))
}

/// Datagrams that the hub dropped, by reason.
fn dropped(status: &Value) -> &Value {
    &status["connectedEdges"][0]["udp"]["dropped"]
}

async fn wait_refused(tunnel: &Tunnel, refused: u64) -> Value {
    let has = |status: &Value| dropped(status)["targetRefused"].as_u64() >= Some(refused);
    let what = "refused datagrams";
    tunnel.hub.wait_status(SOON, what, has).await;
    tunnel.hub.status().await
}

/// A pool of `a` and `b`, and a flow to one of them.
struct Flow {
    tunnel: Tunnel,
    entry: SocketAddr,
    client: UdpSocket,
    /// The flow's target and its name.
    own: (char, NamedUdp),
    other: (char, NamedUdp),
    pool: Value,
}

impl Flow {
    async fn start(transport: Transport, proxy: &str, pool: Value) -> Self {
        let (a, b) = (NamedUdp::start('a').await, NamedUdp::start('b').await);
        let mut pool = pool;
        pool["targets"] = json!([
            target('a', a.address(), json!({})),
            target('b', b.address(), json!({})),
        ]);
        let (tunnel, entry) = start(transport, proxy, &pool).await;
        let client = udp_client(client(1), entry).await;
        let (own, other) = match ask_until_answered(&client).await {
            'a' => (('a', a), ('b', b)),
            _ => (('b', b), ('a', a)),
        };
        Self {
            tunnel,
            entry,
            client,
            own,
            other,
            pool,
        }
    }

    fn address(&self) -> SocketAddr {
        self.client.local_addr().unwrap()
    }

    async fn update_pools(&self, pools: Value) {
        let pools = json!({"pools": pools});
        self.tunnel.hub.call("updatePools", pools).await;
    }

    /// Asks for so long, which is longer than the hub takes to look at its flows, and gets the same answer each time.
    async fn assert_stays(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            assert_eq!(ask_until_answered(&self.client).await, self.own.0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The next answers come from the other target.
    async fn assert_moves(&self, begun: Instant) {
        let late = Lateness::watch();
        until(SOON, "an answer of another target", async || {
            (ask(&self.client).await? == self.other.0).then_some(())
        })
        .await;
        let (took, limit) = (begun.elapsed(), late.on_top_of(MOVES_WITHIN));
        assert!(took < limit, "{took:?} of {limit:?}");
        for _ in 0..5 {
            assert_eq!(ask_until_answered(&self.client).await, self.other.0);
        }
    }
}

fn a_flow_keeps_its_target_over_changes_of_others(transport: Transport) {
    run(60, async move {
        let flow = Flow::start(transport, "firstDatagram", json!({})).await;
        let third = NamedUdp::start('c').await;
        for round in 0..5 {
            // Another pool, another target of its own pool, and another setting of that.
            let mut changed = flow.pool.clone();
            let targets = changed["targets"].as_array_mut().unwrap();
            if round % 2 == 0 {
                targets.push(target('c', third.address(), json!({})));
            }
            changed["retries"] = json!(round);
            let unrelated = json!({"targets": [{"host": "127.0.0.1", "port": 1_000 + round}]});
            flow.update_pools(json!({POOL: changed, "other": unrelated}))
                .await;
            assert_eq!(ask_until_answered(&flow.client).await, flow.own.0);
            // Another port.
            let mut entry = flow.tunnel.entry();
            entry["listenPorts"] = json!([port_of_pool(free_port())]);
            flow.tunnel.update(&entry).await;
            assert_eq!(ask_until_answered(&flow.client).await, flow.own.0);
        }
        // Never begun anew: it was announced once, and nowhere else.
        assert_eq!(flow.own.1.headers(), [flow.address()]);
        assert_eq!(flow.other.1.headers(), []);
        assert_eq!(third.headers(), []);
        let status = flow.tunnel.hub.status().await;
        assert_eq!(state(&status, flow.own.0)["activeStreams"], 1);
        assert_eq!(state(&status, flow.own.0)["totalStreams"], 1, "{status}");
    });
}

fn a_flow_leaves_a_target_that_refuses_and_is_announced_to_the_next(transport: Transport) {
    run_timed(60, async move {
        let mut flow = Flow::start(transport, "firstDatagram", json!({})).await;
        assert_eq!(flow.own.1.headers(), [flow.address()]);
        let spare = NamedUdp::start('x').await;
        let (name, own) = std::mem::replace(&mut flow.own, ('x', spare));
        own.kill().await;
        flow.assert_moves(Instant::now()).await;
        assert_eq!(flow.other.1.headers(), [flow.address()]);
        let status = flow.tunnel.hub.status().await;
        assert_eq!(state(&status, name)["activeStreams"], 0, "{status}");
        assert_eq!(state(&status, flow.other.0)["activeStreams"], 1, "{status}");
    });
}

fn a_flow_leaves_a_target_that_the_pool_has_no_more(transport: Transport) {
    run_timed(60, async move {
        let flow = Flow::start(transport, "firstDatagram", json!({})).await;
        let mut pool = flow.pool.clone();
        let targets = pool["targets"].as_array_mut().unwrap();
        targets.retain(|target| target["id"] == flow.other.0.to_string());
        let begun = Instant::now();
        flow.update_pools(json!({POOL: pool})).await;
        flow.assert_moves(begun).await;
        assert_eq!(flow.other.1.headers(), [flow.address()]);
    });
}

fn a_drained_target_keeps_its_flows_and_a_dead_one_doesnt(transport: Transport) {
    run_timed(60, async move {
        for cut in [false, true] {
            let flow = Flow::start(transport, "none", json!({})).await;
            let hub = &flow.tunnel.hub;
            say(hub, flow.own.0, "drain", false).await;
            flow.assert_stays(Duration::from_millis(2_200)).await;
            for number in 2..=5 {
                let other = udp_client(client(number), flow.entry).await;
                assert_eq!(ask_until_answered(&other).await, flow.other.0);
            }
            let begun = Instant::now();
            say(hub, flow.own.0, "dead", cut).await;
            flow.assert_moves(begun).await;
            wait_active(hub, SOON, flow.own.0, 0).await;
            // Back again, and used by new clients.
            say(hub, flow.own.0, "active", false).await;
            let mut names = Vec::new();
            for number in 10..=19 {
                let other = udp_client(client(number), flow.entry).await;
                names.push(ask_until_answered(&other).await);
            }
            let back = names.iter().filter(|name| **name == flow.own.0);
            assert_eq!(back.count(), 5, "{names:?}");
        }
    });
}

fn a_flow_that_is_to_stay_stays(transport: Transport) {
    run_timed(60, async move {
        let stay = json!({"udpUnhealthy": "stay"});
        let mut flow = Flow::start(transport, "none", stay).await;
        let hub = &flow.tunnel.hub;
        say(hub, flow.own.0, "dead", false).await;
        flow.assert_stays(Duration::from_millis(2_200)).await;
        say(hub, flow.own.0, "active", false).await;
        // Neither does it leave one that refuses.
        let spare = NamedUdp::start('x').await;
        let (name, own) = std::mem::replace(&mut flow.own, ('x', spare));
        let address = own.kill().await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2_200) {
            assert_eq!(ask(&flow.client).await, None);
        }
        // Each of its datagrams has failed, and it is one flow.
        let status = flow.tunnel.hub.status().await;
        let own = state(&status, name);
        assert!(own["failures"].as_u64() > Some(1), "{status}");
        assert_eq!(own["failedStreams"], 1, "{status}");
        flow.own = (name, NamedUdp::start_on(name, address).await);
        flow.assert_stays(Duration::from_millis(300)).await;
        assert_eq!(flow.other.1.headers(), []);
    });
}

fn flows_count_as_streams_of_their_target(transport: Transport) {
    run(60, async move {
        let flow = Flow::start(transport, "none", json!({})).await;
        let mut pool = flow.pool.clone();
        for target in pool["targets"].as_array_mut().unwrap() {
            target["hardLimit"] = json!(2);
        }
        flow.update_pools(json!({POOL: pool})).await;
        let mut clients = Vec::new();
        for number in 2..=4 {
            let other = udp_client(client(number), flow.entry).await;
            ask_until_answered(&other).await;
            clients.push(other);
        }
        let status = flow.tunnel.hub.status().await;
        for name in ['a', 'b'] {
            assert_eq!(state(&status, name)["activeStreams"], 2, "{status}");
        }
        let fifth = udp_client(client(5), flow.entry).await;
        assert_eq!(ask(&fifth).await, None);
        let has = |status: &Value| status["connectedEdges"][0]["udp"]["dropped"]["poolFull"] == 1;
        flow.tunnel.hub.wait_status(SOON, "a refusal", has).await;
        flow.assert_stays(Duration::from_millis(200)).await;
    });
}

/// Each datagram is sent once: one that is lost fails the test.
fn the_first_datagrams_reach_a_target_that_serves(transport: Transport) {
    const FLOWS: u8 = 12;
    run(60, async move {
        for (proxy, burst) in [
            ("none", 1),
            ("none", 3),
            ("firstDatagram", 1),
            ("firstDatagram", 3),
        ] {
            let b = NamedUdp::start('b').await;
            let pool = json!({"targets": [refusing('a'), target('b', b.address(), json!({}))]});
            let (tunnel, entry) = start(transport, proxy, &pool).await;
            let mut clients = Vec::new();
            for number in 1..=FLOWS {
                let client = udp_client(client(number), entry).await;
                for _ in 0..burst {
                    client.send(b"?").await.unwrap();
                }
                for _ in 0..burst {
                    let mut answer = [0];
                    within(SOON, "an answer", client.recv(&mut answer))
                        .await
                        .unwrap();
                    assert_eq!(char::from(answer[0]), 'b');
                }
                clients.push(client.local_addr().unwrap());
            }
            if proxy == "none" {
                clients.clear();
            }
            assert_eq!(b.headers(), clients);
            let status = tunnel.hub.status().await;
            assert_eq!(dropped(&status), &json!({}), "{status}");
            // Three flows have been at `a`, one more target each, and then it gets none for a while.
            let refusing = state(&status, 'a');
            assert_eq!(refusing["totalStreams"], 3, "{status}");
            assert_eq!(refusing["failedStreams"], 3, "{status}");
            assert_eq!(refusing["state"], "ejected", "{status}");
            assert_eq!(state(&status, 'b')["totalStreams"], FLOWS, "{status}");
            assert_eq!(state(&status, 'b')["failedStreams"], 0, "{status}");
            assert_eq!(pool_of(&status)["retries"], 3, "{status}");
            assert_eq!(pool_of(&status)["totalStreams"], FLOWS, "{status}");
            let sent = &status["connectedEdges"][0]["udp"]["datagramsIn"];
            assert_eq!(sent, &json!(u32::from(FLOWS) * burst), "{status}");
        }
    });
}

fn no_datagram_is_sent_to_more_targets_than_retries_allow(transport: Transport) {
    run(60, async move {
        for retries in [0, 2, 8] {
            let targets = ['a', 'b', 'c', 'd'].map(refusing);
            let pool = json!({"targets": targets, "retries": retries});
            let (tunnel, entry) = start(transport, "none", &pool).await;
            let client = udp_client(client(1), entry).await;
            client.send(b"?").await.unwrap();
            let status = wait_refused(&tunnel, 1).await;
            assert_eq!(dropped(&status), &json!({"targetRefused": 1}), "{status}");
            // Each of them another one.
            let tried = retries.min(3) + 1;
            let failed =
                ['a', 'b', 'c', 'd'].map(|name| state(&status, name)["failedStreams"].as_u64());
            assert!(failed.iter().all(|failed| *failed <= Some(1)), "{status}");
            assert_eq!(failed.iter().flatten().sum::<u64>(), tried, "{status}");
            assert_eq!(pool_of(&status)["retries"], tried - 1, "{status}");
        }
    });
}

fn flows_of_targets_that_all_refuse_have_the_retries_of_their_pool(transport: Transport) {
    const FLOWS: u64 = 200;
    run_heavy(60, async move {
        let targets = ['a', 'b', 'c', 'd'].map(refusing);
        let (tunnel, entry) = start(transport, "none", &json!({"targets": targets})).await;
        let begun = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..FLOWS {
            let client = udp_client(client(1), entry).await;
            client.send(b"?").await.unwrap();
            clients.push(client);
        }
        let status = wait_refused(&tunnel, FLOWS).await;
        assert_eq!(
            dropped(&status),
            &json!({"targetRefused": FLOWS}),
            "{status}"
        );
        // A fifth of the flows, and ten a second, which are one sum for each ten seconds.
        let windows = begun.elapsed().as_secs() / 10 + 1;
        let (least, allowed) = (FLOWS / 5 + 100, FLOWS / 5 + 100 * windows);
        let retries = pool_of(&status)["retries"].as_u64().unwrap();
        assert!(
            (least..=allowed).contains(&retries),
            "{retries} of {allowed}"
        );
        // One datagram of each flow, and those that were sent again.
        let failed =
            ['a', 'b', 'c', 'd'].map(|name| state(&status, name)["failedStreams"].as_u64());
        let failed: u64 = failed.iter().flatten().sum();
        assert_eq!(failed, FLOWS + retries, "{status}");
    });
}

fn a_flow_without_another_target_waits_for_its_own(transport: Transport) {
    run(60, async move {
        let own = refusing('a');
        let address = SocketAddr::from(([127, 0, 0, 1], own["port"].as_u64().unwrap() as u16));
        let (tunnel, entry) = start(transport, "firstDatagram", &json!({"targets": [own]})).await;
        let client = udp_client(client(1), entry).await;
        client.send(b"?").await.unwrap();
        wait_refused(&tunnel, 1).await;
        let target = NamedUdp::start_on('a', address).await;
        assert_eq!(ask_until_answered(&client).await, 'a');
        assert_eq!(target.headers(), [client.local_addr().unwrap()]);
        let status = tunnel.hub.status().await;
        assert_eq!(state(&status, 'a')["totalStreams"], 1, "{status}");
    });
}
