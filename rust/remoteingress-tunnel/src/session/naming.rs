//! Each stream's and flow's name, as soon as it has one.

use super::local_session::LocalSession;
use super::names::{flow_name, stream_name};
use crate::stream::splice::Pipe;
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::SessionId;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::wire::frame::StreamId;

impl LocalSession {
    /// The id that the hub has given the session, from now on.
    pub fn set_id(&self, id: SessionId) {
        self.names().session.set(Some(id));
    }

    /// Name of a stream, once its OPEN has left and the hub knows the session.
    pub fn stream_name(&self, key: StreamKey) -> Option<String> {
        let session = self.session();
        let id = session.stream_id(key).filter(|_| session.is_welcome())?;
        drop(session);
        self.name(id)
    }

    /// Name of a stream whose pipe has ended, if it had one.
    pub fn name_of_ended(&self, pipe: &Pipe) -> Option<String> {
        self.name(pipe.kept_id()?)
    }

    fn name(&self, id: StreamId) -> Option<String> {
        Some(stream_name(self.names().session.get()?, id))
    }

    /// Name of a flow, once the hub knows the session.
    pub fn flow_name(&self, id: FlowId) -> Option<String> {
        Some(flow_name(self.names().session.get()?, id))
    }

    /// Waits until a stream has its name, or its pipe has ended without one.
    pub async fn named(&self, pipe: &Pipe) {
        self.names().waiting.update(|waiting| waiting + 1);
        loop {
            let changed = self.names().changed.notified();
            if self.stream_name(pipe.key()).is_some() || pipe.is_over() {
                break;
            }
            changed.await;
        }
        self.names().waiting.update(|waiting| waiting - 1);
    }
}
