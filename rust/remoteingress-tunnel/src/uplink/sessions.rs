//! The sessions of one worker in an uplink: the one that takes new streams, and those that finish theirs.

use super::dialler::Dialler;
use super::session::{Flows, UplinkSession};
use remoteingress_proto::mux::{GoAwayCode, Totals};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

/// The longest time that sessions get for their last frames.
const FLUSH: Duration = Duration::from_secs(1);
/// Interval between checks whether the last frames are out.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// The table of a worker's sessions in an uplink, and the owner of their tasks.
pub struct Sessions<F> {
    pub(super) dialler: Rc<Dialler>,
    current: RefCell<Option<Rc<UplinkSession<F>>>>,
    /// The current one, and those that finish their streams.
    all: RefCell<Vec<Rc<UplinkSession<F>>>>,
    tasks: RefCell<Vec<AbortHandle>>,
    /// Finds out whether QUIC works again.
    trial: Cell<Option<AbortHandle>>,
    /// Of sessions that are gone.
    ended: Cell<Totals>,
}

impl<F> std::fmt::Debug for Sessions<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl<F: Flows + 'static> Sessions<F> {
    /// No sessions yet.
    pub fn new(dialler: Rc<Dialler>) -> Rc<Self> {
        Rc::new(Self {
            dialler,
            current: RefCell::default(),
            all: RefCell::default(),
            tasks: RefCell::default(),
            trial: Cell::new(None),
            ended: Cell::default(),
        })
    }

    /// The session that takes new streams, connected or not.
    pub fn current(&self) -> Option<Rc<UplinkSession<F>>> {
        self.current.borrow().clone()
    }

    /// The session that takes new streams, if it has a connection.
    pub fn attached(&self) -> Option<Rc<UplinkSession<F>>> {
        self.current()
            .filter(|session| session.local.session().is_attached())
    }

    /// The session that datagrams go into now. A peer that hasn't said Welcome yet would lose them, and from a path that is
    /// silent they would come too late.
    pub fn for_datagrams(&self) -> Option<Rc<UplinkSession<F>>> {
        self.attached().filter(|session| {
            let session = session.local.session();
            session.is_welcome() && !session.is_silent()
        })
    }

    /// All sessions: the current one, and those that finish their streams.
    pub fn all(&self) -> Ref<'_, Vec<Rc<UplinkSession<F>>>> {
        self.all.borrow()
    }

    /// Streams and bytes of the sessions that are gone.
    pub fn ended(&self) -> Totals {
        self.ended.get()
    }

    /// Runs a task that ends with the sessions at the latest.
    pub fn own(&self, task: JoinHandle<()>) -> JoinHandle<()> {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        task
    }

    /// Runs the task that finds out whether QUIC works again, in the place of an earlier one: a peer that calls may ask for
    /// any number of trials, and only the last is of use to it.
    pub fn own_trial(&self, task: JoinHandle<()>) {
        let task = self.own(task).abort_handle();
        if let Some(earlier) = self.trial.replace(Some(task)) {
            earlier.abort();
        }
    }

    /// A session has begun: it takes the new streams from now on.
    pub(super) fn attach(&self, session: &Rc<UplinkSession<F>>) {
        session.flows.begin();
        *self.current.borrow_mut() = Some(session.clone());
        self.all.borrow_mut().push(session.clone());
    }

    /// A session finishes its streams and takes no new ones.
    pub(super) fn drain(self: &Rc<Self>, session: &Rc<UplinkSession<F>>, task: JoinHandle<()>) {
        self.supersede(session);
        let (sessions, session) = (self.clone(), session.clone());
        spawn_local(async move {
            // It may have panicked; then it is over, too.
            let _ = task.await;
            sessions.detach(&session);
        });
    }

    /// A session is gone.
    pub(super) fn detach(&self, session: &Rc<UplinkSession<F>>) {
        self.supersede(session);
        session.count_drops();
        let totals = session.local.session().totals();
        let mut ended = self.ended.get();
        ended.received += totals.received;
        ended.sent += totals.sent;
        ended.streams += totals.streams;
        self.ended.set(ended);
        self.all
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, session));
    }

    fn supersede(&self, session: &Rc<UplinkSession<F>>) {
        session.supersede();
        let mut current = self.current.borrow_mut();
        if current
            .as_ref()
            .is_some_and(|current| Rc::ptr_eq(current, session))
        {
            *current = None;
        }
    }

    /// Asks the peer whether it still knows the current session.
    pub(super) fn ping(&self) {
        if let Some(session) = self.current() {
            session.local.session().ping_now();
            session.local.notify();
        }
    }

    /// Tells the peer that this end opens nothing more, so that another instance may take over.
    pub fn go_away(&self) {
        // Its session would look like one that stays.
        if let Some(trial) = self.trial.take() {
            trial.abort();
        }
        let dialler = &self.dialler;
        dialler.uplink.set_live(dialler.worker, false);
        for session in &*self.all() {
            session
                .local
                .session()
                .go_away(GoAwayCode::Draining, Duration::ZERO);
            // One that is resumed while this end leaves takes no new streams either.
            session.supersede();
            session.local.notify();
        }
    }

    /// Gives the sessions a moment for their last frames.
    pub async fn flush(&self) {
        let sessions = self.all().clone();
        let deadline = Instant::now() + FLUSH;
        while Instant::now() < deadline
            && sessions.iter().any(|session| {
                let session = session.local.session();
                session.is_attached() && !session.is_flushed()
            })
        {
            tokio::time::sleep(FLUSH_POLL).await;
        }
    }

    /// Ends all tasks.
    pub fn end(&self) {
        for task in &*self.tasks.borrow() {
            task.abort();
        }
    }
}
