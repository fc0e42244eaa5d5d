//! Time of the next dial: pure arithmetic (D13).

use std::time::{Duration, Instant};

/// The first delay after a failed attempt is drawn from 0 to this (D13).
const BASE: Duration = Duration::from_millis(500);
/// No delay is longer (D13).
const CAP: Duration = Duration::from_secs(30);
/// A connection that lived for this long proves the peer healthy: the delays begin anew (D13).
const HEALTHY: Duration = Duration::from_secs(30);
/// A connection that died sooner is not followed by an immediate attempt: something cuts at once.
const SHORTEST: Duration = Duration::from_millis(100);

/// The delays stay short for this long after a loss: sessions can be resumed (30 s by default), clients
/// are held for 5 s, and a peer that restarts is back within a few seconds (D3, D13, threats T10).
const RECENT: Duration = Duration::from_secs(30);
/// The longest delay while the loss is recent.
const RECENT_CAP: Duration = Duration::from_secs(2);

/// Exponential backoff with full jitter. The first attempt after a loss is at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    connected_at: Option<Instant>,
    lost_at: Option<Instant>,
}

impl Backoff {
    /// An attempt has succeeded.
    pub fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// A connection was lost, or an attempt has failed: the time to wait before the next one.
    /// `random` is uniform in 0..1; `hint` is the shortest wait that the peer asked for.
    pub fn next_delay(&mut self, now: Instant, random: f64, hint: Option<Duration>) -> Duration {
        let lived = self
            .connected_at
            .take()
            .map(|at| now.saturating_duration_since(at));
        if lived.is_some() {
            self.lost_at = Some(now);
        }
        if lived.is_some_and(|lived| lived >= HEALTHY) {
            self.failures = 0;
        }
        let delay = if lived.is_some_and(|lived| lived >= SHORTEST) {
            Duration::ZERO
        } else {
            let recent = self.lost_at.is_some_and(|at| now < at + RECENT);
            let cap = if recent { RECENT_CAP } else { CAP };
            let most = BASE.saturating_mul(1 << self.failures.min(16)).min(cap);
            self.failures = self.failures.saturating_add(1);
            most.mul_f64(random.clamp(0.0, 1.0))
        };
        // All that were told the same delay must not come back together.
        hint.map_or(delay, |hint| {
            hint.min(CAP)
                .mul_f64(1.0 + random.clamp(0.0, 1.0))
                .max(delay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_after_a_loss_then_longer_and_longer_up_to_the_cap() {
        let (mut backoff, start) = (Backoff::default(), crate::any_instant());
        backoff.connected(start);
        let later = start + Duration::from_secs(1);
        assert_eq!(backoff.next_delay(later, 1.0, None), Duration::ZERO);
        let later = later + RECENT;
        let delays: Vec<u64> = (0..9)
            .map(|_| backoff.next_delay(later, 1.0, None).as_millis() as u64)
            .collect();
        assert_eq!(
            delays,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        assert_eq!(backoff.next_delay(later, 0.0, None), Duration::ZERO);
    }

    #[test]
    fn only_thirty_healthy_seconds_reset_the_delays() {
        let (mut backoff, mut now) = (Backoff::default(), crate::any_instant());
        for _ in 0..5 {
            backoff.next_delay(now, 1.0, None);
        }
        backoff.connected(now);
        now += Duration::from_secs(29);
        assert_eq!(backoff.next_delay(now, 1.0, None), Duration::ZERO);
        assert_eq!(
            backoff.next_delay(now + RECENT, 1.0, None),
            Duration::from_secs(16)
        );
        backoff.connected(now);
        now += Duration::from_secs(30);
        assert_eq!(backoff.next_delay(now, 1.0, None), Duration::ZERO);
        assert_eq!(
            backoff.next_delay(now, 1.0, None),
            Duration::from_millis(500)
        );
    }

    #[test]
    fn a_connection_that_is_cut_at_once_is_not_redialled_at_once() {
        let (mut backoff, now) = (Backoff::default(), crate::any_instant());
        backoff.connected(now);
        assert_eq!(
            backoff.next_delay(now, 1.0, None),
            Duration::from_millis(500)
        );
    }

    #[test]
    fn delays_stay_short_while_the_session_can_be_resumed() {
        let (mut backoff, start) = (Backoff::default(), crate::any_instant());
        backoff.connected(start);
        let lost = start + Duration::from_secs(1);
        let delays = [(); 5].map(|()| backoff.next_delay(lost, 1.0, None).as_millis());
        assert_eq!(delays, [0, 500, 1_000, 2_000, 2_000]);
    }

    #[test]
    fn the_peers_hint_is_a_lower_bound_with_jitter() {
        let (mut backoff, now) = (Backoff::default(), crate::any_instant());
        let hint = Some(Duration::from_secs(2));
        assert_eq!(backoff.next_delay(now, 0.0, hint), Duration::from_secs(2));
        assert_eq!(backoff.next_delay(now, 0.5, hint), Duration::from_secs(3));
    }
}
