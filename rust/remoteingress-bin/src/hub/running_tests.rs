//! The self-tests that run: one per edge, and few at once. A stream of a test is taken only while its test waits for it, so
//! that an edge can't begin one.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::doctor::tunnel::PathLoss;
use remoteingress_proto::control::SelfTest as Terms;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::header::TestNonce;
use remoteingress_tunnel::self_test::Measured;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// Tests of different edges at once.
const MAX_TESTS: usize = 4;

/// Clones are the same.
#[derive(Clone, Default)]
pub(super) struct SelfTests(Arc<Shared>);

#[derive(Default)]
struct Shared {
    running: Mutex<HashMap<EdgeId, Option<Awaited>>>,
    /// The hub drains.
    ended: watch::Sender<bool>,
}

/// What a stream has shown, and what was lost on the way to the edge meanwhile, where that is known.
pub(super) type Findings = (Measured, Option<PathLoss>);

/// The stream that a test waits for.
pub(super) struct Awaited {
    pub(super) terms: Terms,
    /// Where the findings go. Without a receiver the test has ended.
    pub(super) found: oneshot::Sender<Findings>,
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
        if running.contains_key(edge) {
            return bad(format!(
                "a test of edge {edge} runs already; ask again when it has ended, within 10 s"
            ));
        }
        if running.len() >= MAX_TESTS {
            return bad(format!(
                "{MAX_TESTS} edges are tested already; ask again when one test has ended, within 10 s"
            ));
        }
        running.insert(edge.clone(), None);
        Ok(SelfTest {
            tests: self.clone(),
            edge: edge.clone(),
        })
    }

    /// The test whose stream this edge has opened, once; none if there is no such test.
    pub(super) fn take(&self, edge: &EdgeId, nonce: TestNonce) -> Option<Awaited> {
        let mut running = self.running();
        running
            .get_mut(edge)?
            .take_if(|awaited| awaited.terms.nonce == nonce)
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

    fn running(&self) -> MutexGuard<'_, HashMap<EdgeId, Option<Awaited>>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl SelfTest {
    /// Takes the edge's stream of these terms from now on; its findings come by the receiver, or nothing if it fails.
    pub(super) fn expect(&self, terms: Terms) -> oneshot::Receiver<Findings> {
        let (found, findings) = oneshot::channel();
        let awaited = Awaited { terms, found };
        self.tests
            .running()
            .insert(self.edge.clone(), Some(awaited));
        findings
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

    fn edge(number: usize) -> EdgeId {
        EdgeId::new(&format!("edge-{number}")).expect("an id")
    }

    #[test]
    fn an_edge_is_tested_once_at_a_time_and_few_edges_are() {
        let tests = SelfTests::default();
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

    #[test]
    fn a_stream_is_taken_once_and_only_while_its_test_waits_for_it() {
        let tests = SelfTests::default();
        let nonce = TestNonce([1; 16]);
        let terms = Terms {
            nonce,
            millis: 1,
            bytes: 1,
        };
        assert!(tests.take(&edge(1), nonce).is_none());
        let test = tests.begin(&edge(1)).expect("room");
        assert!(tests.take(&edge(1), nonce).is_none());
        let _findings = test.expect(terms);
        assert!(tests.take(&edge(1), TestNonce([2; 16])).is_none());
        assert!(tests.take(&edge(2), nonce).is_none());
        assert!(tests.take(&edge(1), nonce).is_some());
        assert!(tests.take(&edge(1), nonce).is_none());
        drop(test);
        let test = tests.begin(&edge(1)).expect("room");
        let _findings = test.expect(terms);
        drop(test);
        assert!(tests.take(&edge(1), nonce).is_none());
    }
}
