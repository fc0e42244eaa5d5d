//! Limits of bytes on their way over lanes, and of lanes that the peer may open: pure arithmetic for what QUIC asks.

use super::waiting::MOST_WAITING;

/// Bytes that may be on their way beyond twice what the path holds, so that acknowledgements, which come every 256 KiB,
/// never hold up the sender.
const RESERVE: usize = 1_024 * 1_024;
/// Lanes that a peer may open at most; how many of their streams are served, the session decides.
const MOST_LANES: u32 = 1 << 17;

/// The session's send limit and the connection's send window, by what the path holds. The session lets little more go
/// than the path carries, so that what waits does so in our own order (D8).
#[derive(Debug)]
pub struct LaneLimits {
    /// The largest send limit so far.
    most: usize,
    largest_window: u64,
}

impl LaneLimits {
    /// For a connection whose send window never exceeds `largest_window` bytes.
    pub fn new(largest_window: u64) -> Self {
        Self {
            most: 0,
            largest_window,
        }
    }

    /// The send limit of the session in bytes, now that the path holds `path` bytes by its congestion window.
    pub fn send_limit(&mut self, path: u64) -> usize {
        let path = usize::try_from(path).unwrap_or(usize::MAX);
        let limit = path.saturating_mul(2).saturating_add(RESERVE);
        self.most = self.most.max(limit);
        limit
    }

    /// Bytes that the connection may keep for this peer. Beyond what the session has ever let go at once it keeps
    /// nothing for a peer that acknowledges frames and no packets. It doesn't shrink with the path, or control would
    /// wait.
    pub fn send_window(&self) -> u64 {
        let window = self.most.saturating_add(2 * MOST_WAITING) as u64;
        window.min(self.largest_window)
    }
}

/// Number of lanes that the peer may have open, which grows with those that it uses.
#[derive(Debug)]
pub struct LaneAllowance(u32);

impl LaneAllowance {
    /// This many to begin with.
    pub fn new(lanes: u32) -> Self {
        Self(lanes)
    }

    /// The new allowance, if more than half of the old one are `open` now.
    pub fn widen(&mut self, open: u64) -> Option<u32> {
        let is_used = open * 2 > self.0.into() && self.0 < MOST_LANES;
        is_used.then(|| {
            self.0 *= 2;
            self.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1_024 * 1_024;

    #[test]
    fn the_limit_follows_the_path_and_the_window_only_rises() {
        let mut limits = LaneLimits::new(40 * MIB);
        assert_eq!(limits.send_limit(12_000), 24_000 + RESERVE);
        assert_eq!(limits.send_window(), 24_000 + 3 * MIB);
        assert_eq!(limits.send_limit(2 * MIB) as u64, 5 * MIB);
        assert_eq!(limits.send_window(), 7 * MIB);
        assert_eq!(limits.send_limit(0), RESERVE);
        assert_eq!(limits.send_window(), 7 * MIB, "control would wait");
        assert_eq!(limits.send_limit(u64::MAX), usize::MAX);
        assert_eq!(limits.send_window(), 40 * MIB);
    }

    #[test]
    fn lanes_are_allowed_by_doubling_up_to_a_bound() {
        let mut allowance = LaneAllowance::new(1_024);
        assert_eq!(allowance.widen(512), None);
        assert_eq!(allowance.widen(513), Some(2_048));
        assert_eq!(allowance.widen(513), None);
        let mut most = 2_048;
        while let Some(more) = allowance.widen(u32::MAX.into()) {
            most = more;
        }
        assert_eq!(most, MOST_LANES);
    }
}
