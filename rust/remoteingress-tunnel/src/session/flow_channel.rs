//! A session's tunnel datagrams, as both ends use them: cut on their way in, put together on their way out, losses counted.

use crate::session::local_session::LocalSession;
use bytes::Bytes;
use remoteingress_core::udp_counters::{UdpCounters, UdpDrop};
use remoteingress_proto::flow::{Encoder, FlowId, Fragment, FragmentDrops, Reassembler};
use remoteingress_proto::mux::DatagramDrops;
use remoteingress_proto::wire::header::StreamHeader;
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// The datagrams of one session's UDP flows: fragments out, whole payloads in, and the drops that are counted.
#[derive(Debug, Default)]
pub struct FlowChannel {
    encoder: RefCell<Encoder>,
    reassembler: RefCell<Reassembler>,
    /// Drops that are in the counters already.
    counted: Cell<(DatagramDrops, FragmentDrops)>,
}

impl FlowChannel {
    /// Queues a payload. The driver is to be notified once for all of a batch.
    pub fn send(
        &self,
        local: &LocalSession,
        now: Instant,
        flow: FlowId,
        header: Option<&StreamHeader>,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let mut session = local.session();
        let max = session.max_datagram();
        let queue = |datagram| session.send_datagram(now, datagram);
        let mut encoder = self.encoder.borrow_mut();
        let sent = encoder.payload(flow, header, payload, max, queue);
        sent.map_err(|_| UdpDrop::TooLarge)
    }

    /// Tells the edge that the hub has a flow's header.
    pub fn say_known(&self, local: &LocalSession, now: Instant, flow: FlowId) {
        let datagram = self.encoder.borrow_mut().known(flow);
        local.session().send_notice(now, datagram);
    }

    /// Tells the edge that the hub needs a flow's header again.
    pub fn say_unknown(&self, local: &LocalSession, now: Instant, flow: FlowId) {
        let datagram = self.encoder.borrow_mut().unknown(flow);
        local.session().send_notice(now, datagram);
    }

    /// Takes a fragment; gives the payload that it makes whole.
    pub fn join(&self, now: Instant, flow: FlowId, fragment: &Fragment) -> Option<Bytes> {
        self.reassembler.borrow_mut().handle(now, flow, fragment)
    }

    /// Gives up what waits for too long, and adds to the counters what was lost since the last time.
    pub fn count_drops(&self, local: &LocalSession, counters: &UdpCounters) {
        let mut reassembler = self.reassembler.borrow_mut();
        reassembler.expire(Instant::now());
        let lost = (local.session().datagram_drops(), reassembler.drops());
        let before = self.counted.replace(lost);
        counters.add_queue(before.0, lost.0);
        counters.add_fragments(before.1, lost.1);
    }
}
