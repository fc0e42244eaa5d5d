//! A stream whose bytes a program in this process takes: what its session told, until the program asks for it.

use super::backlog::{Backlog, pop};
use super::reset::{closed, ended};
use super::vitals::Vitals;
use bytes::Bytes;
use remoteingress_core::stream::{Fin, Outcome, StreamLife, Sweep, Timeouts};
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Frames that one write fills, at most: as many as the scheduler lets leave in a row.
const WRITE_FRAMES: usize = 4;

/// The part of a `TunnelStream` that its session's table holds, too.
pub(crate) struct Direct {
    vitals: Vitals,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    backlog: RefCell<Backlog>,
    /// Newer payload by reference. It lasts until the driver's next turn, or its read buffers would be pinned.
    fresh: RefCell<VecDeque<Bytes>>,
}

impl Direct {
    pub(crate) fn new(key: StreamKey, now: Instant) -> Self {
        let vitals = Vitals::new(key, now);
        vitals.update(StreamLife::handle_connected);
        Self {
            vitals,
            reader: Cell::new(None),
            writer: Cell::new(None),
            backlog: RefCell::default(),
            fresh: RefCell::default(),
        }
    }

    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// The session has payload or an end for this stream.
    pub(crate) fn readable(&self, session: &mut Session, now: Instant) {
        let end = self.take(session);
        if let Some(StreamEnd::Aborted(code)) = end {
            self.vitals.update(|life| life.handle_abort(now, code));
            wake(&self.writer);
        }
        wake(&self.reader);
    }

    /// Takes what has come since; gives how the peer's direction ended after that.
    fn take(&self, session: &mut Session) -> Option<StreamEnd> {
        let (chunks, end) = session.take(self.vitals.key());
        if !chunks.is_empty() && self.vitals.life().takes_bytes() {
            self.fresh.borrow_mut().extend(chunks);
            self.vitals.update(StreamLife::handle_write_blocked);
        }
        end
    }

    /// The driver begins another turn: payload that the program hasn't taken lies in buffers which it needs again.
    pub(crate) fn settle(&self) {
        let fresh = self.fresh.take();
        if !fresh.is_empty() {
            self.backlog.borrow_mut().keep(fresh);
        }
    }

    /// There is room again.
    pub(crate) fn send_ready(&self) {
        wake(&self.writer);
    }

    /// The peer wants no more payload.
    pub(crate) fn stop_sending(&self) {
        self.vitals.update(StreamLife::handle_cancel);
        wake(&self.writer);
    }

    /// Ends the stream if nothing has moved for too long.
    pub(crate) fn sweep(&self, session: &mut Session, now: Instant, timeouts: Timeouts) {
        let was_over = self.vitals.life().is_over();
        // No socket can have something unseen here.
        let swept = self.vitals.update(|life| life.sweep(now, timeouts));
        if swept == Sweep::Over && !was_over {
            self.tell_end(session);
        }
    }

    /// Ends the stream from here. The first end counts.
    pub(crate) fn end(&self, session: &mut Session, outcome: Outcome) {
        self.vitals.update(|life| life.end(outcome));
        self.tell_end(session);
    }

    /// The program may never ask again: the peer is told at once, and what waits is dropped.
    fn tell_end(&self, session: &mut Session) {
        match self.vitals.update(StreamLife::conclude) {
            Some(Outcome::Aborted(code)) => session.abort(self.vitals.key(), code),
            Some(Outcome::SocketReset) => session.abort(self.vitals.key(), AbortCode::Reset),
            Some(Outcome::Finished) | None => {}
        }
        self.backlog.take();
        self.fresh.take();
        wake(&self.reader);
        wake(&self.writer);
    }

    /// The next piece of payload, of at most `most` bytes, by reference. Taken, it is credit for the peer.
    pub(crate) fn pop(&self, session: &mut Session, now: Instant, most: usize) -> Option<Bytes> {
        let mut backlog = self.backlog.borrow_mut();
        let mut fresh = self.fresh.borrow_mut();
        let (piece, uncredited) = backlog.pop(most).or_else(|| {
            let piece = pop(&mut fresh, most, Bytes::split_to)?;
            let bytes = piece.len();
            Some((piece, bytes))
        })?;
        let is_last = backlog.is_empty() && fresh.is_empty();
        self.vitals.update(|life| {
            if is_last {
                life.handle_write_ready();
            }
            life.handle_written(now);
        });
        self.vitals.count_out(piece.len());
        session.consumed(now, self.vitals.key(), uncredited);
        Some(piece)
    }

    /// Payload that was popped comes back. An end that was said after it will be said again.
    pub(crate) fn put_back(&self, piece: Bytes) {
        if piece.is_empty() || self.vitals.life().is_over() {
            return;
        }
        self.vitals.uncount_out(piece.len());
        self.backlog.borrow_mut().put_back(piece);
        self.vitals.update(|life| {
            life.handle_handed_over();
            life.handle_connected();
            life.handle_write_blocked();
        });
    }

    /// Waits for payload to pop, true, or the peer's end, false.
    pub(crate) fn poll_readable(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
        now: Instant,
    ) -> Poll<io::Result<bool>> {
        if let Some(outcome) = self.over() {
            return Poll::Ready(ended(outcome).map(|()| false));
        }
        let end = self.take(session);
        if self.vitals.life().is_blocked() {
            return Poll::Ready(Ok(true));
        }
        match end {
            None if self.vitals.life().takes_bytes() => {
                self.reader.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            None => Poll::Ready(Ok(false)),
            Some(StreamEnd::Finished) => {
                let (Fin::Pass | Fin::Withhold) = self.vitals.update(StreamLife::handle_fin);
                Poll::Ready(Ok(false))
            }
            Some(StreamEnd::Aborted(code)) => {
                self.vitals.update(|life| life.handle_abort(now, code));
                Poll::Ready(ended(Outcome::Aborted(code)).map(|()| false))
            }
        }
    }

    /// Resolves when the stream ends otherwise than in order, although payload may wait.
    pub(crate) fn poll_aborted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.set(Some(cx.waker().clone()));
        match self.vitals.life().ending() {
            None | Some(Outcome::Finished) => Poll::Pending,
            Some(Outcome::SocketReset | Outcome::Aborted(_)) => Poll::Ready(()),
        }
    }

    /// Queues payload as far as there is room; gives how many bytes that was.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let life = self.vitals.life();
        if let Some(outcome) = life.ending() {
            ended(outcome)?;
        }
        if !life.wants_read() {
            return Poll::Ready(Err(closed()));
        }
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        if bytes == 0 {
            return Poll::Ready(Ok(0));
        }
        let (key, now) = (self.vitals.key(), Instant::now());
        let frames = bytes.div_ceil(MAX_PAYLOAD_LEN).min(WRITE_FRAMES);
        let room = session.room_for(now, key, frames);
        self.vitals.update(|life| life.handle_room(room));
        if room == 0 {
            self.writer.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let mut from = Gather { bufs, at: 0 };
        let mut sent = 0;
        while sent < bytes.min(room) {
            let part = (bytes.min(room) - sent).min(MAX_PAYLOAD_LEN);
            if session.send(key, from.buffer(session, part)).is_err() {
                break;
            }
            sent += part;
        }
        if sent == 0 {
            // `room` promised to take it, but memory was taken meanwhile.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.vitals.count_in(sent);
        let _ = self.vitals.update(|life| life.handle_read(now, sent, room));
        Poll::Ready(Ok(sent))
    }

    /// The program says nothing more: FIN follows.
    pub(crate) fn shut_down(&self, session: &mut Session) -> io::Result<()> {
        if let Some(outcome) = self.vitals.life().ending() {
            return ended(outcome);
        }
        if self.vitals.update(StreamLife::handle_eof) == Fin::Pass {
            session.finish(self.vitals.key());
        }
        Ok(())
    }

    /// Outcome of the stream, if it has ended.
    pub(crate) fn over(&self) -> Option<Outcome> {
        let life = self.vitals.life();
        life.ending().filter(|_| life.is_over())
    }

    /// Somebody else takes the stream's bytes from now on: gives what waits for that. The bytes that came last go back
    /// to the session.
    pub(crate) fn hand_over(&self, session: &mut Session) -> (Vitals, Backlog) {
        session.put_back(self.vitals.key(), self.fresh.take());
        (self.vitals.hand_over(), self.backlog.take())
    }
}

/// Copies buffers one after the other into frames.
struct Gather<'a> {
    bufs: &'a [IoSlice<'a>],
    /// Bytes of the first buffer that were copied.
    at: usize,
}

impl Gather<'_> {
    /// The next `part` bytes, which there are.
    fn buffer(&mut self, session: &Session, part: usize) -> DataBuffer {
        let front = self.bufs.first().and_then(|buf| buf.get(self.at..));
        // A buffer that isn't at least half full costs more memory than a copy costs time.
        let is_small = part < MAX_PAYLOAD_LEN / 2;
        if is_small && let Some(whole) = front.and_then(|front| front.get(..part)) {
            self.at += part;
            return DataBuffer::copy_from(whole);
        }
        let mut buffer = session.take_buffer();
        let mut filled = 0;
        while let Some(front) = self.bufs.first().filter(|_| filled < part) {
            let rest = front.get(self.at..).unwrap_or_default();
            let copied = rest.len().min(part - filled);
            let to = buffer.payload_mut().get_mut(filled..filled + copied);
            to.unwrap_or_default()
                .copy_from_slice(rest.get(..copied).unwrap_or_default());
            filled += copied;
            self.at += copied;
            if self.at == front.len() {
                (self.bufs, self.at) = (self.bufs.get(1..).unwrap_or_default(), 0);
            }
        }
        if is_small {
            let copy = DataBuffer::copy_from(buffer.payload().get(..part).unwrap_or_default());
            session.give_back(buffer);
            return copy;
        }
        buffer.truncate(part);
        buffer
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
