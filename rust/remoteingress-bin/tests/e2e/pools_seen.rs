//! What an operator sees of pools: why checks fail.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::health_target::{HEALTH, Health, HealthTarget};
use crate::harness::pooled::{Named, Refusing, reach, state, with_pool};
use crate::harness::transport::Transport;
use crate::harness::{SOON, run_timed, until};

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
