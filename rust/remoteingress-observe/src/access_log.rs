//! The access log: lines that wait, within bounds, for the one thread that writes them. Whoever adds a line never waits.

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
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
    fn write(&self, mut output: Output) {
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
            if let Err((error, lost)) = output.add(&Vec::from(lines)) {
                self.lost.fetch_add(lost, Ordering::Relaxed);
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

/// The open place.
struct Output {
    sink: Box<dyn Write + Send>,
    /// The last line there has no end.
    is_cut: bool,
}

impl Output {
    /// Adds lines, or tells how many of them aren't there as a whole.
    fn add(&mut self, lines: &[Vec<u8>]) -> Result<(), (io::Error, u64)> {
        let mut bytes = Vec::new();
        if self.is_cut {
            bytes.push(b'\n');
        }
        let mut end = bytes.len();
        bytes.extend(lines.iter().flatten());
        let mut written = 0;
        let result = loop {
            match self.sink.write(&bytes[written..]) {
                Ok(0) if written < bytes.len() => break Err(io::ErrorKind::WriteZero.into()),
                Ok(0) => break Ok(()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(last) = bytes[..written].last() {
            self.is_cut = *last != b'\n';
        }
        result.map_err(|error| {
            // One that lacks only its end gets that with the next lines.
            let lost = lines.iter().filter(|line| {
                end += line.len();
                end > written + 1
            });
            (error, lost.count() as u64)
        })
    }
}

fn open(place: &Place) -> io::Result<Output> {
    let Place::File(path) = place else {
        return Ok(Output {
            sink: Box::new(io::stderr()),
            is_cut: false,
        });
    };
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    // A FIFO would block until somebody reads it.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = options.custom_flags(flags.bits().cast_signed()).open(path);
    let unfit = || io::Error::other("it is neither a regular file nor a character device");
    let file = opened.map_err(|error| {
        // A FIFO that nobody reads, or a socket.
        let is_unfit = error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        if is_unfit { unfit() } else { error }
    })?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(unfit());
    }
    // From now on the writer may wait.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(Output {
        sink: Box::new(file),
        is_cut: kind.is_file() && ends_within_a_line(path).unwrap_or(false),
    })
}

/// A disk may have been full when the file was last written.
fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    let length = fs::metadata(path)?.len();
    let Some(last) = length.checked_sub(1) else {
        return Ok(false);
    };
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
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

    /// A disk that has room for so many bytes more.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (room, content) = &mut *disk;
            let some = bytes.len().min(*room);
            if some == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= some;
            content.extend(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_written_in_part_spoils_no_other() {
        let disk = Disk::default();
        let mut output = Output {
            sink: Box::new(disk.clone()),
            is_cut: false,
        };
        let line = |digit| format!("{{{digit}}}\n").into_bytes();
        let mut add = |room, lines: &[Vec<u8>]| {
            disk.0.lock().unwrap().0 = room;
            output.add(lines).map_err(|(_, lost)| lost)
        };
        assert_eq!(add(6, &[line(1), line(2), line(3)]), Err(2));
        assert_eq!(add(0, &[line(4)]), Err(1));
        // The last one lacks its end only.
        assert_eq!(add(8, &[line(5), line(6)]), Err(0));
        assert_eq!(add(99, &[line(7)]), Ok(()));
        let content = String::from_utf8(disk.0.lock().unwrap().1.clone());
        assert_eq!(content.unwrap(), "{1}\n{2\n{5}\n{6}\n{7}\n");
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_seen_at_the_start() {
        let path = std::env::temp_dir().join(format!("access-log-cut-{}", std::process::id()));
        for (before, after) in [("{1", "{1\n{2}\n"), ("{1}\n", "{1}\n{2}\n"), ("", "{2}\n")] {
            fs::write(&path, before).unwrap();
            let log = AccessLog::start(Place::File(path.clone())).unwrap();
            log.add(b"{2}".to_vec());
            assert!(log.close(Instant::now() + Duration::from_secs(10)));
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
        fs::remove_file(path).unwrap();
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
