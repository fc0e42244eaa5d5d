//! stdin as bounded lines and stdout with one writer, each on a thread of its own: pipes may block.

use remoteingress_observe::events::Events;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest line of a request (threats A5.4).
const MAX_LINE: u64 = 1_024 * 1_024;
/// Requests that wait to be handled; the parent waits beyond that.
const MAX_REQUESTS: usize = 64;
/// Answers that wait for a parent that doesn't read; requests wait beyond that.
const MAX_ANSWERS: usize = 1_024;
/// Time that an answer waits for room: a parent that reads has taken one of the queue's long before, and one
/// that is stuck shall not keep a port for long that its successor needs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time that the parent may take no line at the end: it asked for that, and the wrapper kills what takes a second.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// A line of stdin.
#[derive(Debug)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// Longer than 1 MiB, and skipped.
    TooLong,
}

/// Lines of stdin, until it ends.
pub(super) struct Input(mpsc::Receiver<Line>);

impl Input {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(MAX_REQUESTS);
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut stdin = BufReader::new(io::stdin());
                while let Ok(Some(line)) = read_line(&mut stdin) {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self(receiver))
    }

    pub(super) async fn next(&mut self) -> Option<Line> {
        self.0.recv().await
    }
}

/// The next line that isn't empty.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if line.len() as u64 > MAX_LINE {
            skip_line(input)?;
            return Ok(Some(Line::TooLong));
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            return Ok(Some(Line::Whole(text.to_vec())));
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(chunk.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// stdout. Answers are never dropped while the parent reads; events are, by their own queue, when it doesn't.
pub(super) struct Output {
    answers: mpsc::Sender<String>,
    /// The latest answer while it has no room, and until when it waits for that.
    unsent: Option<(String, Instant)>,
    /// Changes with every line that was written, and ends with the writer.
    written: watch::Receiver<()>,
}

impl Output {
    pub(super) fn start(first: &Value, events: Events) -> io::Result<Self> {
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        let (progress, written) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let first = first.to_string();
        thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                // A parent that has closed stdout gets nothing more; the end of stdin ends the process.
                let _ = runtime.block_on(write_all(first, receiver, events, &progress));
            })?;
        Ok(Self {
            answers,
            unsent: None,
            written,
        })
    }

    /// Keeps an answer until [`Self::flush`] has found room for it; there may be no other one.
    pub(super) fn answer(&mut self, answer: &Value) {
        debug_assert!(self.unsent.is_none());
        self.unsent = Some((answer.to_string(), Instant::now() + PATIENCE));
    }

    /// Resolves when another answer may come, or to an error when the parent takes none any more. Dropped, it has
    /// lost nothing.
    pub(super) async fn flush(&mut self) -> Result<(), Elapsed> {
        if let Some((_, deadline)) = self.unsent {
            let room = timeout_at(deadline, self.answers.reserve()).await?;
            // The writer is gone when stdout is closed.
            if let (Ok(room), Some((answer, _))) = (room, self.unsent.take()) {
                room.send(answer);
            }
        }
        Ok(())
    }

    /// Writes what waits, and then `last`, as long as the parent reads.
    pub(super) async fn finish(self, last: &[Value]) {
        let Self {
            answers,
            unsent,
            mut written,
        } = self;
        let unsent = unsent.map(|(answer, _)| answer);
        let give = async {
            for answer in unsent.into_iter().chain(last.iter().map(Value::to_string)) {
                // As in `flush`.
                let _ = answers.send(answer).await;
            }
            // The writer ends when it has written them.
            drop(answers);
            std::future::pending().await
        };
        let take = async {
            while matches!(timeout(LAST_PATIENCE, written.changed()).await, Ok(Ok(()))) {}
        };
        tokio::select! {
            () = give => {}
            () = take => {}
            () = sleep(PATIENCE) => {}
        }
    }
}

async fn write_all(
    first: String,
    mut answers: mpsc::Receiver<String>,
    events: Events,
    progress: &watch::Sender<()>,
) -> io::Result<()> {
    write_line(first)?;
    loop {
        let line = tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some(answer) => answer,
                // The end: what has happened so far is still told.
                None => match events.take() {
                    Some(event) => event,
                    None => return Ok(()),
                },
            },
            event = events.next() => event,
        };
        write_line(line)?;
        progress.send_replace(());
    }
}

fn write_line(mut line: String) -> io::Result<()> {
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped_whole() {
        let mut input = vec![b'x'; 3 * MAX_LINE as usize];
        input.extend_from_slice(b"\n\n  {}  \nlast");
        let mut input = &input[..];
        let mut next = || read_line(&mut input).expect("memory doesn't fail");
        assert!(matches!(next(), Some(Line::TooLong)));
        assert!(matches!(next(), Some(Line::Whole(line)) if line == b"{}"));
        assert!(matches!(next(), Some(Line::Whole(line)) if line == b"last"));
        assert!(next().is_none());
    }
}
