//! A slab whose entries stand in up to `LANES` lists at once: every step takes O(1), and nothing is allocated per step.

use slab::Slab;

/// No entry.
const NIL: usize = usize::MAX;

/// The first and the last entry of a list in one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: usize,
    last: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NIL,
            last: NIL,
        }
    }
}

impl List {
    /// The entry that has been here longest.
    pub(super) fn first(&self) -> Option<usize> {
        (self.first != NIL).then_some(self.first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NIL
    }
}

#[derive(Clone, Copy, Debug)]
struct Links {
    previous: usize,
    next: usize,
}

#[derive(Debug)]
struct Node<T, const LANES: usize> {
    value: T,
    links: [Links; LANES],
}

/// Entries by index, each of which can stand in several lists at once. An entry must be taken out of its lists before
/// it is removed.
#[derive(Debug)]
pub(super) struct LinkedSlab<T, const LANES: usize> {
    nodes: Slab<Node<T, LANES>>,
}

impl<T, const LANES: usize> Default for LinkedSlab<T, LANES> {
    fn default() -> Self {
        Self { nodes: Slab::new() }
    }
}

impl<T, const LANES: usize> LinkedSlab<T, LANES> {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.nodes.get(index).map(|node| &node.value)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.nodes.get_mut(index).map(|node| &mut node.value)
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        let links = [Links {
            previous: NIL,
            next: NIL,
        }; LANES];
        self.nodes.insert(Node { value, links })
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        self.nodes.try_remove(index).map(|node| node.value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.nodes.iter().map(|(index, node)| (index, &node.value))
    }

    /// Makes an entry that is in no list of this lane the last of the list.
    pub(super) fn push_back(&mut self, list: &mut List, lane: usize, index: usize) {
        self.set(lane, index, |links| {
            links.previous = list.last;
            links.next = NIL;
        });
        if list.last == NIL {
            list.first = index;
        } else {
            self.set(lane, list.last, |links| links.next = index);
        }
        list.last = index;
    }

    /// Takes an entry out of the list that it is in.
    pub(super) fn unlink(&mut self, list: &mut List, lane: usize, index: usize) {
        let Some(&Links { previous, next }) =
            self.nodes.get(index).and_then(|node| node.links.get(lane))
        else {
            return;
        };
        if previous == NIL {
            list.first = next;
        } else {
            self.set(lane, previous, |links| links.next = next);
        }
        if next == NIL {
            list.last = previous;
        } else {
            self.set(lane, next, |links| links.previous = previous);
        }
    }

    /// An entry that was used just now becomes the last.
    pub(super) fn move_back(&mut self, list: &mut List, lane: usize, index: usize) {
        if list.last != index {
            self.unlink(list, lane, index);
            self.push_back(list, lane, index);
        }
    }

    fn set(&mut self, lane: usize, index: usize, change: impl FnOnce(&mut Links)) {
        let node = self.nodes.get_mut(index);
        if let Some(links) = node.and_then(|node| node.links.get_mut(lane)) {
            change(links);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_does_what_a_vector_does(steps in prop::collection::vec((0..3_u8, 0..12_usize), 0..200)) {
            let (mut slab, mut list) = (LinkedSlab::<u32, 2>::default(), List::default());
            let mut model: Vec<usize> = Vec::new();
            for (number, (step, place)) in (0..).zip(steps) {
                let chosen = model.get(place).copied();
                match (step, chosen) {
                    (0, _) => {
                        let index = slab.insert(number);
                        slab.push_back(&mut list, 1, index);
                        model.push(index);
                    }
                    (1, Some(index)) => {
                        slab.unlink(&mut list, 1, index);
                        prop_assert!(slab.remove(index).is_some());
                        model.remove(place);
                    }
                    (_, Some(index)) => {
                        slab.move_back(&mut list, 1, index);
                        model.remove(place);
                        model.push(index);
                    }
                    (_, None) => {}
                }
                prop_assert_eq!(list.first(), model.first().copied());
                prop_assert_eq!(slab.len(), model.len());
            }
            let mut order = Vec::new();
            while let Some(index) = list.first() {
                slab.unlink(&mut list, 1, index);
                order.push(index);
            }
            prop_assert_eq!(order, model);
            prop_assert!(list.is_empty());
        }
    }
}
