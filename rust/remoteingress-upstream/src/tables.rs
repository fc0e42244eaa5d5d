//! What a plan computes once, so that a pick is quick: a fair order of turns, and a table of hashes.

use crate::client::{HashSeed, hash_id};

/// Turns of a schedule, at most; weights beyond that are rounded.
const MAX_TURNS: u64 = 4_096;

/// Places of the hash table: a prime, a hundred times as many as a large pool has members, so that shares are even within
/// a tenth of a percent (Eisenbud and others, "Maglev", 2016).
pub(crate) const HASH_PLACES: usize = 65_537;

/// Members by their turns: each as often as its weight says, and spread as evenly as that can be.
pub(crate) fn turns(weights: &[u16]) -> Vec<u16> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let divisor = weights
        .iter()
        .fold(0, |one, other| gcd(one, u64::from(*other)));
    let share = |weight: u16| {
        let weight = u64::from(weight);
        match (weight, divisor) {
            (0, _) | (_, 0) => 0,
            _ if sum / divisor <= MAX_TURNS => weight / divisor,
            _ => (weight * MAX_TURNS / sum).max(1),
        }
    };
    let mut turns = Vec::new();
    for (member, weight) in (0_u16..).zip(weights) {
        let count = share(*weight);
        // The middle of each of its equal parts of the whole.
        let at = |turn: u64| (2 * turn + 1) as f64 / (2 * count) as f64;
        turns.extend((0..count).map(|turn| (at(turn), member)));
    }
    turns.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    turns.into_iter().map(|(_, member)| member).collect()
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 {
        one
    } else {
        gcd(other, one % other)
    }
}

/// Members by hash: each has as many places as its weight says, and keeps nearly all of them when another one comes or
/// goes. Empty if no member has a weight.
pub(crate) fn hash_table(ids: &[&str], weights: &[u16], seed: HashSeed) -> Vec<u16> {
    let heaviest = weights.iter().copied().max().unwrap_or(0);
    if heaviest == 0 {
        return Vec::new();
    }
    let places = HASH_PLACES as u64;
    let mut wishes: Vec<Wishes> = ids
        .iter()
        .map(|id| {
            let hash = hash_id(id, seed);
            Wishes {
                next: hash % places,
                step: (hash >> 32) % (places - 1) + 1,
                due: 0.0,
            }
        })
        .collect();
    let mut table = vec![None; HASH_PLACES];
    let mut left = HASH_PLACES;
    while left > 0 {
        for (member, (wish, weight)) in (0_u16..).zip(wishes.iter_mut().zip(weights)) {
            wish.due += f64::from(*weight) / f64::from(heaviest);
            if wish.due < 1.0 || left == 0 {
                continue;
            }
            wish.due -= 1.0;
            wish.take(&mut table, member);
            left -= 1;
        }
    }
    table.into_iter().flatten().collect()
}

/// The order in which a member wants places: a permutation of all of them, since their number is prime.
struct Wishes {
    next: u64,
    step: u64,
    due: f64,
}

impl Wishes {
    /// Takes the first place of its order that is free. There is one.
    fn take(&mut self, table: &mut [Option<u16>], member: u16) {
        for _ in 0..table.len() {
            let place = usize::try_from(self.next)
                .ok()
                .and_then(|at| table.get_mut(at));
            self.next = (self.next + self.step) % HASH_PLACES as u64;
            if let Some(place @ None) = place {
                *place = Some(member);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_as_many_as_weights_say_and_spread() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[10, 20, 0]), [1, 0, 1]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(turns(&[]), [0_u16; 0]);
        assert_eq!(turns(&[0]), [0_u16; 0]);
        let many = turns(&[65_535, 1, 32_768]);
        assert!(many.len() as u64 <= MAX_TURNS + 1);
        assert_eq!(many.iter().filter(|member| **member == 1).count(), 1);
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("target-{number}"))
            .collect()
    }

    fn table(ids: &[String], weights: &[u16]) -> Vec<u16> {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        hash_table(&ids, weights, HashSeed(1))
    }

    #[test]
    fn a_hash_table_is_even_and_a_removal_moves_little() {
        let ids = ids(10);
        let before = table(&ids, &[1; 10]);
        assert_eq!(before.len(), HASH_PLACES);
        for member in 0..10 {
            let count = before.iter().filter(|one| **one == member).count();
            let off = (count as f64 / 6_553.7 - 1.0).abs();
            assert!(off < 0.005, "{member} has {count}");
        }
        let after = table(&ids[..9], &[1; 9]);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        let share = moved.count() as f64 / HASH_PLACES as f64;
        assert!(share <= 0.11, "{share} moved");
    }

    #[test]
    fn a_hash_table_has_weights() {
        let table = table(&ids(3), &[1, 2, 0]);
        let count = |member| table.iter().filter(|one| **one == member).count() as f64;
        assert!((count(1) / count(0) - 2.0).abs() < 0.01);
        assert_eq!(count(2), 0.0);
        assert!(hash_table(&["a"], &[0], HashSeed(1)).is_empty());
    }
}
