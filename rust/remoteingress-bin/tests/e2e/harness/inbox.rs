//! The stdout of a process: answers by id, events in order, and anything that it should not have written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use remoteingress_config::events::Event;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Everything received so far.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) answers: HashMap<String, Vec<Value>>,
    pub(crate) events: Vec<(String, Value)>,
    /// Lines that are neither answer nor event, and events that aren't as `remoteingress-config` has them.
    pub(crate) strays: Vec<String>,
    pub(crate) transcript: Vec<u8>,
    pub(crate) ended: bool,
}

/// [`Received`] with a way to wait for its next change.
pub(crate) struct Inbox {
    received: Mutex<Received>,
    changes: watch::Sender<u64>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            received: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Looks at what came in.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Received) -> T) -> T {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut received)
    }

    pub(crate) fn line(&self, line: &[u8]) {
        self.with(|received| {
            received.transcript.extend_from_slice(line);
            let value: Value = serde_json::from_slice(line).unwrap_or_default();
            let id = value.get("id").and_then(Value::as_str);
            if let (Some(id), Some(_)) = (id, value.get("success")) {
                let answers = received.answers.entry(id.to_owned()).or_default();
                answers.push(value.clone());
            } else if let Some(event) = value.get("event").and_then(Value::as_str) {
                let body = value.get("data").cloned().unwrap_or_default();
                received.events.push((event.to_owned(), body));
                received.strays.extend(misfit::<Event>(&value));
            } else {
                let stray = String::from_utf8_lossy(line).into_owned();
                received.strays.push(stray);
            }
        });
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn end(&self) {
        self.with(|received| received.ended = true);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until `look` finds something; `None` after `limit`, or at once when nothing more can come.
    pub(crate) async fn find<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&mut Received) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                changes.borrow_and_update();
                let (found, ended) = self.with(|received| (look(received), received.ended));
                if found.is_some() || ended || changes.changed().await.is_err() {
                    return found;
                }
            }
        };
        tokio::time::timeout(limit, search).await.ok().flatten()
    }
}

/// Tells what is wrong with JSON that isn't exactly a `T`.
pub(crate) fn misfit<T: Serialize + DeserializeOwned>(value: &Value) -> Option<String> {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(read) if json!(read) == *value => None,
        Ok(read) => Some(format!("{value} is read as {}", json!(read))),
        Err(error) => Some(format!("{error}: {value}")),
    }
}
