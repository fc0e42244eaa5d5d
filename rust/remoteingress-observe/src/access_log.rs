//! The access log: lines that wait, within bounds, for the one thread that writes them. Whoever adds a line never waits.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait for the writer.
const MAX_LINES: usize = 16_384;
/// Half of those.
const HALF: usize = MAX_LINES / 2;
/// Bytes that waiting lines may occupy.
const MAX_BYTES: usize = 8 * 1_024 * 1_024;
/// Lines wait this long for others, so that one write and one wake-up of the writer serve many.
const GATHER: Duration = Duration::from_millis(50);
/// Losses are warned of this often at most.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Permissions of a file that the log makes: its owner writes, its group reads.
const MODE: u32 = 0o640;

/// Place that lines go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Standard error.
    Stderr,
    /// A file, to whose end lines are added.
    File(PathBuf),
}

/// The log of finished streams. Clones are the same log.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    place: Place,
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// That the lines occupy.
    bytes: usize,
    reopens: bool,
    closes: bool,
    /// The writer has ended.
    is_over: bool,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl AccessLog {
    /// Opens the place and starts the writer. An error is that of the place or the thread.
    pub fn start(place: Place) -> io::Result<Self> {
        let output = open(&place)?;
        let shared = Arc::new(Shared {
            place,
            queue: Mutex::default(),
            changed: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let writer = shared.clone();
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.write(output))?;
        Ok(Self(shared))
    }

    /// Adds a line, which has no line break, or counts it as lost where too many wait.
    pub fn add(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let mut queue = self.0.queue();
        let is_full = queue.lines.len() >= MAX_LINES || queue.bytes + line.capacity() > MAX_BYTES;
        if is_full || queue.closes {
            drop(queue);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.capacity();
        queue.lines.push_back(line);
        // The writer waits for the first one, and doesn't wait for more once half of those that may wait are there.
        let is_sign = matches!(queue.lines.len(), 1 | HALF);
        drop(queue);
        if is_sign {
            self.0.changed.notify_all();
        }
    }

    /// Counts lines that their writer has lost before.
    pub fn count_lost(&self, lines: u64) {
        self.0.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Opens the file anew before the next line: the one so far was moved away.
    pub fn reopen(&self) {
        self.0.queue().reopens = true;
        self.0.changed.notify_all();
    }

    /// Takes no more lines; the writer ends after those that wait.
    pub fn end(&self) {
        self.0.queue().closes = true;
        self.0.changed.notify_all();
    }

    /// Takes no more lines and waits until the others are written, at most until the deadline; true if they are.
    pub fn close(&self, deadline: Instant) -> bool {
        self.end();
        let mut queue = self.0.queue();
        while !queue.is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's whole life.
    fn write(&self, mut output: Box<dyn Write + Send>) {
        let mut warned = (None, 0);
        loop {
            let mut queue = self.queue();
            while queue.lines.is_empty() && !queue.reopens && !queue.closes {
                let waited = self.changed.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
            }
            let until = Instant::now() + GATHER;
            while !queue.reopens && !queue.closes && queue.lines.len() < HALF {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.changed.wait_timeout(queue, left);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let reopens = std::mem::take(&mut queue.reopens);
            let lines = std::mem::take(&mut queue.lines);
            queue.bytes = 0;
            let is_last = queue.closes && lines.is_empty();
            queue.is_over = is_last;
            drop(queue);
            if is_last {
                self.changed.notify_all();
                return;
            }
            if reopens {
                match open(&self.place) {
                    Ok(opened) => output = opened,
                    Err(error) => {
                        tracing::error!(%error, "failed to open the access log anew: lines go to the file so far");
                    }
                }
            }
            let count = lines.len() as u64;
            let lines: Vec<_> = lines.into();
            if let Err(error) = output.write_all(&lines.concat()) {
                self.lost.fetch_add(count, Ordering::Relaxed);
                tracing::debug!(%error, "failed to write the access log");
            }
            self.warn(&mut warned);
        }
    }

    /// Warns of lines lost since the last warning, if that is long ago.
    fn warn(&self, (at, told): &mut (Option<Instant>, u64)) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > *told && at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            tracing::warn!(
                lines = lost - *told,
                "lines of the access log are lost: its disk is full or slower than they come"
            );
            (*at, *told) = (Some(Instant::now()), lost);
        }
    }
}

fn open(place: &Place) -> io::Result<Box<dyn Write + Send>> {
    Ok(match place {
        Place::Stderr => Box::new(io::stderr()),
        Place::File(path) => {
            let mut options = OpenOptions::new();
            let file: File = options.append(true).create(true).mode(MODE).open(path)?;
            Box::new(file)
        }
    })
}

/// True if the stream of this id is in a sample: this share of all, the same at every end that knows the id.
pub fn is_sampled(id: &str, share: f64) -> bool {
    // FNV-1a, finished so that ids which differ in their last digit alone are far apart.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
    f64::from(high) < share * (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_share() {
        let ids = || (0..10_000).map(|number| format!("0011223344556677-{number:x}"));
        let count = |share| ids().filter(|id| is_sampled(id, share)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&count(0.1)));
    }

    #[test]
    fn a_device_that_is_full_loses_and_counts() {
        let log = AccessLog::start(Place::File("/dev/full".into())).expect("a device");
        for _ in 0..3 {
            log.add(b"{}".to_vec());
        }
        assert!(log.close(Instant::now() + Duration::from_secs(10)));
        assert_eq!(log.lost(), 3);
    }
}
