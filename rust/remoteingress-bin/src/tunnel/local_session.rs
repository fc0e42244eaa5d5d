//! A session and the pipes of its streams, as one worker holds them.

use crate::pipe::{Outcome, Pipe};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Carrier, Session, StreamKey};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// See the file's first line.
pub(crate) struct LocalSession {
    session: RefCell<Session>,
    pipes: RefCell<HashMap<StreamKey, Rc<Pipe>>>,
    driver: Cell<Option<Waker>>,
    /// The peer accepts no new streams.
    closing: Notify,
    /// Nothing is left to do in a closing session.
    drained: Notify,
    /// At the last sweep nothing was left to do.
    was_done: Cell<bool>,
    probes: RefCell<Vec<oneshot::Sender<()>>>,
}

impl LocalSession {
    pub(crate) fn new(session: Session) -> Rc<Self> {
        Rc::new(Self {
            session: RefCell::new(session),
            pipes: RefCell::default(),
            driver: Cell::new(None),
            closing: Notify::new(),
            drained: Notify::new(),
            was_done: Cell::new(false),
            probes: RefCell::default(),
        })
    }

    /// The session. Hold it only between awaits, and never while calling a pipe's task.
    pub(crate) fn session(&self) -> RefMut<'_, Session> {
        self.session.borrow_mut()
    }

    /// Streams whose pipes still run.
    pub(crate) fn streams(&self) -> usize {
        self.pipes.borrow().len()
    }

    /// The session has something to send: its driver gets a turn.
    pub(crate) fn notify(&self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The driver's turn begins: what comes later wakes it again.
    pub(crate) fn register(&self, driver: &Waker) {
        self.driver.set(Some(driver.clone()));
    }

    pub(crate) fn add(&self, key: StreamKey) -> Rc<Pipe> {
        let pipe = Pipe::new(key);
        self.pipes.borrow_mut().insert(key, pipe.clone());
        pipe
    }

    pub(crate) fn pipe(&self, key: StreamKey) -> Option<Rc<Pipe>> {
        self.pipes.borrow().get(&key).cloned()
    }

    pub(crate) fn forget(&self, key: StreamKey) {
        self.pipes.borrow_mut().remove(&key);
    }

    /// Ends every stream.
    pub(crate) fn end_streams(&self, code: AbortCode) {
        for pipe in self.pipes.borrow().values() {
            pipe.end(Outcome::Aborted(code));
        }
    }

    /// Ends streams on which nothing has moved for too long.
    pub(crate) fn sweep(&self, idle: Option<Duration>, half_closed: Option<Duration>) {
        let now = Instant::now();
        for pipe in self.pipes.borrow().values() {
            pipe.sweep(now, idle, half_closed);
        }
        let session = self.session();
        let is_done = self.streams() == 0 && session.is_closing() && session.is_flushed();
        // Over lanes a stream that the peer has opened before it heard of the end may come behind what it says to that.
        let was_done = self.was_done.replace(is_done);
        if is_done && (was_done || session.carrier() == Carrier::Ordered) {
            self.drained.notify_one();
        }
    }

    pub(crate) fn closing(&self) -> &Notify {
        &self.closing
    }

    pub(crate) fn drained(&self) -> &Notify {
        &self.drained
    }

    /// Asks the peer for a sign of life; `answered` is told when there is one.
    pub(crate) fn probe(&self, answered: oneshot::Sender<()>) {
        self.probes.borrow_mut().push(answered);
        self.session().ping_now();
        self.notify();
    }

    pub(crate) fn heard(&self) {
        for probe in self.probes.take() {
            // Whoever asked may have stopped waiting.
            let _ = probe.send(());
        }
    }
}

/// The round trip as status shows it: in milliseconds, and only while there is a connection.
pub(crate) fn rtt_ms(session: &Session) -> Option<f64> {
    let rtt = session.rtt().filter(|_| session.is_attached())?;
    Some(rtt.as_secs_f64() * 1_000.0)
}
