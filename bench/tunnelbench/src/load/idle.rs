//! Idle connections: each proven end to end with one byte, then weighed in the relay's resident memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Common;
use crate::report::round;
use crate::socket::connect;
use crate::{pattern, usage};

pub(crate) async fn run(wanted: usize, limit: Duration, common: Common) -> io::Result<Value> {
    let (before, begun) = (usage::of(&common.pids), Instant::now());
    let mut open = open(wanted, limit, |_| common.address).await?;
    let opened_in = begun.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let after = usage::of(&common.pids);
    let alive = count_alive(&mut open).await;

    let rss_kib =
        |usages: &[usage::Usage]| usages.iter().map(|usage| usage.rss_kib).sum::<u64>() as f64;
    let established = open.len();
    let grown = rss_kib(&after) - rss_kib(&before);
    Ok(json!({
        "established": established,
        "errors": wanted - established,
        "alive_after_hold": alive,
        "opened_per_s": round(established as f64 / opened_in, 0),
        "rss_kib_per_conn": round(grown / established.max(1) as f64, 2),
    }))
}

/// As many of the wanted connections as can be had, each of which has answered; `address_of` is asked for each.
pub(super) async fn open(
    wanted: usize,
    limit: Duration,
    address_of: impl Fn(usize) -> SocketAddr,
) -> io::Result<Vec<TcpStream>> {
    let (begun, gate) = (Instant::now(), Arc::new(Semaphore::new(AT_ONCE)));
    let opening: Vec<_> = (0..wanted)
        .map(|turn| {
            let (gate, address) = (Arc::clone(&gate), address_of(turn));
            tokio::spawn(async move {
                let _permit = gate.acquire().await.map_err(io::Error::other)?;
                let one = async {
                    let mut stream = connect(address, turn).await?;
                    ask(&mut stream).await?;
                    io::Result::Ok(stream)
                };
                timeout(limit.saturating_sub(begun.elapsed()), one).await?
            })
        })
        .collect();
    let mut open = Vec::with_capacity(wanted);
    for one in opening {
        open.extend(one.await.map_err(io::Error::other)?);
    }
    Ok(open)
}

/// Those that are still there answer once more.
async fn count_alive(open: &mut [TcpStream]) -> usize {
    let (mut alive, begun) = (0, Instant::now());
    for stream in open {
        let left = ALIVE_LIMIT.saturating_sub(begun.elapsed());
        if matches!(timeout(left, ask(stream)).await, Ok(Ok(()))) {
            alive += 1;
        }
    }
    alive
}

async fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[pattern::ECHO]).await?;
    stream.read_u8().await.map(drop)
}

/// Connections being opened at any time.
const AT_ONCE: usize = 32;
/// Between the last connection and the look at the memory.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
const ALIVE_LIMIT: Duration = Duration::from_secs(10);
