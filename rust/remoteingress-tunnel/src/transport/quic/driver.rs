//! Runs a session over one QUIC connection: read lanes, apply; schedule, write lanes, send; wait.

use super::config::{DATAGRAM_SEND_BUFFER, PROVED_STREAMS, SEND_WINDOW};
use super::connection::{QuicConnection, read, session_lane};
use crate::session::delivery::{Owner, Prelude, deliver};
use crate::session::local_session::LocalSession;
use crate::transport::error::ConnectionError;
use bytes::Bytes;
use quinn_proto::{
    Connection, Dir, Event, Side, StreamEvent, StreamId as QuicStreamId, VarInt, WriteError,
};
use remoteingress_core::doctor::tunnel::PathLoss;
use remoteingress_proto::lanes::{
    LaneAllowance, LaneLimits, LaneOutput, LaneRoom, LaneSink, Probes, Urgency, WaitingLanes,
};
use remoteingress_proto::mux::{Role, SessionError, Violation};
use remoteingress_proto::wire::frame::StreamId;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// System calls that one turn sends with, of up to 32 packets each: about 180 KiB.
const SENDS: usize = 4;

/// Runs until the connection ends. The session can't go on over another one.
pub(crate) async fn drive(
    local: &LocalSession,
    connection: &mut QuicConnection,
    owner: &impl Owner,
) -> ConnectionError {
    let leftover = std::mem::take(&mut connection.leftover);
    let lanes = LaneIds::of(connection.role, connection.slot.connection.borrow().side());
    let mut driver = Driver {
        local,
        owner,
        prelude: Prelude::default(),
        waiting: WaitingLanes::new(connection.role),
        lanes,
        limits: LaneLimits::new(SEND_WINDOW),
        allowance: LaneAllowance::new(PROVED_STREAMS),
        probes: Probes::default(),
        timer: Box::pin(tokio::time::sleep_until(Instant::now().into())),
        has_caught_up: false,
        connection,
    };
    let error = match driver.apply(Instant::now(), StreamId::SESSION, leftover) {
        Ok(()) => poll_fn(|cx| driver.poll(cx)).await,
        Err(error) => error,
    };
    if error.is_violation() {
        connection.mark_violation();
    }
    error
}

struct Driver<'a, O> {
    local: &'a LocalSession,
    owner: &'a O,
    connection: &'a mut QuicConnection,
    prelude: Prelude,
    /// Bytes that QUIC doesn't take now, since the peer allows no more on that lane or no more lanes.
    waiting: WaitingLanes,
    lanes: LaneIds,
    limits: LaneLimits,
    allowance: LaneAllowance,
    probes: Probes,
    timer: Pin<Box<Sleep>>,
    /// True once everything has been taken that came before the driver and the session were there.
    has_caught_up: bool,
}

impl<O: Owner> Driver<'_, O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let now = Instant::now();
        self.connection.slot.driver.set(Some(cx.waker().clone()));
        self.local.register(cx.waker());
        self.local.settle();
        self.local.tell_loss(|| {
            let path = self.connection.slot.connection.borrow().stats().path;
            Some(PathLoss::Lost {
                lost: path.lost_packets,
                sent: path.sent_packets,
            })
        });
        self.connection
            .slot
            .connection
            .borrow_mut()
            .handle_timeout(now);
        self.connection.endpoint.exchange(&self.connection.slot);
        self.set_limits();
        self.receive(now)?;
        let timeout = self.local.session().poll_timeout();
        if timeout.is_some_and(|at| at <= now) {
            self.local.session().handle_timeout(now)?;
        }
        deliver(self.local, self.owner, now)?;
        let mut more = false;
        loop {
            let has_written = self.write(now)?;
            more |=
                self.connection
                    .endpoint
                    .transmit(&self.connection.slot, cx.waker(), now, SENDS);
            if more || !(has_written || self.may_send_datagrams()) {
                break;
            }
        }
        self.probe(now);
        self.connection.endpoint.exchange(&self.connection.slot);
        deliver(self.local, self.owner, now)?;
        if more {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
        Ok(())
    }

    /// Asks if the path is back, where it is gone and somebody waits.
    fn probe(&mut self, now: Instant) {
        let slot = &self.connection.slot;
        let is_waiting = self.local.session().awaits_answer();
        let is_due = {
            let connection = slot.connection.borrow();
            let answers = || connection.stats().frame_rx.acks;
            self.probes
                .is_due(now, is_waiting, connection.rtt(), answers)
        };
        if is_due {
            self.connection.endpoint.probe(slot, now);
        }
    }

    /// True if datagrams wait that QUIC has room for by now.
    fn may_send_datagrams(&self) -> bool {
        let mut connection = self.connection.slot.connection.borrow_mut();
        self.local.session().has_datagrams()
            && connection.datagrams().send_buffer_space() > DATAGRAM_SEND_BUFFER / 2
    }

    /// Applies what the connection has received.
    fn receive(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.catch_up(now)?;
        loop {
            let event = self.connection.slot.connection.borrow_mut().poll();
            match event {
                None => {
                    self.catch_up(now)?;
                    // That it has ended is said once, and maybe to the handshake.
                    return if self.connection.slot.connection.borrow().is_closed() {
                        Err(ConnectionError::Closed)
                    } else {
                        Ok(())
                    };
                }
                Some(Event::ConnectionLost { reason }) => return Err(reason.into()),
                Some(Event::Stream(StreamEvent::Opened { .. })) => self.accept()?,
                Some(Event::Stream(StreamEvent::Readable { id })) => self.read(id)?,
                Some(Event::DatagramReceived) if self.has_caught_up => {
                    self.receive_datagrams(now);
                }
                Some(Event::Stream(StreamEvent::Stopped { id, .. })) => {
                    return Err(bad_lane(self.lanes.stream_of(id)?));
                }
                Some(Event::Stream(StreamEvent::Writable { id })) => {
                    self.waiting.handle_writable(self.lanes.stream_of(id)?);
                }
                // Each turn looks whether these are of use.
                Some(
                    Event::Stream(StreamEvent::Available { .. } | StreamEvent::Finished { .. })
                    | Event::DatagramsUnblocked
                    | Event::DatagramReceived
                    | Event::HandshakeDataReady
                    | Event::Connected,
                ) => {}
            }
        }
    }

    /// Takes new lanes, and allows more while the peer uses many.
    fn accept(&mut self) -> Result<(), ConnectionError> {
        loop {
            let mut connection = self.connection.slot.connection.borrow_mut();
            let Some(id) = connection.streams().accept(Dir::Bi) else {
                let open = connection.streams().remote_open_streams(Dir::Bi);
                if let Some(lanes) = self.allowance.widen(open) {
                    connection.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(lanes));
                }
                return Ok(());
            };
            drop(connection);
            self.read(id)?;
        }
    }

    fn read(&mut self, id: QuicStreamId) -> Result<(), ConnectionError> {
        let lane = self.lanes.stream_of(id)?;
        let now = Instant::now();
        self.local.heard();
        if !self.prelude.is_over() && lane != StreamId::SESSION {
            // QUIC keeps it until the session has begun.
            return Ok(());
        }
        let mut result = Ok(());
        let slot = self.connection.slot.clone();
        let is_open = read(&mut slot.connection.borrow_mut(), id, |bytes| {
            if result.is_ok() {
                result = self.apply(now, lane, bytes);
            }
        });
        result?;
        if !is_open? {
            if lane == StreamId::SESSION {
                return Err(ConnectionError::Closed);
            }
            self.local.session().handle_lane_end(lane)?;
        }
        deliver(self.local, self.owner, now)
    }

    fn apply(&mut self, now: Instant, lane: StreamId, bytes: Bytes) -> Result<(), ConnectionError> {
        if let Some(bytes) = self.prelude.pass(self.owner, bytes)? {
            self.local.session().handle_lane(now, lane, bytes)?;
        }
        Ok(())
    }

    /// Takes what came before there was somebody to take it, once there is.
    fn catch_up(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.has_caught_up {
            return Ok(());
        }
        self.read(session_lane())?;
        if self.prelude.is_over() {
            self.has_caught_up = true;
            self.connection.widen();
            self.accept()?;
            for lane in self.waiting.opened() {
                self.read(self.lanes.quic_stream(lane))?;
            }
            self.receive_datagrams(now);
        }
        Ok(())
    }

    fn receive_datagrams(&mut self, now: Instant) {
        let mut connection = self.connection.slot.connection.borrow_mut();
        let mut session = self.local.session();
        while let Some(datagram) = connection.datagrams().recv() {
            session.handle_datagram(now, datagram);
        }
    }

    /// Sets how much may be on its way. It comes before QUIC is asked which lanes take more: a larger window is one reason.
    fn set_limits(&mut self) {
        let mut connection = self.connection.slot.connection.borrow_mut();
        let mut session = self.local.session();
        session.set_send_limit(
            self.limits
                .send_limit(connection.congestion_state().window()),
        );
        connection.set_send_window(self.limits.send_window());
        if let Some(most) = connection.datagrams().max_size() {
            session.set_max_datagram(most);
        }
    }

    /// Gives QUIC as much as may be on its way; says whether there was anything.
    fn write(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let slot = self.connection.slot.clone();
        let mut connection = slot.connection.borrow_mut();
        let mut session = self.local.session();
        let mut has_written = self
            .waiting
            .retry(&mut Lanes(&mut connection, self.lanes))?;
        loop {
            let room = self.waiting.room();
            if room == LaneRoom::Exceeded {
                return Err(SessionError::from(Violation::Excessive).into());
            }
            session.hold_streams(room == LaneRoom::ForControl);
            let has_room = connection.datagrams().send_buffer_space() > DATAGRAM_SEND_BUFFER / 2;
            match session.poll_lane(now, has_room) {
                None => return Ok(has_written),
                Some(LaneOutput::Frame {
                    lane,
                    frame,
                    urgency,
                }) => {
                    let mut lanes = Lanes(&mut connection, self.lanes);
                    self.waiting.send(lane, urgency, frame, &mut lanes)?;
                }
                Some(LaneOutput::Finish(lane)) => {
                    let mut lanes = Lanes(&mut connection, self.lanes);
                    self.waiting.finish(lane, &mut lanes);
                }
                Some(LaneOutput::Datagram(datagram)) => {
                    if connection.datagrams().send(datagram, true).is_err() {
                        // The path takes less than it did when the datagram was made.
                        session.count_oversized_datagram();
                    }
                }
            }
            has_written = true;
        }
    }

    /// One timer for what connection and session wait for.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let quic = self.connection.slot.connection.borrow_mut().poll_timeout();
        let session = self.local.session().poll_timeout();
        let probe = self.probes.next_timeout();
        if let Some(at) = quic.into_iter().chain(session).chain(probe).min() {
            self.timer.as_mut().reset(at.into());
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// The lanes of a connection.
struct Lanes<'a>(&'a mut Connection, LaneIds);

impl LaneSink for Lanes<'_> {
    type Error = ConnectionError;

    fn open_next(&mut self) -> bool {
        self.0.streams().open(Dir::Bi).is_some()
    }

    fn set_urgency(&mut self, lane: StreamId, urgency: Urgency) {
        // Fails only on a lane that has ended.
        let _ = self
            .0
            .send_stream(self.1.quic_stream(lane))
            .set_priority(urgency.priority());
    }

    fn write(&mut self, lane: StreamId, frame: &mut Bytes) -> Result<(), ConnectionError> {
        let mut stream = self.0.send_stream(self.1.quic_stream(lane));
        // QUIC says that a lane takes more only when it has refused some: a part taken isn't the end.
        while !frame.is_empty() {
            match stream.write_chunks(std::slice::from_mut(frame)) {
                Ok(_) => {}
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    return Err(bad_lane(lane));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, lane: StreamId) {
        // Fails only on a lane that has ended.
        let _ = self.0.send_stream(self.1.quic_stream(lane)).finish();
    }
}

/// Which QUIC stream is a stream's lane: an edge's are odd, a hub's are even, and the session's own is the first of the
/// client's, whichever end that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LaneIds {
    /// The edge's side of the connection.
    edge: Side,
}

impl LaneIds {
    /// At an end with this role on this side.
    fn of(role: Role, side: Side) -> Self {
        Self {
            edge: match role {
                Role::Edge => side,
                Role::Hub => !side,
            },
        }
    }

    /// The QUIC stream of a lane.
    fn quic_stream(self, lane: StreamId) -> QuicStreamId {
        let number = u64::from(lane.0);
        if number == 0 {
            return session_lane();
        }
        let (opener, nth) = if number % 2 == 1 {
            (self.edge, (number - 1) / 2)
        } else {
            (!self.edge, number / 2 - 1)
        };
        QuicStreamId::new(opener, Dir::Bi, nth + first(opener))
    }

    /// The stream whose lane this is.
    fn stream_of(self, id: QuicStreamId) -> Result<StreamId, ConnectionError> {
        let opener = id.initiator();
        let number = match id.index().checked_sub(first(opener)) {
            None => 0,
            Some(nth) if opener == self.edge => 2 * nth + 1,
            Some(nth) => 2 * nth + 2,
        };
        // QUIC allows more streams than a session has ids for.
        u32::try_from(number)
            .map(StreamId)
            .map_err(|_| bad_lane(StreamId::SESSION))
    }
}

/// The index of the first lane that this side opens for a stream: the client's very first is the session's.
const fn first(opener: Side) -> u64 {
    match opener {
        Side::Client => 1,
        Side::Server => 0,
    }
}

fn bad_lane(lane: StreamId) -> ConnectionError {
    SessionError::from(Violation::BadLane(lane)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_streams_are_one_to_one_whichever_end_dials() {
        let (dialled, called) = (Side::Client, Side::Server);
        for (edge, initiator, index, number) in [
            (dialled, Side::Client, 0, 0),
            (dialled, Side::Client, 1, 1),
            (dialled, Side::Client, 2, 3),
            (dialled, Side::Server, 0, 2),
            (dialled, Side::Server, 1, 4),
            (called, Side::Client, 0, 0),
            (called, Side::Server, 0, 1),
            (called, Side::Server, 1, 3),
            (called, Side::Client, 1, 2),
            (called, Side::Client, 2, 4),
        ] {
            let lanes = LaneIds::of(Role::Edge, edge);
            assert_eq!(lanes, LaneIds::of(Role::Hub, !edge));
            let id = QuicStreamId::new(initiator, Dir::Bi, index);
            assert_eq!(lanes.stream_of(id).unwrap(), StreamId(number));
            assert_eq!(lanes.quic_stream(StreamId(number)), id);
        }
        let lanes = LaneIds::of(Role::Edge, Side::Client);
        let beyond = QuicStreamId::new(Side::Client, Dir::Bi, 1 << 32);
        assert!(lanes.stream_of(beyond).unwrap_err().is_violation());
    }
}
