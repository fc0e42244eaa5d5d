//! One stream's socket: moves bytes between it and its stream of the session, with FIN, reset and
//! backpressure carried both ways. The same on the edge (client) and the hub (target).
//!
//! What comes from the tunnel is written by the session's driver at once, straight from the read
//! buffer; only what the socket doesn't take is copied and left to the pipe's own task.

use crate::session::handle::SessionHandle;
use bytes::{Buf, Bytes, BytesMut};
use remoteingress_config::reasons::StreamCloseReason;
use remoteingress_os::readiness::read_was_short;
use remoteingress_os::socket_options::close_with_fin;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN};
use socket2::SockRef;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Frames that one read fills, at most: as many as the scheduler lets leave in a row.
const READ_FRAMES: usize = 4;
/// Slices of one gathered write (IOV_MAX is 1,024; more than this rarely waits for one socket).
const MAX_SLICES: usize = 64;
/// Copies of what a socket didn't take have at least this room, so that tiny ones are gathered.
const LEAST_KEPT: usize = 512;
/// The last bytes before a reset are offered so long to whoever doesn't take them.
const LINGER: Duration = Duration::from_secs(5);

/// How a stream ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions ended with FIN.
    Finished,
    /// This end's socket failed.
    SocketReset,
    /// The other end, or the session, aborted it.
    Aborted(AbortCode),
}

impl From<Outcome> for StreamCloseReason {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::Finished,
            Outcome::SocketReset => Self::Reset,
            Outcome::Aborted(code) => code.into(),
        }
    }
}

/// The last number given to a stream of this process, in events.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A stream and, once it is connected, its socket.
pub struct Pipe {
    key: StreamKey,
    serial: u64,
    socket: OnceCell<TcpStream>,
    waker: Cell<Option<Waker>>,
    /// From the socket into the tunnel there may be more.
    reading: Cell<bool>,
    /// From the tunnel into the socket there may be more.
    writing: Cell<bool>,
    /// The socket refused to take more; what it still says is passed on, then the stream aborts.
    write_failed: Cell<bool>,
    /// The backlog is to be written when the socket is ready.
    blocked: Cell<bool>,
    /// Boxed, and gone once it is written: an idle stream has none.
    backlog: RefCell<Option<Box<Backlog>>>,
    outcome: Cell<Option<Outcome>>,
    /// Payload bytes from the socket and to the socket.
    moved: Cell<(u64, u64)>,
    progress_at: Cell<Instant>,
    /// How the stream ends, and since when that is known, while bytes before that still wait.
    ending: Cell<Option<(Instant, Outcome)>>,
    /// The tunnel takes nothing from the socket for now.
    full: Cell<bool>,
    /// The last read filled all that there was room for: the next one is larger.
    is_bulk: Cell<bool>,
    /// The last read was short, so that nothing should be left in the socket.
    is_drained: Cell<bool>,
    /// Something was left all the same, which the kernel gives no sign of.
    has_unseen: Cell<bool>,
}

/// What goes to the socket before anything newer.
#[derive(Default)]
struct Backlog {
    /// The PROXY header, which is no payload.
    prefix: Bytes,
    /// Right-sized copies of what the socket didn't take.
    waiting: VecDeque<BytesMut>,
}

impl Backlog {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let waiting = self.waiting.iter().map(|piece| &piece[..]);
        std::iter::once(&self.prefix[..]).chain(waiting)
    }

    fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.waiting.is_empty()
    }
}

crate::opaque::opaque_debug!(Pipe);

impl Pipe {
    pub fn new(key: StreamKey) -> Rc<Self> {
        Rc::new(Self {
            key,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed) + 1,
            socket: OnceCell::new(),
            waker: Cell::new(None),
            reading: Cell::new(true),
            writing: Cell::new(true),
            write_failed: Cell::new(false),
            blocked: Cell::new(false),
            backlog: RefCell::new(None),
            outcome: Cell::new(None),
            moved: Cell::new((0, 0)),
            progress_at: Cell::new(Instant::now()),
            ending: Cell::new(None),
            full: Cell::new(false),
            is_bulk: Cell::new(false),
            is_drained: Cell::new(false),
            has_unseen: Cell::new(false),
        })
    }

    /// The stream in its session.
    pub fn key(&self) -> StreamKey {
        self.key
    }

    /// Names the stream in events.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Payload bytes from the socket and to the socket so far.
    pub fn moved(&self) -> (u64, u64) {
        self.moved.get()
    }

    /// Gives the pipe its socket; `prefix` goes out with the first payload in one write.
    pub fn connected(&self, owner: &SessionHandle, socket: TcpStream, prefix: Bytes) {
        if !prefix.is_empty() {
            let mut backlog = self.backlog.borrow_mut();
            backlog.get_or_insert_default().prefix = prefix;
        }
        if self.socket.set(socket).is_ok() {
            self.flush(&mut owner.session(), Instant::now());
            // What was taken is credit for the peer.
            owner.notify();
        }
    }

    /// Ends the stream from here; its task sees it at once.
    pub fn end(&self, outcome: Outcome) {
        if self.outcome.get().is_none() {
            self.outcome.set(Some(outcome));
        }
        self.wake();
    }

    /// The peer wants no more of what this socket says.
    pub fn stop_reading(&self) {
        self.reading.set(false);
        self.wake();
    }

    /// Ends the stream if nothing has moved for too long, and looks for what a short read has left behind: one ends at
    /// TCP's urgent mark, too (FTP and telnet set it), with more behind that. Called every second or so.
    pub fn sweep(&self, now: Instant, idle: Option<Duration>, half_closed: Option<Duration>) {
        if let Some((since, outcome)) = self.ending.get()
            && now >= since + LINGER
        {
            self.end(outcome);
        }
        if self.reading.get()
            && !self.full.get()
            && self.is_drained.take()
            && self.socket.get().is_some_and(has_input)
        {
            self.has_unseen.set(true);
            self.wake();
        }
        let is_half_closed = self.reading.get() != self.writing.get();
        let limit = if is_half_closed {
            half_closed.into_iter().chain(idle).min()
        } else {
            idle
        };
        if limit.is_some_and(|limit| now >= self.progress_at.get() + limit) {
            self.end(Outcome::Aborted(AbortCode::IdleTimeout));
        }
    }

    /// Resolves with `work`, or with None when the stream is ended before.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            self.waker.set(Some(cx.waker().clone()));
            if self.outcome.get().is_some() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The session has something for this stream.
    pub fn readable(&self, session: &mut Session, now: Instant) {
        if self.socket.get().is_some() && !self.blocked.get() {
            self.flush(session, now);
            return;
        }
        let (chunks, end) = session.take(self.key);
        self.keep(chunks);
        if let Some(StreamEnd::Aborted(code)) = end {
            if self.socket.get().is_none() {
                self.end(Outcome::Aborted(code));
            } else {
                self.linger(now, Outcome::Aborted(code));
            }
        }
    }

    /// The stream is to end when the bytes before that have gone, or soon.
    fn linger(&self, now: Instant, outcome: Outcome) {
        if self.ending.get().is_none() {
            self.ending.set(Some((now, outcome)));
        }
    }

    /// A kept slice would pin the whole read buffer that it lies in: copy it, small ones together.
    fn keep(&self, chunks: VecDeque<Bytes>) {
        if !self.writing.get() || chunks.is_empty() {
            return;
        }
        let mut backlog = self.backlog.borrow_mut();
        let waiting = &mut backlog.get_or_insert_default().waiting;
        for chunk in chunks {
            let has_room = |last: &BytesMut| last.capacity() - last.len() >= chunk.len();
            if let Some(last) = waiting.back_mut().filter(|last| has_room(last)) {
                last.extend_from_slice(&chunk);
                continue;
            }
            let mut copy = BytesMut::with_capacity(chunk.len().max(LEAST_KEPT));
            copy.extend_from_slice(&chunk);
            waiting.push_back(copy);
        }
    }

    /// Writes what there is, as far as the socket takes it.
    fn flush(&self, session: &mut Session, now: Instant) {
        let Some(socket) = self.socket.get() else {
            return;
        };
        self.blocked.set(false);
        let (mut fresh, end) = session.take(self.key);
        loop {
            if !self.writing.get() {
                // Behind a FIN, or after a failed write, an abort is all that matters.
                if let Some(StreamEnd::Aborted(code)) = end {
                    self.end(Outcome::Aborted(code));
                }
                return;
            }
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
                drop(backlog);
                self.reached_end(socket, end);
                return;
            }
            match socket.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(written) => {
                    let (mut payload, mut rest) = (written, written);
                    if let Some(kept) = backlog.as_mut() {
                        let head = kept.prefix.len().min(written);
                        kept.prefix.advance(head);
                        payload -= head;
                        rest = advance(&mut kept.waiting, payload);
                    }
                    backlog.take_if(|kept| kept.is_empty());
                    advance(&mut fresh, rest);
                    drop(backlog);
                    let (from, to) = self.moved.get();
                    self.moved.set((from, to + payload as u64));
                    self.progress_at.set(now);
                    session.consumed(now, self.key, payload);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(backlog);
                    self.keep(fresh);
                    self.blocked.set(true);
                    if let Some(StreamEnd::Aborted(code)) = end {
                        self.linger(now, Outcome::Aborted(code));
                    }
                    self.wake();
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    drop(backlog);
                    self.stop_writing(session);
                    self.wake();
                    return;
                }
            }
        }
    }

    /// The socket takes no more.
    fn stop_writing(&self, session: &mut Session) {
        *self.backlog.borrow_mut() = None;
        self.blocked.set(false);
        self.writing.set(false);
        self.write_failed.set(true);
        session.cancel(self.key);
    }

    fn reached_end(&self, socket: &TcpStream, end: Option<StreamEnd>) {
        match end {
            None => {}
            Some(StreamEnd::Finished) => {
                // Fails only on a socket that is reset already; reading tells.
                let _ = SockRef::from(socket).shutdown(Shutdown::Write);
                self.writing.set(false);
                self.wake();
            }
            Some(StreamEnd::Aborted(code)) => self.end(Outcome::Aborted(code)),
        }
    }

    /// Runs until both directions have ended, then releases the stream and closes the socket: with
    /// FIN where all went well, else with RST. What this holds is paid for by every idle stream; an
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
            Outcome::SocketReset => session.abort(self.key, AbortCode::Reset),
            Outcome::Aborted(code) => session.abort(self.key, code),
        }
        if outcome == Outcome::Finished
            && let Some(socket) = self.socket.get()
        {
            // Fails only on a socket that is gone.
            let _ = close_with_fin(socket);
        }
        session.release(self.key);
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
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let Some(socket) = self.socket.get() else {
            return Poll::Pending;
        };
        if let Some(outcome) = self.read(cx, owner, socket) {
            return Poll::Ready(outcome);
        }
        while self.blocked.get() {
            match socket.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.flush(&mut owner.session(), Instant::now());
                    owner.notify();
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::SocketReset),
                Poll::Pending => break,
            }
        }
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        match (self.reading.get(), self.writing.get()) {
            (false, false) if self.write_failed.get() => Poll::Ready(Outcome::SocketReset),
            (false, false) => Poll::Ready(Outcome::Finished),
            (true, _) if !self.full.get() || self.ending.get().is_some() => Poll::Pending,
            // Nothing reads this socket now: only its error state tells of a reset.
            (is_read_later, _) => {
                let watch = watch.get_or_insert_with(|| watch_reset(self.clone()));
                if watch.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if !is_read_later {
                    return Poll::Ready(Outcome::SocketReset);
                }
                // What it said before the reset still counts, if there is room for it soon.
                self.linger(Instant::now(), Outcome::SocketReset);
                self.stop_writing(&mut owner.session());
                owner.notify();
                Poll::Pending
            }
        }
    }

    /// Reads into the tunnel while it has room.
    fn read(
        &self,
        cx: &mut Context<'_>,
        owner: &SessionHandle,
        socket: &TcpStream,
    ) -> Option<Outcome> {
        while self.reading.get() && self.outcome.get().is_none() {
            let now = Instant::now();
            let frames = if self.is_bulk.get() { READ_FRAMES } else { 1 };
            let room = owner.session().room_for(now, self.key, frames);
            self.full.set(room == 0);
            if room == 0 {
                // Where memory is scarce the session asks for a timer, which its driver sets.
                owner.notify();
                return None;
            }
            let is_unseen = self.has_unseen.take();
            match socket.poll_read_ready(cx) {
                Poll::Pending if is_unseen => {}
                Poll::Pending => return None,
                Poll::Ready(Err(_)) => return Some(Outcome::SocketReset),
                Poll::Ready(Ok(())) => {}
            }
            let read = self.read_frames(&mut owner.session(), socket, room, is_unseen);
            match read {
                Ok(0) => {
                    self.reading.set(false);
                    if !self.write_failed.get() {
                        owner.session().finish(self.key);
                        owner.notify();
                    }
                }
                Ok(read) => {
                    let (from, to) = self.moved.get();
                    self.moved.set((from + read as u64, to));
                    self.progress_at.set(now);
                    owner.notify();
                }
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        return Some(Outcome::SocketReset);
                    }
                }
            }
        }
        None
    }

    /// One read of up to `room` bytes, straight into frames of the stream; `is_unseen` if only the kernel knows that there is
    /// something.
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
            (&*SockRef::from(socket)).read_vectored(slices)
        } else {
            socket.try_read_vectored(slices)
        };
        let mut left = read.as_ref().copied().unwrap_or_default();
        self.is_bulk.set(left == room);
        self.has_unseen.set(is_unseen && left == room);
        let is_short = (1..room).contains(&left);
        self.is_drained.set(is_short);
        if is_short {
            read_was_short(socket);
        }
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
            if session.send(self.key, buffer).is_err() && session.is_sending(self.key) {
                self.end(Outcome::Aborted(AbortCode::Overloaded));
                break;
            }
        }
        read
    }
}

type ResetWatch = Pin<Box<dyn Future<Output = ()>>>;

/// Whether the kernel has bytes for us, whatever it has told.
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

/// Takes `bytes` off the front; gives how many there were not.
fn advance(chunks: &mut VecDeque<impl Buf>, mut bytes: usize) -> usize {
    while let Some(front) = chunks.front_mut() {
        if front.remaining() > bytes {
            front.advance(bytes);
            return 0;
        }
        bytes -= front.remaining();
        chunks.pop_front();
    }
    bytes
}
