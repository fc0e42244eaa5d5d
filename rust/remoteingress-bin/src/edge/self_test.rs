//! The stream of a self-test, which the hub asks for: the edge opens it and answers.

use super::udp::session::{EdgeSession, EdgeSessions};
use remoteingress_proto::control::SelfTest;
use remoteingress_proto::wire::features::Features;
use remoteingress_tunnel::self_test::answer;
use remoteingress_tunnel::stream::tunnel_stream::TunnelStream;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

/// No test takes longer, whatever the hub says.
const TEST_TIME: Duration = Duration::from_secs(10);

/// The test of a worker: one at a time.
#[derive(Default)]
pub(super) struct Testing(RefCell<Option<JoinHandle<()>>>);

impl Testing {
    /// Begins the test that the hub asks for, unless one runs.
    pub(super) fn begin(&self, sessions: &EdgeSessions, test: SelfTest) {
        let mut running = self.0.borrow_mut();
        if running.as_ref().is_some_and(|task| !task.is_finished()) {
            tracing::debug!("the hub asks for a test while another one runs");
            return;
        }
        let session = sessions.attached();
        let agreed = |session: &Rc<EdgeSession>| session.features().contains(Features::SELF_TEST);
        *running = session
            .filter(agreed)
            .and_then(|session| open(&session, test));
    }

    /// Ends the test that runs, if one does.
    pub(super) fn end(&self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

fn open(session: &EdgeSession, test: SelfTest) -> Option<JoinHandle<()>> {
    let local = &session.local;
    let opened = local.session().open(Instant::now(), &test.nonce.header());
    let key = match opened {
        Ok(key) => key,
        Err(error) => {
            tracing::debug!(%error, "failed to open the stream of a test");
            return None;
        }
    };
    let mut stream = TunnelStream::new(local, key);
    stream.sustain();
    local.notify();
    Some(spawn_local(async move {
        let answered = timeout(TEST_TIME, answer(&mut stream, &test)).await;
        tracing::debug!(?answered, "a self-test has ended");
    }))
}
