//! PING, PONG and ACK: when they are due, what the round trip is, when the connection counts as dead (D3, D13).

use super::carrier::Carrier;
use std::time::{Duration, Instant};

/// A PING is sent this often; each also measures the round trip (D13).
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// A connection without a byte for this long is dead (D13).
const DEAD_AFTER: Duration = Duration::from_secs(8);
/// The same in words, for the operators of both ends: the reason after [`Event::Silent`](super::Event::Silent).
pub const SILENT: &str = "no packet came over QUIC for 8 s";
/// Received frames are acknowledged after at most this time (D3).
const ACK_DELAY: Duration = Duration::from_millis(50);
/// Received frames are acknowledged after at most this many bytes (D3): a quarter of those that a sender lets be on
/// its way at least, so that it never waits for the delay above.
const ACK_BYTES: usize = 32 * 1_024;
/// The same on lanes, where a sender lets 1 MiB more be on its way than the path carries.
const ACK_BYTES_OF_LANES: usize = 256 * 1_024;
/// PINGs that come faster than this on average are glitches (threats A3.8).
const SHORTEST_PING_INTERVAL: Duration = Duration::from_millis(900);
/// A link that stalls and recovers brings at once the PINGs of all that time, and no stall is
/// longer than [`DEAD_AFTER`].
const PINGS_AT_ONCE: u32 = 4;

/// A PONG that answers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unasked;

/// One connection's liveness. A new connection starts a new one.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard_at: Instant,
    ping_at: Instant,
    awaited: Option<(u64, Instant)>,
    nonce: u64,
    /// The last PING's nonce that was answered.
    answered: u64,
    /// Time at which the peer's PINGs so far would have come at the shortest interval.
    pings_until: Instant,
    pong: Option<u64>,
    ack_at: Option<Instant>,
    unacknowledged: usize,
}

impl Keepalive {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard_at: now,
            ping_at: now,
            awaited: None,
            nonce: 0,
            answered: 0,
            pings_until: now,
            pong: None,
            ack_at: None,
            unacknowledged: 0,
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
    }

    /// A numbered frame has come.
    pub(super) fn received_numbered(&mut self, now: Instant, bytes: usize, carrier: Carrier) {
        self.unacknowledged += bytes;
        let most = match carrier {
            Carrier::Ordered => ACK_BYTES,
            Carrier::Lanes => ACK_BYTES_OF_LANES,
        };
        let due = if self.unacknowledged >= most {
            now
        } else {
            now + ACK_DELAY
        };
        self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
    }

    /// True if an ACK is to be sent now; from then on it counts as sent.
    pub(super) fn take_ack(&mut self, now: Instant) -> bool {
        let due = self.ack_at.is_some_and(|at| at <= now);
        if due {
            self.ack_at = None;
            self.unacknowledged = 0;
        }
        due
    }

    /// A PING has come; false if there were too many.
    pub(super) fn received_ping(&mut self, now: Instant, nonce: u64) -> bool {
        self.pong = Some(nonce);
        let until = self.pings_until.max(now) + SHORTEST_PING_INTERVAL;
        let legal = until.saturating_duration_since(now) <= SHORTEST_PING_INTERVAL * PINGS_AT_ONCE;
        if legal {
            self.pings_until = until;
        }
        legal
    }

    /// The PONG to send now. At most one waits, however many PINGs came.
    pub(super) fn take_pong(&mut self) -> Option<u64> {
        self.pong.take()
    }

    /// The PING to send now. On lanes none follows an unanswered one: nothing is lost there, and a stall may last,
    /// so that many would come at once and look like a flood.
    pub(super) fn take_ping(&mut self, now: Instant, carrier: Carrier) -> Option<u64> {
        if self.ping_at > now {
            return None;
        }
        self.ping_at = now + PING_INTERVAL;
        if carrier == Carrier::Lanes && self.awaited.is_some() {
            return None;
        }
        self.nonce += 1;
        self.awaited = Some((self.nonce, now));
        Some(self.nonce)
    }

    /// A PING is due at once.
    pub(super) fn ping_now(&mut self) {
        self.ping_at = self.heard_at;
    }

    /// True while the last PING has no answer.
    pub(super) fn awaits_pong(&self) -> bool {
        self.awaited.is_some()
    }

    /// The round trip, if this PONG answers the last PING; an earlier one may be answered late.
    pub(super) fn received_pong(
        &mut self,
        now: Instant,
        nonce: u64,
    ) -> Result<Option<Duration>, Unasked> {
        if nonce <= self.answered || nonce > self.nonce {
            return Err(Unasked);
        }
        self.answered = nonce;
        let last = self.awaited.take_if(|(awaited, _)| *awaited == nonce);
        Ok(last.map(|(_, sent)| now.saturating_duration_since(sent)))
    }

    /// True if the connection is dead.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        now >= self.heard_at + DEAD_AFTER
    }

    /// Something is due then. That the peer `is_known_silent` is no news any more.
    pub(super) fn next_timeout(&self, is_known_silent: bool) -> Instant {
        let first = if is_known_silent {
            self.ping_at
        } else {
            self.ping_at.min(self.heard_at + DEAD_AFTER)
        };
        self.ack_at.map_or(first, |at| at.min(first))
    }

    /// Something is to be sent now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.pong.is_some() || self.ping_at <= now || self.ack_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_every_three_seconds_and_dies_after_eight_silent_ones() {
        let start = crate::any_instant();
        let secs = |s| start + Duration::from_secs(s);
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.take_ping(start, Carrier::Ordered), Some(1));
        assert_eq!(keepalive.take_ping(secs(2), Carrier::Ordered), None);
        assert_eq!(
            keepalive.received_pong(secs(2), 1),
            Ok(Some(Duration::from_secs(2)))
        );
        assert_eq!(keepalive.received_pong(secs(2), 1), Err(Unasked));
        assert_eq!(keepalive.next_timeout(false), secs(3));
        assert_eq!(keepalive.take_ping(secs(3), Carrier::Ordered), Some(2));
        assert!(!keepalive.is_dead(secs(7)));
        assert!(keepalive.is_dead(secs(8)));
        keepalive.heard(secs(5));
        assert!(!keepalive.is_dead(secs(12)));
    }

    #[test]
    fn acknowledges_after_50_ms_or_32_kib_or_256_on_lanes() {
        let start = crate::any_instant();
        let mut keepalive = Keepalive::new(start);
        keepalive.received_numbered(start, 100, Carrier::Ordered);
        assert!(!keepalive.take_ack(start + Duration::from_millis(49)));
        assert!(keepalive.take_ack(start + Duration::from_millis(50)));
        for (carrier, most) in [
            (Carrier::Ordered, 32 * 1_024),
            (Carrier::Lanes, 256 * 1_024),
        ] {
            keepalive.received_numbered(start, most - 1, carrier);
            assert!(!keepalive.take_ack(start), "{carrier:?}");
            keepalive.received_numbered(start, 1, carrier);
            assert!(keepalive.take_ack(start), "{carrier:?}");
            assert!(!keepalive.take_ack(start + Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_flood_of_pings_is_noticed_and_answered_once() {
        let start = crate::any_instant();
        let mut keepalive = Keepalive::new(start);
        assert!((1..=4).all(|nonce| keepalive.received_ping(start, nonce)));
        assert!(!keepalive.received_ping(start, 5));
        assert_eq!(keepalive.take_pong(), Some(5));
        assert_eq!(keepalive.take_pong(), None);
        assert!((1..100).all(|i| keepalive.received_ping(start + Duration::from_secs(i), i)));
    }

    #[test]
    fn a_pong_may_be_late_but_not_unasked() {
        let start = crate::any_instant();
        let secs = |s| start + Duration::from_secs(s);
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.take_ping(start, Carrier::Ordered), Some(1));
        assert_eq!(keepalive.take_ping(secs(3), Carrier::Ordered), Some(2));
        assert_eq!(keepalive.received_pong(secs(4), 1), Ok(None));
        assert_eq!(keepalive.received_pong(secs(5), 3), Err(Unasked));
        assert_eq!(
            keepalive.received_pong(secs(5), 2),
            Ok(Some(Duration::from_secs(2)))
        );
    }
}
