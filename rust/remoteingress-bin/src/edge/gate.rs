//! One worker knocks for all: while it isn't known whether the hub accepts this edge's secret, attempts go
//! one after another, because a hub blocks an address after a few wrong proofs (`maxAuthFailuresPerIp`).

use super::connect::Failure;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts that were on their way when the hub refused one come within this.
const FRESH: Duration = Duration::from_secs(5);

/// What the hub said last.
#[derive(Clone, Debug)]
enum Answer {
    /// Nothing yet, or before a connection was lost.
    Unknown,
    Accepted,
    Refused(Failure, Instant),
}

/// See the file's first line. Shared by an edge's workers.
#[derive(Debug)]
pub(crate) struct Gate {
    answer: Mutex<Answer>,
    turns: Arc<Semaphore>,
}

/// The right to make an attempt; its result goes to [`Gate::passed`] or [`Gate::refused`] before it is dropped.
pub(crate) struct Turn {
    _alone: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            answer: Mutex::new(Answer::Unknown),
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits until an attempt may be made: at once where the hub has accepted the secret, else in turn.
    pub(crate) async fn turn(&self) -> Turn {
        if self.is_open() {
            return Turn { _alone: None };
        }
        // Never closed.
        let alone = self.turns.clone().acquire_owned().await.ok();
        Turn {
            _alone: alone.filter(|_| !self.is_open()),
        }
    }

    /// Why the hub refused the secret, if that is the last it said.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        match &*self.answer() {
            Answer::Refused(failure, _) => Some(failure.clone()),
            Answer::Unknown | Answer::Accepted => None,
        }
    }

    /// The same, if it has only just said so: another attempt now would be as wrong.
    pub(crate) fn fresh_refusal(&self) -> Option<Failure> {
        match &*self.answer() {
            Answer::Refused(failure, at) if at.elapsed() < FRESH => Some(failure.clone()),
            Answer::Refused(..) | Answer::Unknown | Answer::Accepted => None,
        }
    }

    pub(crate) fn passed(&self) {
        *self.answer() = Answer::Accepted;
    }

    pub(crate) fn refused(&self, failure: &Failure) {
        *self.answer() = Answer::Refused(failure.clone(), Instant::now());
    }

    /// A connection was lost: perhaps because the hub accepts the secret no more.
    pub(crate) fn lost(&self) {
        let mut answer = self.answer();
        if matches!(*answer, Answer::Accepted) {
            *answer = Answer::Unknown;
        }
    }

    fn is_open(&self) -> bool {
        matches!(*self.answer(), Answer::Accepted)
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
