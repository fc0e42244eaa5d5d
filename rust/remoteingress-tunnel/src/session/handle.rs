//! The handle that each stream holds on its session: the session itself, and the way to wake whoever drives it.

use remoteingress_proto::mux::Session;
use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::Waker;

/// A session as its streams, its flows and its driver share it on one worker. Clones are the same session.
#[derive(Clone)]
pub struct SessionHandle(Rc<Shared>);

struct Shared {
    session: RefCell<Session>,
    driver: Cell<Option<Waker>>,
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}

impl SessionHandle {
    /// Takes a session over.
    pub(crate) fn new(session: Session) -> Self {
        Self(Rc::new(Shared {
            session: RefCell::new(session),
            driver: Cell::new(None),
        }))
    }

    /// The session. Hold it only between awaits, and never while calling a stream's task.
    pub fn session(&self) -> RefMut<'_, Session> {
        self.0.session.borrow_mut()
    }

    /// Gives the driver a turn: the session has something to send.
    pub fn notify(&self) {
        if let Some(waker) = self.0.driver.take() {
            waker.wake();
        }
    }

    /// Begins the driver's turn: later news wakes it again.
    pub(crate) fn register(&self, driver: &Waker) {
        self.0.driver.set(Some(driver.clone()));
    }
}
