//! Two sessions and the link between them: virtual time, a byte stream each way that can be cut anywhere.

use crate::any_instant;
use crate::builder::{DEFAULT_BUDGET, SessionBuilder, budget};
use bytes::Bytes;
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::StreamEnd;
use remoteingress_proto::mux::{Event, Role, Session, StreamKey};
use remoteingress_proto::wire::frame::DataBuffer;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub enum End {
    Edge(StreamKey),
    Hub(StreamKey),
}

pub fn edge(key: StreamKey) -> End {
    End::Edge(key)
}

pub fn hub(key: StreamKey) -> End {
    End::Hub(key)
}

#[derive(Debug)]
pub struct Pair {
    pub edge: Session,
    pub hub: Session,
    pub now: Instant,
    edge_budget: Budget,
    hub_budget: Budget,
    pub opened: Vec<StreamKey>,
    pub edge_events: Vec<Event>,
    pub hub_events: Vec<Event>,
    to_hub: Vec<u8>,
    to_edge: Vec<u8>,
}

impl Pair {
    pub fn new() -> Self {
        let now = any_instant();
        let [edge_budget, hub_budget] = [budget(DEFAULT_BUDGET), budget(DEFAULT_BUDGET)];
        Self {
            edge: SessionBuilder::new(Role::Edge).build(&edge_budget, now),
            hub: SessionBuilder::new(Role::Hub).build(&hub_budget, now),
            now,
            edge_budget,
            hub_budget,
            opened: Vec::new(),
            edge_events: Vec::new(),
            hub_events: Vec::new(),
            to_hub: Vec::new(),
            to_edge: Vec::new(),
        }
    }

    /// Opens a stream from the edge and waits until the hub has it.
    pub fn open(&mut self, header: &[u8]) -> (StreamKey, StreamKey) {
        let key = self.edge.open(self.now, header).expect("open");
        self.settle();
        (key, *self.opened.last().expect("opened"))
    }

    fn side(&mut self, end: End) -> (&mut Session, StreamKey) {
        match end {
            End::Edge(key) => (&mut self.edge, key),
            End::Hub(key) => (&mut self.hub, key),
        }
    }

    /// Sends all of it; room must be there.
    pub fn send(&mut self, end: End, mut payload: &[u8]) {
        let now = self.now;
        while !payload.is_empty() {
            let (session, key) = self.side(end);
            let room = session.room(now, key);
            assert!(room > 0, "no room for {}", payload.len());
            let (now_sent, rest) = payload.split_at(room.min(payload.len()));
            session
                .send(key, DataBuffer::copy_from(now_sent))
                .expect("room");
            payload = rest;
        }
    }

    pub fn finish(&mut self, end: End) {
        let (session, key) = self.side(end);
        session.finish(key);
    }

    pub fn release(&mut self, end: End) {
        let (session, key) = self.side(end);
        session.release(key);
    }

    /// Takes and consumes everything.
    pub fn read(&mut self, end: End) -> (Vec<u8>, Option<StreamEnd>) {
        let now = self.now;
        let (session, key) = self.side(end);
        let (chunks, stream_end) = session.take(key);
        let payload: Vec<u8> = chunks.iter().flat_map(|c| c.iter().copied()).collect();
        session.consumed(now, key, payload.len());
        (payload, stream_end)
    }

    /// Moves frames onto the link and at most `bytes` across it, each way.
    pub fn transfer(&mut self, bytes: usize) {
        while let Some(frame) = self.edge.poll_transmit(self.now) {
            self.to_hub.extend_from_slice(&frame);
        }
        while let Some(frame) = self.hub.poll_transmit(self.now) {
            self.to_edge.extend_from_slice(&frame);
        }
        let n = bytes.min(self.to_hub.len());
        let input = Bytes::from(self.to_hub.drain(..n).collect::<Vec<_>>());
        self.hub
            .handle_input(self.now, input)
            .expect("the edge keeps to the protocol");
        let n = bytes.min(self.to_edge.len());
        let input = Bytes::from(self.to_edge.drain(..n).collect::<Vec<_>>());
        self.edge
            .handle_input(self.now, input)
            .expect("the hub keeps to the protocol");
        while let Some(event) = self.hub.poll_event() {
            if let Event::Opened { key, .. } = event {
                self.opened.push(key);
            }
            self.hub_events.push(event);
        }
        while let Some(event) = self.edge.poll_event() {
            self.edge_events.push(event);
        }
    }

    /// Until both links are empty at this instant.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.transfer(usize::MAX);
            let idle = self.to_hub.is_empty() && self.to_edge.is_empty();
            if idle && !self.has_output() {
                return;
            }
        }
        panic!("the link never falls silent");
    }

    fn has_output(&mut self) -> bool {
        if let Some(frame) = self.edge.poll_transmit(self.now) {
            self.to_hub.extend_from_slice(&frame);
            return true;
        }
        if let Some(frame) = self.hub.poll_transmit(self.now) {
            self.to_edge.extend_from_slice(&frame);
            return true;
        }
        false
    }

    /// Lets time pass until everything is acknowledged.
    pub fn settle_until_flushed(&mut self) {
        for _ in 0..20 {
            self.settle();
            self.now += Duration::from_millis(50);
        }
        assert!(self.edge.is_flushed() && self.hub.is_flushed());
    }

    /// The connection dies with whatever is on its way.
    pub fn cut(&mut self) {
        self.to_hub.clear();
        self.to_edge.clear();
        self.edge.detach(self.now);
        self.hub.detach(self.now);
    }

    pub fn resume(&mut self) {
        let (edge, hub) = (self.edge.received(), self.hub.received());
        self.edge
            .attach(self.now, hub)
            .expect("the hub's offset fits");
        self.hub
            .attach(self.now, edge)
            .expect("the edge's offset fits");
    }

    pub fn committed(&self) -> usize {
        self.edge_budget.used() + self.hub_budget.used()
    }
}
