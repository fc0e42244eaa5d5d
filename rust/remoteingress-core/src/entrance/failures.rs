//! Wrong proofs, and who is refused for a while because of them (threats A2.4).
//!
//! They count by client network and claimed edge id, so that an edge with an old secret keeps no other one out that
//! shares its address. Ids beyond a number, and proofs that claim none, count together: too many of these refuse every id
//! that hasn't proved itself from the network.

use remoteingress_config::AUTH_FAILURE_WINDOW;
use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first time that somebody is refused after too many failures; doubled each time (threats A2.4).
const FIRST_BLOCK: Duration = Duration::from_secs(60);
/// No block is longer (threats A2.4).
const LAST_BLOCK: Duration = Duration::from_secs(15 * 60);
/// Ids of one network whose failures count apart: a site has fewer edges.
const MAX_SUSPECTS: usize = 64;
/// Ids of one network that are remembered as proven.
const MAX_PROVEN: usize = 1_024;
/// Where room is short, a proof older than this is forgotten.
const PROVEN_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// An id that has proved itself from the network may have so many times as many failures: they are another's, who shares
/// id and address, and one guess a second gets nowhere.
const PROVEN_FACTOR: u32 = 12;

/// The failures and proofs that came from one client network.
#[derive(Debug)]
pub(super) struct Origin {
    suspects: HashMap<EdgeId, Suspect>,
    proven: HashMap<EdgeId, Instant>,
    /// The ids that have no place of their own.
    others: Suspect,
}

/// Somebody whose proofs were wrong.
#[derive(Debug)]
struct Suspect {
    failures: u32,
    since: Instant,
    blocked_until: Option<Instant>,
    next_block: Duration,
}

/// A block that has just begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Only the claimed id is blocked, not all that haven't proved themselves.
    pub(super) is_of_id: bool,
    pub(super) failures: u32,
    pub(super) length: Duration,
}

/// Ids that all networks together may still have remembered.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) suspects: usize,
    pub(super) proven: usize,
}

impl Suspect {
    fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            since: now,
            blocked_until: None,
            next_block: FIRST_BLOCK,
        }
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.blocked_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts a failure; gives number and length of a block that begins with it.
    fn fail(&mut self, now: Instant, limit: u32, doubles: bool) -> Option<(u32, Duration)> {
        if now.saturating_duration_since(self.since) > AUTH_FAILURE_WINDOW {
            self.failures = 0;
            self.since = now;
        }
        self.failures += 1;
        if self.failures < limit {
            return None;
        }
        let length = self.next_block;
        self.blocked_until = Some(now + length);
        if doubles {
            self.next_block = (length * 2).min(LAST_BLOCK);
        }
        Some((std::mem::take(&mut self.failures), length))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let is_failing =
            self.failures > 0 && now.saturating_duration_since(self.since) <= AUTH_FAILURE_WINDOW;
        is_failing || self.left(now).is_some()
    }
}

impl Origin {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            suspects: HashMap::new(),
            proven: HashMap::new(),
            others: Suspect::new(now),
        }
    }

    /// Nobody from there can be let in.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.proven.is_empty() && self.others.left(now).is_some()
    }

    /// The time for which this id is refused from here on; its proof isn't looked at.
    pub(super) fn blocked(&self, now: Instant, edge: &EdgeId) -> Option<Duration> {
        let own = self.suspects.get(edge).and_then(|own| own.left(now));
        let is_proven = self.proven.contains_key(edge);
        own.or_else(|| self.others.left(now).filter(|_| !is_proven))
    }

    /// Proofs from there were wrong.
    pub(super) fn is_suspicious(&self) -> bool {
        !self.suspects.is_empty() || self.others.failures > 0
    }

    /// A proof was wrong.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        claimed: Option<&EdgeId>,
        limit: u32,
        room: &mut Room,
    ) -> Option<Begun> {
        let is_proven = claimed.is_some_and(|edge| self.proven.contains_key(edge));
        let known = claimed.is_some_and(|edge| self.suspects.contains_key(edge));
        let has_room = self.suspects.len() < MAX_SUSPECTS && room.suspects > 0;
        let of_id = claimed.filter(|_| known || has_room);
        // A proven id is never one of the others.
        if of_id.is_none() && is_proven {
            return None;
        }
        let suspect = match of_id {
            Some(edge) => {
                if !known {
                    room.suspects -= 1;
                }
                let new = || Suspect::new(now);
                self.suspects.entry(edge.clone()).or_insert_with(new)
            }
            None => &mut self.others,
        };
        let limit = if is_proven {
            limit.saturating_mul(PROVEN_FACTOR)
        } else {
            limit
        };
        let (failures, length) = suspect.fail(now, limit, !is_proven)?;
        Some(Begun {
            is_of_id: of_id.is_some(),
            failures,
            length,
        })
    }

    /// A proof was right: earlier failures of this id were mistakes.
    pub(super) fn prove(&mut self, now: Instant, edge: &EdgeId, room: &mut Room) {
        if self.suspects.remove(edge).is_some() {
            room.suspects += 1;
        }
        if let Some(at) = self.proven.get_mut(edge) {
            *at = now;
        } else if self.proven.len() < MAX_PROVEN && room.proven > 0 {
            room.proven -= 1;
            self.proven.insert(edge.clone(), now);
        }
    }

    /// Forgets what is old; true if something is left.
    pub(super) fn purge(&mut self, now: Instant, room: &mut Room) -> bool {
        let (suspects, proven) = (self.suspects.len(), self.proven.len());
        self.suspects.retain(|_, suspect| suspect.is_fresh(now));
        self.proven
            .retain(|_, at| now.saturating_duration_since(*at) <= PROVEN_FOR);
        room.suspects += suspects - self.suspects.len();
        room.proven += proven - self.proven.len();
        let is_empty = self.suspects.is_empty() && self.proven.is_empty();
        !is_empty || self.others.is_fresh(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 5;

    fn edge(number: usize) -> EdgeId {
        EdgeId::new(&format!("edge-{number}")).unwrap()
    }

    struct Site {
        now: Instant,
        origin: Origin,
        room: Room,
    }

    impl Site {
        fn new() -> Self {
            let now = crate::any_instant();
            Self {
                now,
                origin: Origin::new(now),
                room: Room {
                    suspects: 1_000,
                    proven: 1_000,
                },
            }
        }

        fn fail(&mut self, number: usize) -> Option<Begun> {
            let (edge, room) = (edge(number), &mut self.room);
            self.origin.fail(self.now, Some(&edge), LIMIT, room)
        }

        fn prove(&mut self, number: usize) {
            self.origin.prove(self.now, &edge(number), &mut self.room);
        }

        fn blocked(&self, number: usize) -> Option<u64> {
            let left = self.origin.blocked(self.now, &edge(number));
            left.map(|left| left.as_secs())
        }
    }

    fn begun(is_of_id: bool, failures: u32, secs: u64) -> Option<Begun> {
        Some(Begun {
            is_of_id,
            failures,
            length: Duration::from_secs(secs),
        })
    }

    #[test]
    fn an_id_is_blocked_for_its_own_failures_and_no_other_is() {
        let mut site = Site::new();
        for _ in 0..4 {
            assert_eq!(site.fail(1), None);
        }
        assert_eq!(site.fail(1), begun(true, 5, 60));
        assert_eq!((site.blocked(1), site.blocked(2)), (Some(60), None));
        assert!(!site.origin.is_closed(site.now));
        site.now += Duration::from_secs(60);
        assert_eq!(site.blocked(1), None);
        let again: Vec<_> = (0..5).map(|_| site.fail(1)).collect();
        assert_eq!(again[4], begun(true, 5, 120));
    }

    #[test]
    fn a_proven_id_bears_sixty_failures_a_minute_of_one_who_shares_it() {
        let mut site = Site::new();
        site.prove(1);
        for minute in 0..3 {
            for failure in 1..60 {
                assert_eq!(site.fail(1), None, "{failure} in minute {minute}");
            }
            assert_eq!(site.blocked(1), None);
            site.now += AUTH_FAILURE_WINDOW + Duration::from_millis(1);
        }
        let blocks: Vec<_> = (0..60).filter_map(|_| site.fail(1)).collect();
        assert_eq!(blocks, [begun(true, 60, 60).unwrap()]);
        // The next one isn't longer.
        site.now += Duration::from_secs(61);
        let blocks: Vec<_> = (0..60).filter_map(|_| site.fail(1)).collect();
        assert_eq!(blocks, [begun(true, 60, 60).unwrap()]);
    }

    #[test]
    fn many_ids_close_the_network_to_all_but_those_that_proved_themselves() {
        let mut site = Site::new();
        let claimed = (0..MAX_SUSPECTS).map(|number| site.fail(number));
        assert_eq!(claimed.flatten().count(), 0);
        let beyond: Vec<_> = (0..5).map(|number| site.fail(500 + number)).collect();
        assert_eq!(beyond[4], begun(false, 5, 60));
        assert_eq!(site.blocked(900), Some(60));
        assert!(site.origin.is_closed(site.now));
        site.prove(900);
        assert!(!site.origin.is_closed(site.now));
        assert_eq!((site.blocked(900), site.blocked(901)), (None, Some(60)));
        // Its own failures have no room, and never count for all.
        assert_eq!((0..1_000).filter_map(|_| site.fail(900)).count(), 0);
    }

    #[test]
    fn proofs_that_claim_no_id_count_together() {
        let mut site = Site::new();
        let blocks = (0..5).map(|_| site.origin.fail(site.now, None, LIMIT, &mut site.room));
        assert_eq!(blocks.last().unwrap(), begun(false, 5, 60));
        assert_eq!(site.blocked(1), Some(60));
    }

    #[test]
    fn what_all_networks_remember_is_bounded_and_given_back() {
        let mut site = Site::new();
        site.room = Room {
            suspects: 2,
            proven: 1,
        };
        for number in 0..4 {
            assert_eq!(site.fail(number), None);
            site.prove(100 + number);
        }
        assert_eq!((site.room.suspects, site.room.proven), (0, 0));
        assert_eq!(site.origin.suspects.len(), 2);
        site.prove(0);
        assert_eq!(site.room.suspects, 1);
        assert!(site.origin.purge(site.now, &mut site.room));
        site.now += PROVEN_FOR + Duration::from_millis(1);
        assert!(!site.origin.purge(site.now, &mut site.room));
        assert_eq!((site.room.suspects, site.room.proven), (2, 1));
    }
}
