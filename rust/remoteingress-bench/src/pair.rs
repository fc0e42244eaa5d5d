//! Two sessions in memory: what one sends, the other has at once.

use crate::any_instant;
use remoteingress_proto::mux::budget::{Budget, BudgetPool};
use remoteingress_proto::mux::stream::StreamEnd;
use remoteingress_proto::mux::{
    Carrier, Event, LaneOutput, Role, Session, SessionConfig, StreamKey,
};
use remoteingress_proto::wire::frame::DataBuffer;
use std::time::{Duration, Instant};

pub(super) const EDGE: usize = 0;
pub(super) const HUB: usize = 1;

pub(super) struct Pair {
    pub(super) sessions: [Session; 2],
    pub(super) now: Instant,
    carrier: Carrier,
}

impl Pair {
    pub(super) fn new(carrier: Carrier) -> Self {
        let now = any_instant();
        let session = |role| {
            // The default of the programs.
            let budget = Budget::new(BudgetPool::new(200 << 20));
            let config = SessionConfig {
                role,
                carrier,
                max_peer_streams: 1_000,
                resume_timeout: Duration::from_secs(30),
                announced_credit: budget.initial_credit(),
                peer_credit: budget.initial_credit(),
                is_welcome: true,
                expects_begin: false,
            };
            Session::new(&config, &budget, now)
        };
        Self {
            sessions: [session(Role::Edge), session(Role::Hub)],
            now,
            carrier,
        }
    }

    pub(super) fn open(&mut self) -> StreamKey {
        let header = [7; 32]; // an IPv6 client and what else the edge says of it
        let opened = self.sessions[EDGE].open(self.now, &header);
        opened.expect("memory")
    }

    /// Time passes, and everything moves until nothing does. `react` is the owner of the streams at each end.
    pub(super) fn turn(
        &mut self,
        time: Duration,
        mut react: impl FnMut(&mut Session, Instant, usize, Event),
    ) {
        self.now += time;
        for session in &mut self.sessions {
            if session.poll_timeout().is_some_and(|at| at <= self.now) {
                session.handle_timeout(self.now).expect("alive");
            }
        }
        let mut is_moving = true;
        while is_moving {
            is_moving = false;
            for side in [EDGE, HUB] {
                is_moving |= self.transfer(side);
                let session = &mut self.sessions[1 - side];
                while let Some(event) = session.poll_event() {
                    react(session, self.now, 1 - side, event);
                    is_moving = true;
                }
            }
        }
    }

    /// All that `side` has to say goes to the other end.
    fn transfer(&mut self, side: usize) -> bool {
        let now = self.now;
        let [edge, hub] = &mut self.sessions;
        let (from, to) = if side == EDGE {
            (edge, hub)
        } else {
            (hub, edge)
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

/// Reads all that a stream has; says how much that was, and the end.
pub(super) fn read(
    session: &mut Session,
    now: Instant,
    key: StreamKey,
) -> (usize, Option<StreamEnd>) {
    let (chunks, end) = session.take(key);
    let bytes = chunks.iter().map(|chunk| chunk.len()).sum();
    session.consumed(now, key, bytes);
    (bytes, end)
}

/// Sends that much as one frame.
pub(super) fn write(session: &mut Session, now: Instant, key: StreamKey, payload: &[u8]) {
    assert!(session.room(now, key) >= payload.len());
    session
        .send(key, DataBuffer::copy_from(payload))
        .expect("room");
}
