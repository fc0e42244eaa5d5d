//! The stream of a self-test, at the hub.

use super::context::SessionContext;
use super::running_tests::Awaited;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::wire::header::TestNonce;
use remoteingress_tunnel::self_test::{Measured, ask};
use remoteingress_tunnel::stream::tunnel_stream::TunnelStream;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Time for all that the stream is to show.
const STREAM_TIME: Duration = Duration::from_secs(8);

/// Takes a stream whose header is one of a test that waits for it; false leaves it to be refused.
pub(super) fn open(session: &Rc<SessionContext>, key: StreamKey, header: &[u8]) -> bool {
    let Ok(Some(nonce)) = TestNonce::of_header(header) else {
        return false;
    };
    let Some(awaited) = session.worker.state.tests.take(&session.edge, nonce) else {
        tracing::debug!(edge = %session.edge, "an edge opened a stream of a test that nobody waits for");
        return false;
    };
    let stream = TunnelStream::new(&session.local, key);
    stream.sustain();
    spawn_local(measure(session.clone(), stream, awaited));
    true
}

async fn measure(session: Rc<SessionContext>, mut stream: TunnelStream, awaited: Awaited) {
    let before = session.local.path_loss().await;
    let Awaited { terms, mut found } = awaited;
    let mut measured = Measured::default();
    let ended = tokio::select! {
        ended = timeout(STREAM_TIME, ask(&mut stream, &terms, &mut measured)) => ended,
        () = found.closed() => return,
    };
    if !matches!(ended, Ok(Ok(()))) {
        tracing::debug!(?ended, "a self-test has ended early");
    }
    let after = session.local.path_loss().await;
    let loss = before.zip(after);
    let loss = loss.and_then(|(before, after)| after.since(before));
    // It may have ended meanwhile.
    let _ = found.send((measured, loss));
}
