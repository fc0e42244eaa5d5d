//! Events on their way to the program that drives this process: bounded, counted when lost, never waited for.

use crate::history::History;
use remoteingress_config::events::{Event, EventsDropped, StreamClosed, StreamOpened};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// Events that may wait for the reader (threats A5.4).
const MAX_QUEUED: usize = 10_000;
/// Bytes that waiting events may occupy, unless it is one alone: that of all 131,070 ports takes 7 MiB, or 30 MiB if all
/// of them have failed.
const MAX_BYTES: usize = 16 * 1_024 * 1_024;
/// Bytes of JSON above which an event is logged without its data.
const MAX_LOGGED: usize = 1_024;

/// The queue that the engines put events in. Clones are the same queue.
///
/// At most 10,000 events of 16 MiB wait, or one that is larger. Beyond that new ones are lost and counted; once the reader has caught up by half, an
/// event `eventsDropped` tells it how many.
#[derive(Clone)]
pub struct Events(Arc<Queue>);

struct Queue {
    /// Someone reads the events; otherwise they are only logged.
    read: bool,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    streams_opened: AtomicBool,
    streams_closed: AtomicBool,
    lost: AtomicU64,
    /// Kept once somebody wants it.
    history: OnceLock<History>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// That the lines occupy: their capacity, which can be twice their length.
    bytes: usize,
    /// Lost since the last `eventsDropped`.
    dropped: u64,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl Events {
    /// A queue for a reader, which calls [`next`](Self::next); events are logged as well.
    pub fn queued() -> Self {
        Self::new(true)
    }

    /// No queue: events are only logged.
    pub fn logged() -> Self {
        Self::new(false)
    }

    fn new(read: bool) -> Self {
        Self(Arc::new(Queue {
            read,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            streams_opened: AtomicBool::new(false),
            streams_closed: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            history: OnceLock::new(),
        }))
    }

    /// Logs an event and queues it, or counts it as lost when the queue is full. Never waits.
    pub fn emit(&self, event: &Event) {
        let (name, data) = (event.name(), event.data());
        let text = data.to_string();
        if text.len() <= MAX_LOGGED {
            tracing::info!(event = name, data = text, "event");
        } else {
            tracing::info!(event = name, bytes = text.len(), "event");
        }
        if let Some(history) = self.0.history.get() {
            history.keep(event, &data);
        }
        if self.0.read {
            self.push(name, &data);
        }
    }

    /// The latest events, which are kept from the first call on. The frequent ones of streams aren't among them.
    pub fn history(&self) -> &History {
        self.0.history.get_or_init(History::default)
    }

    fn push(&self, event: &'static str, data: &Value) {
        let mut waiting = self.waiting();
        let line = line(event, data);
        let is_alone = waiting.lines.is_empty();
        let is_full = waiting.bytes + line.capacity() > MAX_BYTES && !is_alone;
        if is_full || waiting.lines.len() >= MAX_QUEUED {
            waiting.dropped += 1;
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if waiting.dropped > 0 && waiting.lines.len() < MAX_QUEUED / 2 {
            let told = waiting.take_dropped();
            waiting.add(told);
        }
        waiting.add(line);
        drop(waiting);
        self.0.arrived.notify_one();
    }

    /// The next event as a line of JSON, without a line break. Waits until there is one; nothing is lost when the wait is
    /// called off.
    pub async fn next(&self) -> String {
        loop {
            if let Some(line) = self.take() {
                return line;
            }
            self.0.arrived.notified().await;
        }
    }

    /// The next event if one waits already.
    pub fn take(&self) -> Option<String> {
        let mut waiting = self.waiting();
        if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes -= line.capacity();
            return Some(line);
        }
        (waiting.dropped > 0).then(|| waiting.take_dropped())
    }

    /// Says which of the two frequent events are wanted: `streamOpened` and `streamClosed`. At first neither is.
    pub fn subscribe(&self, opened: bool, closed: bool) {
        self.0.streams_opened.store(opened, Ordering::Relaxed);
        self.0.streams_closed.store(closed, Ordering::Relaxed);
    }

    /// True if somebody is told of `streamOpened`.
    pub fn wants_stream_opened(&self) -> bool {
        self.0.streams_opened.load(Ordering::Relaxed)
    }

    /// Queues `streamOpened`, unlogged. Unless [subscribed](Self::subscribe), `data` isn't called.
    pub fn stream_opened(&self, data: impl FnOnce() -> StreamOpened) {
        if self.wants_stream_opened() {
            let event = Event::StreamOpened(data());
            self.push(event.name(), &event.data());
        }
    }

    /// Queues `streamClosed`, unlogged. Unless [subscribed](Self::subscribe), `data` isn't called.
    pub fn stream_closed(&self, data: impl FnOnce() -> StreamClosed) {
        if self.0.streams_closed.load(Ordering::Relaxed) {
            let event = Event::StreamClosed(data());
            self.push(event.name(), &event.data());
        }
    }

    /// Events lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, line: String) {
        self.bytes += line.capacity();
        self.lines.push_back(line);
    }

    fn take_dropped(&mut self) -> String {
        let dropped = std::mem::take(&mut self.dropped);
        let event = Event::EventsDropped(EventsDropped { count: dropped });
        line(event.name(), &event.data())
    }
}

fn line(event: &'static str, data: &Value) -> String {
    json!({ "event": event, "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::reasons::Protocol;
    use remoteingress_proto::token::edge_id::EdgeId;

    #[test]
    fn a_reader_who_is_behind_learns_how_much_was_lost() {
        let events = Events::queued();
        for i in 0..MAX_QUEUED + 5 {
            events.push("x", &json!(i));
        }
        assert_eq!(events.lost(), 5);
        for _ in 0..MAX_QUEUED {
            assert!(events.take().is_some_and(|line| line.contains("\"x\"")));
        }
        assert_eq!(
            events.take().as_deref(),
            Some(r#"{"data":{"count":5},"event":"eventsDropped"}"#)
        );
        assert_eq!(events.take(), None);
    }

    #[test]
    fn large_events_are_bounded_by_the_memory_that_they_occupy() {
        let events = Events::queued();
        let ports = json!("x".repeat(200 * 1_024));
        while events.lost() == 0 {
            events.push("x", &ports);
        }
        let (occupied, counted) = {
            let waiting = events.waiting();
            let capacities = waiting.lines.iter().map(String::capacity);
            (capacities.sum::<usize>(), waiting.bytes)
        };
        assert_eq!(occupied, counted);
        assert!(occupied <= MAX_BYTES && occupied > MAX_BYTES / 2);

        // Reading makes room again.
        while events.take().is_some_and(|line| line.contains("\"x\"")) {}
        assert_eq!(events.waiting().bytes, 0);
        events.push("y", &ports);
        assert!(events.take().is_some_and(|line| line.contains("\"y\"")));
    }

    #[test]
    fn an_event_that_is_larger_than_all_may_be_waits_alone() {
        let events = Events::queued();
        let ports = json!("x".repeat(MAX_BYTES));
        events.push("x", &ports);
        events.push("y", &ports);
        assert_eq!(events.lost(), 1);
        assert!(events.take().is_some_and(|line| line.len() > MAX_BYTES));
        assert!(
            events
                .take()
                .is_some_and(|line| line.contains("eventsDropped"))
        );
        events.push("z", &ports);
        assert!(events.take().is_some_and(|line| line.len() > MAX_BYTES));
    }

    #[test]
    fn stream_events_are_made_for_subscribers_only() {
        let events = Events::queued();
        events.stream_opened(|| unreachable!("nobody listens"));
        events.subscribe(true, false);
        events.stream_opened(|| StreamOpened {
            edge_id: EdgeId::new("edge-1").unwrap(),
            serial: 1,
            id: None,
            client_address: "192.0.2.7:50000".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 443,
            listener_ip: "198.51.100.1".parse().unwrap(),
            target: None,
            pool: None,
        });
        events.stream_closed(|| unreachable!("nobody listens"));
        assert!(events.take().is_some());
    }
}
