//! Flows by the time of their last datagram, where not all of them may be silent for the same time.

use super::linked::{LinkedSlab, List};
use std::time::Duration;

/// A list per length of silence, each with the flow that was silent longest first. There are as many lists as the
/// configuration has timeouts: one, mostly.
#[derive(Debug)]
pub(super) struct Activity<const LANE: usize> {
    lists: Vec<(Duration, List)>,
}

impl<const LANE: usize> Default for Activity<LANE> {
    fn default() -> Self {
        Self { lists: Vec::new() }
    }
}

impl<const LANE: usize> Activity<LANE> {
    /// The flows that were silent longest: one per timeout, with that.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (Duration, usize)> {
        let lists = self.lists.iter();
        lists.filter_map(|(idle, list)| Some((*idle, list.first()?)))
    }

    /// Any flow.
    pub(super) fn any(&self) -> Option<usize> {
        self.oldest().next().map(|(_, index)| index)
    }

    pub(super) fn push<T, const LANES: usize>(
        &mut self,
        flows: &mut LinkedSlab<T, LANES>,
        idle: Duration,
        index: usize,
    ) {
        let place = self.lists.iter().position(|(of, _)| *of == idle);
        let place = place.unwrap_or_else(|| {
            self.lists.push((idle, List::default()));
            self.lists.len() - 1
        });
        if let Some((_, list)) = self.lists.get_mut(place) {
            flows.push_back(list, LANE, index);
        }
    }

    /// The flow has just had a datagram.
    pub(super) fn touch<T, const LANES: usize>(
        &mut self,
        flows: &mut LinkedSlab<T, LANES>,
        idle: Duration,
        index: usize,
    ) {
        if let Some((_, list)) = self.lists.iter_mut().find(|(of, _)| *of == idle) {
            flows.move_back(list, LANE, index);
        }
    }

    pub(super) fn remove<T, const LANES: usize>(
        &mut self,
        flows: &mut LinkedSlab<T, LANES>,
        idle: Duration,
        index: usize,
    ) {
        let Some(place) = self.lists.iter().position(|(of, _)| *of == idle) else {
            return;
        };
        if let Some((_, list)) = self.lists.get_mut(place) {
            flows.unlink(list, LANE, index);
            if list.is_empty() {
                self.lists.swap_remove(place);
            }
        }
    }
}
