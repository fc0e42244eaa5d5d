//! A worker: a thread with a runtime of its own, which owns everything it touches (D1).

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Commands that wait for a worker.
const MAX_COMMANDS: usize = 4_096;

/// What other threads may know of a worker. Read once per accept, never per byte.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// It has a session that takes new streams.
    pub(crate) live: AtomicBool,
    /// Streams that it carries.
    pub(crate) streams: AtomicUsize,
}

impl Gauge {
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

/// A running worker that takes commands of type `C`. It ends when its commands end.
pub(crate) struct Worker<C> {
    pub(crate) commands: mpsc::Sender<C>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Worker<C> {
    /// Starts a thread that runs `body` to its end.
    pub(crate) fn start<F: Future<Output = ()>>(
        name: &str,
        body: impl FnOnce(mpsc::Receiver<C>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, body(receiver));
            })?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Waits for the thread, whose body has been told to end.
    pub(crate) fn join(mut self) {
        drop(self.commands);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker has panicked");
        }
    }
}
