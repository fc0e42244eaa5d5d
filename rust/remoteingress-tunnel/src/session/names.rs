//! Names of streams and flows that are the same at edge and hub: the session's, and the number in that.

use crate::stream::splice::Pipe;
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::SessionId;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::wire::frame::StreamId;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The names of a session, and the streams that wait until they have theirs.
#[derive(Default)]
pub(super) struct Names {
    session: Cell<Option<SessionId>>,
    /// The session that this one took over from, and the first stream that isn't of that.
    before: Cell<Option<(SessionId, StreamId)>>,
    waiting: RefCell<HashMap<StreamKey, Waiting>>,
    /// The id that was the next one when the waiting streams were last looked at.
    looked: Cell<Option<StreamId>>,
}

impl Names {
    /// The hub has given the session an id. It is another one than before for streams from `first` on.
    pub(super) fn set(&self, id: SessionId, first: StreamId) {
        let before = self.session.replace(Some(id));
        if let Some(before) = before.filter(|before| *before != id) {
            self.before.set(Some((before, first)));
        }
    }

    /// Name of a stream, once the hub has given the session an id.
    pub(super) fn of_stream(&self, id: StreamId) -> Option<String> {
        let before = self.before.get().filter(|(_, first)| id < *first);
        let session = before
            .map(|(session, _)| session)
            .or_else(|| self.session.get())?;
        Some(stream_name(session, id))
    }

    /// Name of a flow, once the hub has given the session an id.
    pub(super) fn of_flow(&self, id: FlowId) -> Option<String> {
        Some(flow_name(self.session.get()?, id))
    }

    /// Somebody wants to know the stream's name.
    pub(super) fn wait(&self, one: Waiting) {
        self.waiting.borrow_mut().insert(one.pipe.key(), one);
    }

    /// The stream has ended.
    pub(super) fn forget(&self, key: StreamKey) {
        self.waiting.borrow_mut().remove(&key);
    }

    /// All streams end. What is done with a name may hold the session.
    pub(super) fn forget_all(&self) {
        self.waiting.take();
    }

    /// Those that may have their names now: ids were given since the last look, up to this one.
    pub(super) fn look(&self, next: impl FnOnce() -> Option<StreamId>) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return Vec::new();
        }
        let Some(next) = next() else {
            return Vec::new();
        };
        if self.looked.replace(Some(next)) == Some(next) {
            return Vec::new();
        }
        std::mem::take(&mut *waiting).into_values().collect()
    }
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
    fn a_stream_of_a_lost_session_keeps_its_name() {
        let names = Names::default();
        assert_eq!(names.of_stream(StreamId(1)), None);
        let (lost, next) = (SessionId([1; 16]), SessionId([2; 16]));
        names.set(lost, StreamId(0));
        // The session was resumed: the same id again.
        names.set(lost, StreamId(5));
        names.set(next, StreamId(7));
        let of_lost = |id| Some(stream_name(lost, StreamId(id)));
        assert_eq!(names.of_stream(StreamId(3)), of_lost(3));
        assert_eq!(names.of_stream(StreamId(5)), of_lost(5));
        let seventh = Some(stream_name(next, StreamId(7)));
        assert_eq!(names.of_stream(StreamId(7)), seventh);
    }

    #[test]
    fn a_name_is_half_of_the_session_and_a_number() {
        let session = SessionId([0x0a; 16]);
        assert_eq!(stream_name(session, StreamId(31)), "0a0a0a0a0a0a0a0a-1f");
        assert_eq!(flow_name(session, FlowId(31)), "0a0a0a0a0a0a0a0a-u1f");
    }
}
