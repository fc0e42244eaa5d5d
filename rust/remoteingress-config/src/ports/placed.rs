//! Ranges on their way into a map: a port is there once, or on several addresses that have no packet in common.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::range::PortRange;
use crate::error::CodedError;

/// Ranges by the address that they are bound to.
#[derive(Debug)]
pub(super) struct Placed<P> {
    /// Sorted by first port, each range with its place in the user's list.
    by_address: BTreeMap<Option<IpAddr>, Vec<(PortRange<P>, usize)>>,
}

/// The ranges whose ports are there once, and the others by address.
pub(super) type Ranges<P> = (Vec<PortRange<P>>, Vec<(IpAddr, Vec<PortRange<P>>)>);

impl<P> Default for Placed<P> {
    fn default() -> Self {
        Self {
            by_address: BTreeMap::new(),
        }
    }
}

impl<P: PartialEq> Placed<P> {
    /// Takes the range with this place in the list at `path`.
    pub(super) fn insert(
        &mut self,
        range: PortRange<P>,
        index: usize,
        path: &str,
    ) -> Result<(), CodedError> {
        let address = range.bind_address.map(|address| address.to_canonical());
        for (other, ranges) in &self.by_address {
            if !is_in_common(*other, address) {
                continue;
            }
            let next = ranges.partition_point(|(other, _)| other.first <= range.last);
            let Some((other, earlier)) = ranges[..next]
                .last()
                .filter(|(other, _)| other.last >= range.first)
            else {
                continue;
            };
            let advice = if other.bind_address.is_some() || address.is_some() {
                "a port that is there twice needs two different values of bindAddress, and none of all addresses"
            } else {
                "a port has one target, unless each entry has a bindAddress of its own"
            };
            let problem = format!(
                "{} overlaps {}, which is {path}[{earlier}]; {advice}",
                range.span(),
                other.span()
            );
            return Err(CodedError::invalid_config(
                format_args!("{path}[{index}]"),
                problem,
            ));
        }
        let ranges = self.by_address.entry(address).or_default();
        let next = ranges.partition_point(|(other, _)| other.first <= range.last);
        ranges.insert(next, (range, index));
        Ok(())
    }

    pub(super) fn into_ranges(self) -> Ranges<P> {
        let all = self.by_address.into_iter().flat_map(|(address, ranges)| {
            let with_address = move |(range, _)| (address, range);
            ranges.into_iter().map(with_address)
        });
        let mut all: Vec<(Option<IpAddr>, PortRange<P>)> = all.collect();
        all.sort_by_key(|(_, range)| range.first);
        let (mut once, mut shared) = (Vec::new(), BTreeMap::new());
        let mut all = all.into_iter().peekable();
        while let Some(first) = all.next() {
            // Ranges that overlap, each with one of the others.
            let mut last = first.1.last;
            let mut group = vec![first];
            while let Some(next) = all.next_if(|(_, range)| range.first <= last) {
                last = last.max(next.1.last);
                group.push(next);
            }
            let is_shared = group.len() > 1;
            for (address, range) in group {
                match address.filter(|_| is_shared) {
                    Some(address) => append(shared.entry(address).or_default(), range),
                    None => append(&mut once, range),
                }
            }
        }
        (once, shared.into_iter().collect())
    }
}

/// Appends a range, to the last one if it continues that.
fn append<P: PartialEq>(ranges: &mut Vec<PortRange<P>>, range: PortRange<P>) {
    match ranges.last_mut() {
        Some(before) if before.is_continued_by(&range) => before.last = range.last,
        _ => ranges.push(range),
    }
}

/// Some packet reaches both addresses. Without an address an edge chooses, and may choose any.
fn is_in_common(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return true;
    };
    let is_whole = one.is_unspecified() || other.is_unspecified();
    one == other || (is_whole && one.is_ipv4() == other.is_ipv4())
}
