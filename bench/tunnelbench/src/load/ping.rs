//! Small questions and answers: on a new connection each, or on connections that stay.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::{Common, Phase, WARM_UP};
use crate::report::{add_latency, round};
use crate::socket::connect;
use crate::{pattern, usage};

#[derive(Args)]
pub(crate) struct PingArgs {
    #[arg(long, default_value_t = 32)]
    pub(crate) concurrency: usize,
    /// Bytes of a question, and of its answer
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Round trips that one worker has seen.
#[derive(Default)]
pub(super) struct Seen {
    /// Nanoseconds.
    pub(super) samples: Vec<u64>,
    pub(super) errors: u64,
}

/// A new connection, a question and its answer, close. Timed from connect to the last byte of the answer.
pub(crate) async fn new_connections(args: PingArgs) -> io::Result<Value> {
    let (address, size) = (args.common.address, args.size);
    let worker = async move |turn: usize, phase: Arc<Phase>| {
        let mut seen = Seen::default();
        let (question, mut answer) = (vec![pattern::ECHO; size], vec![0; size]);
        let mut turn = turn;
        while !phase.is_over() {
            let (is_counted, begun) = (phase.is_measuring(), Instant::now());
            turn += 1;
            let one = async {
                let mut stream = connect(address, turn).await?;
                stream.write_all(&question).await?;
                stream.read_exact(&mut answer).await
            };
            if !matches!(timeout(ANSWER_LIMIT, one).await, Ok(Ok(_))) {
                seen.errors += 1;
                sleep(AFTER_ERROR).await;
            } else if is_counted && phase.is_measuring() {
                seen.samples.push(begun.elapsed().as_nanos() as u64);
            }
        }
        seen
    };
    measure(args, worker).await
}

/// Questions and answers on connections that stay, with a pause between an answer and the next question.
pub(crate) async fn round_trips(args: PingArgs, pause: Duration) -> io::Result<Value> {
    let (address, size) = (args.common.address, args.size);
    let worker = async move |turn: usize, phase: Arc<Phase>| {
        let mut seen = Seen::default();
        let (question, mut answer) = (vec![pattern::ECHO; size], vec![0; size]);
        let talk = async {
            let mut stream = connect(address, turn).await?;
            while !phase.is_over() {
                let (is_counted, begun) = (phase.is_measuring(), Instant::now());
                stream.write_all(&question).await?;
                stream.read_exact(&mut answer).await?;
                if is_counted {
                    seen.samples.push(begun.elapsed().as_nanos() as u64);
                }
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            io::Result::Ok(())
        };
        if talk.await.is_err() {
            seen.errors += 1;
        }
        seen
    };
    measure(args, worker).await
}

/// Runs `worker` as often as `args` say, and makes one report of what they have seen.
pub(super) async fn measure<W>(args: PingArgs, worker: W) -> io::Result<Value>
where
    W: AsyncFn(usize, Arc<Phase>) -> Seen + 'static,
{
    let (local, phase, worker) = (
        LocalSet::new(),
        Arc::new(Phase::default()),
        Arc::new(worker),
    );
    let workers: Vec<_> = (0..args.concurrency)
        .map(|turn| {
            let (worker, phase) = (Arc::clone(&worker), Arc::clone(&phase));
            local.spawn_local(async move { worker(turn, phase).await })
        })
        .collect();
    let measured = async {
        sleep(WARM_UP).await;
        let (begun, used_before) = (Instant::now(), usage::of(&args.common.pids));
        phase.next();
        sleep(Duration::from_secs_f64(args.common.secs)).await;
        phase.next();
        let (secs, used_after) = (begun.elapsed().as_secs_f64(), usage::of(&args.common.pids));
        let mut all = Seen::default();
        for worker in workers {
            match timeout(ANSWER_LIMIT, worker).await {
                Ok(Ok(seen)) => {
                    all.samples.extend(seen.samples);
                    all.errors += seen.errors;
                }
                // A worker that hangs is an error, and doesn't hold up the measurement.
                Ok(Err(_)) | Err(_) => all.errors += 1,
            }
        }
        let operations = all.samples.len() as f64;
        let mut report = json!({
            "ops": operations,
            "errors": all.errors,
            "per_s": round(operations / secs, 1),
            "cpu": usage::cost(&used_before, &used_after, "cpu_us_per_op", operations / 1e6),
        });
        add_latency(&mut all.samples, &mut report);
        Ok(report)
    };
    local.run_until(measured).await
}

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const AFTER_ERROR: Duration = Duration::from_millis(5);
