use serde_json::{Value, json};

use super::*;
use crate::parse_hub;

fn parse(pool: Value) -> Result<PoolConfig, CodedError> {
    parse_pools(&json!({ "pools": { "web": pool } }), false)
        .map(|pools| pools.into_values().next().expect("one pool"))
}

#[test]
fn a_pool_alone_has_the_defaults_of_the_manual() {
    let pool = parse(json!({ "targets": [{ "host": "10.0.0.1" }, { "host": "::1", "port": 80 }] }))
        .unwrap();
    assert_eq!(
        (pool.strategy, pool.retries, pool.try_next_after_ms),
        (Strategy::RoundRobin, 2, 1_000)
    );
    let ids: Vec<_> = pool.targets.iter().map(PoolTarget::id).collect();
    assert_eq!(
        ids,
        ["10.0.0.1", "[::1]:80"].map(|id| Name::new(id).unwrap())
    );
    let target = &pool.targets[0];
    assert_eq!(
        (target.weight, target.soft(), target.hard_limit),
        (1, 100, 0)
    );
    let limited = json!({ "targets": [{ "host": "a", "hardLimit": 7 }] });
    assert_eq!(parse(limited).unwrap().targets[0].soft(), 7);
}

#[test]
fn what_is_read_is_written_alike() {
    let whole = json!({
        "strategy": "ipHash", "boundedLoad": 1.25, "retries": 0, "tryNextAfterMs": 0, "resetBeforeReply": true, "slowStartSecs": 30,
        "maxEjectedPercent": 100, "recoveryIntervalSecs": 0, "spillAtSoft": false, "udpUnhealthy": "stay",
        "affinity": { "ttlSecs": 604_800 }, "queue": { "max": 5, "timeoutSecs": 1 },
        "check": {
            "type": "http", "port": 81, "path": "/health?x=1", "host": "app.test", "status": "200-299", "text": "ok",
            "intervalSecs": 1, "timeoutSecs": 1, "fall": 1, "rise": 1, "proxyProtocol": "v2",
        },
        "discover": {
            "name": "_web._tcp.internal.", "type": "srv", "holdSecs": 0, "servers": ["127.0.0.1:5353"],
        },
        "targets": [{
            "id": "sa-1", "host": "10.50.1.1", "port": 8080, "region": "sa", "country": "BR", "weight": 2,
            "softLimit": 50, "hardLimit": 100, "priority": 1,
        }],
    });
    assert_eq!(json!(parse(whole.clone()).unwrap()), whole);
    let of_udp = json!({ "type": "udp", "send": "00ff", "expect": "0a" });
    let check: CheckConfig = decode(&of_udp).unwrap();
    assert_eq!(json!(check)["send"], "00ff");
}

#[test]
fn every_fault_of_a_pool_has_its_path() {
    let target = |fields: Value| json!({ "targets": [{ "host": "a" }, fields] });
    refused_with(&[
        (json!({ "strategie": 1 }), "strategie: is not a known field"),
        (json!({ "strategy": "best" }), "strategy: must be "),
        (
            json!({ "retries": 9 }),
            "retries: must be a whole number from 0 to 8",
        ),
        (
            json!({ "maxEjectedPercent": 101 }),
            "maxEjectedPercent: must be",
        ),
        (
            json!({ "affinity": { "ttlSecs": 0 } }),
            "affinity.ttlSecs: must be",
        ),
        (
            json!({ "affinity": { "ttlSecs": 604_801 } }),
            "affinity.ttlSecs: must be",
        ),
        (
            json!({ "queue": { "timeoutSecs": 0 } }),
            "queue.timeoutSecs: must be",
        ),
        (
            json!({ "strategy": "ipHash", "boundedLoad": 0.5 }),
            "boundedLoad: must be a number from 1",
        ),
        (
            json!({ "boundedLoad": 2 }),
            "boundedLoad: is for the strategy ipHash",
        ),
        (
            json!({ "spillAtSoft": true }),
            "spillAtSoft: is for the strategy geo",
        ),
        (target(json!({})), "targets[1].host: is missing"),
        (
            target(json!({ "host": "a" })),
            "targets[1].id: \"a\" is the id of an earlier target",
        ),
        (
            target(json!({ "host": "b", "id": "a" })),
            "targets[1].id: \"a\" is the id",
        ),
        (
            target(json!({ "host": "b", "id": "" })),
            "targets[1].id: must have 1 to 128 bytes",
        ),
        (
            target(json!({ "host": "169.254.169.254" })),
            "targets[1].host: 169.254.169.254 is no target",
        ),
        (
            target(json!({ "host": "b", "port": 0 })),
            "targets[1].port: must be",
        ),
        (
            target(json!({ "host": "b", "weight": 65_536 })),
            "targets[1].weight: must be",
        ),
        (
            target(json!({ "host": "b", "country": "Brazil" })),
            "targets[1].country: must be two letters",
        ),
        (
            target(json!({ "host": "b", "region": "south america" })),
            "targets[1].region: must have 1 to 64",
        ),
        (
            target(json!({ "host": "b", "softLimit": 0 })),
            "targets[1].softLimit: must be",
        ),
        (
            target(json!({ "host": "b", "softLimit": 9, "hardLimit": 8 })),
            "targets[1].softLimit: 9 is above hardLimit 8",
        ),
    ]);
}

#[test]
fn every_fault_of_checks_and_discovery_has_its_path() {
    let check = |fields: Value| json!({ "check": fields });
    refused_with(&[
        (check(json!({ "type": "icmp" })), "check.type: must be"),
        (
            check(json!({ "type": "tcp", "path": "/" })),
            "check.path: is for the type http",
        ),
        (
            check(json!({ "type": "http", "expect": "00" })),
            "check.expect: is for the type udp",
        ),
        (
            check(json!({ "type": "udp" })),
            "check.expect: must be given",
        ),
        (
            check(json!({ "type": "udp", "expect": "" })),
            "check.expect: must be given",
        ),
        (
            check(json!({ "type": "udp", "expect": "0" })),
            "check.expect: must be an even number",
        ),
        (
            check(json!({ "type": "udp", "expect": "+1" })),
            "check.expect: must be an even number",
        ),
        (
            check(json!({ "type": "http", "path": "a b" })),
            "check.path: must begin",
        ),
        (
            check(json!({ "type": "http", "status": "99" })),
            "check.status: must be a status",
        ),
        (
            check(json!({ "type": "http", "status": "300-200" })),
            "check.status: must be a status",
        ),
        (
            check(json!({ "type": "http", "text": "" })),
            "check.text: must have",
        ),
        (
            check(json!({ "type": "http", "intervalSecs": 0 })),
            "check.intervalSecs: must be",
        ),
        (
            json!({ "discover": { "name": "a b" } }),
            "discover.name: must be a DNS name",
        ),
        (
            json!({ "discover": { "name": "a", "type": "srv", "port": 1 } }),
            "discover.port: is for the type address",
        ),
    ]);
}

fn refused_with(faults: &[(Value, &str)]) {
    for (pool, expected) in faults {
        let error = parse(pool.clone()).unwrap_err();
        let start = format!("pools.web.{expected}");
        assert!(error.message.starts_with(&start), "{error}, not {start}");
    }
}

#[test]
fn a_port_names_a_pool_that_is_there() {
    let hub = |more: Value, port: Value| {
        let mut hub = json!({ "edges": [{ "id": "e", "secret": "0123456789abcdef", "listenPorts": [port] }] });
        let more = more.as_object().unwrap().clone();
        hub.as_object_mut().unwrap().extend(more);
        parse_hub(&hub)
    };
    let port = json!({ "port": "443-445", "pool": "web" });
    let pools = json!({ "pools": { "web": {} } });
    let parsed = hub(pools.clone(), port.clone()).unwrap();
    let range = &parsed.edges[0].tcp.ranges()[0];
    let pool = range.pool.as_ref().unwrap();
    assert_eq!((pool.name.as_str(), pool.says_header), ("web", false));
    let error = hub(json!({}), port.clone()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("edges[0].listenPorts: a port names the pool \"web\""),
        "{error}"
    );
    assert!(hub(json!({ "routingDb": { "path": "routing.db" } }), port).is_ok());
    for field in ["targetHost", "targetPort", "targetPath"] {
        let mut port = json!({ "port": 443, "pool": "web" });
        port[field] = match field {
            "targetPort" => json!(1),
            "targetPath" => json!("/run/app.sock"),
            _ => json!("a"),
        };
        let error = hub(pools.clone(), port).unwrap_err();
        let expected = "edges[0].listenPorts[0].pool: is instead of";
        assert!(error.message.starts_with(expected), "{error}");
    }
}

#[test]
fn there_are_bounds() {
    let targets = |count: usize| {
        let target = |number: usize| json!({ "host": "a", "id": number.to_string() });
        json!({ "targets": (0..count).map(target).collect::<Vec<_>>() })
    };
    assert!(parse(targets(MAX_POOL_TARGETS)).is_ok());
    let error = parse(targets(MAX_POOL_TARGETS + 1)).unwrap_err();
    assert!(
        error
            .message
            .starts_with("pools.web.targets: has more than 4096"),
        "{error}"
    );
    let many = targets(4_000);
    let error = parse_pools(
        &json!({ "pools": { "a": many, "b": many, "c": many } }),
        false,
    )
    .unwrap_err();
    assert!(
        error
            .message
            .starts_with("pools: has more than 10000 targets"),
        "{error}"
    );
    let pools: serde_json::Map<_, _> = (0..=MAX_POOLS)
        .map(|pool| (pool.to_string(), json!({})))
        .collect();
    let error = parse_pools(&json!({ "pools": pools }), false).unwrap_err();
    assert!(
        error.message.starts_with("pools: has more than 1024 pools"),
        "{error}"
    );
}
