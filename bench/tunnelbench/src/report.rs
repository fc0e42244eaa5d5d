//! Percentiles and rounding: what every result is made of.

use serde_json::Value;

/// Adds percentiles of latency samples (in nanoseconds) to a report.
pub(crate) fn add_latency(samples: &mut [u64], report: &mut Value) {
    samples.sort_unstable();
    for (name, quantile) in [
        ("p50_ms", 0.50),
        ("p99_ms", 0.99),
        ("p999_ms", 0.999),
        ("max_ms", 1.0),
    ] {
        let rank = (samples.len() as f64 * quantile).ceil() as usize;
        let sample = samples.get(rank.saturating_sub(1));
        report[name] = sample.map(|&nanos| round(nanos as f64 / 1e6, 3)).into();
    }
}

pub(crate) fn round(value: f64, places: i32) -> f64 {
    let unit = 10f64.powi(places);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_seen() {
        let mut samples: Vec<u64> = (1..=1000).rev().map(|ms| ms * 1_000_000).collect();
        let mut report = serde_json::json!({});
        add_latency(&mut samples, &mut report);
        assert_eq!(report["p50_ms"], 500.0);
        assert_eq!(report["p99_ms"], 990.0);
        assert_eq!(report["p999_ms"], 999.0);
        assert_eq!(report["max_ms"], 1000.0);
        add_latency(&mut [], &mut report);
        assert!(report["p50_ms"].is_null());
    }
}
