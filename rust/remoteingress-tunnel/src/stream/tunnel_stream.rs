//! A stream of a session as a program reads and writes it: TLS, HTTP and relays stand on this.

use super::direct::Direct;
use super::face::Face;
use super::splice::Pipe;
use crate::session::local_session::LocalSession;
use bytes::Bytes;
use remoteingress_core::stream::Outcome;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::mux::stream::AbortCode;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of a session, on the session's worker: it is not `Send`.
///
/// - Bytes that are read are credit for the peer; those that aren't stop it when its window is used up.
/// - A write waits while the session has no room. Bytes that it took leave by themselves: flushing does nothing.
/// - `shutdown` sends FIN, and reading goes on. A read of 0 bytes is the peer's FIN, and writing goes on.
/// - A reset is an error of the kind `ConnectionReset` whose source is a [`StreamReset`](super::reset::StreamReset); bytes
///   from before it can be read for 5 s. Writing after shutdown, or when the peer wants no more, is `BrokenPipe`.
/// - Dropped before `shutdown` it resets the stream; after that it tells the peer that nothing more is wanted.
/// - The session's sweeps end it when nothing has moved for too long.
///
/// The first bytes can be taken by [`Self::read_chunk`] and given back by [`Self::unread`], to choose by them who gets the
/// stream: a program, or a socket by [`Self::into_pipe`].
pub struct TunnelStream {
    local: Rc<LocalSession>,
    direct: Rc<Direct>,
    is_handed_over: bool,
}

crate::opaque::opaque_debug!(TunnelStream);

// Fails to compile if a `TunnelStream` can be sent to another thread.
const _: fn() = || {
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    struct IsSend;
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    impl<T: ?Sized + Send> AmbiguousIfSend<IsSend> for T {}
    <TunnelStream as AmbiguousIfSend<_>>::check();
};

impl TunnelStream {
    /// Takes a stream that nobody else has taken: at once after it was opened here, or while its `Opened` is handled, so that
    /// no event is missed.
    pub fn new(local: &Rc<LocalSession>, key: StreamKey) -> Self {
        let direct = Rc::new(Direct::new(key, Instant::now()));
        local.set(key, Face::Direct(direct.clone()));
        // Bytes that are here already may have had their event.
        local.readable(key, Instant::now());
        Self {
            local: local.clone(),
            direct,
            is_handed_over: false,
        }
    }

    /// Names the stream in events.
    pub fn serial(&self) -> u64 {
        self.direct.vitals().serial()
    }

    /// Payload bytes written into the tunnel and read from it so far; those given back count when they are read again.
    pub fn moved(&self) -> (u64, u64) {
        self.direct.vitals().moved()
    }

    /// From now on it sends in the last tier: beside other streams, and not in their way.
    pub fn sustain(&self) {
        let key = self.direct.vitals().key();
        self.local.session().sustain(key);
    }

    /// Outcome of the stream, if it is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.direct.over()
    }

    /// The next bytes, at most `most` (at least 1) and as many as came in one piece, without copying; none after the peer's FIN.
    /// They are credit for the peer, so that it sends more: whoever holds them bounds how many. Dropping the future loses
    /// nothing.
    pub async fn read_chunk(&mut self, most: usize) -> io::Result<Bytes> {
        poll_fn(|cx| self.poll_read_chunk(cx, most)).await
    }

    /// As [`Self::read_chunk`].
    pub fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Bytes>> {
        let mut session = self.local.session();
        let now = Instant::now();
        if !ready!(self.direct.poll_readable(cx, &mut session, now))? {
            return Poll::Ready(Ok(Bytes::new()));
        }
        // None would look like the end.
        let piece = self.direct.pop(&mut session, now, most.max(1));
        drop(session);
        self.local.notify();
        Poll::Ready(Ok(piece.unwrap_or_default()))
    }

    /// Gives the bytes that were taken last back, by reference: they are the next to be read. To give several pieces back,
    /// begin with the last one.
    pub fn unread(&mut self, bytes: Bytes) {
        self.direct.put_back(bytes);
    }

    /// Resolves with `work`, such as a dial, or with None when the stream fails before that.
    pub async fn unless_ended<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            if self.direct.poll_aborted(cx).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Joins the stream to a socket, which gets `prefix`, the bytes that were given back, and what comes. The pipe keeps
    /// the serial and what was counted; run it by [`LocalSession::run`]. The socket is to be tuned as for
    /// [`Pipe::connected`].
    pub fn into_pipe(mut self, socket: TcpStream, prefix: Bytes) -> Rc<Pipe> {
        let (vitals, backlog) = self.direct.hand_over(&mut self.local.session());
        let pipe = Pipe::taken_over(vitals, backlog);
        self.is_handed_over = true;
        self.local.set(pipe.key(), Face::Pipe(pipe.clone()));
        pipe.connected(self.local.handle(), socket, prefix);
        pipe
    }

    /// Aborts the stream; the other end's socket is reset. Bytes written before still go out.
    pub fn reset(self, code: AbortCode) {
        self.direct
            .end(&mut self.local.session(), Outcome::Aborted(code));
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        if self.is_handed_over {
            return;
        }
        let key = self.direct.vitals().key();
        self.local.forget(key);
        // It aborts what wasn't ended.
        self.local.session().release(key);
        self.local.notify();
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut session = self.local.session();
        let now = Instant::now();
        if !ready!(self.direct.poll_readable(cx, &mut session, now))? {
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0
            && let Some(piece) = self.direct.pop(&mut session, now, buf.remaining())
        {
            buf.put_slice(&piece);
        }
        drop(session);
        self.local.notify();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.direct.poll_write(cx, &mut self.local.session(), bufs);
        // Where memory is scarce the session asks for a timer, which its driver sets.
        self.local.notify();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = self.direct.shut_down(&mut self.local.session());
        self.local.notify();
        Poll::Ready(shut_down)
    }
}
