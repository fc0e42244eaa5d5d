//! Targets that DNS names, as dnsmasq tells them: case 31.
//!
//! The targets have loopback addresses of their own and one port, so that a name's addresses tell them apart.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::dnsmasq::Dnsmasq;
use crate::harness::pooled::{Named, POOL, pool, port_of_pool, reach};
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, run_timed, until};

/// The address of a target by its name: 127.0.7.2 is `2`.
fn address(name: char) -> Ipv4Addr {
    let last = name.to_digit(10).unwrap();
    Ipv4Addr::new(127, 0, 7, u8::try_from(last).unwrap())
}

fn addresses(names: &str) -> Vec<Ipv4Addr> {
    names.chars().map(address).collect()
}

/// Targets at one port.
async fn start(names: &str) -> (Vec<Named>, u16) {
    let port = free_port();
    let mut targets = Vec::new();
    for name in names.chars() {
        targets.push(Named::start_on(name, SocketAddr::from((address(name), port))).await);
    }
    (targets, port)
}

/// A tunnel to a pool that DNS names.
async fn tunnel_to(discover: Value) -> (Tunnel, SocketAddr) {
    let pools = json!({POOL: {"discover": discover}});
    let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({"pools": pools}));
    let port = free_port();
    builder.listen(port_of_pool(port));
    let tunnel = builder.start().await;
    (tunnel, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn of_addresses(dnsmasq: &Dnsmasq, port: u16) -> Value {
    json!({"name": "web.test", "port": port, "servers": [dnsmasq.address()]})
}

/// Waits until the pool has exactly these targets that take clients; gives its state.
async fn wait_targets(hub: &Process, names: &str) -> Value {
    let mut expected: Vec<String> = addresses(names).iter().map(Ipv4Addr::to_string).collect();
    expected.sort();
    let what = format!("targets {names}");
    let status = hub
        .wait_status(SOON, &what, |status| {
            let targets = pool(status)["targets"].as_array().unwrap().iter();
            let mut up: Vec<String> = targets
                .filter(|target| target["state"] == "up")
                .map(|target| target["host"].as_str().unwrap().to_owned())
                .collect();
            up.sort();
            up == expected
        })
        .await;
    pool(&status).clone()
}

/// Waits until lookups fail, or don't.
async fn wait_discovery(hub: &Process, state: &str, error: Option<&str>) {
    let what = format!("{state} lookups ({error:?})");
    hub.wait_status(SOON, &what, |status| {
        let discovery = &pool(status)["discovery"];
        let told = discovery["error"].as_str();
        let is_told = match error {
            None => told.is_none(),
            Some(error) => told.is_some_and(|told| told.contains(error)),
        };
        discovery["state"] == state && is_told
    })
    .await;
}

/// Clients who come one after another, all of whom must reach a target.
struct Clients {
    stop: watch::Sender<bool>,
    coming: Vec<JoinHandle<usize>>,
}

impl Clients {
    fn start(entry: SocketAddr) -> Self {
        let stop = watch::Sender::new(false);
        let coming = (0..2).map(|_| {
            let stopping = stop.subscribe();
            tokio::spawn(async move {
                let mut count = 0;
                while !*stopping.borrow() {
                    reach(entry).await.unwrap();
                    count += 1;
                }
                count
            })
        });
        Self {
            coming: coming.collect(),
            stop,
        }
    }

    /// Every one of them has reached a target.
    async fn end(self) {
        self.stop.send_replace(true);
        for coming in self.coming {
            let count = coming.await.unwrap();
            assert!(count > 50, "{count} clients");
        }
    }
}

/// The next clients get to these targets, and to all of them.
async fn assert_reached(entry: SocketAddr, names: &str) {
    let mut missing: Vec<char> = names.chars().collect();
    until(SOON, &format!("clients at {names}"), async || {
        let name = reach(entry).await.unwrap().name;
        assert!(names.contains(name), "{name}, none of {names}");
        missing.retain(|other| *other != name);
        missing.is_empty().then_some(())
    })
    .await;
}

#[test]
fn no_client_fails_while_a_name_changes_fails_and_comes_back() {
    run_timed(120, async {
        let Some(mut dnsmasq) = Dnsmasq::start(&[]).await else {
            return;
        };
        let (_targets, port) = start("23456").await;
        dnsmasq.set_hosts(&addresses("234"));
        let (tunnel, entry) = tunnel_to(of_addresses(&dnsmasq, port)).await;
        let hub = &tunnel.hub;
        wait_targets(hub, "234").await;
        let clients = Clients::start(entry);
        assert_reached(entry, "234").await;

        dnsmasq.set_hosts(&addresses("23456"));
        wait_targets(hub, "23456").await;
        assert_reached(entry, "23456").await;

        dnsmasq.set_hosts(&addresses("23"));
        let state = wait_targets(hub, "23").await;
        let others = state["targets"].as_array().unwrap().iter();
        let draining = others.filter(|target| target["admin"] == "drain").count();
        assert_eq!(draining, 3, "{state}");
        assert_reached(entry, "23").await;

        // However it fails, what was known stays.
        let mark = hub.mark();
        dnsmasq.fail().await;
        wait_discovery(hub, "held", Some("SERVFAIL")).await;
        let event = hub
            .wait_event_since(mark, "discoveryFailed", SOON, |_| true)
            .await;
        assert_eq!(
            (&event["pool"], &event["name"], &event["state"]),
            (&json!(POOL), &json!("web.test"), &json!("held"))
        );
        assert_reached(entry, "23").await;
        dnsmasq.kill();
        wait_discovery(hub, "held", Some("refused")).await;
        assert_reached(entry, "23").await;
        dnsmasq.restart(&[], &[]).await;
        wait_discovery(hub, "held", Some("doesn't exist")).await;
        wait_targets(hub, "23").await;
        assert_reached(entry, "23").await;

        dnsmasq.set_hosts(&addresses("456"));
        wait_targets(hub, "456").await;
        wait_discovery(hub, "current", None).await;
        assert_reached(entry, "456").await;
        clients.end().await;
    });
}

#[test]
fn a_name_that_is_gone_for_longer_than_its_hold_has_no_targets() {
    run_timed(90, async {
        let Some(dnsmasq) = Dnsmasq::start(&[]).await else {
            return;
        };
        let (_targets, port) = start("2").await;
        dnsmasq.set_hosts(&addresses("2"));
        let mut discover = of_addresses(&dnsmasq, port);
        discover["holdSecs"] = json!(1);
        let (tunnel, entry) = tunnel_to(discover).await;
        wait_targets(&tunnel.hub, "2").await;
        assert_reached(entry, "2").await;
        dnsmasq.set_hosts(&[]);
        wait_discovery(&tunnel.hub, "emptied", Some("doesn't exist")).await;
        wait_targets(&tunnel.hub, "").await;
        assert!(reach(entry).await.is_err());
        dnsmasq.set_hosts(&addresses("2"));
        wait_targets(&tunnel.hub, "2").await;
        assert_reached(entry, "2").await;
    });
}

#[test]
fn a_service_names_ports_priorities_and_weights() {
    run(90, async {
        let targets = [
            Named::start('a').await,
            Named::start('b').await,
            Named::start('c').await,
        ];
        let records: Vec<String> = targets
            .iter()
            .zip(["0,3", "0,1", "1,9"])
            .map(|(target, numbers)| {
                let port = target.address().port();
                format!("--srv-host=_web._tcp.test,localhost,{port},{numbers}")
            })
            .collect();
        let Some(dnsmasq) = Dnsmasq::start(&records).await else {
            return;
        };
        let discover = json!({
            "name": "_web._tcp.test", "type": "srv", "servers": [dnsmasq.address()],
        });
        let (tunnel, entry) = tunnel_to(discover).await;
        tunnel
            .hub
            .wait_status(SOON, "three targets", |status| {
                pool(status)["targets"].as_array().unwrap().len() == 3
            })
            .await;
        // Each in turn by weight, and of the lowest priority alone.
        let mut counts = [0; 3];
        for _ in 0..40 {
            let name = reach(entry).await.unwrap().name;
            counts[name as usize - 'a' as usize] += 1;
        }
        assert_eq!(counts, [30, 10, 0]);
        // The others are for when all of those are out.
        let [first, second, _third] = targets;
        first.kill().await;
        for _ in 0..5 {
            assert_eq!(reach(entry).await.unwrap().name, 'b');
        }
        second.kill().await;
        for _ in 0..5 {
            assert_eq!(reach(entry).await.unwrap().name, 'c');
        }
    });
}

#[test]
fn a_record_that_leads_to_metadata_is_refused_alone() {
    run(60, async {
        let Some(dnsmasq) = Dnsmasq::start(&[]).await else {
            return;
        };
        let (_targets, port) = start("23").await;
        let special = Ipv4Addr::new(169, 254, 169, 254);
        dnsmasq.set_hosts(&[address('2'), special, address('3')]);
        let (tunnel, entry) = tunnel_to(of_addresses(&dnsmasq, port)).await;
        let event = tunnel.hub.wait_event("targetRefused", SOON, |_| true).await;
        assert_eq!(
            (&event["source"], &event["id"]),
            (&json!("dns"), &json!(special))
        );
        let state = wait_targets(&tunnel.hub, "23").await;
        assert_eq!(state["targets"].as_array().unwrap().len(), 2, "{state}");
        for _ in 0..10 {
            assert!(['2', '3'].contains(&reach(entry).await.unwrap().name));
        }
        // A name that is good at first, and is turned to such an address later.
        dnsmasq.set_hosts(&[address('2'), special]);
        wait_targets(&tunnel.hub, "2").await;
        assert_reached(entry, "2").await;
        let events = tunnel.hub.inbox().with(|received| {
            let events = received.events.iter();
            events.filter(|(name, _)| name == "targetRefused").count()
        });
        assert_eq!(events, 1);
    });
}

#[test]
fn a_target_whose_name_is_gone_keeps_its_streams() {
    run_timed(120, async {
        let Some(dnsmasq) = Dnsmasq::start(&[]).await else {
            return;
        };
        let (_targets, port) = start("23").await;
        dnsmasq.set_hosts(&addresses("23"));
        let (tunnel, entry) = tunnel_to(of_addresses(&dnsmasq, port)).await;
        wait_targets(&tunnel.hub, "23").await;
        let mut held = until(SOON, "a client at 3", async || {
            let reached = reach(entry).await.unwrap();
            (reached.name == '3').then_some(reached)
        })
        .await;
        dnsmasq.set_hosts(&addresses("2"));
        wait_targets(&tunnel.hub, "2").await;
        for _ in 0..10 {
            assert_eq!(reach(entry).await.unwrap().name, '2');
        }
        held.assert_moves().await;
        // It drains for 30 s, and is gone then; its stream isn't.
        let gone = Duration::from_secs(45);
        tunnel
            .hub
            .wait_status(gone, "one target", |status| {
                pool(status)["targets"].as_array().unwrap().len() == 1
            })
            .await;
        held.assert_moves().await;
        held.end().await;
    });
}
