//! What an operator sees of pools: why checks fail, for whom there was no target, and why targets were chosen.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::health_target::{HEALTH, Health, HealthTarget};
use crate::harness::pooled::{
    Named, Refusing, client, port_of_pool, reach, reach_from, state, udp_client, with_pool,
};
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run_timed, until};

#[test]
fn the_status_says_why_the_last_check_of_a_target_failed() {
    run_timed(60, async {
        let (checked, refusing) = (
            HealthTarget::start('a', Health::Status(500)).await,
            Refusing::new('b'),
        );
        let targets = [checked.target(), refusing.target(json!({}))];
        let check = json!({"type": "http", "path": HEALTH, "intervalSecs": 1, "timeoutSecs": 1});
        let (builder, _) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "check": check}),
        );
        let hub = builder.start().await.hub;
        let wait = async |name: char, error: Value| {
            let is_told = |status: &Value| state(status, name)["checkError"] == error;
            hub.wait_status(SOON, "the last check's error", is_told)
                .await;
        };
        wait('a', json!("status 500, not 200-399")).await;
        wait('b', json!("refused")).await;
        checked.set(Health::Slow);
        // The status came, but not all of the body.
        let is_late = |status: &Value| {
            let error = state(status, 'a')["checkError"].as_str();
            error.is_some_and(|error| error.starts_with("no whole answer within 1 s, "))
        };
        hub.wait_status(SOON, "an answer that is too late", is_late)
            .await;
        checked.set(Health::Status(204));
        wait('a', Value::Null).await;
        // Without checks nothing is known.
        let pools = json!({"web": {"targets": targets}});
        hub.call("updatePools", json!({"pools": pools})).await;
        wait('b', Value::Null).await;
    });
}

#[test]
fn a_look_at_an_ejected_target_says_why_it_stays_out() {
    run_timed(60, async {
        let (refusing, other) = (Refusing::new('a'), Named::start('b').await);
        let targets = [refusing.target(json!({})), other.target(json!({}))];
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "recoveryIntervalSecs": 1}),
        );
        let tunnel = builder.start().await;
        until(SOON, "a look at the ejected target", async || {
            reach(entry).await.unwrap().end().await;
            let status = tunnel.hub.status().await;
            let target = state(&status, 'a');
            let is_told = target["state"] == "ejected" && target["checkError"] == "refused";
            is_told.then_some(())
        })
        .await;
        let _serving = refusing.listen();
        let is_back = |status: &Value| state(status, 'a')["checkError"].is_null();
        let limit = Duration::from_secs(10);
        tunnel.hub.wait_status(limit, "a good look", is_back).await;
    });
}

/// A hub with a port for each of these pools; `gone` is one that isn't there.
async fn with_pools(pools: Value, names: &[&str]) -> (Tunnel, Vec<SocketAddr>) {
    // Only a hub with this takes a port whose pool may come later.
    let database = new_directory("seen").join("routing.db");
    let mut builder = TunnelBuilder::new(Transport::TcpTls)
        .hub(json!({"pools": pools, "routingDb": {"path": database}}));
    let mut entries = Vec::new();
    for name in names {
        let port = free_port();
        let mut specification = port_of_pool(port);
        specification["pool"] = json!(name);
        builder.listen_udp(specification.clone());
        builder.listen(specification);
        entries.push(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    (builder.start().await, entries)
}

/// Waits for events of this name, pool and number of clients in all.
async fn told(hub: &Process, event: &str, pool: &str, refused: u64) {
    let (mut mark, mut counted) = (0, 0);
    while counted < refused {
        let body = hub
            .wait_event_since(mark, event, SOON, |body| body["pool"] == pool)
            .await;
        counted += body["refused"].as_u64().unwrap();
        mark = hub.mark();
    }
    assert_eq!(counted, refused, "{event} of {pool}");
}

/// Lines of the log that warn of this pool.
fn warnings(hub: &Process, pool: &str) -> Vec<String> {
    let log = String::from_utf8_lossy(&hub.log()).into_owned();
    let field = format!("\"pool\":\"{pool}\",");
    let of_pool = |line: &&str| line.contains("clients were refused") && line.contains(&field);
    log.lines().filter(of_pool).map(str::to_owned).collect()
}

#[test]
fn clients_for_whom_there_is_no_target_are_told_of_by_pool_and_reason() {
    run_timed(60, async {
        let (one, refusing) = (Named::start('a').await, Refusing::new('b'));
        let pools = json!({
            "none": {}, "full": {"targets": [one.target(json!({"hardLimit": 1}))]},
            "bad": {"targets": [refusing.target(json!({}))]},
        });
        let (tunnel, entries) = with_pools(pools, &["none", "full", "bad", "gone"]).await;
        let hub = &tunnel.hub;
        let [none, full, bad, gone] = entries[..] else {
            panic!("{entries:?}");
        };
        let _served = reach(full).await.unwrap();
        for entry in [none, full, bad, gone] {
            for _ in 0..3 {
                assert!(reach(entry).await.is_err());
            }
        }
        told(hub, "poolEmpty", "none", 3).await;
        told(hub, "poolFull", "full", 3).await;
        told(hub, "poolUnhealthy", "bad", 3).await;
        told(hub, "poolEmpty", "gone", 3).await;
        // A later event, but no later warning.
        let mark = hub.mark();
        assert!(reach(bad).await.is_err());
        let later = hub.wait_event_since(mark, "poolUnhealthy", SOON, |_| true);
        assert_eq!(later.await, json!({"pool": "bad", "refused": 1}));
        for (pool, part) in [
            ("none", "has no target"),
            ("full", "raise their hardLimit"),
            ("bad", "refused the connection"),
            ("gone", "isn't there"),
        ] {
            let warnings = warnings(hub, pool);
            let is_told = warnings.len() == 1 && warnings[0].contains(part);
            assert!(is_told, "{pool}: {warnings:?}");
        }
        for event in ["poolEmpty", "poolFull", "poolUnhealthy"] {
            let others = hub.inbox().with(|received| {
                let events = received.events.iter().filter(|(name, _)| name == event);
                let pools = events.map(|(_, body)| body["pool"].as_str().unwrap().to_owned());
                pools.collect::<std::collections::BTreeSet<_>>()
            });
            let expected: &[&str] = match event {
                "poolEmpty" => &["gone", "none"],
                "poolFull" => &["full"],
                _ => &["bad"],
            };
            assert!(others.iter().eq(expected), "{event}: {others:?}");
        }
    });
}

#[test]
fn flows_for_which_there_is_no_target_are_told_of_too() {
    run_timed(60, async {
        let (tunnel, entries) = with_pools(json!({"none": {}}), &["none", "gone"]).await;
        tunnel.wait_sessions().await;
        for (entry, pool) in entries.into_iter().zip(["none", "gone"]) {
            let client = udp_client(client(1), entry).await;
            until(SOON, "an event", async || {
                client.send(b"?").await.unwrap();
                let is_told = tunnel.hub.inbox().with(|received| {
                    let is_one = |(name, body): &(String, Value)| {
                        name == "poolEmpty" && body["pool"] == pool
                    };
                    received.events.iter().any(is_one)
                });
                is_told.then_some(())
            })
            .await;
        }
    });
}

#[test]
fn metrics_say_why_targets_were_chosen_and_how_long_they_took() {
    run_timed(60, async {
        let (good, refusing) = (Named::start('a').await, Refusing::new('b'));
        let targets = [good.target(json!({})), refusing.target(json!({}))];
        let pools = json!({"web": {"targets": targets, "affinity": {}}, "none": {}});
        let (tunnel, entries) = with_pools(pools, &["web", "none", "gone"]).await;
        let hub = &tunnel.hub;
        let metrics = async || {
            let answer = hub.call("getMetrics", json!({})).await;
            answer["text"].as_str().unwrap().to_owned()
        };
        // Dials are timed from now on.
        let before = metrics().await;
        for sample in [
            r#"pool_targets{role="hub",pool="web"} 2"#,
            r#"pool_targets{role="hub",pool="none"} 0"#,
            r#"pool_targets{role="hub",pool="gone"} 0"#,
            r#"pool_connect_seconds_count{role="hub",pool="web"} 0"#,
        ] {
            let sample = format!("remoteingress_{sample}");
            assert!(before.lines().any(|line| line == sample), "{before}");
        }
        // By turn; the second one's is at the target that refuses.
        for number in [1, 2, 1] {
            let reached = reach_from(client(number), entries[0]).await.unwrap();
            assert_eq!(reached.name, 'a');
        }
        let picks = pool_named(&hub.status().await, "web")["picks"].clone();
        assert_eq!(picks, json!({"binding": 1, "strategy": 1, "retry": 1}));
        let after = metrics().await;
        for sample in [
            r#"pool_picks_total{role="hub",pool="web",reason="binding"} 1"#,
            r#"pool_picks_total{role="hub",pool="web",reason="retry"} 1"#,
            r#"pool_picks_total{role="hub",pool="web",reason="lastResort"} 0"#,
            r#"pool_connect_seconds_count{role="hub",pool="web"} 3"#,
        ] {
            let sample = format!("remoteingress_{sample}");
            assert!(after.lines().any(|line| line == sample), "{after}");
        }
    });
}

fn pool_named<'a>(status: &'a Value, name: &str) -> &'a Value {
    let pools = status["pools"].as_array().unwrap();
    pools.iter().find(|pool| pool["name"] == name).unwrap()
}
