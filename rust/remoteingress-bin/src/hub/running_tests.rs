//! The self-tests that run: one per edge, and few at once.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Tests of different edges at once.
const MAX_TESTS: usize = 4;

/// Clones are the same.
#[derive(Clone, Default)]
pub(super) struct SelfTests(Arc<Shared>);

#[derive(Default)]
struct Shared {
    running: Mutex<HashSet<EdgeId>>,
    /// The hub drains.
    ended: watch::Sender<bool>,
}

/// A test that runs until this is dropped.
pub(super) struct SelfTest {
    tests: SelfTests,
    edge: EdgeId,
}

impl SelfTests {
    /// Begins a test, unless one of this edge runs, or too many.
    pub(super) fn begin(&self, edge: &EdgeId) -> Result<SelfTest, CodedError> {
        let bad = |message| Err(CodedError::new(ErrorCode::BadRequest, message));
        let mut running = self.running();
        if running.contains(edge) {
            return bad(format!(
                "a test of edge {edge} runs already; ask again when it has ended, within 10 s"
            ));
        }
        if running.len() >= MAX_TESTS {
            return bad(format!(
                "{MAX_TESTS} edges are tested already; ask again when one test has ended, within 10 s"
            ));
        }
        running.insert(edge.clone());
        Ok(SelfTest {
            tests: self.clone(),
            edge: edge.clone(),
        })
    }

    /// No test goes on.
    pub(super) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    /// Resolves when none is to go on.
    pub(super) async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        // Its sender is here.
        let _ = ended.wait_for(|is_over| *is_over).await;
    }

    fn running(&self) -> MutexGuard<'_, HashSet<EdgeId>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SelfTest {
    fn drop(&mut self) {
        self.tests.running().remove(&self.edge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_tested_once_at_a_time_and_few_edges_are() {
        let tests = SelfTests::default();
        let edge = |number: usize| EdgeId::new(&format!("edge-{number}")).expect("an id");
        let mut running: Vec<_> = (0..MAX_TESTS)
            .map(|number| tests.begin(&edge(number)).expect("room"))
            .collect();
        let refused = |edge: &EdgeId| match tests.begin(edge) {
            Ok(_) => panic!("it was begun"),
            Err(error) => error.message,
        };
        assert!(refused(&edge(0)).contains("edge-0 runs already"));
        assert!(refused(&edge(9)).contains("4 edges are tested"));
        running.remove(0);
        assert!(tests.begin(&edge(0)).is_ok());
    }
}
