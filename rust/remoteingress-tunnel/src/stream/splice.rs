//! One stream's socket: moves bytes between it and its stream of the session, with FIN, reset and
//! backpressure carried both ways. The same on the edge (client) and the hub (target).
//!
//! Payload from the tunnel is written by the session's driver at once, straight from the read
//! buffer; only what the socket doesn't take is copied and left to the pipe's own task.

use super::backlog::{Backlog, Left, advance};
use super::facts::Facts;
use super::first_byte::FirstByte;
pub use super::first_byte::TargetSide;
use super::vitals::Vitals;
use crate::session::handle::SessionHandle;
use bytes::Bytes;
pub use remoteingress_core::stream::Outcome;
use remoteingress_core::stream::{AckFigures, Cause, Fin, Read, StreamLife, Sweep, Timeouts};
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::readiness::read_was_short;
use remoteingress_os::socket_options::{close_with_fin, sending};
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN, StreamId};
use socket2::SockRef;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Frames that one read fills, at most: as many as the scheduler lets leave in a row.
const READ_FRAMES: usize = 4;
/// Slices of one gathered write (IOV_MAX is 1,024; more than this rarely waits for one socket).
const MAX_SLICES: usize = 64;

/// A stream and, once it is connected, its socket.
pub struct Pipe {
    vitals: Vitals,
    socket: OnceCell<TcpStream>,
    waker: Cell<Option<Waker>>,
    /// Boxed, and gone once it is written: an idle stream has none.
    backlog: RefCell<Option<Box<Backlog>>>,
}

crate::opaque::opaque_debug!(Pipe);

impl Pipe {
    /// A stream that is to get a socket.
    pub(crate) fn new(key: StreamKey) -> Rc<Self> {
        Rc::new(Self::of(Vitals::new(key, Instant::now()), None))
    }

    /// A stream that was somebody else's before, and what waits on it.
    pub(crate) fn taken_over(vitals: Vitals, backlog: Backlog) -> Rc<Self> {
        let backlog = (!backlog.is_empty()).then(|| Box::new(backlog));
        Rc::new(Self::of(vitals, backlog))
    }

    fn of(vitals: Vitals, backlog: Option<Box<Backlog>>) -> Self {
        Self {
            vitals,
            socket: OnceCell::new(),
            waker: Cell::new(None),
            backlog: RefCell::new(backlog),
        }
    }

    /// The stream in its session.
    pub fn key(&self) -> StreamKey {
        self.vitals.key()
    }

    /// Names the stream in events.
    pub fn serial(&self) -> u64 {
        self.vitals.serial()
    }

    /// Payload bytes from the socket and to the socket so far.
    pub fn moved(&self) -> (u64, u64) {
        self.vitals.moved()
    }

    /// Takes the facts of the stream, once: it is among those that are shown from now on.
    pub fn set_facts(&self, facts: Facts) {
        self.vitals.set_facts(facts);
    }

    /// The facts that the pipe was given.
    pub fn facts(&self) -> Option<&Facts> {
        self.vitals.facts()
    }

    /// True once it has its socket.
    pub fn is_connected(&self) -> bool {
        self.socket.get().is_some()
    }

    /// True if the stream is over, or about to be.
    pub(crate) fn is_over(&self) -> bool {
        self.vitals.life().is_over()
    }

    /// Origin of the stream's end, so far.
    pub fn cause(&self) -> Cause {
        self.vitals.life().cause()
    }

    /// Id of the stream in its session, once [`Self::run`] has ended.
    pub fn kept_id(&self) -> Option<StreamId> {
        self.vitals.kept_id()
    }

    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Gives the pipe its socket, which is to be tuned as `remoteingress-os` does for streams. `prefix` is no payload
    /// and goes out with the first payload in one write. A second socket is dropped, and so reset.
    pub fn connected(&self, owner: &SessionHandle, socket: TcpStream, prefix: Bytes) {
        if self.socket.set(socket).is_err() {
            return;
        }
        if !prefix.is_empty() {
            let mut backlog = self.backlog.borrow_mut();
            backlog.get_or_insert_default().prefix = prefix;
        }
        self.vitals.update(StreamLife::handle_connected);
        self.flush(&mut owner.session(), Instant::now());
        if let Some(kept) = self.backlog.borrow_mut().as_mut() {
            kept.unshare();
        }
        // Bytes that were taken are credit for the peer.
        owner.notify();
    }

    /// Records the time from `since` until the target's first byte comes from `side`, and tells it.
    pub fn time_first_byte(
        &self,
        times: Arc<StreamTimes>,
        since: Instant,
        side: TargetSide,
        told: Option<Rc<Cell<Option<Duration>>>>,
    ) {
        let first = FirstByte {
            times,
            since,
            side,
            told,
        };
        self.vitals.time_first_byte(first);
    }

    /// Ends the stream from here; its task sees it at once. The first end counts.
    pub fn end(&self, outcome: Outcome) {
        self.vitals.update(|life| life.end(outcome));
        self.wake();
    }

    /// The peer wants no more of what this socket says.
    pub(crate) fn stop_reading(&self) {
        self.vitals.update(StreamLife::handle_cancel);
        self.wake();
    }

    /// Ends the stream if nothing has moved for too long, and looks for what a short read has left: one ends at
    /// TCP's urgent mark, too (FTP and telnet set it), with more after that. Called every second or so.
    pub(crate) fn sweep(&self, now: Instant, timeouts: Timeouts) {
        match self.vitals.update(|life| life.sweep(now, timeouts)) {
            Sweep::Done => {}
            Sweep::Over => self.wake(),
            Sweep::Look => {
                if self.socket.get().is_some_and(has_input) {
                    self.vitals.update(StreamLife::handle_unseen);
                    self.wake();
                }
            }
        }
    }

    /// Ends the stream if the socket's peer has acknowledged nothing for `timeout` while bytes wait for that.
    pub(crate) fn look_for_acks(&self, timeout: Duration) {
        if !self.vitals.life().awaits_ack() {
            return;
        }
        let Some(Ok(sending)) = self.socket.get().map(sending) else {
            return;
        };
        let figures = AckFigures {
            has_waiting: sending.segments > 0 || sending.unsent > 0,
            segments: sending.segments,
            probes: sending.probes,
            silence: sending.silence,
        };
        if self
            .vitals
            .update(|life| life.handle_acks(timeout, figures))
        {
            self.wake();
        }
    }

    /// Resolves with `work`, or with None when the stream is over before. For work before [`Self::run`] only, such as a
    /// dial: both wake one task.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            self.waker.set(Some(cx.waker().clone()));
            if self.vitals.life().is_over() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Gives the stream's task a turn.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The session has something for this stream.
    pub(crate) fn readable(&self, session: &mut Session, now: Instant) {
        let life = self.vitals.life();
        if self.socket.get().is_some() && !life.is_blocked() {
            self.flush(session, now);
            return;
        }
        let (chunks, end) = session.take(self.key());
        self.keep(chunks);
        if let Some(StreamEnd::Aborted(code)) = end {
            self.aborted(now, code);
        }
    }

    /// The peer aborted the stream after the bytes so far.
    fn aborted(&self, now: Instant, code: AbortCode) {
        self.vitals.update(|life| life.handle_abort(now, code));
        self.wake();
    }

    /// Keeps copies of what the socket doesn't take.
    fn keep(&self, chunks: VecDeque<Bytes>) {
        if self.vitals.life().takes_bytes() && !chunks.is_empty() {
            let mut backlog = self.backlog.borrow_mut();
            backlog.get_or_insert_default().keep(chunks);
        }
    }

    /// Writes what there is, as far as the socket takes it.
    fn flush(&self, session: &mut Session, now: Instant) {
        let Some(socket) = self.socket.get() else {
            return;
        };
        self.vitals.update(StreamLife::handle_write_ready);
        let (mut fresh, end) = session.take(self.key());
        // After a FIN, or after a failed write, an abort is all that matters.
        while self.vitals.life().takes_bytes() {
            let mut backlog = self.backlog.borrow_mut();
            let pieces = || {
                let kept = backlog.iter().flat_map(|kept| kept.pieces());
                kept.chain(fresh.iter().map(|piece| &piece[..]))
            };
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            let filled = slices
                .iter_mut()
                .zip(pieces().filter(|piece| !piece.is_empty()));
            for (slice, piece) in filled {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            if count == 0 {
                break;
            }
            let wrote = socket.try_write_vectored(slices.get(..count).unwrap_or_default());
            match wrote {
                Ok(written) => {
                    let kept = backlog.as_mut().map(|kept| kept.advance(written));
                    let left = kept.unwrap_or_else(|| Left::fresh(written));
                    backlog.take_if(|kept| kept.is_empty());
                    advance(&mut fresh, left.fresh);
                    self.vitals.count_out(left.payload);
                    self.vitals.update(|life| life.handle_written(now));
                    session.consumed(now, self.key(), left.uncredited);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(backlog);
                    self.keep(fresh);
                    self.vitals.update(StreamLife::handle_write_blocked);
                    self.wake();
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    drop(backlog);
                    self.vitals.update(StreamLife::handle_write_failed);
                    self.stop_writing(session);
                    self.wake();
                    break;
                }
            }
        }
        match end {
            None => {}
            Some(StreamEnd::Finished) => self.finished(socket),
            Some(StreamEnd::Aborted(code)) => self.aborted(now, code),
        }
    }

    /// The peer's direction has ended.
    fn finished(&self, socket: &TcpStream) {
        if self.vitals.update(StreamLife::handle_fin) == Fin::Pass {
            // Fails only on a socket that is reset already; reading tells.
            let _ = SockRef::from(socket).shutdown(Shutdown::Write);
            self.wake();
        }
    }

    /// The socket takes no more: what waits for it is dropped, and nothing more is wanted.
    fn stop_writing(&self, session: &mut Session) {
        *self.backlog.borrow_mut() = None;
        session.cancel(self.key());
    }

    /// Runs until both directions have ended, then releases the stream and closes the socket: with
    /// FIN where all went well, else with RST. Every byte of this future is paid for by every idle stream; an
    /// `async fn` would hold its arguments twice.
    pub fn run(self: &Rc<Self>, owner: &SessionHandle) -> impl Future<Output = Outcome> {
        let mut watch = None;
        poll_fn(move |cx| {
            let polled = self.poll(cx, owner, &mut watch);
            if let Poll::Ready(outcome) = polled {
                watch = None;
                self.close(owner, outcome);
            }
            polled
        })
    }

    fn close(&self, owner: &SessionHandle, outcome: Outcome) {
        let mut session = owner.session();
        match outcome {
            Outcome::Finished => {}
            Outcome::SocketReset => session.abort(self.key(), AbortCode::Reset),
            Outcome::Aborted(code) => session.abort(self.key(), code),
        }
        if outcome == Outcome::Finished
            && let Some(socket) = self.socket.get()
        {
            // Fails only on a socket that is gone.
            let _ = close_with_fin(socket);
        }
        self.vitals
            .keep_id(session.view(self.key()).and_then(|view| view.id));
        session.release(self.key());
        drop(session);
        owner.notify();
    }

    fn poll(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        owner: &SessionHandle,
        watch: &mut Option<ResetWatch>,
    ) -> Poll<Outcome> {
        self.waker.set(Some(cx.waker().clone()));
        let vitals = &self.vitals;
        if let Some(socket) = self.socket.get() {
            self.read(cx, owner, socket);
            while vitals.life().is_blocked() && !vitals.life().is_over() {
                match socket.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flush(&mut owner.session(), Instant::now());
                        owner.notify();
                    }
                    Poll::Ready(Err(_)) => vitals.update(|life| life.end(Outcome::SocketReset)),
                    Poll::Pending => break,
                }
            }
        }
        if let Some(outcome) = vitals.update(StreamLife::conclude) {
            return Poll::Ready(outcome);
        }
        if self.socket.get().is_some() && vitals.life().watches_reset() {
            let watch = watch.get_or_insert_with(|| watch_reset(self.clone()));
            if watch.as_mut().poll(cx).is_ready() {
                vitals.update(|life| life.handle_reset(Instant::now()));
                if let Some(outcome) = vitals.update(StreamLife::conclude) {
                    return Poll::Ready(outcome);
                }
                self.stop_writing(&mut owner.session());
                owner.notify();
            }
        }
        Poll::Pending
    }

    /// Reads into the tunnel while it has room.
    fn read(&self, cx: &mut Context<'_>, owner: &SessionHandle, socket: &TcpStream) {
        let vitals = &self.vitals;
        while vitals.life().wants_read() {
            let now = Instant::now();
            let frames = if vitals.life().is_bulk() {
                READ_FRAMES
            } else {
                1
            };
            let room = owner.session().room_for(now, self.key(), frames);
            vitals.update(|life| life.handle_room(room));
            if room == 0 {
                // Where memory is scarce the session asks for a timer, which its driver sets.
                owner.notify();
                return;
            }
            let is_unseen = vitals.life().has_unseen();
            let ready = match socket.poll_read_ready(cx) {
                Poll::Pending if is_unseen => Ok(()),
                Poll::Pending => return,
                Poll::Ready(ready) => ready,
            };
            let read = ready
                .and_then(|()| self.read_frames(&mut owner.session(), socket, room, is_unseen));
            match read {
                Ok(0) => {
                    if vitals.update(StreamLife::handle_eof) == Fin::Pass {
                        owner.session().finish(self.key());
                        owner.notify();
                    }
                }
                Ok(bytes) => {
                    vitals.count_in(bytes);
                    if vitals.update(|life| life.handle_read(now, bytes, room)) == Read::Short {
                        read_was_short(socket);
                    }
                    owner.notify();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    vitals.update(StreamLife::handle_read_nothing);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => vitals.update(|life| life.end(Outcome::SocketReset)),
            }
        }
    }

    /// One read of up to `room` bytes, straight into frames of the stream; `is_unseen` if the kernel has given no sign that
    /// there is something.
    fn read_frames(
        &self,
        session: &mut Session,
        socket: &TcpStream,
        room: usize,
        is_unseen: bool,
    ) -> io::Result<usize> {
        let count = room.div_ceil(MAX_PAYLOAD_LEN);
        let mut buffers: [_; READ_FRAMES] =
            std::array::from_fn(|index| (index < count).then(|| session.take_buffer()));
        let mut left = room;
        let mut slices = buffers.each_mut().map(|buffer| {
            let part = left.min(MAX_PAYLOAD_LEN);
            left -= part;
            let payload = buffer.as_mut().map(DataBuffer::payload_mut);
            let payload = payload.and_then(|payload| payload.get_mut(..part));
            IoSliceMut::new(payload.unwrap_or_default())
        });
        let slices = slices.get_mut(..count).unwrap_or_default();
        let read = if is_unseen {
            io::Read::read_vectored(&mut &*SockRef::from(socket), slices)
        } else {
            socket.try_read_vectored(slices)
        };
        let mut left = read.as_ref().copied().unwrap_or_default();
        for mut buffer in buffers.into_iter().flatten() {
            let part = left.min(MAX_PAYLOAD_LEN);
            left -= part;
            if part == 0 {
                session.give_back(buffer);
                continue;
            }
            // A buffer that isn't at least half full costs more memory than a copy costs time.
            if part < MAX_PAYLOAD_LEN / 2 {
                let copy = DataBuffer::copy_from(buffer.payload().get(..part).unwrap_or_default());
                session.give_back(std::mem::replace(&mut buffer, copy));
            } else {
                buffer.truncate(part);
            }
            // `room` promised to take it, unless the stream has ended since: then nobody wants it. If memory has run out all
            // the same, nothing may follow the gap.
            if session.send(self.key(), buffer).is_err() && session.is_sending(self.key()) {
                self.end(Outcome::Aborted(AbortCode::Overloaded));
                break;
            }
        }
        read
    }
}

type ResetWatch = Pin<Box<dyn Future<Output = ()>>>;

/// True if the kernel has bytes for us, whatever readiness it has reported.
fn has_input(socket: &TcpStream) -> bool {
    let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    peeked.is_ok_and(|bytes| bytes > 0)
}

/// Resolves when the socket is in error.
fn watch_reset(pipe: Rc<Pipe>) -> ResetWatch {
    Box::pin(async move {
        if let Some(socket) = pipe.socket.get() {
            let _ = socket.ready(Interest::ERROR).await;
        }
    })
}
