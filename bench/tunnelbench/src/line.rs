//! A long line between two network namespaces: a router in user space, with a TUN device in each, that delays packets
//! and loses some. Kernel TCP and UDP both cross it as they would a real one; no netem is needed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

#[derive(Args)]
pub(crate) struct LineArgs {
    /// The network namespaces at both ends, as files; in each there is the TUN device of `--device`
    #[arg(long, num_args = 2, required = true)]
    namespaces: Vec<PathBuf>,
    #[arg(long, default_value = "line0")]
    device: String,
    /// Milliseconds there and back
    #[arg(long, default_value_t = 40.0)]
    round_trip: f64,
    /// Packets of a hundred that are lost, each way
    #[arg(long, default_value_t = 1.0)]
    loss: f64,
    /// Begins the sequence of losses
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs until the process ends.
pub(crate) fn run(args: &LineArgs) -> io::Result<()> {
    let ends: Vec<File> = args
        .namespaces
        .iter()
        .map(|namespace| open_device(namespace, &args.device))
        .collect::<io::Result<_>>()?;
    let delay = Duration::from_secs_f64(args.round_trip / 2.0 / 1e3);
    let mut ways = Vec::new();
    for (way, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let (source, sink) = (ends[from].try_clone()?, ends[to].try_clone()?);
        let losses = Losses::new(args.seed * 2 + way as u64, args.loss / 100.0);
        let (queue, queued) = sync_channel(QUEUED_AT_MOST);
        ways.push(thread::spawn(move || take(source, &queue, losses, delay)));
        ways.push(thread::spawn(move || give(sink, &queued)));
    }
    println!("line: {:?} each way, {} % lost", delay, args.loss);
    for way in ways {
        way.join()
            .map_err(|_| io::Error::other("a way of the line panicked"))??;
    }
    Ok(())
}

/// Time at which a packet is to leave, and the packet.
type Due = (Instant, Vec<u8>);

fn take(
    mut source: File,
    queue: &SyncSender<Due>,
    mut losses: Losses,
    delay: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = source.read(&mut buffer)?;
        if !losses.is_next() {
            // A full queue loses too, as a router's does.
            let _ = queue.try_send((Instant::now() + delay, buffer[..length].to_vec()));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the delay of the line is what the thread is for"
)]
fn give(mut sink: File, queued: &Receiver<Due>) -> io::Result<()> {
    while let Ok((due, packet)) = queued.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A device that is full, or down, loses the packet.
        let _ = sink.write(&packet);
    }
    Ok(())
}

/// Independent losses from a seed.
struct Losses {
    state: u64,
    /// Of 2^32 packets.
    share: u64,
}

impl Losses {
    fn new(seed: u64, share: f64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            share: (share * 2f64.powi(32)) as u64,
        }
    }

    fn is_next(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32 < self.share
    }
}

/// On a thread of its own, because it changes the thread's network namespace: a device belongs to the namespace in which
/// it is opened.
fn open_device(namespace: &Path, name: &str) -> io::Result<File> {
    let (namespace, name) = (File::open(namespace)?, name.to_owned());
    let opening = thread::spawn(move || {
        // SAFETY: setns takes no pointer, and the descriptor is open.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        attach(&name)
    });
    let opened = opening.join();
    opened.map_err(|_| io::Error::other("opening a device panicked"))?
}

fn attach(name: &str) -> io::Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: a name ends there.
    let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    for (place, byte) in places.zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF takes an ifreq, which outlives the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}

/// Bytes of the largest IP packet.
const LARGEST: usize = 65_535;
/// Packets on their way in one direction: 20 ms of about 600 Mbit/s, far above what one lossy connection moves.
const QUEUED_AT_MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_lost_as_asked_for_and_never_one_without_loss() {
        let mut losses = Losses::new(3, 0.01);
        let lost = (0..1_000_000).filter(|_| losses.is_next()).count();
        assert!((9_500..10_500).contains(&lost), "{lost}");
        let mut none = Losses::new(3, 0.0);
        assert!(!(0..100_000).any(|_| none.is_next()));
    }
}
