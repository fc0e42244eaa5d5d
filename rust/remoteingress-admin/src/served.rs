//! What the routes answer from: the console, the latest events, and the status that all listeners share.

use crate::console::{Ask, Console};
use remoteingress_observe::events::Events;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Pause between two looks at the status, while somebody wants to see it.
const LOOK: Duration = Duration::from_secs(1);

/// What the routes answer from.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) console: Console,
    pub(crate) events: Events,
    pub(crate) statuses: Statuses,
}

/// The status as it was last seen, which all readers share: it is looked at once a second, however many they are, and not
/// at all without one.
#[derive(Clone, Debug)]
pub(crate) struct Statuses {
    console: Console,
    /// Absent while nobody reads.
    seen: Arc<Mutex<Option<watch::Receiver<Arc<str>>>>>,
}

impl Statuses {
    pub(crate) fn new(console: Console) -> Self {
        Self {
            console,
            seen: Arc::default(),
        }
    }

    /// A reader of the status.
    pub(crate) fn read(&self) -> watch::Receiver<Arc<str>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = seen
            .as_ref()
            .filter(|receiver| receiver.has_changed().is_ok())
        {
            let mut own = receiver.clone();
            own.mark_changed();
            return own;
        }
        let (sender, receiver) = watch::channel(Arc::from(""));
        *seen = Some(receiver.clone());
        tokio::spawn(look(self.console.clone(), sender));
        receiver
    }
}

/// Looks at the status until only the one that makes readers has the receiver, or nobody answers.
async fn look(console: Console, sender: watch::Sender<Arc<str>>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if sender.receiver_count() <= 1 {
            return;
        }
        let Ok(status) = console.ask(Ask::Overview).await else {
            return;
        };
        let text: Arc<str> = status.to_string().into();
        sender.send_if_modified(|seen| {
            let is_new = *seen != text;
            *seen = text;
            is_new
        });
    }
}
