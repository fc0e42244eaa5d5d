//! Time that a target takes to connect, as an average that is shared by all workers.

use crate::time::Moment;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time that a connect takes, as it is kept over a restart of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedLatency {
    /// The average.
    pub connect: Duration,
    /// Time since the last stream that was measured.
    pub age: Duration,
}

/// An average and the moment of its last sample in one word, which is 0 before the first.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    pub(crate) fn get(&self) -> Option<Duration> {
        let (micros, _) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(from_micros(micros))
    }

    /// A worse sample counts at once, a better one little by little: what linkerd and Finagle call peak EWMA.
    pub(crate) fn measure(&self, now: Moment, connect: Duration) {
        let sample = connect.as_secs_f64() * 1e6;
        let next = |packed| {
            let average = match unpack(packed) {
                Some((before, at)) if f64::from(before) > sample => {
                    let age = f64::from(millis(now).wrapping_sub(at)) / 1e3;
                    let keep = (-age / HALF_LIFE_SECS).exp2();
                    f64::from(before) * keep + sample * (1.0 - keep)
                }
                _ => sample,
            };
            Some(pack(average, millis(now)))
        };
        // It always gives a value.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// What it was when it was saved, `age` ago.
    pub(crate) fn restore(&self, saved: SavedLatency, age: Duration, now: Moment) {
        // Of ages above 49 days the low half: the average counts as younger than it is until the next stream.
        let age = age.saturating_add(saved.age).as_millis() as u32;
        let packed = pack(
            saved.connect.as_secs_f64() * 1e6,
            millis(now).wrapping_sub(age),
        );
        self.0.store(packed, Ordering::Relaxed);
    }

    /// What a state file keeps of it.
    pub(crate) fn saved(&self, now: Moment) -> Option<SavedLatency> {
        let (micros, at) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(SavedLatency {
            connect: from_micros(micros),
            age: Duration::from_millis(millis(now).wrapping_sub(at).into()),
        })
    }
}

/// In which the weight of an old latency halves.
const HALF_LIFE_SECS: f64 = 10.0;

/// The low half of the moment: it wraps after 49 days, and ages are shorter.
fn millis(now: Moment) -> u32 {
    now.0 as u32
}

fn from_micros(micros: f32) -> Duration {
    Duration::try_from_secs_f64(f64::from(micros) / 1e6).unwrap_or(Duration::MAX)
}

fn pack(micros: f64, at: u32) -> u64 {
    // Above 0, so that a packed value is never 0, which means none.
    let micros = (micros as f32).max(1.0);
    u64::from(micros.to_bits()) << 32 | u64::from(at)
}

fn unpack(packed: u64) -> Option<(f32, u32)> {
    let micros = f32::from_bits((packed >> 32) as u32);
    (packed != 0).then_some((micros, packed as u32))
}
