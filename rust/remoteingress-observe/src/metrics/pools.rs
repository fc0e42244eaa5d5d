//! Metrics of a hub's pools. Their names are there without a pool, too; the samples are those of what is configured.

use super::facts::Facts;
use super::families::{About, counters, gauges, histograms};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use remoteingress_config::pool_status::{PickReason, PoolStatus, TargetState, TargetStatus};
use remoteingress_config::pools::Strategy;
use remoteingress_config::status::HubStatus;
use std::fmt;

const ACTIVE: About = About::new(
    "pool_active_streams",
    "Streams and flows that a target of a pool has now",
);
const STREAMS: About = About::new(
    "pool_streams",
    "Streams and flows that a target of a pool was chosen for",
);
const FAILURES: About = About::new(
    "pool_failures",
    "Streams and flows to a target of a pool that failed: it refused, was silent, or wasn't reached",
);
const UP: About = About::new(
    "pool_target_up",
    "1 for a target of a pool that takes streams, 0 for one that doesn't",
);
const TARGETS: About = About::new(
    "pool_targets",
    "Targets of a pool, whether they take streams or not; 0 for one that a port names and that isn't there",
);
const PICKS: About = About::new(
    "pool_picks",
    "Streams and flows that got a target of a pool, by the reason why they got that one",
);
const CONNECT: About = About::of(
    "pool_connect",
    Unit::Seconds,
    "Time until a target of a pool took a stream's connection, or answered a flow for the first time",
);
const RETRIES: About = About::new("pool_retries", "Dials beyond the first of a stream");
const WAITING: About = About::new(
    "pool_waiting_clients",
    "Clients that wait for a place in a pool that is full",
);
const AFFINITY: About = About::new(
    "pool_affinity",
    "Clients that came back to the target that they had, and those for whom it was gone, out or full",
);
const REFUSALS: About = About::new(
    "pool_refusals",
    "Streams and flows that a pool had no target for",
);
const BINDINGS: About = About::new(
    "pool_bindings",
    "Clients whose target is kept, of all pools",
);
const REVISION: About = About::new(
    "routing_db_revision",
    "Number of the version of routing.db in force, which counts up with each change",
);
const ROWS: About = About::new("routing_db_rows", "Rows of routing.db in force");
const REFUSED_ROWS: About = About::new(
    "routing_db_refused_rows",
    "Rows of routing.db that can't be targets",
);
const DB_FAILED: About = About::new(
    "routing_db_failed",
    "1 while routing.db can't be read, so that an earlier version stays in force",
);
const GEO_BUILT: About = About::of(
    "geo_built_time",
    Unit::Seconds,
    "Time at which the data of the database of countries were put together, since 1970",
);

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    facts: &Facts,
    status: &HubStatus,
) -> fmt::Result {
    let pools = &status.pools;
    encode_targets(encoder, pools)?;
    let sizes = pools.iter().map(|pool| (&pool.name, pool.targets.len()));
    let sizes = sizes.chain(facts.missing_pools.iter().map(|name| (name, 0)));
    let sizes = sizes.map(|(name, size)| ([("pool", name.as_str())], size as u64));
    gauges(encoder, &TARGETS, sizes)?;
    encode_pools(encoder, pools)?;
    let connects = facts.pool_connects.iter();
    let connects = connects.map(|(name, counts)| ([("pool", name.as_str())], counts));
    histograms(encoder, &CONNECT, connects)?;
    let bindings = (!pools.is_empty()).then_some(([], status.bindings));
    gauges(encoder, &BINDINGS, bindings)?;
    let db = status.routing_db.as_ref();
    gauges(encoder, &REVISION, db.map(|db| ([], db.revision)))?;
    gauges(encoder, &ROWS, db.map(|db| ([], db.rows)))?;
    gauges(encoder, &REFUSED_ROWS, db.map(|db| ([], db.refused_rows)))?;
    let failed = db.map(|db| ([], u64::from(db.error.is_some())));
    gauges(encoder, &DB_FAILED, failed)?;
    let built = status.geo.as_ref().and_then(|geo| geo.built);
    let built = built.map(|millis| ([], millis as f64 / 1_000.0));
    gauges(encoder, &GEO_BUILT, built)
}

/// A sample for each target, by pool and target.
fn encode_targets(encoder: &mut DescriptorEncoder<'_>, pools: &[PoolStatus]) -> fmt::Result {
    let all = |value: fn(&TargetStatus) -> u64| {
        pools.iter().flat_map(move |pool| {
            let targets = pool.targets.iter();
            targets.map(move |target| {
                let labels = [("pool", pool.name.as_str()), ("target", target.id.as_str())];
                (labels, value(target))
            })
        })
    };
    gauges(encoder, &ACTIVE, all(|target| target.active_streams.into()))?;
    counters(encoder, &STREAMS, all(|target| target.total_streams))?;
    counters(encoder, &FAILURES, all(|target| target.failed_streams))?;
    let is_up = |target: &TargetStatus| u64::from(target.state == TargetState::Up);
    gauges(encoder, &UP, all(is_up))
}

/// A sample for each pool.
fn encode_pools(encoder: &mut DescriptorEncoder<'_>, pools: &[PoolStatus]) -> fmt::Result {
    let all = |value: fn(&PoolStatus) -> u64| {
        let pools = pools.iter();
        pools.map(move |pool| ([("pool", pool.name.as_str())], value(pool)))
    };
    let picks = pools.iter().flat_map(|pool| {
        let reasons = PickReason::ALL.iter();
        reasons.filter_map(|reason| {
            let count = pool.picks.get(reason).copied();
            // Its strategy may have been another one.
            let count = count.or_else(|| occurs(*reason, pool.strategy).then_some(0))?;
            let labels = [("pool", pool.name.as_str()), ("reason", reason.as_str())];
            Some((labels, count))
        })
    });
    counters(encoder, &PICKS, picks)?;
    counters(encoder, &RETRIES, all(|pool| pool.retries))?;
    gauges(encoder, &WAITING, all(|pool| pool.waiting))?;
    let affinity = pools.iter().flat_map(|pool| {
        let results = [
            ("kept", pool.affinity_hits),
            ("broken", pool.affinity_broken),
        ];
        results.map(|(result, count)| {
            let labels = [("pool", pool.name.as_str()), ("result", result)];
            (labels, count)
        })
    });
    counters(encoder, &AFFINITY, affinity)?;
    let refusals = pools.iter().flat_map(|pool| {
        let reasons = [
            ("empty", pool.refused_empty),
            ("full", pool.refused_full),
            ("unhealthy", pool.refused_unhealthy),
        ];
        reasons.map(|(reason, count)| {
            let labels = [("pool", pool.name.as_str()), ("reason", reason)];
            (labels, count)
        })
    });
    counters(encoder, &REFUSALS, refusals)
}

/// True if pools of this strategy know the reason.
fn occurs(reason: PickReason, strategy: Strategy) -> bool {
    use PickReason::{Tier0, Tier1, Tier2, Tier3};
    match reason {
        Tier0 | Tier1 | Tier2 | Tier3 => strategy == Strategy::Geo,
        PickReason::Strategy => strategy != Strategy::Geo,
        PickReason::Binding | PickReason::LastResort | PickReason::Retry => true,
    }
}
