//! CPU time and resident memory of the relay's processes, from `/proc`.

use std::fs;

use serde_json::{Value, json};

use crate::report::round;

/// What one process has used so far.
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

/// A process that is gone has used nothing.
fn of_process(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // The command's name may hold blanks: fields are counted behind its closing bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(UTIME_BEHIND_NAME)
        .take(2) // utime, stime
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Usage {
        cpu_secs: ticks as f64 / ticks_per_sec(),
        rss_kib: rss
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
    }
}

fn ticks_per_sec() -> f64 {
    // SAFETY: sysconf takes no pointer.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// proc(5): utime is field 14; the state behind the name is field 3.
const UTIME_BEHIND_NAME: usize = 11;
