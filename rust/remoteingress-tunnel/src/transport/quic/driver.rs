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
use remoteingress_proto::mux::{LaneOutput, SessionError, Urgency, Violation};
use remoteingress_proto::wire::frame::StreamId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// System calls that one turn sends with, of up to 32 packets each: about 180 KiB.
const SENDS: usize = 4;
/// What may be on its way beyond twice what the path holds, so that acknowledgements, which come every 256 KiB, never
/// hold up the sender.
const SEND_RESERVE: usize = 1_024 * 1_024;
/// Beyond so many bytes that QUIC doesn't take no stream sends anything: the send limit alone doesn't bound them, since a
/// peer can acknowledge as many frames as lie here. What more comes is control, of which a peer may cause as much again.
const MOST_STALLED: usize = 1_024 * 1_024;
/// Streams that a peer may have open at most; how many of these are served, the session decides.
const MOST_STREAMS: u32 = 1 << 17;

/// Runs until the connection ends. The session can't go on over another one.
pub(crate) async fn drive(
    local: &LocalSession,
    connection: &mut QuicConnection,
    owner: &impl Owner,
) -> ConnectionError {
    let leftover = std::mem::take(&mut connection.leftover);
    let side = connection.slot.connection.borrow().side();
    let mut driver = Driver {
        local,
        owner,
        side,
        connection,
        prelude: Prelude::default(),
        stalled: BTreeMap::new(),
        stalled_bytes: 0,
        most_limit: 0,
        opened: u64::from(side == Side::Client),
        priorities: HashMap::new(),
        allowed_streams: PROVED_STREAMS,
        timer: Box::pin(tokio::time::sleep_until(Instant::now().into())),
        has_caught_up: false,
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
    side: Side,
    /// What QUIC doesn't take now, since the peer allows no more on that lane or no more lanes; twice [`MOST_STALLED`] at most.
    stalled: BTreeMap<StreamId, VecDeque<Stalled>>,
    stalled_bytes: usize,
    /// The largest send limit so far.
    most_limit: usize,
    /// QUIC streams that this end has opened.
    opened: u64,
    /// Lanes whose urgency isn't that of a turn.
    priorities: HashMap<StreamId, Urgency>,
    allowed_streams: u32,
    timer: Pin<Box<Sleep>>,
    /// What came before the driver and the session were there to take it has been taken.
    has_caught_up: bool,
}

/// What waits on a lane.
enum Stalled {
    Frame(Urgency, Bytes),
    Finish,
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
        self.connection
            .slot
            .connection
            .borrow_mut()
            .handle_timeout(now);
        self.connection.endpoint.exchange(&self.connection.slot);
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
        self.connection.endpoint.exchange(&self.connection.slot);
        deliver(self.local, self.owner, now)?;
        if more {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
        Ok(())
    }

    /// Whether datagrams wait that QUIC has room for by now.
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
                    return Err(bad_lane(stream_of(id)?));
                }
                // Each turn tries again what waits for these.
                Some(
                    Event::Stream(
                        StreamEvent::Writable { .. }
                        | StreamEvent::Available { .. }
                        | StreamEvent::Finished { .. },
                    )
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
                if open * 2 > self.allowed_streams.into() && self.allowed_streams < MOST_STREAMS {
                    self.allowed_streams *= 2;
                    connection.set_max_concurrent_streams(
                        Dir::Bi,
                        VarInt::from_u32(self.allowed_streams),
                    );
                }
                return Ok(());
            };
            drop(connection);
            self.read(id)?;
        }
    }

    fn read(&mut self, id: QuicStreamId) -> Result<(), ConnectionError> {
        let lane = stream_of(id)?;
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
            for index in 1..self.opened {
                self.read(QuicStreamId::new(self.side, Dir::Bi, index))?;
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

    /// Gives QUIC as much as may be on its way; says whether there was anything.
    fn write(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let slot = self.connection.slot.clone();
        let mut connection = slot.connection.borrow_mut();
        let mut session = self.local.session();
        let path = usize::try_from(connection.congestion_state().window()).unwrap_or(usize::MAX);
        let limit = path.saturating_mul(2).saturating_add(SEND_RESERVE);
        session.set_send_limit(limit);
        // Beyond what the session has ever let go at once QUIC keeps nothing for a peer that acknowledges frames and no
        // packets. It doesn't shrink with the path, or control would wait.
        self.most_limit = self.most_limit.max(limit);
        let window = self.most_limit.saturating_add(2 * MOST_STALLED) as u64;
        connection.set_send_window(window.min(SEND_WINDOW));
        if let Some(most) = connection.datagrams().max_size() {
            session.set_max_datagram(most);
        }
        let mut has_written = self.retry(&mut connection)?;
        loop {
            if self.stalled_bytes > 2 * MOST_STALLED {
                return Err(SessionError::from(Violation::Excessive).into());
            }
            session.hold_streams(self.stalled_bytes >= MOST_STALLED);
            let has_room = connection.datagrams().send_buffer_space() > DATAGRAM_SEND_BUFFER / 2;
            match session.poll_lane(now, has_room) {
                None => return Ok(has_written),
                Some(LaneOutput::Frame {
                    lane,
                    frame,
                    urgency,
                }) => {
                    if let Some(stalled) = self.stalled.get_mut(&lane) {
                        self.stalled_bytes += frame.len();
                        stalled.push_back(Stalled::Frame(urgency, frame));
                    } else if let Some(rest) =
                        self.write_frame(&mut connection, lane, urgency, frame)?
                    {
                        self.stalled_bytes += rest.len();
                        let stalled = VecDeque::from([Stalled::Frame(urgency, rest)]);
                        self.stalled.insert(lane, stalled);
                    }
                }
                Some(LaneOutput::Finish(lane)) => match self.stalled.get_mut(&lane) {
                    Some(stalled) => stalled.push_back(Stalled::Finish),
                    None => self.finish(&mut connection, lane),
                },
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

    /// Tries again what QUIC didn't take, in the order of the lanes, which is that of their opening.
    fn retry(&mut self, connection: &mut Connection) -> Result<bool, ConnectionError> {
        let mut has_written = false;
        for (lane, mut waiting) in std::mem::take(&mut self.stalled) {
            while let Some(first) = waiting.pop_front() {
                match first {
                    Stalled::Finish => self.finish(connection, lane),
                    Stalled::Frame(urgency, frame) => {
                        self.stalled_bytes -= frame.len();
                        if let Some(rest) = self.write_frame(connection, lane, urgency, frame)? {
                            self.stalled_bytes += rest.len();
                            waiting.push_front(Stalled::Frame(urgency, rest));
                            break;
                        }
                    }
                }
                has_written = true;
            }
            if !waiting.is_empty() {
                self.stalled.insert(lane, waiting);
            }
        }
        Ok(has_written)
    }

    fn finish(&mut self, connection: &mut Connection, lane: StreamId) {
        // Fails only on a lane that has ended.
        let _ = connection.send_stream(quic_stream(lane)).finish();
        self.priorities.remove(&lane);
    }

    /// Writes a frame to its lane, which an opener's first one opens; gives back what QUIC doesn't take now.
    fn write_frame(
        &mut self,
        connection: &mut Connection,
        lane: StreamId,
        urgency: Urgency,
        mut frame: Bytes,
    ) -> Result<Option<Bytes>, ConnectionError> {
        let id = quic_stream(lane);
        if id.initiator() == self.side && id.index() >= self.opened {
            if connection.streams().open(Dir::Bi).is_none() {
                return Ok(Some(frame));
            }
            self.opened += 1;
        }
        let mut stream = connection.send_stream(id);
        if self.priorities.get(&lane).copied().unwrap_or(Urgency::Turn) != urgency {
            // Fails only on a lane that has ended.
            let _ = stream.set_priority(priority(urgency));
            if urgency == Urgency::Turn {
                self.priorities.remove(&lane);
            } else {
                self.priorities.insert(lane, urgency);
            }
        }
        match stream.write_chunks(std::slice::from_mut(&mut frame)) {
            Ok(_) if frame.is_empty() => Ok(None),
            Ok(_) | Err(WriteError::Blocked) => Ok(Some(frame)),
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => Err(bad_lane(lane)),
        }
    }

    /// One timer for what connection and session wait for.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let quic = self.connection.slot.connection.borrow_mut().poll_timeout();
        let session = self.local.session().poll_timeout();
        if let Some(at) = quic.into_iter().chain(session).min() {
            self.timer.as_mut().reset(at.into());
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// The QUIC stream that is a stream's lane: an edge's are odd and follow the session's own, a hub's are even.
fn quic_stream(lane: StreamId) -> QuicStreamId {
    match u64::from(lane.0) {
        0 => session_lane(),
        odd if odd % 2 == 1 => QuicStreamId::new(Side::Client, Dir::Bi, odd.div_ceil(2)),
        even => QuicStreamId::new(Side::Server, Dir::Bi, even / 2 - 1),
    }
}

/// The stream whose lane this is.
fn stream_of(id: QuicStreamId) -> Result<StreamId, ConnectionError> {
    let number = match (id.initiator(), id.index()) {
        (Side::Client, 0) => 0,
        (Side::Client, index) => 2 * index - 1,
        (Side::Server, index) => 2 * index + 2,
    };
    // QUIC allows more streams than a session has ids for.
    u32::try_from(number)
        .map(StreamId)
        .map_err(|_| bad_lane(StreamId::SESSION))
}

fn priority(urgency: Urgency) -> i32 {
    match urgency {
        Urgency::Leftover => -1,
        Urgency::Turn => 0,
        Urgency::Newcomer => 1,
        Urgency::Control => 2,
    }
}

fn bad_lane(lane: StreamId) -> ConnectionError {
    SessionError::from(Violation::BadLane(lane)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_streams_are_one_to_one() {
        for (initiator, index, number) in [
            (Side::Client, 0, 0),
            (Side::Client, 1, 1),
            (Side::Client, 2, 3),
            (Side::Server, 0, 2),
            (Side::Server, 1, 4),
        ] {
            let id = QuicStreamId::new(initiator, Dir::Bi, index);
            assert_eq!(stream_of(id).unwrap(), StreamId(number));
            assert_eq!(quic_stream(StreamId(number)), id);
        }
        let beyond = QuicStreamId::new(Side::Client, Dir::Bi, 1 << 32);
        assert!(stream_of(beyond).unwrap_err().is_violation());
    }
}
