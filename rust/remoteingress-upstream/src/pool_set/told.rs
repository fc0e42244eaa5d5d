//! What is told of the pools: their state, and why a client would get which target.

use crate::member::{Admin, Member, Out};
use crate::pick::{Ask, Pick, Seen};
use crate::plan::Entry;
use crate::pool_set::{Destination, LivePool, Regions};
use crate::region::Country;
use crate::time::Moment;
use remoteingress_config::pool_status::{
    PoolExplained, PoolStatus, TargetExplained, TargetState, TargetStatus,
};
use remoteingress_proto::token::edge_id::EdgeId;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a pool.
pub fn status(pool: &LivePool, regions: &Regions, now: Moment) -> PoolStatus {
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let entries = pool.plan.entries().iter().zip(&pool.destinations);
    let target = |(entry, destination)| target(entry, destination, regions, now);
    let mut targets: Vec<TargetStatus> = entries.map(target).collect();
    targets.sort_by(|one, other| one.id.cmp(&other.id));
    let counts = &pool.counts;
    let picks = counts.picks.counts();
    PoolStatus {
        name: pool.name.clone(),
        strategy: pool.config.strategy,
        active_streams: targets
            .iter()
            .map(|target| u64::from(target.active_streams))
            .sum(),
        total_streams: picks.values().sum(),
        picks,
        retries: count(&counts.retries),
        waiting: count(&counts.waiting),
        affinity_hits: count(&counts.affinity_hits),
        affinity_broken: count(&counts.affinity_broken),
        refused_empty: count(&counts.refused_empty),
        refused_full: count(&counts.refused_full),
        refused_unhealthy: count(&counts.refused_unhealthy),
        discovery: None,
        targets,
    }
}

fn target(
    entry: &Entry,
    destination: &Destination,
    regions: &Regions,
    now: Moment,
) -> TargetStatus {
    let (member, settings) = (&entry.member, &entry.settings);
    let weightless = (settings.weight == 0).then_some(Out::Weightless);
    let out = member.out(now, settings.hard_limit, false).or(weightless);
    let region = settings
        .place
        .region
        .and_then(|region| regions.name(region));
    TargetStatus {
        id: destination.id.clone(),
        host: destination.host.as_str().to_owned(),
        port: destination.port,
        source: destination.source,
        region: region.map(str::to_owned),
        country: settings.place.country.map(Country::text),
        state: state(out, member, destination),
        admin: member.admin().into(),
        retry_in_ms: retry_in(out, now),
        failures: member.failures(),
        check_error: member.check_error(),
        active_streams: member.streams(),
        total_streams: member.total(),
        failed_streams: member.failed(),
        connect_ms: member.latency().map(|latency| latency.as_secs_f64() * 1e3),
        weight: settings.weight,
        effective_weight: entry.effective_weight(now),
        soft_limit: settings.soft_limit,
        hard_limit: settings.hard_limit,
        priority: settings.priority,
    }
}

/// Why a client would get which target, the best first: by priority, then those that take it, by what the strategy
/// compares.
pub fn explain(
    pool: &LivePool,
    regions: &Regions,
    ask: &Ask<'_>,
    client: IpAddr,
    edge_id: Option<EdgeId>,
) -> PoolExplained {
    let seen = Pick::new(&pool.plan, ask).explain();
    let entries = pool.plan.entries().iter().zip(&pool.destinations);
    let is_by_tier = pool.config.strategy == remoteingress_config::pools::Strategy::Geo;
    let explained = |((entry, destination), seen): ((&Entry, &Destination), Seen)| {
        let state = state(seen.out, &entry.member, destination);
        TargetExplained {
            id: destination.id.clone(),
            state,
            retry_in_ms: retry_in(seen.out, ask.now),
            priority: entry.settings.priority,
            tier: is_by_tier.then_some(seen.tier),
            load: seen.load,
            score: is_by_tier.then_some(seen.score),
            active_streams: entry.member.streams(),
        }
    };
    let mut targets: Vec<_> = entries.zip(seen).map(explained).collect();
    targets.sort_by(|one, other| {
        let key = |target: &TargetExplained| {
            let score = target.score.unwrap_or(target.load);
            (target.state != TargetState::Up, target.priority, score)
        };
        let (one, other) = (key(one), key(other));
        (one.0, one.1)
            .cmp(&(other.0, other.1))
            .then(one.2.total_cmp(&other.2))
    });
    let bound = ask.bound.and_then(|place| pool.destinations.get(place));
    let name = |region: Option<_>| {
        let name = region.and_then(|region| regions.name(region));
        name.map(str::to_owned)
    };
    PoolExplained {
        pool: pool.name.clone(),
        strategy: pool.config.strategy,
        client,
        country: ask.origin.country.map(Country::text),
        region: name(ask.origin.region),
        edge_id,
        local_region: name(ask.origin.local),
        bound: bound.map(|destination| destination.id.clone()),
        targets,
    }
}

fn retry_in(out: Option<Out>, now: Moment) -> Option<u64> {
    match out {
        Some(Out::Open { until }) => {
            Some(u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX))
        }
        _ => None,
    }
}

fn state(out: Option<Out>, member: &Member, destination: &Destination) -> TargetState {
    match out {
        // A stream that tried it knows more than its state says.
        None | Some(Out::Tried) => TargetState::Up,
        Some(Out::Admin(Admin::Dead)) => TargetState::Dead,
        Some(Out::Admin(_)) if destination.is_leaving => TargetState::Leaving,
        Some(Out::Admin(_)) => TargetState::Drain,
        Some(Out::Down) => TargetState::Down,
        Some(Out::Open { .. }) => TargetState::Ejected,
        Some(Out::Trial) => TargetState::Trial,
        Some(Out::Full) => TargetState::Full,
        Some(Out::Weightless) if member.admin() == Admin::Active => TargetState::Weightless,
        Some(Out::Weightless) => TargetState::Drain,
    }
}
