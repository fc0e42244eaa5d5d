//! Names of streams and flows that are the same at edge and hub: the session's, and the number in that.

use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::SessionId;
use remoteingress_proto::wire::frame::StreamId;
use std::cell::Cell;
use tokio::sync::Notify;

/// The name of a session, and those who wait until its streams have theirs.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) session: Cell<Option<SessionId>>,
    pub(super) waiting: Cell<usize>,
    pub(super) changed: Notify,
}

/// Name of a stream of this session.
pub fn stream_name(session: SessionId, id: StreamId) -> String {
    format!("{}-{:x}", start(session), id.0)
}

/// Name of a flow of this session.
pub fn flow_name(session: SessionId, id: FlowId) -> String {
    format!("{}-u{:x}", start(session), id.0)
}

/// Half of an id: enough to tell sessions apart, and short enough to be read.
fn start(session: SessionId) -> String {
    let mut name = session.to_string();
    name.truncate(16);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_half_of_the_session_and_a_number() {
        let session = SessionId([0x0a; 16]);
        assert_eq!(stream_name(session, StreamId(31)), "0a0a0a0a0a0a0a0a-1f");
        assert_eq!(flow_name(session, FlowId(31)), "0a0a0a0a0a0a0a0a-u1f");
    }
}
