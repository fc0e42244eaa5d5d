//! The latest events, numbered, for those who ask what happened, and for those who want to hear what happens next.

use crate::clock::unix_millis;
use remoteingress_config::events::Event;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// Events that are kept: a busy day of a hub with a few edges.
const MAX_EVENTS: usize = 1_000;
/// Bytes of JSON that they may have together.
const MAX_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes of JSON beyond which an event is kept without its data: the ports of an edge may be many.
const MAX_DATA: usize = 64 * 1_024;

/// The latest events. They are kept from the moment on at which it is made.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    /// The number that the next event will have.
    next: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// Each `{"seq", "at", "event", "data"}` as JSON.
    events: VecDeque<Arc<str>>,
    bytes: usize,
    /// The number of the first one.
    first: u64,
}

/// Events since a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Each as JSON: its number, the time in ms since 1970, its name and its data.
    pub events: Vec<Arc<str>>,
    /// The number to ask with next.
    pub next: u64,
    /// Events since that number that aren't kept any more.
    pub lost: u64,
}

impl Default for History {
    fn default() -> Self {
        let kept = Kept {
            events: VecDeque::new(),
            bytes: 0,
            first: 1,
        };
        Self {
            kept: Mutex::new(kept),
            next: watch::Sender::new(1),
        }
    }
}

impl History {
    /// Keeps an event that happens now.
    pub(crate) fn keep(&self, event: &Event, data: &Value) {
        self.add(unix_millis(SystemTime::now()), event.name(), data);
    }

    fn add(&self, at: u64, name: &str, data: &Value) {
        let mut kept = self.kept();
        let seq = kept.first + kept.events.len() as u64;
        let entry =
            |data: &Value| json!({ "seq": seq, "at": at, "event": name, "data": data }).to_string();
        let whole = entry(data);
        let text = if whole.len() > MAX_DATA {
            entry(&Value::Null)
        } else {
            whole
        };
        kept.bytes += text.len();
        kept.events.push_back(text.into());
        while kept.events.len() > MAX_EVENTS || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.events.pop_front() else {
                break;
            };
            kept.bytes -= oldest.len();
            kept.first += 1;
        }
        drop(kept);
        self.next.send_replace(seq + 1);
    }

    /// Events from number `since` on, at most `limit` of them, the oldest first.
    pub fn since(&self, since: u64, limit: usize) -> Since {
        let kept = self.kept();
        let from = since.max(kept.first);
        let skipped = usize::try_from(from - kept.first).unwrap_or(usize::MAX);
        let events: Vec<_> = kept
            .events
            .iter()
            .skip(skipped)
            .take(limit)
            .cloned()
            .collect();
        let end = kept.first + kept.events.len() as u64;
        Since {
            next: (from + events.len() as u64).min(end),
            lost: if since == 0 { 0 } else { from - since },
            events,
        }
    }

    /// The number that the next event will have, and word of each change of it.
    pub fn next(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(since: &Since) -> Vec<u64> {
        let seq = |text: &Arc<str>| {
            serde_json::from_str::<Value>(text).unwrap()["seq"]
                .as_u64()
                .unwrap()
        };
        since.events.iter().map(seq).collect()
    }

    #[test]
    fn who_asks_in_time_misses_nothing_and_who_is_late_learns_how_much() {
        let history = History::default();
        assert_eq!(
            history.since(0, 10),
            Since {
                events: vec![],
                next: 1,
                lost: 0
            }
        );
        for i in 0..MAX_EVENTS as u64 + 5 {
            history.add(i, "x", &json!(i));
        }
        let end = MAX_EVENTS as u64 + 6;
        assert_eq!(*history.next().borrow(), end);
        let some = history.since(3, 2);
        assert_eq!((seqs(&some), some.next, some.lost), (vec![6, 7], 8, 3));
        assert_eq!(seqs(&history.since(some.next, 1)), [8]);
        let late = history.since(end - 1, 10);
        assert_eq!((seqs(&late), late.next, late.lost), (vec![end - 1], end, 0));
        // A number from before a restart.
        let future = history.since(end + 100, 10);
        assert_eq!((future.events.len(), future.next, future.lost), (0, end, 0));
    }

    #[test]
    fn large_events_are_kept_without_their_data_and_all_within_a_bound() {
        let history = History::default();
        history.add(0, "large", &json!("x".repeat(MAX_DATA)));
        let only = history.since(0, 1);
        assert!(
            only.events[0].contains("\"data\":null"),
            "{}",
            only.events[0]
        );
        for _ in 0..200 {
            history.add(0, "x", &json!("x".repeat(MAX_DATA - 100)));
        }
        let kept = history.kept();
        assert_eq!(
            kept.bytes,
            kept.events.iter().map(|text| text.len()).sum::<usize>()
        );
        assert!(kept.bytes <= MAX_BYTES && kept.bytes > MAX_BYTES / 2);
    }
}
