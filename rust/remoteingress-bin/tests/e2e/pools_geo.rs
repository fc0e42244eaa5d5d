//! Clients go to the targets of their region, by a database of countries that the test writes: case 32.
//!
//! Regions are told apart by blocks of loopback addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remoteingress_testkit::mmdb::{Mmdb, flat, geolite};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::pooled::{Named, POOL, port_of_pool, reach_from, target};
use crate::harness::ports::free_port;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run, run_timed, until};

const BRAZIL: Ipv4Addr = Ipv4Addr::new(127, 1, 2, 3);
const GERMANY: Ipv4Addr = Ipv4Addr::new(127, 2, 2, 3);
const AMERICA: Ipv4Addr = Ipv4Addr::new(127, 3, 2, 3);
/// No database here knows it.
const UNKNOWN: Ipv4Addr = Ipv4Addr::new(127, 9, 2, 3);

/// Puts a whole file in the place of another, as whoever renews such a file does.
fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// The countries of the three blocks.
fn database(countries: [&str; 3]) -> Vec<u8> {
    let mut mmdb = Mmdb::new(6, 24);
    for (block, country) in ["127.1.0.0/16", "127.2.0.0/16", "127.3.0.0/16"]
        .iter()
        .zip(countries)
    {
        mmdb.add(block, flat(country));
    }
    mmdb.bytes()
}

/// A tunnel to a pool with a target in each of three regions.
struct World {
    tunnel: Tunnel,
    entry: SocketAddr,
    file: PathBuf,
    _targets: [Named; 3],
}

impl World {
    async fn start(file: &[u8], geo: Value) -> Self {
        let path = new_directory("geo").join("country.mmdb");
        put(&path, file);
        let targets = [
            Named::start('s').await,
            Named::start('e').await,
            Named::start('u').await,
        ];
        let of_pool = targets
            .iter()
            .zip([('s', "sa"), ('e', "eu"), ('u', "us")])
            .map(|(named, (name, region))| {
                target(name, named.address(), json!({"region": region}))
            });
        let pool = json!({"strategy": "geo", "targets": of_pool.collect::<Vec<_>>()});
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "pools": {POOL: pool}, "region": "us", "geo": {"database": path},
        }));
        builder = builder.hub(json!({"geo": geo}));
        let port = free_port();
        builder.listen(port_of_pool(port));
        Self {
            tunnel: builder.start().await,
            entry: SocketAddr::from(([127, 0, 0, 1], port)),
            file: path,
            _targets: targets,
        }
    }

    /// The target that a client gets, over several streams the same one.
    async fn target_of(&self, client: Ipv4Addr) -> char {
        let first = reach_from(client, self.entry).await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                reach_from(client, self.entry).await.unwrap().name,
                first.name
            );
        }
        first.name
    }

    async fn explain(&self, client: Ipv4Addr, edge: Option<&str>) -> Value {
        let mut params = json!({"pool": POOL, "client": client});
        if let Some(edge) = edge {
            params["edgeId"] = json!(edge);
        }
        self.tunnel.hub.call("explainPool", params).await
    }
}

#[test]
fn clients_go_to_the_targets_of_their_region() {
    run(60, async {
        for shape in [flat, |code: &str| geolite(code, code, "XX")] {
            let mut mmdb = Mmdb::new(4, 28);
            mmdb.add("127.1.0.0/16", shape("BR"));
            mmdb.add("127.2.0.0/16", shape("DE"));
            mmdb.add("127.3.0.0/16", shape("US"));
            let world = World::start(&mmdb.bytes(), json!({})).await;
            for (client, expected) in [(BRAZIL, 's'), (GERMANY, 'e'), (AMERICA, 'u')] {
                assert_eq!(world.target_of(client).await, expected, "{client}");
            }
            // Whose country nobody knows goes by where the hub is, or the edge where that says it.
            assert_eq!(world.target_of(UNKNOWN).await, 'u');
            let mut entry = world.tunnel.entry();
            entry["region"] = json!("sa");
            world.tunnel.update(&entry).await;
            until(SOON, "the region of the edge", async || {
                let reached = reach_from(UNKNOWN, world.entry).await.unwrap();
                (reached.name == 's').then_some(())
            })
            .await;
            assert_eq!(world.target_of(GERMANY).await, 'e');
        }
    });
}

#[test]
fn countries_may_have_other_regions_and_the_unknown_ones_one() {
    run(60, async {
        let geo = json!({"regions": {"BR": "eu"}, "fallbackRegion": "sa"});
        let world = World::start(&database(["BR", "DE", "US"]), geo).await;
        for (client, expected) in [
            (BRAZIL, 'e'),
            (GERMANY, 'e'),
            (AMERICA, 'u'),
            (UNKNOWN, 's'),
        ] {
            assert_eq!(world.target_of(client).await, expected, "{client}");
        }
    });
}

#[test]
fn explain_tells_country_region_and_the_tier_of_each_target() {
    run(60, async {
        let world = World::start(&database(["BR", "DE", "US"]), json!({})).await;
        let tiers = |explained: &Value| {
            let targets = explained["targets"].as_array().unwrap().iter();
            let mut tiers: Vec<(String, u64, f64)> = targets
                .map(|target| {
                    let id = target["id"].as_str().unwrap().to_owned();
                    let score = target["score"].as_f64().unwrap();
                    (id, target["tier"].as_u64().unwrap(), score)
                })
                .collect();
            // Of the same score any may come first.
            tiers.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
            tiers
        };
        let of = |rows: [(&str, u64); 3]| {
            rows.map(|(id, tier)| (id.to_owned(), tier, 100.0 * tier as f64))
        };
        let brazil = world.explain(BRAZIL, None).await;
        assert_eq!(
            (
                &brazil["country"],
                &brazil["region"],
                &brazil["localRegion"]
            ),
            (&json!("BR"), &json!("sa"), &json!("us"))
        );
        assert_eq!(brazil["targets"][0]["id"], "s");
        assert_eq!(tiers(&brazil), of([("s", 0), ("u", 1), ("e", 2)]));
        let mut entry = world.tunnel.entry();
        entry["region"] = json!("eu");
        world.tunnel.update(&entry).await;
        let unknown = world.explain(UNKNOWN, Some(EDGE_ID)).await;
        assert_eq!(
            (
                &unknown["country"],
                &unknown["region"],
                &unknown["localRegion"]
            ),
            (&json!(null), &json!(null), &json!("eu"))
        );
        assert_eq!(tiers(&unknown), of([("e", 1), ("s", 2), ("u", 2)]));
        let brazil = world.explain(BRAZIL, Some(EDGE_ID)).await;
        assert_eq!(tiers(&brazil), of([("s", 0), ("e", 1), ("u", 2)]));
    });
}

#[test]
fn a_database_is_replaced_under_load() {
    run_timed(90, async {
        let world = World::start(&database(["BR", "DE", "US"]), json!({})).await;
        let entry = world.entry;
        // Clients of all blocks who come one after another and note where they got to, until they are told to stop.
        let (stop, stopping) = watch::channel(false);
        let clients = [BRAZIL, GERMANY, AMERICA].map(|client| {
            let stopping = stopping.clone();
            tokio::spawn(async move {
                let mut reached = Vec::new();
                while !*stopping.borrow() {
                    let name = reach_from(client, entry).await.map(|reached| reached.name);
                    reached.push((Instant::now(), name.unwrap()));
                }
                reached
            })
        });
        let replaced = async |countries, expected: [(Ipv4Addr, char); 3]| {
            let mark = world.tunnel.hub.mark();
            let began = Instant::now();
            put(&world.file, &database(countries));
            for (client, expected) in expected {
                until(SOON, "the new database", async || {
                    let reached = reach_from(client, entry).await.unwrap();
                    (reached.name == expected).then_some(())
                })
                .await;
            }
            let took = began.elapsed();
            let event = world
                .tunnel
                .hub
                .wait_event_since(mark, "geoReloaded", SOON, |_| true)
                .await;
            assert_eq!(event["path"], json!(world.file));
            took
        };
        let mut took = Vec::new();
        for _ in 0..3 {
            let other = [(BRAZIL, 'e'), (GERMANY, 'u'), (AMERICA, 's')];
            took.push(replaced(["DE", "US", "BR"], other).await);
            let first = [(BRAZIL, 's'), (GERMANY, 'e'), (AMERICA, 'u')];
            took.push(replaced(["BR", "DE", "US"], first).await);
        }
        // Each begins when the one before is in force, so the quickest is no chance; a crowded machine delays others.
        let quickest = took.iter().min().unwrap();
        assert!(*quickest <= Duration::from_secs(1), "{took:?}");
        stop.send_replace(true);
        for (client, (old, new)) in clients
            .into_iter()
            .zip([('s', 'e'), ('e', 'u'), ('u', 's')])
        {
            let reached = client.await.unwrap();
            assert!(reached.len() > 20, "{}", reached.len());
            // Nobody is without a region for a moment: that would be tier 1 or 2.
            let other = reached.iter().find(|(_, name)| ![old, new].contains(name));
            assert_eq!(other, None);
        }
    });
}

#[test]
fn a_broken_database_changes_nothing() {
    run(60, async {
        let good = database(["BR", "DE", "US"]);
        let world = World::start(&good, json!({})).await;
        let hub = &world.tunnel.hub;
        let first = hub.status().await["geo"].clone();
        assert_eq!(
            (&first["error"], &first["networks"]),
            (&json!(null), &json!(3))
        );
        for broken in [&good[..good.len() / 2], b"", b"no database"] {
            let mark = hub.mark();
            put(&world.file, broken);
            let event = hub
                .wait_event_since(mark, "geoFailed", SOON, |_| true)
                .await;
            assert_eq!(event["path"], json!(world.file));
            let status = hub.status().await["geo"].clone();
            assert_eq!(status["error"], event["error"]);
            assert_eq!(
                (&status["networks"], &status["built"]),
                (&first["networks"], &first["built"])
            );
            for (client, expected) in [(BRAZIL, 's'), (GERMANY, 'e'), (AMERICA, 'u')] {
                assert_eq!(world.target_of(client).await, expected, "{client}");
            }
            let mark = hub.mark();
            put(&world.file, &good);
            hub.wait_event_since(mark, "geoReloaded", SOON, |_| true)
                .await;
            assert_eq!(hub.status().await["geo"]["error"], json!(null));
        }
        // Gone is no better.
        let mark = hub.mark();
        std::fs::remove_file(&world.file).unwrap();
        hub.wait_event_since(mark, "geoFailed", SOON, |_| true)
            .await;
        assert_eq!(world.target_of(BRAZIL).await, 's');
    });
}
