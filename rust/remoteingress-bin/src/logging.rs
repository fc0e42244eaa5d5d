//! Logs: lines on stderr, written by a thread of their own, so that nobody waits for a reader that doesn't read.

mod line;

use line::Fields;
pub(crate) use line::time;
use remoteingress_config::LogFormat;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Lines that wait to be written; more are counted and dropped.
const MAX_QUEUED: usize = 4_096;
/// Time that the process may take at its end to write the lines that wait.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LINES: OnceLock<SyncSender<Line>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);
static IS_TEXT: AtomicBool = AtomicBool::new(false);

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Starts logging at the level in REMOTEINGRESS_LOG, else RUST_LOG, else `info`; panics are logged too.
pub(crate) fn start() -> io::Result<()> {
    let (sender, receiver) = sync_channel(MAX_QUEUED);
    // Called once.
    let _ = LINES.set(sender);
    prefer(None);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(&receiver))?;
    let level = ["REMOTEINGRESS_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let wanted = level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(wanted)
        .ok()
        .filter(|_| is_filter(wanted));
    let is_invalid = filter.is_none();
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    tracing_subscriber::registry()
        .with(filter)
        .with(Queue)
        .init();
    if is_invalid {
        tracing::warn!(
            filter = wanted,
            "not a log filter: use trace, debug, info, warn, error or off, or target=level, with commas between; info is used"
        );
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(location = ?panic.location().map(ToString::to_string), "panic");
    }));
    Ok(())
}

/// Writes lines in this format from now on; without one, as text where stderr is a terminal.
pub(crate) fn prefer(format: Option<LogFormat>) {
    let is_text = match format {
        Some(format) => format == LogFormat::Text,
        None => io::stderr().is_terminal(),
    };
    IS_TEXT.store(is_text, Ordering::Relaxed);
}

/// True if every part says a level: a word that isn't one names a target, and hides everything else.
fn is_filter(text: &str) -> bool {
    let mut parts = text.split(',').filter(|part| !part.is_empty());
    parts.all(|part| {
        let level = part.rsplit('=').next().unwrap_or(part);
        level.parse::<LevelFilter>().is_ok()
    })
}

/// Waits a moment until what was logged so far is written.
pub(crate) fn flush() {
    let (done, written) = sync_channel(1);
    let Some(lines) = LINES.get() else { return };
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    let mut request = Line::Flush(done);
    while let Err(std::sync::mpsc::TrySendError::Full(back)) = lines.try_send(request) {
        if Instant::now() >= deadline {
            return;
        }
        request = back;
        thread::yield_now();
    }
    // Whoever doesn't read stderr doesn't get the last lines.
    let _ = written.recv_timeout(FLUSH_TIMEOUT);
}

fn write_all(lines: &Receiver<Line>) {
    for line in lines {
        let mut stderr = io::stderr().lock();
        // Without a reader there is nobody to tell.
        let _ = match line {
            Line::Text(text) => stderr.write_all(&text),
            Line::Flush(done) => {
                let _ = done.try_send(());
                Ok(())
            }
        };
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let mut fields = Fields::default();
            fields.add(
                "message",
                "log lines were dropped: stderr is not read fast enough",
            );
            fields.add("count", dropped);
            let line = format(Level::WARN, module_path!(), &fields);
            let _ = stderr.write_all(line.as_bytes());
        }
    }
}

fn format(level: Level, target: &str, fields: &Fields) -> String {
    if IS_TEXT.load(Ordering::Relaxed) {
        fields.text(level)
    } else {
        fields.json(level, target)
    }
}

struct Queue;

impl<S: Subscriber> Layer<S> for Queue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = format(*metadata.level(), metadata.target(), &fields);
        let sent = LINES
            .get()
            .map(|lines| lines.try_send(Line::Text(line.into_bytes())));
        if !matches!(sent, Some(Ok(()))) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}
