//! A session and the pipes of its streams, as one worker holds them.

use super::handle::SessionHandle;
use super::names::{Names, Waiting};
use crate::stream::direct::Direct;
use crate::stream::face::Face;
use crate::stream::facts::Facts;
use crate::stream::splice::{Outcome, Pipe};
use remoteingress_core::doctor::tunnel::PathLoss;
use remoteingress_core::entrance::ping_timeout;
use remoteingress_core::stream::{AckLooks, Timeouts};
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::SessionId;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Carrier, Session, StreamKey};
use remoteingress_proto::wire::frame::StreamId;
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// A driver has its turn long before.
const LOSS_TIME: Duration = Duration::from_millis(500);

/// A session, who takes the bytes of each of its streams, and the signs by which its tasks wait for each other.
pub struct LocalSession {
    handle: SessionHandle,
    faces: RefCell<HashMap<StreamKey, Face>>,
    /// Streams of programs that were given payload by reference in this turn of the driver.
    unsettled: RefCell<Vec<Rc<Direct>>>,
    /// The peer accepts no new streams.
    closing: Notify,
    /// Nothing is left to do in a closing session.
    drained: Notify,
    /// At the last sweep nothing was left to do.
    was_done: Cell<bool>,
    /// Whoever waits for a sign of life.
    pings: RefCell<Vec<oneshot::Sender<()>>>,
    /// Whoever wants to know what the connection has lost so far.
    loss_asked: RefCell<Vec<oneshot::Sender<PathLoss>>>,
    ack_looks: Cell<AckLooks>,
    names: Names,
}

crate::opaque::opaque_debug!(LocalSession);

impl LocalSession {
    /// Takes a session over; nobody has a stream of it yet.
    pub fn new(session: Session) -> Rc<Self> {
        Rc::new(Self {
            handle: SessionHandle::new(session),
            faces: RefCell::default(),
            unsettled: RefCell::default(),
            closing: Notify::new(),
            drained: Notify::new(),
            was_done: Cell::new(false),
            pings: RefCell::default(),
            loss_asked: RefCell::default(),
            ack_looks: Cell::default(),
            names: Names::default(),
        })
    }

    /// The session. Hold it only between awaits, and never while calling a pipe's task.
    pub fn session(&self) -> RefMut<'_, Session> {
        self.handle.session()
    }

    /// The session and its driver, as a stream holds them.
    pub fn handle(&self) -> &SessionHandle {
        &self.handle
    }

    /// Streams that somebody here still has.
    fn streams(&self) -> usize {
        self.faces.borrow().len()
    }

    /// Gives the driver a turn: the session has something to send.
    pub fn notify(&self) {
        self.handle.notify();
    }

    /// Begins the driver's turn: later news wakes it again.
    pub(crate) fn register(&self, driver: &Waker) {
        self.handle.register(driver);
    }

    /// Gives a stream, opened here or by the peer, a pipe that is to get a socket. Run it by [`Self::run`].
    pub fn add(&self, key: StreamKey) -> Rc<Pipe> {
        let pipe = Pipe::new(key);
        self.set(key, Face::Pipe(pipe.clone()));
        pipe
    }

    /// The stream's events go to this one from now on.
    pub(crate) fn set(&self, key: StreamKey, face: Face) {
        self.faces.borrow_mut().insert(key, face);
    }

    /// Nobody has the stream any more.
    pub(crate) fn forget(&self, key: StreamKey) {
        self.faces.borrow_mut().remove(&key);
        self.names.forget(key);
    }

    /// The id that the hub has given the session. If it is another one than before, it is that of the streams from
    /// `first` on.
    pub fn set_id(&self, id: SessionId, first: StreamId) {
        self.names.set(id, first);
    }

    /// Name of a stream, once its OPEN has left and the hub knows the session.
    pub fn stream_name(&self, key: StreamKey) -> Option<String> {
        let session = self.session();
        let id = session.view(key)?.id.filter(|_| session.is_welcome());
        drop(session);
        self.names.of_stream(id?)
    }

    /// Name of a stream whose pipe has ended, if it had one.
    pub fn name_of_ended(&self, pipe: &Pipe) -> Option<String> {
        self.names.of_stream(pipe.kept_id()?)
    }

    /// Name of a flow, once the hub knows the session.
    pub fn flow_name(&self, id: FlowId) -> Option<String> {
        self.names.of_flow(id)
    }

    /// Calls `named` as soon as a stream has its name. One whose pipe ends before gets none.
    pub fn when_named(&self, pipe: &Rc<Pipe>, named: impl FnOnce(&Pipe, String) + 'static) {
        self.names.wait(Waiting {
            pipe: pipe.clone(),
            named: Box::new(named),
        });
    }

    /// Frames may have left, and a Welcome may have come.
    pub(super) fn look_for_names(&self) {
        let next = || {
            let session = self.session();
            session.is_welcome().then(|| session.next_id())
        };
        for one in self.names.look(next) {
            match self.stream_name(one.pipe.key()) {
                _ if one.pipe.is_over() => {}
                Some(name) => (one.named)(&one.pipe, name),
                None => self.names.wait(one),
            }
        }
    }

    /// Those who take the bytes of each stream.
    pub(super) fn faces(&self) -> Ref<'_, HashMap<StreamKey, Face>> {
        self.faces.borrow()
    }

    fn face(&self, key: StreamKey) -> Option<Face> {
        self.faces.borrow().get(&key).cloned()
    }

    /// Gives a stream what the session has for it.
    pub(crate) fn readable(&self, key: StreamKey, now: Instant) {
        let Some(face) = self.face(key) else { return };
        face.readable(&mut self.session(), now);
        if let Face::Direct(direct) = face {
            self.unsettled.borrow_mut().push(direct);
        }
    }

    /// A stream has room again.
    pub(crate) fn send_ready(&self, key: StreamKey) {
        if let Some(face) = self.face(key) {
            face.send_ready();
        }
    }

    /// The peer wants no more of a stream.
    pub(crate) fn send_stopped(&self, key: StreamKey) {
        if let Some(face) = self.face(key) {
            face.send_stopped();
        }
    }

    /// The driver is about to read: payload that programs hold by reference is copied, so that it pins no buffer.
    pub(crate) fn settle(&self) {
        let mut unsettled = self.unsettled.borrow_mut();
        for direct in unsettled.drain(..) {
            direct.settle();
        }
    }

    /// Runs a stream's pipe to its end, then forgets it.
    pub fn run<'a>(&'a self, pipe: &'a Rc<Pipe>) -> impl Future<Output = Outcome> + 'a {
        let mut run = pipe.run(&self.handle);
        poll_fn(move |cx| {
            let polled = Pin::new(&mut run).poll(cx);
            if polled.is_ready() {
                self.forget(pipe.key());
            }
            polled
        })
    }

    /// Ends every stream.
    pub fn end_streams(&self, code: AbortCode) {
        let mut session = self.session();
        for face in self.faces.borrow().values() {
            face.end(&mut session, Outcome::Aborted(code));
        }
        drop(session);
        self.names.forget_all();
        self.notify();
    }

    /// Ends the streams whose facts are meant.
    pub fn end_where(&self, code: AbortCode, is_meant: impl Fn(&Facts) -> bool) {
        let mut session = self.session();
        let faces = self.faces.borrow();
        let meant = faces
            .values()
            .filter(|face| face.vitals().facts().is_some_and(&is_meant));
        for face in meant {
            face.end(&mut session, Outcome::Aborted(code));
        }
        drop(session);
        self.notify();
    }

    /// Ends streams on which nothing has moved for too long, and those whose socket's peer is gone.
    pub fn sweep(&self, timeouts: Timeouts) {
        self.sweep_at(Instant::now(), timeouts);
    }

    /// As [`Self::sweep`], at a time that the caller has.
    pub(crate) fn sweep_at(&self, now: Instant, timeouts: Timeouts) {
        if let Some(timeout) = timeouts.ack {
            self.look_for_acks(now, timeout);
        }
        let mut session = self.session();
        for face in self.faces.borrow().values() {
            face.sweep(&mut session, now, timeouts);
        }
        let is_done = self.streams() == 0 && session.is_closing() && session.is_flushed();
        // Over lanes a stream that the peer has opened before it heard of the end may come after its answer to that.
        let was_done = self.was_done.replace(is_done);
        if is_done && (was_done || session.carrier() == Carrier::Ordered) {
            self.drained.notify_one();
        }
    }

    fn look_for_acks(&self, now: Instant, timeout: Duration) {
        let mut looks = self.ack_looks.get();
        if looks.is_due(now, timeout) {
            for face in self.faces.borrow().values() {
                face.look_for_acks(timeout);
            }
        }
        self.ack_looks.set(looks);
    }

    /// Notified by the owner when the peer accepts no new streams.
    pub fn closing(&self) -> &Notify {
        &self.closing
    }

    /// Notified by [`Self::sweep`] when a closing session has nothing left to do.
    pub fn drained(&self) -> &Notify {
        &self.drained
    }

    /// Asks the peer for a sign of life; false if there is none in time.
    pub async fn is_alive(&self) -> bool {
        let limit = ping_timeout(self.session().rtt());
        matches!(timeout(limit, self.ping()).await, Ok(Ok(())))
    }

    /// Asks the peer for a sign of life, and is told when there is one.
    fn ping(&self) -> oneshot::Receiver<()> {
        let (answered, told) = oneshot::channel();
        let mut pings = self.pings.borrow_mut();
        pings.retain(|waiting| !waiting.is_closed());
        pings.push(answered);
        self.session().ping_now();
        self.notify();
        told
    }

    /// Asks the driver what the connection has lost so far; none without a connection.
    pub async fn path_loss(&self) -> Option<PathLoss> {
        timeout(LOSS_TIME, self.ask_loss()).await.ok()?.ok()
    }

    fn ask_loss(&self) -> oneshot::Receiver<PathLoss> {
        let (sender, told) = oneshot::channel();
        let mut asked = self.loss_asked.borrow_mut();
        asked.retain(|waiting| !waiting.is_closed());
        asked.push(sender);
        self.notify();
        told
    }

    /// The driver has a turn: it looks what was lost, if somebody wants to know.
    pub(crate) fn tell_loss(&self, look: impl FnOnce() -> Option<PathLoss>) {
        if self.loss_asked.borrow().is_empty() {
            return;
        }
        let asked = self.loss_asked.take();
        let Some(loss) = look() else { return };
        for sender in asked {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(loss);
        }
    }

    /// The peer has given a sign of life: tells whoever asked for one.
    pub(crate) fn heard(&self) {
        for ping in self.pings.take() {
            // Whoever asked may have stopped waiting.
            let _ = ping.send(());
        }
    }
}

/// The round trip as status shows it: in milliseconds, and only while there is a connection.
pub fn rtt_ms(session: &Session) -> Option<f64> {
    let rtt = session.rtt().filter(|_| session.is_attached())?;
    Some(rtt.as_secs_f64() * 1_000.0)
}
