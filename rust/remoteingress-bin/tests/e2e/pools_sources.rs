//! Targets from edgeProxy's database, which another program writes: Python's own SQLite.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use crate::harness::pooled::{Lateness, Named, Reached, client, reach_from};
use crate::harness::ports::free_port;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run_timed, within};

/// As edgeProxy's readme has it.
const TABLE: &str = "CREATE TABLE backends (id TEXT PRIMARY KEY, app TEXT, region TEXT, wg_ip TEXT, \
     port INTEGER, healthy INTEGER, weight INTEGER, soft_limit INTEGER, hard_limit INTEGER, deleted INTEGER DEFAULT 0);";
/// A change of the database is in force within this.
const IN_FORCE_WITHIN: Duration = Duration::from_millis(500);
/// A script that runs SQL against a database.
const SCRIPT: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.executescript(sys.argv[2])
database.commit()
database.close()
";

/// The database, its targets by region, and a tunnel whose port names a pool of it.
struct Place {
    database: PathBuf,
    sa: Named,
    us: Named,
    eu: Named,
    tunnel: Tunnel,
    entry: SocketAddr,
    /// Clients so far: each has another address, as a pool of the database keeps a client's target.
    clients: u8,
}

async fn execute(database: &Path, sql: &str) {
    let mut command = Command::new("python3");
    command.arg("-c").arg(SCRIPT).arg(database).arg(sql);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let status = within(SOON, "the end of a writer", command.status()).await;
    assert!(status.unwrap().success(), "{sql}");
}

/// A row of the app `myapp`.
fn row(id: &str, region: &str, target: SocketAddr) -> String {
    let (ip, port) = (target.ip(), target.port());
    format!(
        "INSERT INTO backends (id, app, region, wg_ip, port, healthy, weight, soft_limit, hard_limit) \
         VALUES ('{id}', 'myapp', '{region}', '{ip}', {port}, 1, 2, 50, 100);"
    )
}

impl Place {
    async fn start(pool: &str, hub_region: &str, edge_region: Option<&str>) -> Self {
        let node = |number: u8| SocketAddr::from((Ipv4Addr::new(127, 50, number, 1), 0));
        let (sa, us, eu) = (
            Named::start_on('s', node(1)).await,
            Named::start_on('u', node(2)).await,
            Named::start_on('e', node(3)).await,
        );
        let database = new_directory("routing").join("routing.db");
        let rows = [
            row("sa-node-1", "sa", sa.address()),
            row("us-node-1", "us", us.address()),
            row("eu-node-1", "eu", eu.address()),
        ];
        execute(&database, &format!("{TABLE} {}", rows.concat())).await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "region": hub_region, "routingDb": {"path": database},
        }));
        let port = free_port();
        // No word on the PROXY header: rows get none.
        builder.listen(json!({"port": port, "pool": pool}));
        let tunnel = builder.start().await;
        if let Some(region) = edge_region {
            let mut entry = tunnel.entry();
            entry["region"] = json!(region);
            tunnel.update(&entry).await;
        }
        Self {
            database,
            sa,
            us,
            eu,
            tunnel,
            entry: SocketAddr::from(([127, 0, 0, 1], port)),
            clients: 0,
        }
    }

    /// The target of a client that was never there.
    async fn reach(&mut self) -> Reached {
        self.clients += 1;
        let mut reached = reach_from(client(self.clients), self.entry).await.unwrap();
        reached.assert_moves().await;
        reached
    }

    async fn name(&mut self) -> char {
        self.reach().await.name
    }

    /// Another process commits this; it is in force soon after that has ended. Gives the event.
    async fn execute(&self, sql: &str) -> Value {
        let mark = self.tunnel.hub.mark();
        execute(&self.database, sql).await;
        self.wait_told(mark, "routingReloaded").await
    }

    /// The event of a change that was made just now.
    async fn wait_told(&self, mark: usize, name: &str) -> Value {
        let (begun, late) = (Instant::now(), Lateness::watch());
        let hub = &self.tunnel.hub;
        let event = hub.wait_event_since(mark, name, SOON, |_| true).await;
        let (took, limit) = (begun.elapsed(), late.on_top_of(IN_FORCE_WITHIN));
        assert!(took < limit, "{took:?} of {limit:?}");
        event
    }

    async fn routing_db(&self) -> Value {
        self.tunnel.hub.status().await["routingDb"].clone()
    }
}

#[test]
fn the_region_of_the_edge_decides_else_that_of_the_hub() {
    run_timed(60, async {
        for (hub, edge, expected) in [
            ("sa", None, 's'),
            ("sa", Some("eu"), 'e'),
            ("eu", Some("us"), 'u'),
        ] {
            let mut place = Place::start("myapp", hub, edge).await;
            for _ in 0..5 {
                assert_eq!(
                    place.name().await,
                    expected,
                    "hub in {hub}, edge in {edge:?}"
                );
            }
            let others = [&place.sa, &place.us, &place.eu].map(Named::accepted);
            assert_eq!(others.iter().sum::<usize>(), 5, "{others:?}");
            let status = place.routing_db().await;
            let expected = json!({
                "path": place.database, "revision": 1, "rows": 3, "refused": [], "refusedRows": 0, "error": null,
            });
            assert_eq!(status, expected);
        }
    });
}

#[test]
fn what_another_process_commits_is_in_force_within_half_a_second() {
    run_timed(60, async {
        let mut place = Place::start("myapp", "eu", None).await;
        let mut held = place.reach().await;
        assert_eq!(held.name, 'e');
        // Drained by its weight.
        let event = place
            .execute("UPDATE backends SET weight = 0 WHERE id = 'eu-node-1';")
            .await;
        assert_eq!(event["changed"], 1, "{event}");
        assert_ne!(place.name().await, 'e');
        held.assert_moves().await;
        // A second node, by a writer with a log.
        let second = Named::start('2').await;
        let sql = format!(
            "PRAGMA journal_mode = WAL; {}",
            row("eu-node-2", "eu", second.address())
        );
        let event = place.execute(&sql).await;
        assert_eq!((&event["added"], &event["rows"]), (&json!(1), &json!(4)));
        assert_eq!(place.name().await, '2');
        // Deleted, once as edgeProxy does and once for good: no new ones, and those that are there run on.
        let mut on_second = place.reach().await;
        let event = place
            .execute("UPDATE backends SET deleted = 1 WHERE id = 'eu-node-2';")
            .await;
        assert_eq!((&event["removed"], &event["rows"]), (&json!(1), &json!(3)));
        assert_ne!(place.name().await, '2');
        let event = place
            .execute("DELETE FROM backends WHERE id = 'eu-node-1';")
            .await;
        assert_eq!((&event["removed"], &event["rows"]), (&json!(1), &json!(2)));
        for _ in 0..4 {
            assert!(['s', 'u'].contains(&place.name().await));
        }
        held.assert_moves().await;
        on_second.assert_moves().await;
        assert_eq!((place.eu.accepted(), second.accepted()), (1, 2));
    });
}

#[test]
fn a_file_that_takes_its_place_is_read() {
    run_timed(60, async {
        let mut place = Place::start("myapp", "eu", None).await;
        assert_eq!(place.name().await, 'e');
        for round in 0..3 {
            let next = place.database.with_extension(format!("next-{round}"));
            let only = if round % 2 == 0 { &place.us } else { &place.eu };
            let sql = format!("{TABLE} {}", row("only", "us", only.address()));
            execute(&next, &sql).await;
            let mark = place.tunnel.hub.mark();
            std::fs::rename(&next, &place.database).unwrap();
            let event = place.wait_told(mark, "routingReloaded").await;
            assert_eq!(event["rows"], 1, "{event}");
            let expected = if round % 2 == 0 { 'u' } else { 'e' };
            assert_eq!(place.name().await, expected);
        }
    });
}

#[test]
fn a_bad_row_is_refused_alone_and_told_by_its_id() {
    run_timed(60, async {
        let mut place = Place::start("myapp", "eu", None).await;
        let bad = "INSERT INTO backends (id, app, region, wg_ip, port, healthy) VALUES \
            ('bad-port', 'myapp', 'eu', '127.0.0.1', 70000, 1), ('bad-ip', 'myapp', 'eu', '169.254.169.254', 80, 1);";
        let event = place.execute(bad).await;
        assert_eq!((&event["rows"], &event["refused"]), (&json!(3), &json!(2)));
        let hub = &place.tunnel.hub;
        for id in ["bad-port", "bad-ip"] {
            let is_it = |event: &Value| event["id"] == id;
            let told = hub.wait_event("targetRefused", SOON, is_it).await;
            assert_eq!(told["source"], "routingDb", "{told}");
        }
        let status = place.routing_db().await;
        let refused = status["refused"].as_array().unwrap();
        let ids: Vec<_> = refused.iter().map(|row| row["id"].clone()).collect();
        assert_eq!(ids, ["bad-port", "bad-ip"]);
        assert_eq!(status["refusedRows"], 2);
        assert_eq!(place.name().await, 'e');
        // A good row that is made bad keeps its last good version.
        let event = place
            .execute("UPDATE backends SET port = 'x' WHERE id = 'eu-node-1';")
            .await;
        assert_eq!((&event["rows"], &event["refused"]), (&json!(3), &json!(3)));
        assert_eq!(place.name().await, 'e');
        let hub = &place.tunnel.hub;
        hub.wait_event("targetRefused", SOON, |event| event["id"] == "eu-node-1")
            .await;
        let told = hub.inbox().with(|received| {
            let named = received.events.iter();
            let named = named.filter(|(event, _)| event == "targetRefused");
            named
                .map(|(_, body)| body["id"].clone())
                .collect::<Vec<_>>()
        });
        assert_eq!(
            told,
            ["bad-port", "bad-ip", "eu-node-1"],
            "each is told once"
        );
    });
}

#[test]
fn a_file_that_is_no_database_changes_nothing() {
    run_timed(60, async {
        let mut place = Place::start("myapp", "eu", None).await;
        let mut held = place.reach().await;
        let good = std::fs::read(&place.database).unwrap();
        let mark = place.tunnel.hub.mark();
        std::fs::write(&place.database, vec![b'?'; 8_192]).unwrap();
        let failed = place.wait_told(mark, "routingFailed").await;
        assert_eq!(failed["path"], json!(place.database));
        let status = place.routing_db().await;
        assert_eq!(status["error"], failed["error"], "{status}");
        assert_eq!(status["rows"], 3);
        assert_eq!(place.name().await, 'e');
        held.assert_moves().await;
        // Nor does a file that is gone.
        std::fs::remove_file(&place.database).unwrap();
        let gone = place
            .tunnel
            .hub
            .wait_event_since(mark, "routingFailed", SOON, |event| {
                event["reason"] != failed["reason"]
            })
            .await;
        assert_eq!(place.name().await, 'e', "{gone}");
        let mark = place.tunnel.hub.mark();
        std::fs::write(&place.database, good).unwrap();
        let event = place
            .tunnel
            .hub
            .wait_event_since(mark, "routingReloaded", Duration::from_secs(2), |_| true)
            .await;
        assert_eq!(event["rows"], 3, "{event}");
        assert_eq!(place.routing_db().await["error"], Value::Null);
        assert_eq!(place.name().await, 'e');
    });
}

#[test]
fn the_pool_of_all_rows_has_those_of_every_app() {
    run_timed(60, async {
        let mut place = Place::start("*", "eu", None).await;
        assert_eq!(place.name().await, 'e');
        let sql = "UPDATE backends SET app = 'another' WHERE id = 'eu-node-1'; \
            UPDATE backends SET app = NULL WHERE id = 'us-node-1';";
        place.execute(sql).await;
        assert_eq!(place.name().await, 'e');
        let status = place.tunnel.hub.status().await;
        let pools = status["pools"].as_array().unwrap();
        let told: Vec<_> = pools
            .iter()
            .map(|pool| {
                (
                    pool["name"].as_str().unwrap(),
                    pool["targets"].as_array().unwrap().len(),
                )
            })
            .collect();
        assert_eq!(told, [("*", 3), ("another", 1), ("myapp", 1)]);
        // Another app's port gets that alone.
        let port = free_port();
        let mut entry = place.tunnel.entry();
        let ports = entry["listenPorts"].as_array_mut().unwrap();
        ports.push(json!({"port": port, "pool": "myapp"}));
        place.tunnel.update(&entry).await;
        let begun = Instant::now();
        let own = SocketAddr::from(([127, 0, 0, 1], port));
        while tokio::net::TcpStream::connect(own).await.is_err() {
            assert!(begun.elapsed() < SOON);
        }
        assert_eq!(reach_from(client(200), own).await.unwrap().name, 's');
    });
}
