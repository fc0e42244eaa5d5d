//! Targets of a pool that fail: who tries another one, for how long they are left alone, and what an operator's word does.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin;
use crate::harness::pooled::{
    Lateness, Named, POOL, Reached, Refusing, Silent, client, connect_from, leave, pool,
    port_of_pool, reach, say, state, target, wait_active, with_pool,
};
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::steady::Steady;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, Tunnel};
use crate::harness::{SOON, new_directory, new_secret, run, run_heavy, run_timed, until, within};

async fn start(pool: Value) -> (Tunnel, SocketAddr) {
    let (builder, entry) = with_pool(Transport::TcpTls, pool);
    (builder.start().await, entry)
}

fn events(process: &Process, name: &str) -> Vec<Value> {
    process.inbox().with(|received| {
        let named = received.events.iter().filter(|(event, _)| event == name);
        named.map(|(_, body)| body.clone()).collect()
    })
}

#[test]
fn a_target_that_refuses_costs_no_client_and_comes_back_after_its_trials() {
    run_timed(60, async {
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        let refusing = Refusing::new('c');
        let told = [
            a.target(json!({})),
            b.target(json!({})),
            refusing.target(json!({})),
        ];
        // No look at it beside its trials.
        let config = json!({"targets": told, "recoveryIntervalSecs": 0});
        let (tunnel, entry) = start(config).await;
        let begun = Instant::now();
        for _ in 0..300 {
            reach(entry).await.unwrap().end().await;
        }
        let status = tunnel.hub.status().await;
        assert_eq!(status["rejected"], json!({}), "{status}");
        assert_eq!(
            (a.accepted() + b.accepted(), a.most(), b.most()),
            (300, 1, 1)
        );
        let ejected = state(&status, 'c');
        // Three failures eject it; the first trial comes 9 s later at the earliest.
        if begun.elapsed() < Duration::from_secs(9) {
            assert_eq!(ejected["totalStreams"], 3, "{status}");
            assert_eq!(ejected["state"], "ejected", "{status}");
            assert_eq!(pool(&status)["retries"], 3, "{status}");
        }
        let down = events(&tunnel.hub, "targetDown");
        let expected = json!({"pool": POOL, "target": "c", "reason": "streams", "failures": 3});
        assert_eq!(down, [expected]);

        let c = refusing.listen();
        until(Duration::from_secs(20), "trials", async || {
            reach(entry).await.unwrap().end().await;
            (c.accepted() >= 3).then_some(())
        })
        .await;
        tunnel.hub.wait_event("targetUp", SOON, |_| true).await;
        // 10 s, a tenth less or more, and trials that come with the clients.
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(9), "{took:?}");
        let status = tunnel.hub.status().await;
        assert_eq!(state(&status, 'c')["state"], "up");
        assert_eq!(status["rejected"], json!({}), "{status}");
        let (before, clients) = (c.accepted(), 60);
        for _ in 0..clients {
            reach(entry).await.unwrap().end().await;
        }
        assert_eq!(c.accepted() - before, 20, "its share");
        let up = events(&tunnel.hub, "targetUp");
        assert_eq!(up, [json!({"pool": POOL, "target": "c"})]);
        assert_eq!(events(&tunnel.hub, "targetDown").len(), 1);
    });
}

#[test]
fn a_silent_target_is_raced_and_left_alone_after_three_lost_races() {
    run_timed(60, async {
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        let silent = Silent::start('c').await;
        let told = [
            silent.target(json!({})),
            a.target(json!({})),
            b.target(json!({})),
        ];
        let (tunnel, entry) = start(json!({"targets": told, "tryNextAfterMs": 300})).await;
        let (mut raced, mut longest) = (0, Duration::ZERO);
        let late = Lateness::watch();
        let begun = Instant::now();
        for _ in 0..90 {
            let asked = Instant::now();
            reach(entry).await.unwrap().end().await;
            let waited = asked.elapsed();
            raced += u32::from(waited >= Duration::from_millis(300));
            longest = longest.max(waited);
        }
        // 300 ms until the race begins, and 300 ms for the rest.
        let limit = late.on_top_of(Duration::from_millis(600));
        assert!(longest < limit, "{longest:?} of {limit:?}");
        assert!(begun.elapsed() < Duration::from_secs(9), "too slow to tell");
        let status = tunnel.hub.status().await;
        let lost = state(&status, 'c');
        assert_eq!(lost["totalStreams"], 3, "{status}");
        assert_eq!(lost["failedStreams"], 3, "{status}");
        assert_eq!(lost["activeStreams"], 0, "{status}");
        assert_eq!(lost["state"], "ejected", "{status}");
        // As many as were lost; a late machine makes others slow.
        assert!(raced >= 3, "{raced}");
        assert_eq!(status["rejected"], json!({}), "{status}");
        assert_eq!(events(&tunnel.hub, "targetDown").len(), 1);
    });
}

#[test]
fn a_stream_tries_as_many_targets_as_retries_allow_each_another_one() {
    run(60, async {
        for (retries, tried) in [(0, 1), (1, 2), (2, 3), (8, 4)] {
            let names = ['a', 'b', 'c', 'd'];
            let refusing = names.map(Refusing::new);
            let told = refusing.each_ref().map(|one| one.target(json!({})));
            let (tunnel, entry) = start(json!({"targets": told, "retries": retries})).await;
            assert!(reach(entry).await.is_err());
            let status = tunnel.hub.status().await;
            let dials = names.map(|name| state(&status, name)["totalStreams"].as_u64());
            assert!(dials.iter().all(|dials| *dials <= Some(1)), "{status}");
            assert_eq!(dials.iter().flatten().sum::<u64>(), tried, "{status}");
            assert_eq!(pool(&status)["retries"], tried - 1, "{status}");
        }
    });
}

#[test]
fn targets_that_all_refuse_arent_hit_threefold() {
    const CLIENTS: u64 = 600;
    run_heavy(60, async {
        let refusing: Vec<_> = ['a', 'b', 'c', 'd'].map(Refusing::new).into();
        let told: Vec<_> = refusing.iter().map(|one| one.target(json!({}))).collect();
        let (tunnel, entry) = start(json!({"targets": told})).await;
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            // Sixty at a time.
            if number >= 60 {
                clients.join_next().await.unwrap().unwrap();
            }
            clients.spawn(async move {
                let asked = Instant::now();
                let error = reach(entry).await.err().unwrap();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                let waited = asked.elapsed();
                assert!(waited < Duration::from_secs(2), "{waited:?}");
            });
        }
        clients.join_all().await;
        let status = tunnel.hub.status().await;
        let names = ['a', 'b', 'c', 'd'];
        let count = |field: &str| -> u64 {
            let counts = names.map(|name| state(&status, name)[field].as_u64().unwrap());
            counts.iter().sum()
        };
        // A fifth of the clients, and ten a second, which are one sum for each ten seconds.
        let windows = begun.elapsed().as_secs() / 10 + 1;
        let allowed = CLIENTS + CLIENTS / 5 + 100 * windows;
        let dials = count("totalStreams");
        assert!((CLIENTS..=allowed).contains(&dials), "{dials} of {allowed}");
        assert_eq!(count("failedStreams"), dials, "{status}");
        assert_eq!(count("activeStreams"), 0, "{status}");
        let retries = pool(&status)["retries"].as_u64().unwrap();
        assert_eq!(dials - CLIENTS, retries);
        // They wanted more than that.
        assert!(retries >= CLIENTS / 5 + 100, "{retries}");
        assert_eq!(pool(&status)["refusedUnhealthy"], CLIENTS, "{status}");
        let rejected = |reason: &str| status["rejected"][reason].as_u64().unwrap_or(0);
        let (exhausted, budget) = (rejected("retriesExhausted"), rejected("retryBudget"));
        assert!(exhausted > 0 && budget > 0, "{status}");
        assert_eq!(exhausted + budget, CLIENTS, "{status}");
        // At most half of the pool is left alone for what streams show.
        let ejected = names.map(|name| state(&status, name)["state"] == "ejected");
        assert_eq!(ejected.iter().filter(|is| **is).count(), 2, "{status}");

        // What people say isn't bounded.
        for name in names {
            say(&tunnel.hub, name, "dead", false).await;
        }
        for number in 1..=10 {
            assert!(reach(entry).await.is_err());
            let status = tunnel.hub.status().await;
            assert_eq!(status["rejected"]["noHealthyTarget"], number, "{status}");
        }
        let dials_after = |status: &Value| -> u64 {
            let counts = names.map(|name| state(status, name)["totalStreams"].as_u64().unwrap());
            counts.iter().sum()
        };
        assert_eq!(dials_after(&tunnel.hub.status().await), dials);
    });
}

#[test]
fn a_client_that_leaves_during_the_dial_holds_no_place_and_blames_nobody() {
    run(60, async {
        let silent = Silent::start('a').await;
        let (tunnel, entry) = start(json!({"targets": [silent.target(json!({}))]})).await;
        for round in 1..=5 {
            let waiting = connect_from(client(1), entry).await;
            wait_active(&tunnel.hub, SOON, 'a', 1).await;
            leave(waiting);
            wait_active(&tunnel.hub, Duration::from_millis(200), 'a', 0).await;
            let status = tunnel.hub.status().await;
            let target = state(&status, 'a');
            let counts =
                ["totalStreams", "failedStreams", "failures"].map(|name| target[name].clone());
            assert_eq!(counts, [json!(round), json!(0), json!(0)], "{status}");
            assert_eq!(target["state"], "up");
        }
    });
}

#[test]
fn a_drained_target_keeps_its_streams_and_a_dead_one_is_cut() {
    run(60, async {
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        let told = [a.target(json!({})), b.target(json!({}))];
        let (tunnel, entry) = start(json!({"targets": told})).await;
        let mut there: Vec<Reached> = Vec::new();
        let mut others = Vec::new();
        while there.len() < 5 {
            let reached = reach(entry).await.unwrap();
            match reached.name {
                'a' => there.push(reached),
                _ => others.push(reached),
            }
        }
        say(&tunnel.hub, 'a', "drain", false).await;
        for _ in 0..20 {
            assert_eq!(reach(entry).await.unwrap().name, 'b');
        }
        for reached in &mut there {
            reached.assert_moves().await;
        }
        assert_eq!((a.accepted(), a.live()), (5, 5));
        let status = tunnel.hub.status().await;
        let told = ["state", "admin"].map(|field| state(&status, 'a')[field].clone());
        assert_eq!(told, ["drain", "drain"], "{status}");

        // Dead alone leaves them, too.
        say(&tunnel.hub, 'a', "dead", false).await;
        for reached in &mut there {
            reached.assert_moves().await;
        }
        assert_eq!(reach(entry).await.unwrap().name, 'b');
        let (begun, late) = (Instant::now(), Lateness::watch());
        say(&tunnel.hub, 'a', "dead", true).await;
        for reached in &mut there {
            let end = within(SOON, "a reset", reached.stream.read_u8()).await;
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        assert!(begun.elapsed() < late.on_top_of(Duration::from_secs(1)));
        wait_active(&tunnel.hub, Duration::from_secs(1), 'a', 0).await;
        for reached in &mut others {
            reached.assert_moves().await;
        }
        // `cut` is for the dead.
        let params = json!({"pool": POOL, "target": "a", "state": "drain", "cut": true});
        let refused = tunnel.hub.request("setTargetState", params).await;
        assert_eq!(refused.unwrap_err().code, "E_INVALID_CONFIG");
        for (pool, target) in [(POOL, "none"), ("none", "a")] {
            let params = json!({"pool": pool, "target": target, "state": "drain"});
            let refused = tunnel.hub.request("setTargetState", params).await;
            assert_eq!(refused.unwrap_err().code, "E_NOT_FOUND");
        }
        say(&tunnel.hub, 'a', "active", false).await;
        let mut names = Vec::new();
        for _ in 0..20 {
            names.push(reach(entry).await.unwrap().name);
        }
        assert_eq!(names.iter().filter(|name| **name == 'a').count(), 10);
    });
}

/// A hub and an edge with files of configuration.
struct WithFiles {
    hub: Process,
    _edge: Process,
    file: std::path::PathBuf,
    config: Value,
    socket: std::path::PathBuf,
    entry: SocketAddr,
}

impl WithFiles {
    async fn start(pools: Value) -> Self {
        let (tunnel_port, port, secret) = (free_port(), free_port(), new_secret());
        let directory = new_directory("pools");
        let (file, edge_file) = (directory.join("hub.json"), directory.join("edge.json"));
        let socket = admin::socket("hub");
        let config = json!({
            "tunnelPort": tunnel_port, "bindAddress": "127.0.0.1", "workers": 2, "pools": pools,
            "admin": {"listen": socket},
            "edges": [{
                "id": EDGE_ID, "secret": secret, "listenPorts": [port_of_pool(port)], "stunIntervalSecs": 0,
            }],
        });
        let edge = json!({
            "hubHost": "127.0.0.1", "hubPort": tunnel_port, "edgeId": EDGE_ID, "secret": secret, "workers": 2,
            "bindAddress": "127.0.0.1", "stunServers": [], "transportMode": "tcpTls",
            "limits": {
                "maxConnectionsPerIp": 0, "newConnectionsPerIpPerSec": 0, "newConnectionsPerIpBurst": 0,
            },
        });
        std::fs::write(&file, config.to_string()).unwrap();
        std::fs::write(&edge_file, edge.to_string()).unwrap();
        let arguments = ["hub", "--config", file.to_str().unwrap()];
        let hub = Process::spawn("hub", &arguments, &[]);
        let arguments = ["edge", "--config", edge_file.to_str().unwrap()];
        let edge = Process::spawn("edge", &arguments, &[]);
        let entry = SocketAddr::from(([127, 0, 0, 1], port));
        until(SOON, "a listener", async || {
            tokio::net::TcpStream::connect(entry).await.ok()
        })
        .await;
        Self {
            hub,
            _edge: edge,
            file,
            config,
            socket,
            entry,
        }
    }

    /// Writes the configuration as it is now, and has it read.
    fn reload(&self) {
        std::fs::write(&self.file, self.config.to_string()).unwrap();
        self.hub.signal(libc::SIGHUP);
    }

    async fn status(&self) -> Value {
        admin::get(&self.socket, "/api/v1/status").await["hub"].clone()
    }

    async fn wait_pools(&self, count: usize) {
        until(SOON, "pools in force", async || {
            let status = self.status().await;
            let pools = status["pools"].as_array().unwrap().len();
            (pools == count).then_some(())
        })
        .await;
    }
}

#[test]
fn reloads_touch_neither_streams_nor_what_is_known_of_targets() {
    run_heavy(90, async {
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        let refusing = Refusing::new('c');
        // Targets that say nothing but what they get.
        let echoes = [
            crate::harness::target::Target::echo().await,
            crate::harness::target::Target::echo().await,
        ];
        let told = [
            a.target(json!({})),
            b.target(json!({})),
            refusing.target(json!({})),
        ];
        let mut with_files = WithFiles::start(json!({POOL: {"targets": told}})).await;
        // 100 streams through another port, whose pool doesn't change either.
        let port = free_port();
        let held: Vec<_> = echoes
            .iter()
            .map(|target| json!({"host": target.address().ip(), "port": target.address().port()}))
            .collect();
        let config = &mut with_files.config;
        config["pools"]["held"] = json!({"targets": held});
        let ports = config["edges"][0]["listenPorts"].as_array_mut().unwrap();
        ports.push(json!({"port": port, "pool": "held", "proxyProtocol": "none"}));
        with_files.reload();
        with_files.wait_pools(2).await;
        let held = SocketAddr::from(([127, 0, 0, 1], port));
        until(SOON, "a second port", async || {
            tokio::net::TcpStream::connect(held).await.ok()
        })
        .await;
        let entry = with_files.entry;
        until(SOON, "an ejected target", async || {
            reach(entry).await.unwrap().end().await;
            let status = with_files.status().await;
            (state(&status, 'c')["state"] == "ejected").then_some(())
        })
        .await;
        let before = with_files.status().await;
        let steady = Steady::start(held, 100);
        until(SOON, "streams that move", async || {
            (steady.moved() > 4 << 20).then_some(())
        })
        .await;
        let begun = Instant::now();
        let mut clients = 0_u64;
        for number in 0..40_u16 {
            with_files.config["pools"]["other"] = json!({
                "strategy": "random", "retries": number % 8,
                "targets": [{"host": "127.0.0.1", "port": 1_000 + number}],
            });
            with_files.reload();
            let moved = steady.moved();
            for _ in 0..10 {
                reach(entry).await.unwrap().end().await;
                clients += 1;
            }
            until(SOON, "bytes", async || {
                (steady.moved() > moved).then_some(())
            })
            .await;
            until(SOON, "the pool in force", async || {
                let status = with_files.status().await;
                let pools = status["pools"].as_array().unwrap().iter();
                let mut others = pools.filter(|pool| pool["name"] == "other");
                let id = format!("127.0.0.1:{}", 1_000 + number);
                others
                    .any(|pool| pool["targets"][0]["id"] == id)
                    .then_some(())
            })
            .await;
        }
        let after = with_files.status().await;
        assert_eq!(after["rejected"], before["rejected"], "{after}");
        let total = |status: &Value| pool(status)["totalStreams"].as_u64().unwrap();
        assert_eq!(total(&after) - total(&before), clients);
        if begun.elapsed() < Duration::from_secs(8) {
            assert_eq!(state(&after, 'c'), &{
                let mut same = state(&before, 'c').clone();
                same["retryInMs"] = state(&after, 'c')["retryInMs"].clone();
                same
            });
        }
        steady.finish().await;
    });
}

#[test]
fn a_pool_that_a_port_names_must_be_there() {
    run(60, async {
        let a = Named::start('a').await;
        let known = json!({"targets": [a.target(json!({}))]});
        let mut with_files = WithFiles::start(json!({POOL: known})).await;
        let entry = with_files.entry;
        until(SOON, "a target", async || reach(entry).await.ok()).await;
        // A file that doesn't have it is refused, and the old one stays.
        let good = with_files.config.clone();
        with_files.config["pools"] = json!({"another": known});
        with_files.reload();
        until(SOON, "a line in the log", async || {
            let log = String::from_utf8(with_files.hub.log()).unwrap();
            let line = log.lines().find(|line| line.contains("failed to reload"))?;
            assert!(line.contains("edges[0].listenPorts"), "{line}");
            assert!(line.contains(POOL), "{line}");
            Some(())
        })
        .await;
        assert_eq!(reach(entry).await.unwrap().name, 'a');
        let status = with_files.status().await;
        assert_eq!(status["pools"].as_array().unwrap().len(), 1);
        assert_eq!(pool(&status)["name"], POOL);
        // At the start as well.
        let file = new_directory("pools").join("hub.json");
        std::fs::write(&file, with_files.config.to_string()).unwrap();
        let started = run_to_end(&["hub", "--config", file.to_str().unwrap()]).await;
        assert_ne!(started.0, Some(0));
        assert!(started.2.contains("edges[0].listenPorts"), "{}", started.2);
        // The next good file is taken.
        with_files.config = good;
        with_files.config["pools"]["another"] = known;
        with_files.reload();
        with_files.wait_pools(2).await;
    });
}

#[test]
fn pools_are_replaced_at_run_time_except_those_that_ports_name() {
    run(60, async {
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        let of = |target: &Named| json!({"targets": [target.target(json!({}))]});
        let (tunnel, entry) = start(of(&a)).await;
        let mut held = reach(entry).await.unwrap();
        let update = async |pools: Value| {
            let pools = json!({"pools": pools});
            tunnel.hub.request("updatePools", pools).await
        };
        let same = update(json!({POOL: of(&a)})).await.unwrap();
        assert_eq!(
            same,
            json!({"added": [], "removed": [], "changed": [], "unchanged": [POOL]})
        );
        let added = update(json!({POOL: of(&a), "x": of(&b), "y": of(&a)})).await;
        assert_eq!(
            added.unwrap(),
            json!({"added": ["x", "y"], "removed": [], "changed": [], "unchanged": [POOL]})
        );
        let changed = update(json!({POOL: of(&b), "x": of(&a), "z": of(&a)})).await;
        assert_eq!(
            changed.unwrap(),
            json!({"added": ["z"], "removed": ["y"], "changed": [POOL, "x"], "unchanged": []})
        );
        assert_eq!(reach(entry).await.unwrap().name, 'b');
        held.assert_moves().await;

        let before = tunnel.hub.status().await["pools"].clone();
        let refused = update(json!({"x": of(&b), "new": of(&b)}))
            .await
            .unwrap_err();
        assert_eq!(refused.code, "E_INVALID_CONFIG");
        assert!(refused.message.contains(POOL), "{refused:?}");
        assert!(refused.message.contains(EDGE_ID), "{refused:?}");
        let names = |pools: &Value| -> Vec<Value> {
            let pools = pools.as_array().unwrap().iter();
            pools.map(|pool| pool["name"].clone()).collect()
        };
        let after = tunnel.hub.status().await["pools"].clone();
        assert_eq!(names(&after), names(&before));
        assert_eq!(reach(entry).await.unwrap().name, 'b');

        let mut unknown = tunnel.entry();
        unknown["listenPorts"][0]["pool"] = json!("nobody");
        let params = json!({"edges": [unknown]});
        let refused = tunnel.hub.request("updateAllowedEdges", params).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "E_INVALID_CONFIG");
        let path = "edges[0].listenPorts";
        assert!(refused.message.starts_with(path), "{refused:?}");
        assert_eq!(reach(entry).await.unwrap().name, 'b');
        // Once no port names it, it may go.
        let mut none = tunnel.entry();
        none["listenPorts"] = json!([]);
        tunnel.update(&none).await;
        let removed = update(json!({})).await.unwrap();
        assert_eq!(removed["removed"], json!([POOL, "x", "z"]));
        held.assert_moves().await;
    });
}

/// A check of a target that takes its time doesn't outlive the target, or there would be more of them with each change.
#[test]
fn a_check_ends_when_its_target_is_removed() {
    run(60, async {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let told = target('s', silent.local_addr().unwrap(), json!({}));
        let check = json!({"type": "http", "timeoutSecs": 3_600});
        let (tunnel, _) = start(json!({"targets": [told], "check": check})).await;
        let (mut asked, _) = within(SOON, "check", silent.accept()).await.unwrap();
        let empty = json!({"pools": {POOL: {}}});
        tunnel.hub.request("updatePools", empty).await.unwrap();
        let mut request = Vec::new();
        let ended = within(SOON, "end of the check", asked.read_to_end(&mut request)).await;
        assert!(ended.is_ok_and(|length| length > 0), "{request:?}");
    });
}
