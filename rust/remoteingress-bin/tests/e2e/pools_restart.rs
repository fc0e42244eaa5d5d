//! What a hub keeps of its pools in its `stateDir`, over an orderly end and over SIGKILL: cases 14, 21 and 24.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::health_target::{HEALTH, Health, HealthTarget, fetch};
use crate::harness::pooled::{
    Named, POOL, Refusing, pool, port_of_pool, reach, reach_from, say, state,
};
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run, run_timed, until};

/// Names of targets, as many as a test wants.
async fn start(names: &[char]) -> Vec<Named> {
    let mut targets = Vec::new();
    for name in names {
        targets.push(Named::start(*name).await);
    }
    targets
}

fn of_pool(targets: &[Named]) -> Vec<Value> {
    let targets = targets.iter().map(|target| target.target(json!({})));
    targets.collect()
}

/// A hub that keeps its state in `folder`, with one pool.
async fn keeping(folder: &Path, pool: Value) -> (Tunnel, SocketAddr) {
    // A port that nobody's connection takes while the hub is away.
    let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
        "tunnelPort": free_port(), "stateDir": folder, "pools": {POOL: pool},
    }));
    let port = free_port();
    builder.listen(port_of_pool(port));
    let tunnel = builder.start().await;
    (tunnel, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[derive(Clone, Copy, Debug)]
enum End {
    Orderly,
    Killed,
}

/// Ends the hub and waits until it is gone.
async fn end(tunnel: &mut Tunnel, how: End) {
    match how {
        End::Killed => tunnel.hub.kill().await,
        End::Orderly => {
            tunnel.hub.signal(libc::SIGTERM);
            assert_eq!(tunnel.hub.exit(SOON).await.code(), Some(0));
        }
    }
}

/// Ends the hub and starts it again; the tunnel is up again afterwards.
async fn restart(tunnel: &mut Tunnel, how: End) {
    end(tunnel, how).await;
    start_again(tunnel).await;
}

async fn start_again(tunnel: &mut Tunnel) {
    tunnel.start_hub_again().await;
    // The hub of before can't have told it.
    tunnel.hub.wait_event("portsApplied", SOON, |_| true).await;
}

/// The `number`th of many clients.
fn client(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 0, 1 + high, low)
}

/// The target that each of so many clients gets, some of them at a time.
async fn targets_of(clients: u16, entry: SocketAddr) -> Vec<char> {
    let mut reached = vec![' '; clients.into()];
    let mut running = JoinSet::new();
    let mut note = |done: (u16, char)| reached[usize::from(done.0)] = done.1;
    for number in 0..clients {
        if running.len() >= 32 {
            note(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(async move {
            let reached = reach_from(client(number), entry).await.unwrap();
            let name = reached.name;
            reached.end().await;
            (number, name)
        });
    }
    while let Some(done) = running.join_next().await {
        note(done.unwrap());
    }
    reached
}

#[test]
fn clients_keep_their_targets_over_a_restart() {
    run(120, async {
        let targets = start(&['a', 'b', 'c']).await;
        let folder = new_directory("state");
        let pool_config = json!({
            "strategy": "random", "affinity": {"ttlSecs": 600}, "targets": of_pool(&targets),
        });
        let (mut tunnel, entry) = keeping(&folder, pool_config).await;
        let before = targets_of(CLIENTS, entry).await;
        for name in ['a', 'b', 'c'] {
            let count = before.iter().filter(|target| **target == name).count();
            assert!(count > 100, "{count} at {name}");
        }
        // Twice: what was read back is kept as well.
        for _ in 0..2 {
            restart(&mut tunnel, End::Orderly).await;
            let status = tunnel.hub.status().await;
            assert_eq!(status["bindings"], CLIENTS);
            let after = targets_of(CLIENTS, entry).await;
            let moved = before
                .iter()
                .zip(&after)
                .filter(|(one, other)| one != other);
            assert_eq!(moved.count(), 0);
            let status = tunnel.hub.status().await;
            assert_eq!(pool(&status)["affinityHits"], CLIENTS);
        }
    });
}

#[test]
fn what_operators_said_and_streams_showed_outlives_a_restart() {
    run_timed(90, async {
        let targets = start(&['a', 'b', 'd', 'e']).await;
        let refusing = Refusing::new('x');
        let folder = new_directory("state");
        let mut all = of_pool(&targets);
        all.push(refusing.target(json!({})));
        // Nobody looks at the one that is ejected before its time is up.
        let pool_config = json!({"targets": all, "recoveryIntervalSecs": 0});
        let (mut tunnel, entry) = keeping(&folder, pool_config).await;
        say(&tunnel.hub, 'd', "drain", false).await;
        say(&tunnel.hub, 'e', "dead", false).await;
        until(SOON, "an ejection", async || {
            reach(entry).await.unwrap();
            tunnel.hub.has_event_since(0, "targetDown").then_some(())
        })
        .await;
        // When it was asked for, and what is left of the time.
        let retry_in = async |hub: &Process| {
            let asked = Instant::now();
            let status = hub.status().await;
            let target = state(&status, 'x');
            assert_eq!(target["state"], "ejected", "{target}");
            let left = Duration::from_millis(target["retryInMs"].as_u64().unwrap());
            (asked, left)
        };
        let (began, before) = retry_in(&tunnel.hub).await;
        let told = Instant::now();
        restart(&mut tunnel, End::Orderly).await;
        let (asked, left) = retry_in(&tunnel.hub).await;
        let passed = asked - told..=began.elapsed();
        // The file has milliseconds.
        let slack = Duration::from_millis(50);
        assert!(
            left + *passed.end() + slack >= before && left + *passed.start() <= before + slack,
            "{left:?} left of {before:?} after {passed:?}"
        );
        let status = tunnel.hub.status().await;
        for (name, word) in [('d', "drain"), ('e', "dead")] {
            let target = state(&status, name);
            assert_eq!(
                (&target["state"], &target["admin"]),
                (&json!(word), &json!(word))
            );
        }
        for _ in 0..10 {
            assert!(['a', 'b'].contains(&reach(entry).await.unwrap().name));
        }
        let status = tunnel.hub.status().await;
        assert_eq!(state(&status, 'x')["totalStreams"], 0, "it was tried");
        // Then its time is up, and it is tried.
        let _serving = refusing.listen();
        until(SOON, "a client after its time", async || {
            (reach(entry).await.unwrap().name == 'x').then_some(())
        })
        .await;
        assert!(began.elapsed() + slack >= before);
    });
}

#[test]
fn a_target_that_was_down_gets_no_client_before_it_is_found_good() {
    run_timed(90, async {
        let (good, bad) = (Health::Status(200), Health::Status(500));
        let (a, b) = (
            HealthTarget::start('a', good).await,
            HealthTarget::start('b', bad).await,
        );
        let check = json!({"type": "http", "path": HEALTH, "intervalSecs": 1, "timeoutSecs": 1});
        let folder = new_directory("state");
        let (mut tunnel, entry) = keeping(
            &folder,
            json!({"targets": [a.target(), b.target()], "check": check}),
        )
        .await;
        tunnel
            .hub
            .wait_event("targetDown", SOON, |event| event["target"] == "b")
            .await;
        let before = b.clients();
        end(&mut tunnel, End::Orderly).await;
        b.set(bad);
        start_again(&mut tunnel).await;
        until(SOON, "four more bad answers", async || {
            assert_eq!(fetch(entry).await, Some('a'));
            (b.answers() >= 4).then_some(())
        })
        .await;
        b.set(good);
        until(SOON, "a client at b", async || {
            (fetch(entry).await == Some('b')).then_some(())
        })
        .await;
        let answers = b.answers_before_client();
        assert!(answers >= Some(2), "{answers:?} good answers");
        assert_eq!(b.clients(), before + 1);
        tunnel
            .hub
            .wait_event("targetUp", SOON, |event| event["target"] == "b")
            .await;
    });
}

#[test]
fn hashed_clients_keep_their_targets_when_the_hub_is_killed() {
    run(120, async {
        let targets = start(&['a', 'b', 'c', 'd', 'e']).await;
        let folder = new_directory("state");
        let pool_config = json!({"strategy": "ipHash", "targets": of_pool(&targets)});
        let (mut tunnel, entry) = keeping(&folder, pool_config).await;
        let before = targets_of(200, entry).await;
        let first = before[0];
        assert!(before.iter().any(|target| *target != first));
        // At once, and after the file was opened a second time.
        for _ in 0..2 {
            restart(&mut tunnel, End::Killed).await;
            assert_eq!(targets_of(200, entry).await, before);
        }
    });
}

/// The files of the folder that were moved aside.
fn broken_ones(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_broken = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("hub.db.") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    files.filter(is_broken).collect()
}

#[test]
fn a_damaged_file_is_moved_aside_and_the_hub_serves() {
    run(120, async {
        let targets = start(&['a', 'b']).await;
        let folder = new_directory("state");
        let pool_config = json!({"affinity": {"ttlSecs": 600}, "targets": of_pool(&targets)});
        let (mut tunnel, entry) = keeping(&folder, pool_config).await;
        targets_of(20, entry).await;
        end(&mut tunnel, End::Orderly).await;
        let file = folder.join("hub.db");
        let whole = std::fs::read(&file).unwrap();
        assert_eq!(broken_ones(&folder), Vec::<PathBuf>::new());
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        start_again(&mut tunnel).await;
        let log = String::from_utf8_lossy(&tunnel.hub.log()).into_owned();
        assert!(
            log.contains("hub.db was damaged and has been moved aside"),
            "{log}"
        );
        let moved = broken_ones(&folder);
        assert_eq!(moved.len(), 1, "{moved:?}");
        assert_eq!(std::fs::read(&moved[0]).unwrap(), whole[..whole.len() / 2]);
        assert_eq!(tunnel.hub.status().await["bindings"], 0);
        // The new file keeps what comes from now on.
        let before = targets_of(20, entry).await;
        say(&tunnel.hub, 'a', "drain", false).await;
        restart(&mut tunnel, End::Orderly).await;
        let status = tunnel.hub.status().await;
        assert_eq!(
            (&status["bindings"], &state(&status, 'a')["state"]),
            (&json!(20), &json!("drain"))
        );
        assert_eq!(targets_of(20, entry).await, before);
        assert_eq!(broken_ones(&folder).len(), 1);
    });
}

#[test]
fn a_second_hub_on_the_same_folder_serves_and_keeps_nothing() {
    run(120, async {
        let targets = start(&['a', 'b']).await;
        let folder = new_directory("state");
        let pool_config = json!({"affinity": {"ttlSecs": 600}, "targets": of_pool(&targets)});
        let (mut first, entry) = keeping(&folder, pool_config.clone()).await;
        let (mut second, other) = keeping(&folder, pool_config).await;
        let log = String::from_utf8_lossy(&second.hub.log()).into_owned();
        assert!(
            log.contains("another process, probably a second hub")
                && log.contains("don't outlive this run"),
            "{log}"
        );
        let told = String::from_utf8_lossy(&first.hub.log()).into_owned();
        assert!(!told.contains("second hub"), "{told}");
        let before = targets_of(20, entry).await;
        let others = targets_of(20, other).await;
        say(&second.hub, 'a', "dead", false).await;
        assert!(others.contains(&'a'));
        assert_eq!(targets_of(20, other).await, vec!['b'; 20]);
        // It ends first, and what it knew harms nobody.
        end(&mut second, End::Orderly).await;
        restart(&mut first, End::Orderly).await;
        let status = first.hub.status().await;
        assert_eq!(
            (&status["bindings"], &state(&status, 'a')["state"]),
            (&json!(20), &json!("up"))
        );
        assert_eq!(targets_of(20, entry).await, before);
    });
}

/// Clients whose targets are kept.
const CLIENTS: u16 = 500;
