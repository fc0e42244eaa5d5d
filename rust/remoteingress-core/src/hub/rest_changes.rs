//! Changes of edges over REST beside a configuration file: for each edge the later change counts.
//!
//! An edge is as REST has left it until its entry in the file is another one than when REST changed it. An entry that comes,
//! goes or says something else is such a change; the other edges of the file don't matter.

use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What REST has made of an edge.
#[derive(Debug, PartialEq, Eq)]
pub struct RestChange<E> {
    /// The edge as it is allowed now; none: it isn't.
    pub now: Option<Arc<E>>,
    /// The edge as the file had it when REST changed it; none: it hadn't.
    pub over: Option<Arc<E>>,
}

impl<E> Clone for RestChange<E> {
    fn clone(&self) -> Self {
        Self {
            now: self.now.clone(),
            over: self.over.clone(),
        }
    }
}

/// The edges of the file, and what REST has changed of them.
#[derive(Debug)]
pub struct RestChanges<E> {
    file: Arc<BTreeMap<EdgeId, Arc<E>>>,
    changes: BTreeMap<EdgeId, RestChange<E>>,
}

impl<E> Clone for RestChanges<E> {
    fn clone(&self) -> Self {
        Self {
            file: self.file.clone(),
            changes: self.changes.clone(),
        }
    }
}

impl<E: PartialEq> RestChanges<E> {
    /// Takes over the changes of an earlier run, before the file is read.
    pub fn new(changes: BTreeMap<EdgeId, RestChange<E>>) -> Self {
        Self {
            file: Arc::default(),
            changes,
        }
    }

    /// The file has these edges now. Gives the edges whose change over REST the file has overtaken.
    pub fn read(&mut self, file: BTreeMap<EdgeId, Arc<E>>) -> Vec<EdgeId> {
        self.file = Arc::new(file);
        let file = &self.file;
        let is_over = |id: &EdgeId, change: &RestChange<E>| {
            let said = file.get(id);
            said != change.over.as_ref() || said == change.now.as_ref()
        };
        let changes = std::mem::take(&mut self.changes);
        let (overtaken, kept): (BTreeMap<_, _>, _) = changes
            .into_iter()
            .partition(|(id, change)| is_over(id, change));
        self.changes = kept;
        overtaken.into_keys().collect()
    }

    /// REST has made this of an edge; none: it has removed it.
    pub fn record(&mut self, id: EdgeId, now: Option<Arc<E>>) {
        let over = self.file.get(&id).cloned();
        if now == over {
            self.changes.remove(&id);
        } else {
            self.changes.insert(id, RestChange { now, over });
        }
    }

    /// The edges that are allowed, by id.
    pub fn edges(&self) -> Vec<Arc<E>> {
        let unchanged = self
            .file
            .iter()
            .filter(|(id, _)| !self.changes.contains_key(*id));
        let changed = self
            .changes
            .iter()
            .filter_map(|(id, change)| Some((id, change.now.as_ref()?)));
        let edges: BTreeMap<&EdgeId, &Arc<E>> = unchanged.chain(changed).collect();
        edges.into_values().cloned().collect()
    }

    /// The changes that count.
    pub fn changes(&self) -> &BTreeMap<EdgeId, RestChange<E>> {
        &self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> EdgeId {
        EdgeId::new(name).unwrap()
    }

    fn file(edges: &[(&str, u8)]) -> BTreeMap<EdgeId, Arc<u8>> {
        let entry = |(name, edge): &(&str, u8)| (id(name), Arc::new(*edge));
        edges.iter().map(entry).collect()
    }

    fn edges(changes: &RestChanges<u8>) -> Vec<u8> {
        changes.edges().iter().map(|edge| **edge).collect()
    }

    #[test]
    fn a_change_stays_until_the_file_says_something_else_of_this_edge() {
        let mut changes = RestChanges::new(BTreeMap::new());
        changes.read(file(&[("a", 1), ("b", 2)]));
        changes.record(id("a"), Some(Arc::new(11)));
        changes.record(id("b"), None);
        changes.record(id("c"), Some(Arc::new(13)));
        assert_eq!(edges(&changes), [11, 13]);
        // Others come and go.
        assert!(
            changes
                .read(file(&[("a", 1), ("b", 2), ("d", 4)]))
                .is_empty()
        );
        assert_eq!(edges(&changes), [11, 13, 4]);
        assert_eq!(changes.read(file(&[("a", 21), ("b", 2)])), [id("a")]);
        assert_eq!(edges(&changes), [21, 13]);
        assert_eq!(
            changes.read(file(&[("a", 21), ("c", 3)])),
            [id("b"), id("c")]
        );
        assert_eq!(edges(&changes), [21, 3]);
        assert!(changes.changes().is_empty());
    }

    #[test]
    fn a_change_that_says_what_the_file_says_is_none() {
        let mut changes = RestChanges::new(BTreeMap::new());
        changes.read(file(&[("a", 1)]));
        changes.record(id("a"), Some(Arc::new(2)));
        changes.record(id("a"), Some(Arc::new(1)));
        changes.record(id("b"), None);
        assert!(changes.changes().is_empty());
        changes.record(id("a"), Some(Arc::new(2)));
        assert_eq!(changes.read(file(&[("a", 2)])), [id("a")]);
    }

    proptest! {
        /// A restart is a reading of the same file after the changes were kept.
        #[test]
        fn a_restart_changes_nothing(
            first in proptest::collection::btree_map("[a-e]", 0u8..3, 0..5),
            written in proptest::collection::vec(("[a-e]", proptest::option::of(0u8..3)), 0..8),
        ) {
            let first: BTreeMap<EdgeId, Arc<u8>> =
                first.iter().map(|(name, edge)| (id(name), Arc::new(*edge))).collect();
            let mut changes = RestChanges::new(BTreeMap::new());
            changes.read(first.clone());
            let mut model = first.clone();
            for (name, now) in written {
                let now = now.map(Arc::new);
                changes.record(id(&name), now.clone());
                match now {
                    Some(edge) => model.insert(id(&name), edge),
                    None => model.remove(&id(&name)),
                };
            }
            let mut again = RestChanges::new(changes.changes().clone());
            prop_assert!(again.read(first).is_empty());
            let expected: Vec<Arc<u8>> = model.into_values().collect();
            prop_assert_eq!(&changes.edges(), &expected);
            prop_assert_eq!(again.edges(), expected);
        }
    }
}
