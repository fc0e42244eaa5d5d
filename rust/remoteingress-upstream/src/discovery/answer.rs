//! What a lookup has found, and how its records become targets.

use crate::time::Moment;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Records of one answer that become targets. A name with more is rather a mistake, or somebody's who wants the hub's
/// memory; a pool has room for 4,096 targets.
pub const MAX_RECORDS: usize = 256;
/// Most that a weight is multiplied with, so that a record of weight 0 gets about a hundredth next to the others.
const MAX_FACTOR: u16 = 100;

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Id of the target: the address, or host and port. The same record has the same id in each answer.
    pub id: String,
    /// The address, or the name that is looked up at each dial.
    pub host: String,
    /// Port of the target; none where the record has none.
    pub port: Option<u16>,
    /// SRV: hosts of higher numbers are used only where all of lower ones are out. Others: 0.
    pub priority: u16,
    /// SRV: share of streams among hosts of the same priority. Others: 1.
    pub weight: u16,
}

/// A good answer: the name exists. One without records counts as [`Failure::Empty`](super::Failure::Empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its records, in any order.
    pub records: Vec<Found>,
    /// How long it may be used: the shortest time of its records.
    pub ttl: Duration,
    /// The family of addresses whose lookup failed, while that of the other went well.
    pub missing: Option<Family>,
}

/// A family of addresses. Each is a lookup of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// A target that a name gives, or has given until a short while ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Unique among the name's targets: the address, or host and port.
    pub id: String,
    /// The address, or the name that is looked up at each dial.
    pub host: String,
    /// Its port; none where the record has none.
    pub port: Option<u16>,
    /// Rank of its record's priority among those of the answer: 0 for the lowest number.
    pub priority: u8,
    /// Its share of new streams, at least 1.
    pub weight: u16,
    /// It gets no new clients, and is gone then.
    pub leaving: Option<Moment>,
}

impl Found {
    /// The record of an address (A or AAAA). An IPv4 address that is written as an IPv6 one becomes the IPv4 address.
    pub fn address(address: IpAddr) -> Self {
        let text = address.to_canonical().to_string();
        Self {
            id: text.clone(),
            host: text,
            port: None,
            priority: 0,
            weight: 1,
        }
    }

    /// The record of a service (SRV). Names of hosts that differ in case or in a dot at the end are one host.
    pub fn service(host: &str, port: u16, priority: u16, weight: u16) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Self {
            id: format!("{host}:{port}"),
            host,
            port: Some(port),
            priority,
            weight,
        }
    }
}

impl Family {
    /// True if the id is an address of this family.
    pub(super) fn has(self, id: &str) -> bool {
        match id.parse() {
            Ok(IpAddr::V4(_)) => self == Self::V4,
            Ok(IpAddr::V6(_)) => self == Self::V6,
            Err(_) => false,
        }
    }
}

/// The targets of an answer by their ids, and how many records were too many.
///
/// Of records with one id the first by priority, then by weight, is taken. Of more than [`MAX_RECORDS`] ids the first by
/// priority, then by id, are taken: the same ones as long as the answer is the same in whatever order.
pub(super) fn targets(mut records: Vec<Found>) -> (Vec<Target>, usize) {
    records.sort_by(|one, other| one.id.cmp(&other.id).then_with(|| precedence(one, other)));
    records.dedup_by(|later, first| later.id == first.id);
    // A stable sort: records of one priority stay in the order of their ids.
    records.sort_by_key(|record| record.priority);
    let cut = records.len().saturating_sub(MAX_RECORDS);
    records.truncate(MAX_RECORDS);

    let priorities: BTreeSet<u16> = records.iter().map(|record| record.priority).collect();
    let mut targets = Vec::with_capacity(records.len());
    for (rank, priority) in priorities.into_iter().enumerate() {
        let peers = records.iter().filter(|record| record.priority == priority);
        let weights: Vec<u16> = peers.clone().map(|record| record.weight).collect();
        // Not more than MAX_RECORDS ranks, so that each has a number of its own.
        let rank = u8::try_from(rank).unwrap_or(u8::MAX);
        targets.extend(peers.map(|record| Target {
            id: record.id.clone(),
            host: record.host.clone(),
            port: record.port,
            priority: rank,
            weight: share(record.weight, &weights),
            leaving: None,
        }));
    }
    targets.sort_by(|one, other| one.id.cmp(&other.id));
    (targets, cut)
}

fn precedence(one: &Found, other: &Found) -> Ordering {
    let by_priority = one.priority.cmp(&other.priority);
    by_priority.then_with(|| other.weight.cmp(&one.weight))
}

/// The weight of a target whose record has the weight `weight` among those of its priority, `all`.
///
/// A target of weight 0 gets no new clients at all, while RFC 2782 gives a record of weight 0 "a very small chance" beside
/// others that have more, and equal shares where all have 0. So: all 0 becomes all 1; 0 beside others becomes 1, and the
/// others are multiplied by up to 100, as far as the largest still fits. Their shares among each other stay as they are.
fn share(weight: u16, all: &[u16]) -> u16 {
    let largest = all.iter().copied().max().unwrap_or(0);
    if largest == 0 {
        return 1;
    }
    if !all.contains(&0) {
        return weight;
    }
    let factor = (u16::MAX / largest).clamp(1, MAX_FACTOR);
    weight.saturating_mul(factor).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(records: &[(&str, u16, u16)]) -> Vec<(String, u8, u16)> {
        let found = |&(host, priority, weight): &(&str, u16, u16)| {
            Found::service(host, 80, priority, weight)
        };
        let (targets, cut) = targets(records.iter().map(found).collect());
        assert_eq!(cut, 0);
        let seen = |target: Target| (target.host, target.priority, target.weight);
        targets.into_iter().map(seen).collect()
    }

    fn expect(records: &[(&str, u16, u16)], targets: &[(&str, u8, u16)]) {
        let named = |&(host, priority, weight): &(&str, u8, u16)| (host.into(), priority, weight);
        let expected: Vec<(String, u8, u16)> = targets.iter().map(named).collect();
        assert_eq!(shaped(records), expected);
    }

    #[test]
    fn priorities_become_ranks() {
        expect(
            &[("c", 65_535, 5), ("a", 300, 5), ("b", 10, 7), ("d", 300, 1)],
            &[("a", 1, 5), ("b", 0, 7), ("c", 2, 5), ("d", 1, 1)],
        );
    }

    #[test]
    fn a_weight_of_none_gets_almost_none_and_never_nothing() {
        // All of a priority have none: equal shares. Another priority's weights don't matter.
        expect(
            &[("a", 1, 0), ("b", 1, 0), ("c", 2, 9)],
            &[("a", 0, 1), ("b", 0, 1), ("c", 1, 9)],
        );
        expect(
            &[("a", 1, 0), ("b", 1, 1), ("c", 1, 2)],
            &[("a", 0, 1), ("b", 0, 100), ("c", 0, 200)],
        );
        // The factor is as large as the largest weight leaves room for.
        expect(
            &[("a", 1, 0), ("b", 1, 1_000), ("c", 1, 20_000)],
            &[("a", 0, 1), ("b", 0, 3_000), ("c", 0, 60_000)],
        );
        expect(
            &[("a", 1, 0), ("b", 1, 65_535)],
            &[("a", 0, 1), ("b", 0, 65_535)],
        );
        expect(
            &[("a", 1, 1), ("b", 1, 65_535)],
            &[("a", 0, 1), ("b", 0, 65_535)],
        );
    }

    #[test]
    fn one_id_is_one_target_and_the_better_record_is_taken() {
        expect(
            &[("web.", 2, 9), ("WEB", 1, 3), ("Web", 1, 5)],
            &[("web", 0, 5)],
        );
        let mapped = Found::address("::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(mapped, Found::address("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn too_many_are_cut_alike_in_any_order() {
        let found = |number: u16| Found::service(&format!("h{number:03}"), 80, number % 2, 1);
        let mut records: Vec<Found> = (0..300).map(found).collect();
        let (first, cut) = targets(records.clone());
        assert_eq!((first.len(), cut), (256, 44));
        // All 150 of the better priority, and the first 106 of the other.
        assert_eq!(first.iter().filter(|one| one.priority == 0).count(), 150);
        let last = first.iter().rfind(|one| one.priority == 1);
        assert_eq!(last.unwrap().host, "h211");
        records.rotate_left(77);
        records.reverse();
        assert_eq!(targets(records).0, first);
    }

    #[test]
    fn each_of_256_priorities_has_a_rank_of_its_own() {
        let found = |number: u16| Found::service("h", number, number * 200, 1);
        let (targets, cut) = targets((1..=300).map(found).collect());
        let ranks: BTreeSet<u8> = targets.iter().map(|target| target.priority).collect();
        assert_eq!((ranks.len(), cut), (256, 44));
    }
}
