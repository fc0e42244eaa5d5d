//! Logs: JSON lines on stderr, written by a thread of their own, so that nobody waits for a reader that doesn't read.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written; more are counted and dropped.
const MAX_QUEUED: usize = 4_096;
/// Time that the process may take at its end to write the lines that wait.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LINES: OnceLock<SyncSender<Line>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Starts logging at the level in REMOTEINGRESS_LOG, else RUST_LOG, else `info`; panics are logged too.
pub(crate) fn start() -> io::Result<()> {
    let (sender, receiver) = sync_channel(MAX_QUEUED);
    // Called once.
    let _ = LINES.set(sender);
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
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(Queue)
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
            let line = serde_json::json!({
                "level": "WARN", "target": "remoteingress_bin::logging",
                "fields": { "message": "log lines were dropped: stderr is not read fast enough", "count": dropped },
            });
            let _ = writeln!(stderr, "{line}");
        }
    }
}

#[derive(Clone, Copy)]
struct Queue;

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Queue {
    /// The formatter gives a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = LINES
            .get()
            .map(|lines| lines.try_send(Line::Text(line.to_vec())));
        if !matches!(sent, Some(Ok(()))) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
