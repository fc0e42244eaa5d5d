//! Events as they happen, and the status as it changes, for those who keep a connection for that (server-sent events).

use crate::answer::{Failure, query};
use crate::served::Served;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use remoteingress_config::rest::FeedQuery;
use remoteingress_observe::events::Events;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Pause after which a comment is sent, so that a reader that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are taken from the history at a time.
const BATCH: usize = 100;

/// One reader.
struct Reader {
    events: Events,
    /// The number of the next event.
    next: u64,
    news: watch::Receiver<u64>,
    waiting: VecDeque<Arc<str>>,
    status: Option<watch::Receiver<Arc<str>>>,
}

pub(crate) async fn stream(
    State(served): State<Served>,
    wanted: Result<Query<FeedQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let FeedQuery { status, since } = query(wanted)?;
    let news = served.events.history().next();
    let reader = Reader {
        next: since.unwrap_or_else(|| *news.borrow()),
        events: served.events,
        news,
        waiting: VecDeque::new(),
        status: status.map(|_| served.statuses.read()),
    };
    let events = unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(Sse::new(events))
}

impl Reader {
    /// What is to be sent next; none ends the connection: the reader was too slow and has missed events, or the process
    /// ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(text) = self.waiting.pop_front() {
                self.next += 1;
                let event = Event::default().id((self.next - 1).to_string());
                return Some(event.event("event").data(&*text));
            }
            let since = self.events.history().since(self.next, BATCH);
            if since.lost > 0 {
                return None;
            }
            if !since.events.is_empty() {
                self.waiting = since.events.into();
                continue;
            }
            // A number from before a restart.
            self.next = self.next.min(since.next);
            let status = async {
                match &mut self.status {
                    Some(status) => {
                        status.changed().await.ok()?;
                        Some(status.borrow_and_update().clone())
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(KEEP_ALIVE) => return Some(Event::default().comment("")),
                changed = self.news.changed() => changed.ok()?,
                status = status => {
                    let status = status?;
                    if !status.is_empty() {
                        return Some(Event::default().event("status").data(&*status));
                    }
                }
            }
        }
    }
}
