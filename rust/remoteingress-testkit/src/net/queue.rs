//! Events to come, in the order of virtual time.

use std::collections::BTreeMap;
use std::time::Instant;

/// Events by time. Those of one lane that are due at the same instant come in the order in which they were scheduled;
/// between lanes the seed decides, so that no test comes to rely on an order that nothing guarantees.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    seed: u64,
    scheduled: u64,
    events: BTreeMap<Place, E>,
}

/// The order of its fields is the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: Instant,
    rank: u64,
    number: u64,
}

impl<E> Queue<E> {
    /// Empty. The same seed and the same calls give the same order.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            scheduled: 0,
            events: BTreeMap::new(),
        }
    }

    /// Lets `event` happen at `at`.
    pub fn schedule(&mut self, at: Instant, lane: u64, event: E) {
        let place = Place {
            at,
            rank: rank(self.seed, lane),
            number: self.scheduled,
        };
        self.scheduled += 1;
        self.events.insert(place, event);
    }

    /// Time of the next event.
    pub fn next_at(&self) -> Option<Instant> {
        self.events.keys().next().map(|place| place.at)
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        let (place, event) = self.events.pop_first()?;
        Some((place.at, event))
    }

    /// Forgets the events that `keep` doesn't name.
    pub fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        self.events.retain(|_, event| keep(event));
    }
}

/// A lane's place among others, by the finalizer of SplitMix64.
fn rank(seed: u64, lane: u64) -> u64 {
    let mut x = seed ^ lane.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
