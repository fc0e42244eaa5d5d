//! A set of allowed edges that comes in parts: one is open at most, for a bounded time and with bounded size.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{AllowedEdge, EdgeList, set_of_part};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a set waits for its next part: a parent that has died, or has given up, sends none.
const PATIENCE: Duration = Duration::from_secs(30);
/// JSON of all parts, in bytes: about 300,000 edges with three ports each.
const MAX_BYTES: usize = 64 * 1_024 * 1_024;

/// The place of the one set that is open, if one is.
#[derive(Debug, Default)]
pub struct EdgeSet {
    open: Option<Open>,
    /// The number of the set that was begun last.
    last: u32,
}

#[derive(Debug)]
struct Open {
    edges: EdgeList,
    bytes: usize,
    until: Instant,
}

impl EdgeSet {
    /// Opens a set in place of any other, and gives its number.
    pub fn begin(&mut self, now: Instant) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.open = Some(Open {
            edges: EdgeList::default(),
            bytes: 0,
            until: now + PATIENCE,
        });
        self.last
    }

    /// Adds the part in these parameters, whose request has `bytes`. One that is refused drops the set.
    pub fn add(
        &mut self,
        params: &Value,
        bytes: usize,
        allow_special_targets: bool,
        now: Instant,
    ) -> Result<(), CodedError> {
        let mut open = self.take(set_of_part(params)?, now)?;
        open.bytes = open.bytes.saturating_add(bytes);
        if open.bytes > MAX_BYTES {
            let message = format!("the set has more than {MAX_BYTES} bytes; it is dropped");
            return Err(CodedError::new(ErrorCode::BadRequest, message));
        }
        open.edges.add(params, allow_special_targets)?;
        open.until = now + PATIENCE;
        self.open = Some(open);
        Ok(())
    }

    /// Closes the set and gives all of it.
    pub fn commit(&mut self, set: u32, now: Instant) -> Result<Vec<AllowedEdge>, CodedError> {
        Ok(self.take(set, now)?.edges.into_edges())
    }

    /// When the open set will have waited for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.until)
    }

    /// Drops the open set.
    pub fn drop_open(&mut self) {
        self.open = None;
    }

    /// A set that another number is asked for stays.
    fn take(&mut self, set: u32, now: Instant) -> Result<Open, CodedError> {
        let is_asked_for = |_: &mut Open| set == self.last;
        let open = self.open.take_if(is_asked_for);
        open.filter(|open| now < open.until).ok_or_else(|| {
            let message = format!("the set {set} isn't open; call beginAllowedEdges first");
            CodedError::new(ErrorCode::EdgeSetClosed, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn part(set: u32, id: &str) -> Value {
        json!({"set": set, "edges": [{"id": id, "secret": "s"}]})
    }

    fn code<T>(result: Result<T, CodedError>) -> Option<ErrorCode> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn the_parts_of_a_set_are_committed_together_and_once() {
        let (mut sets, now) = (EdgeSet::default(), crate::any_instant());
        let set = sets.begin(now);
        sets.add(&part(set, "a"), 100, false, now).unwrap();
        sets.add(&part(set, "b"), 100, false, now).unwrap();
        let ids: Vec<_> = sets.commit(set, now).unwrap();
        assert_eq!(ids.len(), 2);
        assert_eq!(code(sets.commit(set, now)), Some(ErrorCode::EdgeSetClosed));
        assert_eq!(sets.deadline(), None);
    }

    #[test]
    fn a_set_gives_way_to_the_next_which_its_late_parts_dont_reach() {
        let (mut sets, now) = (EdgeSet::default(), crate::any_instant());
        let old = sets.begin(now);
        sets.add(&part(old, "a"), 100, false, now).unwrap();
        let new = sets.begin(now);
        let late = sets.add(&part(old, "b"), 100, false, now);
        assert_eq!(code(late), Some(ErrorCode::EdgeSetClosed));
        assert!(sets.commit(new, now).unwrap().is_empty());
    }

    #[test]
    fn a_set_is_dropped_after_its_deadline_which_each_part_moves() {
        let (mut sets, now) = (EdgeSet::default(), crate::any_instant());
        let set = sets.begin(now);
        let later = now + PATIENCE - Duration::from_millis(1);
        sets.add(&part(set, "a"), 100, false, later).unwrap();
        assert_eq!(sets.deadline(), Some(later + PATIENCE));
        let late = sets.commit(set, later + PATIENCE);
        assert_eq!(code(late), Some(ErrorCode::EdgeSetClosed));
        assert_eq!(sets.deadline(), None);
    }

    #[test]
    fn a_part_that_is_too_much_or_wrong_drops_the_set() {
        let (mut sets, now) = (EdgeSet::default(), crate::any_instant());
        for (bytes, expected) in [
            (MAX_BYTES, ErrorCode::BadRequest),
            (1, ErrorCode::InvalidConfig),
        ] {
            let set = sets.begin(now);
            sets.add(&part(set, "a"), 100, false, now).unwrap();
            let refused = sets.add(&part(set, "a"), bytes, false, now);
            assert_eq!(code(refused), Some(expected));
            assert_eq!(sets.deadline(), None);
        }
        let set = sets.begin(now);
        let shapeless = json!({"set": set, "edges": [{"id": "a"}]});
        let refused = sets.add(&shapeless, 1, false, now);
        assert_eq!(code(refused), Some(ErrorCode::InvalidConfig));
        assert_eq!(sets.deadline(), None);
    }
}
