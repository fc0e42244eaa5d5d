//! Independent exchanges at a fixed rate: each on a connection of its own, whatever becomes of the others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::Common;
use crate::report::{add_latency, round};
use crate::socket::connect;
use crate::{pattern, usage};

#[derive(Args)]
pub(crate) struct ExchangeArgs {
    /// Exchanges begun per second
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Bytes of a question, and of its answer
    #[arg(long, default_value_t = 16 << 10)]
    size: usize,
    #[command(flatten)]
    common: Common,
}

pub(crate) async fn run(args: ExchangeArgs) -> io::Result<Value> {
    let ExchangeArgs { rate, size, common } = args;
    let before = usage::of(&common.pids);
    let (begun, open) = (Instant::now(), Arc::new(Semaphore::new(AT_ONCE)));
    let (mut exchanges, mut errors) = (Vec::new(), 0);
    for turn in 0..(rate * (WARM_UP + Duration::from_secs_f64(common.secs)).as_secs_f64()) as usize
    {
        let due = begun + Duration::from_secs_f64(turn as f64 / rate);
        sleep_until(due).await;
        // A client of an overloaded tunnel sees exchanges that can't even begin.
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            errors += 1;
            continue;
        };
        let is_counted = due >= begun + WARM_UP;
        exchanges.push(tokio::spawn(async move {
            let _permit = permit;
            let one = async {
                let mut stream = connect(common.address, turn).await?;
                stream.write_all(&vec![pattern::ECHO; size]).await?;
                stream.read_exact(&mut vec![0; size]).await?;
                io::Result::Ok(due.elapsed().as_nanos() as u64)
            };
            timeout(LIMIT, one)
                .await?
                .map(|nanos| is_counted.then_some(nanos))
        }));
    }
    let mut samples = Vec::new();
    for exchange in exchanges {
        match exchange.await {
            Ok(Ok(sample)) => samples.extend(sample),
            Ok(Err(_)) | Err(_) => errors += 1,
        }
    }
    let ended = samples.len() as f64;
    let mut report = json!({
        "ops": ended,
        "per_s": round(ended / common.secs, 1),
        "errors": errors,
        "cpu": usage::cost(&before, &usage::of(&common.pids), "cpu_us_per_op", ended / 1e6),
    });
    add_latency(&mut samples, &mut report);
    Ok(report)
}

/// Long enough for the congestion control of a slow line to find its rate.
const WARM_UP: Duration = Duration::from_secs(3);
/// An exchange that has not ended by then has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// Exchanges under way.
const AT_ONCE: usize = 4096;
