//! The flows of UDP in one session of the edge.

use super::flows::EdgeUdp;
use crate::edge::state::EdgeState;
use bytes::Bytes;
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::uplink::session::{Flows, UplinkSession};
use remoteingress_tunnel::uplink::sessions::Sessions;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// The sessions of one worker of the edge.
pub(in crate::edge) type EdgeSessions = Sessions<SessionFlows>;

/// One of them.
pub(in crate::edge) type EdgeSession = UplinkSession<SessionFlows>;

/// The part that a session adds to its worker's flows.
pub(in crate::edge) struct SessionFlows {
    state: Arc<EdgeState>,
    udp: Rc<EdgeUdp>,
    /// The session's number, as the worker's flows count sessions.
    number: Cell<u32>,
    pub(super) channel: FlowChannel,
}

impl SessionFlows {
    pub(in crate::edge) fn new(state: &Arc<EdgeState>, udp: &Rc<EdgeUdp>) -> Self {
        Self {
            state: state.clone(),
            udp: udp.clone(),
            number: Cell::new(0),
            channel: FlowChannel::default(),
        }
    }
}

impl Flows for SessionFlows {
    fn begin(&self) {
        self.number.set(self.udp.new_session());
    }

    fn handle(&self, datagram: &Bytes) {
        self.udp
            .take_datagram(self.number.get(), &self.channel, datagram);
    }

    fn settle(&self) {
        self.udp.flush();
    }

    fn count_drops(&self, local: &LocalSession) {
        self.channel.count_drops(local, &self.state.udp);
    }
}
