//! Bulk streams, up or down: throughput, fairness and CPU per GB; beside readers that stall, if asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Common, Direction, Phase, WARM_UP};
use crate::report::round;
use crate::socket::{connect, discard};
use crate::{pattern, usage};

#[derive(Clone, Args)]
pub(crate) struct BulkArgs {
    /// The target's own address: asked, past the tunnel, what has arrived. Needed for `--direction up`
    #[arg(long)]
    pub(crate) target: Option<SocketAddr>,
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    #[arg(long, value_enum, default_value = "down")]
    pub(crate) direction: Direction,
    /// Holds each reader to this rate in Mbit/s (0: as fast as it can)
    #[arg(long, default_value_t = 0.0)]
    pub(crate) read_mbit: f64,
    /// Further connections that ask for a download and never read a byte of it
    #[arg(long, default_value_t = 0)]
    pub(crate) stalled: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(crate) async fn run(args: BulkArgs) -> io::Result<Value> {
    let pids = args.common.pids.clone();
    let _stalled = stall(&args).await?;
    let load = Load::start(args);
    sleep(WARM_UP).await;
    let (before, used_before) = (load.delivered().await?, usage::of(&pids));
    load.phase.next();
    sleep(Duration::from_secs_f64(load.args.common.secs)).await;
    let (after, used_after) = (load.delivered().await?, usage::of(&pids));
    load.phase.next();

    let bytes = (after.bytes - before.bytes) as f64;
    let secs = (after.at - before.at).as_secs_f64();
    let each = after.each.iter().zip(&before.each).map(|(a, b)| a - b);
    let slowest = each.clone().min().unwrap_or(0) as f64;
    let fastest = each.max().unwrap_or(0).max(1) as f64;
    Ok(json!({
        "gbit_s": round(bytes * 8.0 / secs / 1e9, 3),
        "slowest_to_fastest": round(slowest / fastest, 3),
        "errors": load.errors.load(Ordering::Relaxed),
        "cpu": usage::cost(&used_before, &used_after, "cpu_s_per_gb", bytes / 1e9),
    }))
}

/// Opens the readers that never read, and gives their windows time to fill.
async fn stall(args: &BulkArgs) -> io::Result<Vec<TcpStream>> {
    let mut stalled = Vec::with_capacity(args.stalled);
    for turn in 0..args.stalled {
        let mut stream = connect(args.common.address, turn).await?;
        stream.write_all(&[pattern::SOURCE]).await?;
        stalled.push(stream);
    }
    if !stalled.is_empty() {
        sleep(WINDOWS_FULL).await;
    }
    Ok(stalled)
}

#[derive(Clone)]
struct Load {
    args: BulkArgs,
    phase: Arc<Phase>,
    /// Bytes that each stream has moved, as seen from here.
    moved: Vec<Arc<AtomicU64>>,
    /// Streams that ended early.
    errors: Arc<AtomicU64>,
}

struct Delivered {
    at: Instant,
    bytes: u64,
    each: Vec<u64>,
}

impl Load {
    fn start(args: BulkArgs) -> Self {
        let moved = (0..args.streams).map(|_| Arc::default()).collect();
        let load = Self {
            args,
            phase: Arc::default(),
            moved,
            errors: Arc::default(),
        };
        let chunk: Arc<[u8]> = pattern::chunk().into();
        for turn in 0..load.args.streams {
            let (load, chunk) = (load.clone(), Arc::clone(&chunk));
            tokio::spawn(async move {
                let ended = load.stream(turn, &chunk).await;
                if !load.phase.is_over() {
                    eprintln!("stream {turn} ended early: {ended:?}");
                    load.errors.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    async fn stream(&self, turn: usize, chunk: &[u8]) -> io::Result<()> {
        let mut stream = connect(self.args.common.address, turn).await?;
        let moved = &self.moved[turn];
        match self.args.direction {
            Direction::Down => {
                stream.write_all(&[pattern::SOURCE]).await?;
                read(&stream, moved, self.args.read_mbit).await
            }
            Direction::Up => {
                stream.write_all(&[pattern::SINK]).await?;
                while !self.phase.is_over() {
                    let written = stream.write(chunk).await?;
                    moved.fetch_add(written as u64, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    async fn delivered(&self) -> io::Result<Delivered> {
        let each = self.moved.iter().map(|moved| moved.load(Ordering::Relaxed));
        let each: Vec<u64> = each.collect();
        let bytes = match self.args.direction {
            // Bytes that were written may still be in buffers on the way.
            Direction::Up => sunk(self.args.target.ok_or(io::ErrorKind::InvalidInput)?).await?,
            Direction::Down => each.iter().sum(),
        };
        Ok(Delivered {
            at: Instant::now(),
            bytes,
            each,
        })
    }
}

/// Bytes that the target's sinks have had in all.
async fn sunk(target: SocketAddr) -> io::Result<u64> {
    let mut stream = connect(target, 0).await?;
    stream.write_all(&[pattern::QUERY]).await?;
    stream.read_u64().await
}

async fn read(stream: &TcpStream, moved: &AtomicU64, mbit: f64) -> io::Result<()> {
    let is_paced = mbit > 0.0;
    let at_most = if is_paced { 64 << 10 } else { 4 << 20 };
    let mut due = Instant::now();
    loop {
        let received = discard(stream, at_most).await?;
        if received == 0 {
            return Ok(());
        }
        moved.fetch_add(received as u64, Ordering::Relaxed);
        if is_paced {
            due += Duration::from_secs_f64(received as f64 * 8.0 / (mbit * 1e6));
            sleep_until(due).await;
        }
    }
}

const WINDOWS_FULL: Duration = Duration::from_secs(1);
