//! Metrics of a process, whatever runs in it.

use super::facts::Facts;
use super::families::{About, counter, counters, gauge, histogram};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use remoteingress_config::status::MemoryBudget;
use std::collections::BTreeMap;
use std::fmt;

const START: About = About::of("start_time", Unit::Seconds, "Start, since 1970");
const RESTARTS: About = About::new(
    "restarts",
    "Restarts of this process by the program that drives it",
);
const FIRST_BYTE: About = About::of(
    "first_byte",
    Unit::Seconds,
    "Time from a client's arrival, or at a hub from the edge's word of it, to the target's first byte",
);
const USED: About = About::of(
    "memory_budget_used",
    Unit::Bytes,
    "Memory that the workers have taken of the budget",
);
const LIMIT: About = About::of("memory_budget_limit", Unit::Bytes, "The memory budget");
const EVENTS: About = About::new(
    "events_dropped",
    "Events that were lost because nobody read them in time",
);
const ACCESS: About = About::new(
    "access_log_lost",
    "Lines of the access log that were lost because its disk was full or too slow",
);
const REFUSALS: About = About::new(
    "refusals",
    "Connections, clients and streams that were refused here",
);

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> fmt::Result {
    let version = facts.overview.version.as_str();
    encoder
        .encode_descriptor("build", "What runs here", None, MetricType::Info)?
        .encode_info(&[("version", version)])?;
    let millis = facts.overview.started_at;
    gauge(encoder, &START, millis as f64 / 1_000.0)?;
    counter(encoder, &RESTARTS, facts.restarts)?;
    histogram(encoder, &FIRST_BYTE, &facts.first_byte)
}

/// What each end counts of itself as a whole.
pub(super) fn encode_own(
    encoder: &mut DescriptorEncoder<'_>,
    budget: MemoryBudget,
    events_dropped: u64,
    access_log_lost: u64,
) -> fmt::Result {
    gauge(encoder, &USED, budget.used_bytes)?;
    gauge(encoder, &LIMIT, budget.limit_bytes)?;
    counter(encoder, &EVENTS, events_dropped)?;
    counter(encoder, &ACCESS, access_log_lost)
}

/// Refusals by reason. Those that haven't occurred are there, too: the first one is an increase that a rate sees.
pub(super) fn encode_refusals<R: Copy + Ord>(
    encoder: &mut DescriptorEncoder<'_>,
    all: &[R],
    as_str: fn(R) -> &'static str,
    counts: &BTreeMap<R, u64>,
) -> fmt::Result {
    let count = |reason: &R| {
        let count = counts.get(reason).copied().unwrap_or_default();
        ([("reason", as_str(*reason))], count)
    };
    counters(encoder, &REFUSALS, all.iter().map(count))
}
