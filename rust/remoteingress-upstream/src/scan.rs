//! What a scan for the lowest score reads of a plan: targets in groups that are equally far from any client, and in each
//! group side by side.

use crate::bank::{Bank, SEATS, Seat};
use crate::region::Place;
use std::collections::HashMap;
use std::sync::Arc;

/// Above the score of any target below its soft limit: the tier is 3 at most, and the load, of a target that rises, 10.
pub(crate) const AT_SOFT: f64 = 1_000.0;

/// Targets of one priority and place.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) priority: u8,
    pub(crate) place: Place,
    pub(crate) rows: Vec<Row>,
}

/// Targets of a group in one bank. Aligned, so that its numbers are read two at a time.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Row {
    /// 1 / (soft limit × weight); not a number for seats that aren't of this group.
    per_stream: [f64; SEATS],
    bank: Arc<Bank>,
    soft_limits: [i32; SEATS],
    places: [u16; SEATS],
    /// The first of the places that are taken.
    first: u16,
}

/// A target as it comes into a group.
#[derive(Debug)]
pub(crate) struct Grouped<'a> {
    /// Its place in the plan.
    pub(crate) index: u16,
    pub(crate) priority: u8,
    pub(crate) place: Place,
    pub(crate) seat: &'a Seat,
    pub(crate) per_stream: f64,
    pub(crate) soft_limit: u32,
}

/// Puts targets into groups.
pub(crate) fn groups<'a>(targets: impl Iterator<Item = Grouped<'a>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = HashMap::new();
    let mut row_of = HashMap::new();
    for target in targets {
        let key = (target.priority, target.place);
        let group = *group_of.entry(key).or_insert_with(|| {
            groups.push(Group {
                priority: target.priority,
                place: target.place,
                rows: Vec::new(),
            });
            groups.len() - 1
        });
        let Some(Group { rows, .. }) = groups.get_mut(group) else {
            continue;
        };
        let bank = target.seat.bank();
        let row = *row_of.entry((group, Arc::as_ptr(bank))).or_insert_with(|| {
            rows.push(Row::new(bank));
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(row) {
            row.set(&target);
        }
    }
    groups
}

impl Row {
    fn new(bank: &Arc<Bank>) -> Self {
        Self {
            bank: bank.clone(),
            per_stream: [f64::NAN; SEATS],
            soft_limits: [i32::MAX; SEATS],
            places: [0; SEATS],
            first: u16::MAX,
        }
    }

    fn set(&mut self, target: &Grouped<'_>) {
        let at = target.seat.at();
        self.per_stream[at] = target.per_stream;
        self.soft_limits[at] = i32::try_from(target.soft_limit).unwrap_or(i32::MAX);
        self.places[at] = target.index;
        self.first = self.first.min(target.index);
    }

    /// The load of each target; below 0 for those that rise, and not a number for seats of others.
    #[inline]
    pub(crate) fn loads(&self) -> [f64; SEATS] {
        let streams = self.bank.streams();
        std::array::from_fn(|at| f64::from(streams[at]) * self.per_stream[at])
    }

    /// As [`Self::loads`], with [`AT_SOFT`] more for those at their soft limit.
    #[inline]
    pub(crate) fn spilling_loads(&self) -> [f64; SEATS] {
        let streams = self.bank.streams();
        std::array::from_fn(|at| {
            let is_at_soft = streams[at] >= self.soft_limits[at];
            let more = if is_at_soft { AT_SOFT } else { 0.0 };
            f64::from(streams[at]) * self.per_stream[at] + more
        })
    }

    /// Place in the plan of the target in this seat.
    #[inline]
    pub(crate) fn index(&self, at: usize) -> usize {
        usize::from(self.places[at % SEATS])
    }

    /// No target of this row has an earlier turn, and none a lower place in the plan.
    #[inline]
    pub(crate) fn earliest(&self) -> (u64, usize) {
        (self.bank.earliest(), usize::from(self.first))
    }

    /// Turn of the target in this seat.
    #[inline]
    pub(crate) fn turn(&self, at: usize) -> u64 {
        self.bank.turn(at)
    }
}

/// The lowest of these; what isn't a number counts for nothing.
#[inline]
pub(crate) fn least(loads: &[f64; SEATS]) -> f64 {
    // Two at a time, as processors without AVX compare them.
    let lower = |one: f64, other: f64| if one < other { one } else { other };
    let (mut even, mut odd) = (f64::INFINITY, f64::INFINITY);
    for pair in loads.as_chunks::<2>().0 {
        even = lower(pair[0], even);
        odd = lower(pair[1], odd);
    }
    lower(even, odd)
}
