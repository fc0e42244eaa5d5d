//! Many connections: what opening and holding them costs, and a round trip while they are there. Where that is the
//! same for any number of them, the cost per stream is flat.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::ping::{PingArgs, Seen, measure};
use super::{Common, Phase, idle};
use crate::report::round;
use crate::socket::SOURCES;
use crate::{pattern, usage};

#[derive(Args)]
pub(crate) struct StreamsArgs {
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Ports to connect to in turn, from that of the address on: each may lead to another target
    #[arg(long, default_value_t = 1)]
    ports: u16,
    /// Gives up opening after this many seconds
    #[arg(long, default_value_t = 60)]
    limit: u64,
    #[command(flatten)]
    common: Common,
}

pub(crate) async fn run(args: StreamsArgs) -> io::Result<Value> {
    let common = args.common;
    let address_of = |turn: usize| {
        let port = (turn / SOURCES % usize::from(args.ports.max(1))) as u16;
        SocketAddr::new(common.address.ip(), common.address.port() + port)
    };
    let (before, begun) = (usage::of(&common.pids), Instant::now());
    let limit = Duration::from_secs(args.limit);
    let streams = idle::open(args.connections, limit, address_of).await?;
    let opened_in = begun.elapsed().as_secs_f64();
    let opened = usage::of(&common.pids);
    let established = streams.len();
    let opening = usage::cost(&before, &opened, "cpu_us_per_op", established as f64 / 1e6);

    sleep(idle::SETTLE).await;
    let idle_from = usage::of(&common.pids);
    sleep(Duration::from_secs_f64(common.secs)).await;
    let idle_until = usage::of(&common.pids);
    let grown: f64 = before
        .iter()
        .zip(&idle_until)
        .map(|(before, after)| after.rss_kib as f64 - before.rss_kib as f64)
        .sum();

    let (some, rest) = spread(streams);
    let (some, seen_by_some) = ping_pong(some, &common).await?;
    let all = some.into_iter().zip(rest);
    let all = all
        .map(|(some, rest)| some.into_iter().chain(rest).collect())
        .collect();
    let (_streams, seen_by_all) = ping_pong(all, &common).await?;
    Ok(json!({
        "established": established,
        "errors": args.connections - established,
        "opened_per_s": round(established as f64 / opened_in, 0),
        "opening": opening,
        "rss_kib_per_conn": round(grown / established.max(1) as f64, 2),
        "idle": usage::cost(&idle_from, &idle_until, "cpu_us_per_s", common.secs / 1e6),
        "some": seen_by_some,
        "all": seen_by_all,
    }))
}

/// A worker's streams, which it asks in turn.
type Share = Vec<TcpStream>;

/// For each worker one stream, and the rest of its share; the workers' streams are from early to late ones.
fn spread(streams: Vec<TcpStream>) -> (Vec<Share>, Vec<Share>) {
    let workers = WORKERS.min(streams.len());
    let bounds: Vec<usize> = (0..=workers)
        .map(|worker| worker * streams.len() / workers.max(1))
        .collect();
    let mut streams = streams.into_iter();
    bounds
        .windows(2)
        .map(|pair| {
            let some = streams.by_ref().take(1).collect();
            let rest = streams.by_ref().take(pair[1] - pair[0] - 1).collect();
            (some, rest)
        })
        .unzip()
}

/// Each worker asks its streams in turn, one question at a time.
async fn ping_pong(shares: Vec<Share>, common: &Common) -> io::Result<(Vec<Share>, Value)> {
    let args = PingArgs {
        concurrency: shares.len(),
        size: SIZE,
        common: common.clone(),
    };
    let shares = Rc::new(RefCell::new(shares));
    let handed_out = Rc::clone(&shares);
    let worker = async move |turn: usize, phase: Arc<Phase>| {
        let mut share = std::mem::take(&mut handed_out.borrow_mut()[turn]);
        let seen = ask_in_turn(&mut share, &phase).await;
        handed_out.borrow_mut()[turn] = share;
        seen
    };
    let report = measure(args, worker).await?;
    let shares = shares.take();
    Ok((shares, report))
}

async fn ask_in_turn(share: &mut Share, phase: &Phase) -> Seen {
    let mut seen = Seen::default();
    let (question, mut answer) = ([pattern::ECHO; SIZE], [0; SIZE]);
    while !phase.is_over() && !share.is_empty() {
        for stream in &mut *share {
            if phase.is_over() {
                break;
            }
            let (is_counted, begun) = (phase.is_measuring(), Instant::now());
            let one = async {
                stream.write_all(&question).await?;
                stream.read_exact(&mut answer).await
            };
            if one.await.is_err() {
                seen.errors += 1;
                return seen;
            }
            if is_counted {
                seen.samples.push(begun.elapsed().as_nanos() as u64);
            }
        }
    }
    seen
}

/// Questions under way at any time.
const WORKERS: usize = 64;
/// Bytes of a question, and of its answer.
const SIZE: usize = 64;
