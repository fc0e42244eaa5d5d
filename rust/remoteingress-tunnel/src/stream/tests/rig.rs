//! Two sessions joined in memory, and one stream between them whose ends are sockets or programs.

use crate::session::delivery::{Owner, deliver};
use crate::session::local_session::LocalSession;
use crate::stream::reset::StreamReset;
use crate::stream::splice::{Outcome, Pipe};
use crate::stream::tunnel_stream::TunnelStream;
use bytes::Bytes;
use remoteingress_os::socket_options::{reset_on_close, tune_stream};
use remoteingress_proto::control::ControlError;
use remoteingress_proto::mux::budget::{Budget, BudgetPool};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    Carrier, Event, LaneOutput, Role, Session, SessionConfig, StreamKey,
};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};
use tokio::time::{sleep_until, timeout};

/// No script takes nearly as long.
const TOO_LONG: Duration = Duration::from_secs(20);
/// Bytes that a peer may send at first.
const CREDIT: u32 = 256 * 1_024;
/// Kernel buffers of sockets are asked to be this small, so that bounds can be seen.
const KERNEL_BUFFER: u32 = 64 * 1_024;

/// The kind of user at an end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// A pipe and its socket.
    Pipe,
    /// A program.
    Program,
    /// A pipe that was given the stream by a program.
    HandedOver,
}

/// The far end of a pipe's socket, or the stream itself.
pub(super) enum End {
    Socket(TcpStream),
    Program(TunnelStream),
}

pub(super) struct Side {
    pub(super) local: Rc<LocalSession>,
    opened: RefCell<Vec<StreamKey>>,
}

pub(super) struct Rig {
    pub(super) edge: Rc<Side>,
    pub(super) hub: Rc<Side>,
}

/// A stream with both of its ends.
pub(super) struct Scene {
    pub(super) rig: Rig,
    pub(super) client: End,
    pub(super) target: End,
    pub(super) pipes: Vec<JoinHandle<Outcome>>,
}

impl Owner for Side {
    fn handle(&self, event: Event) -> Result<(), ControlError> {
        if let Event::Opened { key, .. } = event {
            self.opened.borrow_mut().push(key);
        }
        Ok(())
    }

    fn settle(&self) {}
}

impl Side {
    pub(super) fn new(role: Role, carrier: Carrier) -> Rc<Self> {
        let budget = Budget::new(BudgetPool::new(200 << 20));
        let config = SessionConfig {
            role,
            carrier,
            max_peer_streams: 100,
            resume_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(45),
            announced_credit: CREDIT,
            peer_credit: CREDIT,
            is_welcome: true,
            expects_begin: false,
        };
        Rc::new(Self {
            local: LocalSession::new(Session::new(&config, &budget, Instant::now())),
            opened: RefCell::default(),
        })
    }

    /// The stream that the other side has opened last.
    pub(super) fn opened(&self) -> Option<StreamKey> {
        self.opened.borrow_mut().pop()
    }

    /// Sends all that there is to the other side; says whether that was something.
    pub(super) fn send_to(&self, other: &Self, now: Instant) -> bool {
        let mut has_sent = false;
        let carrier = self.local.session().carrier();
        while let Some(output) = { self.local.session().poll_lane(now, true) } {
            let mut session = other.local.session();
            let handled = match output {
                LaneOutput::Frame { frame, .. } if carrier == Carrier::Ordered => {
                    session.handle_input(now, frame)
                }
                LaneOutput::Frame { lane, frame, .. } => session.handle_lane(now, lane, frame),
                LaneOutput::Finish(lane) => session.handle_lane_end(lane),
                LaneOutput::Datagram(_) => panic!("nobody has sent one"),
            };
            handled.expect("frames of our own are in order");
            has_sent = true;
        }
        deliver(&other.local, other, now).unwrap();
        deliver(&self.local, self, now).unwrap();
        has_sent
    }
}

impl Rig {
    /// Two sessions and a task that carries frames between them.
    pub(super) fn new(carrier: Carrier) -> Self {
        let rig = Self {
            edge: Side::new(Role::Edge, carrier),
            hub: Side::new(Role::Hub, carrier),
        };
        let (edge, hub) = (rig.edge.clone(), rig.hub.clone());
        spawn_local(async move {
            loop {
                let at = [&edge, &hub].map(|side| side.local.session().poll_timeout());
                let next = at.into_iter().flatten().min().expect("keepalive");
                let mut timer = pin!(sleep_until(next.into()));
                poll_fn(|cx| turn(cx, &edge, &hub, timer.as_mut())).await;
            }
        });
        rig
    }

    /// Opens a stream; gives it as either side knows it.
    pub(super) async fn open(&self) -> (StreamKey, StreamKey) {
        let key = self.edge.local.session().open(Instant::now(), b"header");
        self.edge.local.notify();
        self.quiet().await;
        (key.unwrap(), self.hub.opened().expect("OPEN has come"))
    }

    /// Waits until nothing moves any more. The kernel hands bytes on at once here, and each yield asks it for news.
    pub(super) async fn quiet(&self) {
        let state = || [&self.edge, &self.hub].map(|side| side.local.session().totals());
        let mut calm = 0;
        while calm < 100 {
            let before = state();
            yield_now().await;
            calm = if state() == before { calm + 1 } else { 0 };
        }
    }
}

fn turn(
    cx: &mut Context<'_>,
    edge: &Side,
    hub: &Side,
    timer: Pin<&mut tokio::time::Sleep>,
) -> Poll<()> {
    let now = Instant::now();
    for side in [edge, hub] {
        side.local.settle();
        side.local.register(cx.waker());
        side.local.session().handle_timeout(now).unwrap();
    }
    while edge.send_to(hub, now) | hub.send_to(edge, now) {}
    timer.poll(cx)
}

/// Plays a script in a runtime that asks the kernel for news after each task.
pub(super) fn play<F: Future<Output = ()>>(script: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(1)
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(TOO_LONG, script()).await.expect("the script hangs");
    });
}

impl Scene {
    pub(super) async fn new(carrier: Carrier, client: Face, target: Face) -> Self {
        let rig = Rig::new(carrier);
        let (edge, hub) = rig.open().await;
        let mut pipes = Vec::new();
        let client = attach(&rig.edge.local, edge, client, &mut pipes).await;
        let target = attach(&rig.hub.local, hub, target, &mut pipes).await;
        Self {
            rig,
            client,
            target,
            pipes,
        }
    }

    /// Outcomes of the pipes, which end soon.
    pub(super) async fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for pipe in self.pipes.drain(..) {
            outcomes.push(pipe.await.unwrap());
        }
        outcomes
    }
}

async fn attach(
    local: &Rc<LocalSession>,
    key: StreamKey,
    face: Face,
    pipes: &mut Vec<JoinHandle<Outcome>>,
) -> End {
    if face == Face::Program {
        return End::Program(TunnelStream::new(local, key));
    }
    let (near, far) = sockets().await;
    let pipe = if face == Face::HandedOver {
        TunnelStream::new(local, key).into_pipe(near, Bytes::new())
    } else {
        let pipe = local.add(key);
        pipe.connected(local.handle(), near, Bytes::new());
        pipe
    };
    pipes.push(run(local, pipe));
    End::Socket(far)
}

pub(super) fn run(local: &Rc<LocalSession>, pipe: Rc<Pipe>) -> JoinHandle<Outcome> {
    let local = local.clone();
    spawn_local(async move { local.run(&pipe).await })
}

/// A socket for a pipe, and its peer.
pub(super) async fn sockets() -> (TcpStream, TcpStream) {
    small_sockets(KERNEL_BUFFER).await
}

/// As [`sockets`], with `buffer` bytes in each of their buffers, or little more.
pub(super) async fn small_sockets(buffer: u32) -> (TcpStream, TcpStream) {
    let [listening, connecting] = [(); 2].map(|()| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        socket.set_send_buffer_size(buffer).unwrap();
        socket
    });
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let (far, near) = tokio::join!(connecting.connect(address), listener.accept());
    let (near, far) = (near.unwrap().0, far.unwrap());
    tune_stream(&near).unwrap();
    (near, far)
}

/// Bytes that tell their place.
pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 31) >> 3) as u8).collect()
}

impl End {
    pub(super) fn is_program(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    /// Reads `bytes` and checks that they are the first of a pattern.
    pub(super) async fn expect(&mut self, bytes: usize) {
        let mut read = vec![0; bytes];
        self.read_exact(&mut read).await.unwrap();
        assert!(read == pattern(bytes), "other bytes than were written");
    }

    /// Reads to the end; gives what came and how it ended.
    pub(super) async fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut read = Vec::new();
        let ended = self.read_to_end(&mut read).await;
        (read, ended.map(|_| ()))
    }

    /// Writes until nothing is taken any more although nothing moves; gives how much was taken.
    pub(super) async fn fill(&mut self, rig: &Rig) -> usize {
        let bytes = pattern(64 << 20);
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_write(cx, rest))).await;
            match polled {
                Poll::Ready(written) => taken += written.unwrap(),
                Poll::Pending => {
                    rig.quiet().await;
                    let rest = &bytes[taken..];
                    let again =
                        poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_write(cx, rest))).await;
                    match again {
                        Poll::Ready(written) => taken += written.unwrap(),
                        Poll::Pending => return taken,
                    }
                }
            }
        }
    }

    pub(super) fn reset(self) {
        match self {
            Self::Socket(socket) => reset_on_close(&socket).unwrap(),
            Self::Program(stream) => stream.reset(AbortCode::Reset),
        }
    }
}

/// A reset, with the code where a program is told one.
pub(super) fn assert_reset(ended: io::Result<()>, is_program: bool, code: AbortCode) {
    let error = ended.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let source = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(source, is_program.then_some(&StreamReset(code)));
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Program(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Program(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Self::Program(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Program(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Writes and shuts down.
pub(super) async fn say(end: &mut End, bytes: &[u8]) {
    end.write_all(bytes).await.unwrap();
    end.shutdown().await.unwrap();
}
