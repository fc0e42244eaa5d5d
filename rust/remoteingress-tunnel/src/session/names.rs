//! Names of streams and flows that are the same at edge and hub: the session's, and the number in that.

use crate::stream::splice::Pipe;
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::SessionId;
use remoteingress_proto::wire::frame::StreamId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The name of a session, and the streams that wait until they have theirs.
#[derive(Default)]
pub(super) struct Names {
    pub(super) session: Cell<Option<SessionId>>,
    pub(super) waiting: RefCell<Vec<Waiting>>,
}

/// Is given the stream and its name.
pub(super) type Named = Box<dyn FnOnce(&Pipe, String)>;

/// A stream without a name, and what is done once it has one.
pub(super) struct Waiting {
    pub(super) pipe: Rc<Pipe>,
    pub(super) named: Named,
}

/// Name of a stream of this session.
pub fn stream_name(session: SessionId, id: StreamId) -> String {
    format!("{:016x}-{:x}", start(session), id.0)
}

/// Name of a flow of this session.
pub fn flow_name(session: SessionId, id: FlowId) -> String {
    format!("{:016x}-u{:x}", start(session), id.0)
}

/// Half of an id: enough to tell sessions apart, and short enough to be read.
fn start(SessionId(id): SessionId) -> u64 {
    id.first_chunk().map_or(0, |half| u64::from_be_bytes(*half))
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
