//! Two sessions and the link between them, in virtual time.
//!
//! Either the link is a byte stream each way that can be cut anywhere ([`Pair::transfer`] and what is built on it, on
//! an ordered connection), or what one end sends the other has at once ([`Pair::turn`], on both carriers).

use crate::builder::{DEFAULT_BUDGET, SessionBuilder, budget};
use crate::{EDGE, HUB, any_instant};
use bytes::Bytes;
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::StreamEnd;
use remoteingress_proto::mux::{Carrier, Event, LaneOutput, Role, Session, StreamKey};
use remoteingress_proto::wire::frame::DataBuffer;
use std::time::{Duration, Instant};

/// One end of a stream.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The edge's.
    Edge(StreamKey),
    /// The hub's.
    Hub(StreamKey),
}

/// The edge's end of a stream.
pub fn edge(key: StreamKey) -> End {
    End::Edge(key)
}

/// The hub's end of a stream.
pub fn hub(key: StreamKey) -> End {
    End::Hub(key)
}

/// Two sessions with the programs' default memory.
#[derive(Debug)]
pub struct Pair {
    /// The edge's session.
    pub edge: Session,
    /// The hub's session.
    pub hub: Session,
    /// Virtual time.
    pub now: Instant,
    /// Streams that the hub has seen, in order, as the hub knows them.
    pub opened: Vec<StreamKey>,
    /// All that happened at the edge.
    pub edge_events: Vec<Event>,
    /// All that happened at the hub.
    pub hub_events: Vec<Event>,
    carrier: Carrier,
    announced: Option<u32>,
    budgets: [Budget; 2],
    to_hub: Vec<u8>,
    to_edge: Vec<u8>,
}

impl Pair {
    /// On an ordered connection.
    pub fn new() -> Self {
        Self::on(Carrier::Ordered)
    }

    /// On this carrier.
    pub fn on(carrier: Carrier) -> Self {
        let now = any_instant();
        let budgets = [budget(DEFAULT_BUDGET), budget(DEFAULT_BUDGET)];
        let session = |role| SessionBuilder::new(role).carrier(carrier);
        Self {
            edge: session(Role::Edge).build(&budgets[EDGE], now),
            hub: session(Role::Hub).build(&budgets[HUB], now),
            now,
            opened: Vec::new(),
            edge_events: Vec::new(),
            hub_events: Vec::new(),
            carrier,
            announced: None,
            budgets,
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

    /// Sends nothing more on this end.
    pub fn finish(&mut self, end: End) {
        let (session, key) = self.side(end);
        session.finish(key);
    }

    /// Lets go of this end.
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

    /// Transfers until both links are empty at this instant.
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
        self.settle_until_acknowledged();
        assert!(self.edge.is_flushed() && self.hub.is_flushed());
    }

    /// Lets time pass until both ends know what has come, although streams may still be open.
    pub fn settle_until_acknowledged(&mut self) {
        for _ in 0..20 {
            self.settle();
            self.now += Duration::from_millis(50);
        }
    }

    /// The connection dies with whatever is on its way.
    pub fn cut(&mut self) {
        self.to_hub.clear();
        self.to_edge.clear();
        self.edge.detach(self.now);
        self.hub.detach(self.now);
    }

    /// Another connection takes over.
    pub fn resume(&mut self) {
        let (edge, hub) = (self.edge.received(), self.hub.received());
        self.edge
            .attach(self.now, hub)
            .expect("the hub's offset fits");
        self.hub
            .attach(self.now, edge)
            .expect("the edge's offset fits");
    }

    /// The edge asks on another connection to resume, and sends what it has ahead of the Welcome. The hub has lost the
    /// session: it has made another one, which drops all frames until BEGIN.
    pub fn ask_again_in_vain(&mut self) {
        self.cut();
        self.hub = SessionBuilder::new(Role::Hub)
            .in_place_of_a_lost_one()
            .announced_credit(self.next_credit())
            .build(&self.budgets[HUB], self.now);
        self.opened.clear();
        self.hub_events.clear();
        self.edge.attach_early(self.now, self.carrier);
    }

    /// The hub announces this many bytes for new streams in the sessions that it makes from now on.
    pub fn hub_announces(&mut self, bytes: u32) {
        self.announced = Some(bytes);
    }

    fn next_credit(&self) -> u32 {
        let usual = self.budgets[HUB].initial_credit();
        self.announced.unwrap_or(usual)
    }

    /// After that the Welcome comes, and the edge begins its session anew.
    pub fn begin_again(&mut self) {
        self.edge.begin_again(self.next_credit());
    }

    /// Bytes that both sessions have committed.
    pub fn committed(&self) -> usize {
        self.budgets.iter().map(Budget::used).sum()
    }

    /// Time passes, and everything moves at once until nothing does. `react` is the owner of the streams at each end:
    /// it gets the session, the time, the side and what happened.
    pub fn turn(
        &mut self,
        time: Duration,
        mut react: impl FnMut(&mut Session, Instant, usize, Event),
    ) {
        self.now += time;
        for session in [&mut self.edge, &mut self.hub] {
            if session.poll_timeout().is_some_and(|at| at <= self.now) {
                session.handle_timeout(self.now).expect("alive");
            }
        }
        let mut is_moving = true;
        while is_moving {
            is_moving = false;
            for side in [EDGE, HUB] {
                is_moving |= self.deliver(side);
                let (receiver, now) = (1 - side, self.now);
                let session = if receiver == EDGE {
                    &mut self.edge
                } else {
                    &mut self.hub
                };
                while let Some(event) = session.poll_event() {
                    react(session, now, receiver, event);
                    is_moving = true;
                }
            }
        }
    }

    /// All that `side` has to say goes to the other end; gives whether that was anything.
    fn deliver(&mut self, side: usize) -> bool {
        let now = self.now;
        let (from, to) = if side == EDGE {
            (&mut self.edge, &mut self.hub)
        } else {
            (&mut self.hub, &mut self.edge)
        };
        let mut has_sent = false;
        if self.carrier == Carrier::Ordered {
            while let Some(frame) = from.poll_transmit(now) {
                to.handle_input(now, frame).expect("legal");
                has_sent = true;
            }
            return has_sent;
        }
        while let Some(output) = from.poll_lane(now, true) {
            match output {
                LaneOutput::Frame { lane, frame, .. } => to.handle_lane(now, lane, frame),
                LaneOutput::Finish(lane) => to.handle_lane_end(lane),
                LaneOutput::Datagram(datagram) => {
                    to.handle_datagram(now, datagram);
                    Ok(())
                }
            }
            .expect("legal");
            has_sent = true;
        }
        has_sent
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}
