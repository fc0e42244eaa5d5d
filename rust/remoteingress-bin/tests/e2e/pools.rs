//! Pools: which target a client gets, how many each has at most, and who waits.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::pooled::{
    Named, NamedUdp, POOL, Reached, ask_until_answered, client, connect_from, leave, pool,
    port_of_pool, reach, reach_from, say, state, udp_client, wait_active, with_pool,
};
use crate::harness::ports::free_port;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, run_heavy, run_timed, until, within};

/// Targets `a`, `b` and `c`, each with these fields besides.
async fn three(fields: [Value; 3]) -> (Vec<Named>, Value) {
    let mut targets = Vec::new();
    for name in ['a', 'b', 'c'] {
        targets.push(Named::start(name).await);
    }
    let told = targets.iter().zip(fields);
    let told = told.map(|(target, fields)| target.target(fields)).collect();
    (targets, told)
}

fn alike() -> [Value; 3] {
    [json!({}), json!({}), json!({})]
}

fn weighted() -> [Value; 3] {
    [1, 2, 3].map(|weight| json!({"weight": weight}))
}

async fn start(pool: Value) -> (Tunnel, SocketAddr) {
    let (builder, entry) = with_pool(Transport::TcpTls, pool);
    (builder.start().await, entry)
}

/// Connections that each target of `a`, `b` and `c` got of `clients`, which come one after the other.
async fn shares(strategy: &str, fields: [Value; 3], clients: usize) -> Vec<usize> {
    let (targets, told) = three(fields).await;
    let (tunnel, entry) = start(json!({"strategy": strategy, "targets": told})).await;
    for _ in 0..clients {
        reach(entry).await.unwrap().end().await;
    }
    let shares: Vec<_> = targets.iter().map(Named::accepted).collect();
    // The hub has counted the same.
    let status = tunnel.hub.status().await;
    assert_eq!(pool(&status)["totalStreams"], clients, "{status}");
    for (name, share) in ['a', 'b', 'c'].into_iter().zip(&shares) {
        assert_eq!(state(&status, name)["totalStreams"], *share, "{status}");
    }
    shares
}

fn assert_near(shares: &[usize], expected: [usize; 3], error: usize) {
    let is_near = |(share, expected): (&usize, &usize)| share.abs_diff(*expected) <= error;
    assert!(shares.iter().zip(&expected).all(is_near), "{shares:?}");
}

#[test]
fn idle_targets_share_clients_that_come_one_by_one() {
    run_heavy(90, async {
        for strategy in ["roundRobin", "leastConnections", "geo"] {
            let shares = shares(strategy, alike(), 900).await;
            assert_near(&shares, [300, 300, 300], 6);
        }
    });
}

#[test]
fn idle_targets_share_clients_by_weight() {
    run_heavy(90, async {
        for strategy in ["roundRobin", "leastConnections", "geo"] {
            let shares = shares(strategy, weighted(), 600).await;
            assert_near(&shares, [100, 200, 300], 6);
        }
    });
}

#[test]
fn targets_share_clients_that_stay_by_weight() {
    run_heavy(60, async {
        let fields = weighted().map(|mut fields| {
            fields["softLimit"] = json!(100);
            fields
        });
        let (targets, told) = three(fields).await;
        let (_tunnel, entry) = start(json!({"strategy": "geo", "targets": told})).await;
        let mut clients = Vec::new();
        for _ in 0..300 {
            clients.push(reach(entry).await.unwrap());
        }
        let live: Vec<_> = targets.iter().map(Named::live).collect();
        assert_near(&live, [50, 100, 150], 2);
        drop(clients);
    });
}

/// A client that comes while others do: what became of it.
async fn comes(number: u8, entry: SocketAddr) -> Option<Reached> {
    let reached = reach_from(client(number % 40 + 1), entry).await;
    let refused = reached.as_ref().err().map(std::io::Error::kind);
    // A refusal is a reset.
    assert!(
        matches!(refused, None | Some(ErrorKind::ConnectionReset)),
        "{refused:?}"
    );
    reached.ok()
}

#[test]
fn a_hard_limit_holds_to_the_unit_over_all_workers() {
    const LIMIT: usize = 40;
    const CLIENTS: u8 = 160;
    const ROUNDS: usize = 5;
    run_heavy(90, async {
        let target = Named::start('a').await;
        let told = target.target(json!({"hardLimit": LIMIT}));
        let (builder, entry) = with_pool(Transport::TcpTls, json!({"targets": [told]}));
        let four = || json!({"workers": 4});
        let tunnel = builder.hub(four()).edge(four()).start().await;
        tunnel.wait_sessions().await;
        let refused = usize::from(CLIENTS) - LIMIT;
        for round in 1..=ROUNDS {
            let coming: JoinSet<_> = (0..CLIENTS).map(|number| comes(number, entry)).collect();
            let reached: Vec<_> = coming.join_all().await.into_iter().flatten().collect();
            assert_eq!((reached.len(), target.live()), (LIMIT, LIMIT));
            let status = tunnel.hub.status().await;
            assert_eq!(state(&status, 'a')["state"], "full");
            assert_eq!(status["rejected"]["poolFull"], round * refused, "{status}");
            assert_eq!(pool(&status)["refusedFull"], round * refused, "{status}");
            drop(reached);
            wait_active(&tunnel.hub, Duration::from_secs(1), 'a', 0).await;
            until(SOON, "an idle target", async || {
                (target.live() == 0).then_some(())
            })
            .await;
        }
        assert_eq!(
            (target.most(), target.accepted()),
            (LIMIT, LIMIT * ROUNDS),
            "at once, and in all"
        );
    });
}

/// Waits until so many clients wait.
async fn wait_waiting(tunnel: &Tunnel, waiting: u32) {
    let has = |status: &Value| pool(status)["waiting"] == waiting;
    tunnel.hub.wait_status(SOON, "waiting clients", has).await;
}

#[test]
fn clients_of_a_full_pool_wait_and_get_places_in_their_order() {
    run(60, async {
        let target = Named::start('a').await;
        let (tunnel, entry) = start(json!({
            "targets": [target.target(json!({"hardLimit": 1}))], "queue": {"max": 5, "timeoutSecs": 20},
        }))
        .await;
        tunnel.wait_sessions().await;
        let mut served = reach(entry).await.unwrap();
        let mut waiting = Vec::new();
        for number in 1..=5 {
            waiting.push(connect_from(client(number), entry).await);
            wait_waiting(&tunnel, number.into()).await;
        }
        // Beyond `max` a client is refused at once.
        let begun = Instant::now();
        assert!(reach(entry).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(2));
        let status = tunnel.hub.status().await;
        assert_eq!(status["rejected"], json!({"poolFull": 1}), "{status}");
        for left in (0..5).rev() {
            served.end().await;
            let mut stream = waiting.remove(0);
            let name = within(SOON, "the first's turn", stream.read_u8()).await;
            assert_eq!(char::from(name.unwrap()), 'a');
            wait_waiting(&tunnel, left).await;
            served = Reached { stream, name: 'a' };
            // None of the others has got anything.
            for stream in &mut waiting {
                assert_eq!(
                    stream.try_read(&mut [0]).unwrap_err().kind(),
                    ErrorKind::WouldBlock
                );
            }
        }
        assert_eq!((target.most(), target.accepted()), (1, 6));
    });
}

/// While one after the other leaves and comes again, at all workers, whoever waits longest is next.
#[test]
fn nobody_passes_clients_that_wait() {
    const WAITING: u8 = 12;
    run_heavy(60, async {
        let target = Named::start('a').await;
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({
                "targets": [target.target(json!({"hardLimit": 1}))], "queue": {"max": 1_000, "timeoutSecs": 30},
            }),
        );
        let four = || json!({"workers": 4});
        let tunnel = builder.hub(four()).edge(four()).start().await;
        tunnel.wait_sessions().await;
        let mut served = reach(entry).await.unwrap();
        let mut waiting = std::collections::VecDeque::new();
        for number in 1..=WAITING {
            waiting.push_back(connect_from(client(number), entry).await);
            wait_waiting(&tunnel, number.into()).await;
        }
        for round in 0..50 {
            // Others come in the moment in which the place comes free.
            let (_, late) = tokio::join!(
                served.end(),
                connect_from(client(WAITING + 1 + round), entry)
            );
            waiting.push_back(late);
            let mut stream = waiting.pop_front().unwrap();
            let name = within(Duration::from_secs(5), "the first's turn", stream.read_u8()).await;
            assert_eq!(char::from(name.unwrap()), 'a', "round {round}");
            wait_waiting(&tunnel, WAITING.into()).await;
            served = Reached { stream, name: 'a' };
        }
        assert_eq!(target.most(), 1);
    });
}

#[test]
fn clients_wait_no_longer_than_they_may() {
    run_timed(30, async {
        let target = Named::start('a').await;
        let (tunnel, entry) = start(json!({
            "targets": [target.target(json!({"hardLimit": 1}))], "queue": {"max": 2, "timeoutSecs": 1},
        }))
        .await;
        let _served = reach(entry).await.unwrap();
        let begun = Instant::now();
        let mut waiting = connect_from(client(1), entry).await;
        let gone = connect_from(client(2), entry).await;
        wait_waiting(&tunnel, 2).await;
        // One that leaves gives its place in the queue up.
        leave(gone);
        wait_waiting(&tunnel, 1).await;
        let end = within(Duration::from_secs(4), "a reset", waiting.read_u8()).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let waited = begun.elapsed();
        // 1 s, and what a loaded machine takes.
        let range = Duration::from_secs(1)..Duration::from_secs(3);
        assert!(range.contains(&waited), "{waited:?}");
        let status = tunnel.hub.status().await;
        assert_eq!(status["rejected"], json!({"poolFull": 1}), "{status}");
        assert_eq!(pool(&status)["waiting"], 0);
    });
}

/// No database of countries: the way in decides.
#[test]
fn a_full_region_spills_and_is_used_again_once_it_has_room() {
    run(60, async {
        for (hub, edge) in [(json!("eu"), Value::Null), (json!("us"), json!("eu"))] {
            let (eu, us) = (Named::start('e').await, Named::start('u').await);
            let in_region = |region: &str| json!({"region": region, "hardLimit": 2});
            let (builder, entry) = with_pool(
                Transport::TcpTls,
                json!({
                    "strategy": "geo",
                    "targets": [us.target(in_region("us")), eu.target(in_region("eu"))],
                }),
            );
            let tunnel = builder.hub(json!({"region": hub})).start().await;
            if edge.is_string() {
                let mut entry = tunnel.entry();
                entry["region"] = edge;
                tunnel.update(&entry).await;
            }
            let mut clients = Vec::new();
            for expected in ['e', 'e', 'u'] {
                clients.push(reach(entry).await.unwrap());
                assert_eq!(clients.last().unwrap().name, expected);
            }
            clients.remove(0).end().await;
            wait_active(&tunnel.hub, SOON, 'e', 1).await;
            for expected in ['e', 'u'] {
                clients.push(reach(entry).await.unwrap());
                assert_eq!(clients.last().unwrap().name, expected);
            }
            assert_eq!((eu.most(), us.most()), (2, 2));
            assert_eq!(
                reach(entry).await.err().unwrap().kind(),
                ErrorKind::ConnectionReset
            );
        }
    });
}

#[test]
fn a_client_keeps_its_target_and_others_dont_follow() {
    run(60, async {
        let (targets, told) = three(alike()).await;
        let (tunnel, entry) = start(json!({"targets": told, "affinity": {}})).await;
        let own = reach_from(client(1), entry).await.unwrap().name;
        for _ in 0..49 {
            let reached = reach_from(client(1), entry).await.unwrap();
            assert_eq!(reached.name, own);
            reached.end().await;
        }
        let mut names = BTreeMap::<char, u32>::new();
        for number in 2..=61 {
            let reached = reach_from(client(number), entry).await.unwrap();
            *names.entry(reached.name).or_default() += 1;
        }
        // Turns are taken by those that have no target yet.
        assert_eq!(names.values().copied().collect::<Vec<_>>(), [20, 20, 20]);
        let status = tunnel.hub.status().await;
        let told = ["affinityHits", "affinityBroken"].map(|name| pool(&status)[name].clone());
        assert_eq!(told, [json!(49), json!(0)], "{status}");
        assert_eq!(status["bindings"], 61, "{status}");
        drop(targets);
    });
}

/// How long exactly a binding lasts is proved in virtual time, beside the bindings.
#[test]
fn a_client_that_stays_away_is_free_and_one_that_comes_in_time_is_not() {
    run_timed(60, async {
        const TTL: Duration = Duration::from_secs(1);
        let (_targets, told) = three(alike()).await;
        let (tunnel, entry) = start(json!({"targets": told, "affinity": {"ttlSecs": 1}})).await;
        let name = until(SOON, "a client that came in time all along", async || {
            let begun = Instant::now();
            let name = reach(entry).await.unwrap().name;
            let mut asked = begun;
            while begun.elapsed() < 2 * TTL {
                let before = Instant::now();
                let next = reach(entry).await.unwrap().name;
                if asked.elapsed() >= TTL {
                    // The machine is too slow: the time is over.
                    return None;
                }
                assert_eq!(next, name, "each time renews it");
                asked = before;
            }
            Some(name)
        })
        .await;
        let explain = json!({"pool": POOL, "client": "127.0.0.1"});
        until(SOON, "a client without a target", async || {
            let explained = tunnel.hub.call("explainPool", explain.clone()).await;
            explained["bound"].is_null().then_some(())
        })
        .await;
        let next = reach(entry).await.unwrap().name;
        assert_ne!(next, name, "it is the next target's turn");
        let status = tunnel.hub.status().await;
        assert_eq!(pool(&status)["affinityBroken"], 0, "{status}");
    });
}

#[test]
fn a_client_whose_target_is_gone_moves_at_once() {
    run(60, async {
        let (mut targets, told) = three(alike()).await;
        let (tunnel, entry) = start(json!({"targets": told, "affinity": {}})).await;
        let own = reach(entry).await.unwrap().name;
        let at = targets.iter().position(|target| target.accepted() == 1);
        targets.remove(at.unwrap()).kill().await;
        let next = reach(entry).await.unwrap().name;
        assert_ne!(next, own);
        let broken = |status: &Value| pool(status)["affinityBroken"].as_u64();
        assert_eq!(broken(&tunnel.hub.status().await), Some(1));
        // It is that one's client from now on.
        for _ in 0..10 {
            assert_eq!(reach(entry).await.unwrap().name, next);
        }
        // The same with an operator's word. A drain leaves clients there, as their binding lives.
        say(&tunnel.hub, next, "drain", false).await;
        assert_eq!(reach(entry).await.unwrap().name, next);
        assert_ne!(reach_from(client(1), entry).await.unwrap().name, next);
        say(&tunnel.hub, next, "dead", false).await;
        assert_ne!(reach(entry).await.unwrap().name, next);
        assert_eq!(broken(&tunnel.hub.status().await), Some(2));
    });
}

#[test]
fn clients_of_a_target_dont_pass_its_hard_limit_either() {
    run(60, async {
        let (targets, told) = three([2, 2, 2].map(|limit| json!({"hardLimit": limit}))).await;
        let (tunnel, entry) = start(json!({"targets": told, "affinity": {}})).await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(reach(entry).await.unwrap());
        }
        let names: Vec<char> = clients.iter().map(|client| client.name).collect();
        assert_eq!(names[0], names[1]);
        for name in ['a', 'b', 'c'] {
            assert_eq!(names.iter().filter(|one| **one == name).count(), 2);
        }
        assert!(reach(entry).await.is_err());
        assert!(targets.iter().all(|target| target.most() == 2));
        // Moved with its third stream and with its fifth; both times the new target is its own from then on.
        let status = tunnel.hub.status().await;
        assert_eq!(pool(&status)["affinityBroken"], 2, "{status}");
        assert_eq!(pool(&status)["affinityHits"], 3, "{status}");
    });
}

#[test]
fn a_client_has_one_target_over_tcp_and_udp() {
    run(60, async {
        let (targets, told) = three(alike()).await;
        let mut over_udp = Vec::new();
        for (name, target) in ['a', 'b', 'c'].into_iter().zip(&targets) {
            over_udp.push(NamedUdp::start_on(name, target.address()).await);
        }
        let pool = json!({"targets": told, "affinity": {}});
        let mut builder = TunnelBuilder::new(Transport::Quic).hub(json!({"pools": {POOL: pool}}));
        let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        builder.listen(port_of_pool(entry.port()));
        builder.listen_udp(port_of_pool(entry.port()));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        for number in 1..=12 {
            let address = client(number);
            // Every other one comes over UDP first.
            let over_udp = async || {
                let client = udp_client(address, entry).await;
                ask_until_answered(&client).await
            };
            let over_tcp = async || reach_from(address, entry).await.unwrap().name;
            let (one, other) = if number % 2 == 0 {
                (over_udp().await, over_tcp().await)
            } else {
                let name = over_tcp().await;
                (over_udp().await, name)
            };
            assert_eq!(one, other, "client {address}");
        }
    });
}

#[test]
fn datagrams_to_targets_without_udp_keep_nobodys_streams_from_them() {
    run(60, async {
        // These don't speak UDP: their machine answers each datagram that nobody listens.
        let (_targets, told) = three(alike()).await;
        let config = json!({"pools": {POOL: {"targets": told}}});
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(config);
        let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        builder.listen(port_of_pool(entry.port()));
        builder.listen_udp(port_of_pool(entry.port()));
        let tunnel = builder.start().await;
        let attacker = udp_client(client(1), entry).await;
        until(SOON, "20 refused datagrams", async || {
            attacker.send(b"anything").await.unwrap();
            let status = tunnel.hub.status().await;
            let dropped = &status["connectedEdges"][0]["udp"]["dropped"];
            (dropped["targetRefused"].as_u64() >= Some(20)).then_some(())
        })
        .await;
        let status = tunnel.hub.status().await;
        for name in ['a', 'b', 'c'] {
            let target = state(&status, name);
            assert_eq!(target["state"], "up", "{status}");
            assert_eq!(target["failedStreams"], 0, "{status}");
        }
        // Nor do they use up what streams may retry.
        assert_eq!(pool(&status)["retries"], 0, "{status}");
        for _ in 0..9 {
            reach(entry).await.unwrap().end().await;
        }
    });
}
