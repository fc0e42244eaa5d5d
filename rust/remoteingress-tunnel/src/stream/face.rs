//! The receiver of a stream's events: a pipe, which is the fast path, or a program.

use super::direct::Direct;
use super::splice::Pipe;
use super::vitals::Vitals;
use remoteingress_core::stream::{Outcome, Timeouts};
use remoteingress_proto::mux::Session;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One entry of a session's table. Clones are the same stream.
#[derive(Clone)]
pub(crate) enum Face {
    Pipe(Rc<Pipe>),
    Direct(Rc<Direct>),
}

impl Face {
    pub(crate) fn readable(&self, session: &mut Session, now: Instant) {
        match self {
            Self::Pipe(pipe) => pipe.readable(session, now),
            Self::Direct(direct) => direct.readable(session, now),
        }
    }

    pub(crate) fn send_ready(&self) {
        match self {
            Self::Pipe(pipe) => pipe.wake(),
            Self::Direct(direct) => direct.send_ready(),
        }
    }

    pub(crate) fn send_stopped(&self) {
        match self {
            Self::Pipe(pipe) => pipe.stop_reading(),
            Self::Direct(direct) => direct.stop_sending(),
        }
    }

    pub(crate) fn vitals(&self) -> &Vitals {
        match self {
            Self::Pipe(pipe) => pipe.vitals(),
            Self::Direct(direct) => direct.vitals(),
        }
    }

    pub(crate) fn end(&self, session: &mut Session, outcome: Outcome) {
        match self {
            Self::Pipe(pipe) => pipe.end(outcome),
            Self::Direct(direct) => direct.end(session, outcome),
        }
    }

    /// Only a pipe has a socket.
    pub(crate) fn look_for_acks(&self, timeout: Duration) {
        if let Self::Pipe(pipe) = self {
            pipe.look_for_acks(timeout);
        }
    }

    pub(crate) fn sweep(&self, session: &mut Session, now: Instant, timeouts: Timeouts) {
        match self {
            Self::Pipe(pipe) => pipe.sweep(now, timeouts),
            Self::Direct(direct) => direct.sweep(session, now, timeouts),
        }
    }
}
