//! CPU time and resident memory of the relay's processes.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::report::round;

/// Resources that one process has used so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// All threads, exited ones too.
    cpu_secs: f64,
    pub(crate) rss_kib: u64,
}

pub(crate) fn of(pids: &[u32]) -> Vec<Usage> {
    pids.iter().map(|&pid| of_process(pid)).collect()
}

/// CPU seconds between two snapshots, in all and per `units` of work, and the memory at the end.
pub(crate) fn cost(before: &[Usage], after: &[Usage], unit: &str, units: f64) -> Value {
    let cpu_secs: f64 = before
        .iter()
        .zip(after)
        .map(|(before, after)| (after.cpu_secs - before.cpu_secs).max(0.0))
        .sum();
    let rss_kib: Vec<u64> = after.iter().map(|usage| usage.rss_kib).collect();
    let per_unit = if units > 0.0 {
        round(cpu_secs / units, 4)
    } else {
        0.0
    };
    json!({"total_cpu_s": round(cpu_secs, 2), unit: per_unit, "rss_kib": rss_kib})
}

/// Resources that each process uses while nothing is asked of it: CPU µs per second, and resident memory at the end.
pub(crate) async fn weigh(pids: &[u32], secs: f64) -> Value {
    let before = of(pids);
    sleep(Duration::from_secs_f64(secs)).await;
    let after = of(pids);
    let cpu = before.iter().zip(&after);
    let cpu: Vec<f64> = cpu
        .map(|(before, after)| round((after.cpu_secs - before.cpu_secs) * 1e6 / secs, 1))
        .collect();
    let rss_kib: Vec<u64> = after.iter().map(|usage| usage.rss_kib).collect();
    json!({"cpu_us_per_s": cpu, "rss_kib": rss_kib})
}

/// A process that is gone has used nothing.
fn of_process(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Usage {
        cpu_secs: cpu_secs(pid).unwrap_or_default(),
        rss_kib: rss
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
    }
}

/// From the process's CPU clock: to the nanosecond, where `/proc` counts ticks of 10 ms.
fn cpu_secs(pid: u32) -> Option<f64> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write to what they are given, which outlives them.
    let is_read = unsafe {
        libc::clock_getcpuclockid(pid.try_into().ok()?, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    is_read.then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_has_used_cpu_and_memory() {
        let own = std::process::id();
        let before = of_process(own);
        let sum = (0..20_000_000_u64).fold(0, |sum: u64, n| std::hint::black_box(sum ^ n));
        let after = of_process(own);
        assert!(after.cpu_secs > before.cpu_secs, "{sum}");
        assert!(after.rss_kib > 0);
    }
}
