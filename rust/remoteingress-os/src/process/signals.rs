//! Signals as wishes: the first SIGTERM or SIGINT asks to drain, the second one to cut, SIGHUP to read the configuration again.
//! The signal that tells of the parent's death asks to drain, however often it comes.

use super::options::PARENT_DIED;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// Wishes that have come as signals. Nothing queues: signals that come faster than they are heard count once.
#[derive(Debug)]
pub struct Signals {
    ends: watch::Receiver<u32>,
    reload: Arc<Notify>,
}

impl Signals {
    /// Begins to listen, with a task on the current `LocalSet` that lasts as long as it does.
    ///
    /// # Errors
    /// The kernel or the runtime lets no handler be set.
    ///
    /// # Panics
    /// Outside of a `LocalSet` or of a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let (count, ends) = watch::channel(0);
        let reload = Arc::new(Notify::new());
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut orphaned = signal(SignalKind::from_raw(PARENT_DIED.as_raw()))?;
        let notify = reload.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => count.send_modify(|n| *n += 1),
                    _ = interrupt.recv() => count.send_modify(|n| *n += 1),
                    _ = orphaned.recv() => count.send_modify(|n| *n = (*n).max(1)),
                    _ = hangup.recv() => notify.notify_one(),
                }
            }
        });
        Ok(Self { ends, reload })
    }

    /// Resolves when the process was asked to end.
    pub async fn terminated(&self) {
        self.count(1).await;
    }

    /// Resolves when the process was asked to end twice.
    pub async fn cut(&self) {
        self.count(2).await;
    }

    /// Resolves when the configuration is to be read again.
    pub async fn reload(&self) {
        self.reload.notified().await;
    }

    async fn count(&self, times: u32) {
        let mut ends = self.ends.clone();
        if ends.wait_for(|count| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }
}
