//! Pools: the pick of a target among few and many, by each way to choose, and a client's binding.

use crate::workload::{Work, Workload};
use remoteingress_upstream::affinity::{BindingKey, Bindings};
use remoteingress_upstream::breaker::BreakerRules;
use remoteingress_upstream::client::{ClientKey, HashSeed};
use remoteingress_upstream::pick::{Ask, Pick};
use remoteingress_upstream::plan::{Plan, Pool, PoolSettings, Strategy, TargetSettings};
use remoteingress_upstream::region::{Origin, Place, RegionId};
use remoteingress_upstream::time::Moment;
use std::sync::Arc;
use std::time::Duration;

/// Picks per run, each of another client.
const PICKS: u64 = 100;
/// Regions of targets and clients.
const REGIONS: u64 = 4;
/// Clients with a binding.
const BOUND: u64 = 100_000;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pick_geo_10",
        operations: PICKS,
        new: || picks(Strategy::Geo, 10),
    },
    Workload {
        name: "pick_geo_100",
        operations: PICKS,
        new: || picks(Strategy::Geo, 100),
    },
    Workload {
        name: "pick_geo_1000",
        operations: PICKS,
        new: || picks(Strategy::Geo, 1_000),
    },
    Workload {
        name: "pick_least_connections_1000",
        operations: PICKS,
        new: || picks(Strategy::LeastConnections, 1_000),
    },
    Workload {
        name: "pick_round_robin_100",
        operations: PICKS,
        new: || picks(Strategy::RoundRobin, 100),
    },
    Workload {
        name: "pick_two_choices_100",
        operations: PICKS,
        new: || picks(Strategy::TwoChoices, 100),
    },
    Workload {
        name: "pick_ip_hash_100",
        operations: PICKS,
        new: || picks(Strategy::IpHash, 100),
    },
    Workload {
        name: "binding_touch",
        operations: PICKS,
        new: touches,
    },
];

fn picks(strategy: Strategy, targets: u16) -> Box<dyn Work> {
    let plan = plan(strategy, targets);
    let mut number = 1_u64;
    Box::new(move || {
        // Each stream is under way until the next run, so that loads differ.
        let mut held = Vec::new();
        for client in 0..PICKS {
            let ask = Ask {
                client: ClientKey(client.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                origin: Origin {
                    region: Some(region(client)),
                    ..Origin::default()
                },
                bound: None,
                tried: &[],
                now: Moment(0),
            };
            let picked = Pick::new(&plan, &ask).take(&mut || {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                number
            });
            held.push(picked.expect("all targets take streams"));
        }
    })
}

fn plan(strategy: Strategy, targets: u16) -> Arc<Plan> {
    let target = |number: u16| TargetSettings {
        id: format!("target-{number}"),
        weight: 1 + number % 3,
        soft_limit: 100,
        hard_limit: 0,
        priority: 0,
        slow_start: None,
        place: Place {
            country: None,
            region: Some(region(number.into())),
        },
    };
    let settings = PoolSettings {
        strategy,
        targets: (0..targets).map(target).collect(),
        slow_start: Duration::ZERO,
        breaker: BreakerRules::default(),
        max_ejected_percent: 50,
        seed: HashSeed(1),
        spills_at_soft: false,
        load_bound_percent: None,
    };
    Pool::new(&Arc::default()).plan(&settings, Moment(0))
}

fn region(number: u64) -> RegionId {
    RegionId(u16::try_from(number % REGIONS).unwrap_or_default())
}

fn touches() -> Box<dyn Work> {
    let bindings = Bindings::new(1 << 20);
    let key = |client| BindingKey::new(1, ClientKey(client));
    for client in 0..BOUND {
        bindings.bind(key(client), 7, Moment(0));
    }
    let mut clients = (0..BOUND).cycle();
    Box::new(move || {
        for client in clients.by_ref().take(PICKS as usize) {
            let target = bindings.touch(key(client), Duration::from_secs(600), Moment(1));
            assert_eq!(target, Some(7));
        }
    })
}
