//! PING, PONG and ACK: when they are due, what the round trip is, when the connection counts as dead (D3, D13).

use super::carrier::Carrier;
use std::time::{Duration, Instant};

/// A PING is sent this often while a session is awake; each also measures the round trip (D13).
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// A connection without a byte for this long is dead, if it has been asked for one (D13).
const DEAD_AFTER: Duration = Duration::from_secs(8);
/// Least time for the answer to the first PING after a longer silence (D13).
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A session stays awake for this long after the last of its streams, frames and datagrams: as long as a silent UDP flow
/// lasts by default.
const AWAKE_FOR: Duration = Duration::from_secs(60);
/// A longer interval is cut to this, so that adding it to a time can't overflow (chosen by intuition).
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
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
///
/// A session is *awake* while it has streams or unacknowledged frames, and for a while after the last sign of use; then
/// it *sleeps*, and asks seldom. Nothing has to be agreed on: each end asks by itself and answers whenever it is asked.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard_at: Instant,
    pinged_at: Instant,
    /// Time of the next PING, if the session is awake then.
    ping_at: Instant,
    /// A PING is due at once.
    is_asked: bool,
    /// Nothing was heard since that PING.
    owed_since: Option<Instant>,
    awaited: Option<(u64, Instant)>,
    nonce: u64,
    /// The last PING's nonce that was answered.
    answered: u64,
    /// Time at which the peer's PINGs so far would have come at the shortest interval.
    pings_until: Instant,
    pong: Option<u64>,
    ack_at: Option<Instant>,
    unacknowledged: usize,
    /// Longest time between PINGs of a session that sleeps.
    interval: Duration,
    is_busy: bool,
    awake_until: Instant,
}

impl Keepalive {
    /// `interval` is the longest time between two PINGs.
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            heard_at: now,
            pinged_at: now,
            ping_at: now,
            is_asked: false,
            owed_since: None,
            awaited: None,
            nonce: 0,
            answered: 0,
            pings_until: now,
            pong: None,
            ack_at: None,
            unacknowledged: 0,
            interval: interval.min(LONGEST_INTERVAL),
            is_busy: false,
            awake_until: now + AWAKE_FOR,
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
        self.owed_since = None;
    }

    /// True if the session sleeps, and nothing was heard for as long as lies between two PINGs of one that is awake.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.is_asleep() && now >= self.heard_at + PING_INTERVAL
    }

    /// The session is used: it is awake for a while, and one that slept asks at once.
    pub(super) fn used(&mut self, now: Instant) {
        if self.is_asleep() {
            self.ping_at = self.ping_at.max(now);
        }
        self.awake_until = self.awake_until.max(now + AWAKE_FOR);
    }

    /// True if no further PING is due while it is awake.
    fn is_asleep(&self) -> bool {
        !self.is_busy && self.ping_at > self.awake_until
    }

    /// The session has streams, or frames that aren't acknowledged; or not any more.
    #[inline]
    pub(super) fn set_busy(&mut self, now: Instant, is_busy: bool) {
        if self.is_busy != is_busy {
            self.used(now);
            self.is_busy = is_busy;
        }
    }

    /// A numbered frame has come.
    pub(super) fn received_numbered(&mut self, now: Instant, bytes: usize, carrier: Carrier) {
        self.used(now);
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

    /// Time of the next PING that nobody has asked for. A session that sleeps on lanes needs none: there QUIC asks.
    fn next_ping(&self, carrier: Carrier) -> Option<Instant> {
        match carrier {
            _ if !self.is_asleep() => Some(self.ping_at),
            Carrier::Ordered => Some(self.pinged_at.max(self.heard_at) + self.interval),
            Carrier::Lanes => None,
        }
    }

    fn is_ping_due(&self, now: Instant, carrier: Carrier) -> bool {
        self.is_asked || self.next_ping(carrier).is_some_and(|at| at <= now)
    }

    /// The PING to send now. On lanes none follows an unanswered one: nothing is lost there, and a stall may last,
    /// so that many would come at once and look like a flood.
    pub(super) fn take_ping(&mut self, now: Instant, carrier: Carrier) -> Option<u64> {
        if !self.is_ping_due(now, carrier) {
            return None;
        }
        self.is_asked = false;
        self.pinged_at = now;
        self.ping_at = now + PING_INTERVAL.min(self.interval);
        self.owed_since.get_or_insert(now);
        if carrier == Carrier::Lanes && self.awaited.is_some() {
            return None;
        }
        self.nonce += 1;
        self.awaited = Some((self.nonce, now));
        Some(self.nonce)
    }

    /// A PING is due at once.
    pub(super) fn ping_now(&mut self) {
        self.is_asked = true;
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

    /// The connection is dead then, unless something is heard before. A PING that is due and hasn't left counts like
    /// one that has: what kept it was this end.
    fn dead_at(&self, carrier: Carrier) -> Option<Instant> {
        let asked_at = self.owed_since.or_else(|| self.next_ping(carrier))?;
        Some((self.heard_at + DEAD_AFTER).max(asked_at + ANSWER_WITHIN))
    }

    /// True if the connection is dead.
    pub(super) fn is_dead(&self, now: Instant, carrier: Carrier) -> bool {
        self.dead_at(carrier).is_some_and(|at| at <= now)
    }

    /// Something is due then. That the peer `is_known_silent` is no news any more.
    pub(super) fn next_timeout(&self, is_known_silent: bool, carrier: Carrier) -> Option<Instant> {
        let ping_at = if self.is_asked {
            Some(self.heard_at)
        } else {
            self.next_ping(carrier)
        };
        let dead_at = self.dead_at(carrier).filter(|_| !is_known_silent);
        let times = [ping_at, dead_at, self.ack_at];
        times.into_iter().flatten().min()
    }

    /// Something is to be sent now.
    pub(super) fn is_due(&self, now: Instant, carrier: Carrier) -> bool {
        self.pong.is_some()
            || self.is_ping_due(now, carrier)
            || self.ack_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(45);

    #[test]
    fn pings_every_three_seconds_and_dies_after_eight_silent_ones() {
        let start = crate::any_instant();
        let secs = |s| start + Duration::from_secs(s);
        let mut keepalive = Keepalive::new(start, INTERVAL);
        assert_eq!(keepalive.take_ping(start, Carrier::Ordered), Some(1));
        assert_eq!(keepalive.take_ping(secs(2), Carrier::Ordered), None);
        assert_eq!(
            keepalive.received_pong(secs(2), 1),
            Ok(Some(Duration::from_secs(2)))
        );
        assert_eq!(keepalive.received_pong(secs(2), 1), Err(Unasked));
        assert_eq!(
            keepalive.next_timeout(false, Carrier::Ordered),
            Some(secs(3))
        );
        assert_eq!(keepalive.take_ping(secs(3), Carrier::Ordered), Some(2));
        assert!(!keepalive.is_dead(secs(7), Carrier::Ordered));
        assert!(keepalive.is_dead(secs(8), Carrier::Ordered));
        keepalive.heard(secs(5));
        assert_eq!(keepalive.take_ping(secs(6), Carrier::Ordered), Some(3));
        assert!(!keepalive.is_dead(secs(12), Carrier::Ordered));
        assert!(keepalive.is_dead(secs(13), Carrier::Ordered));
    }

    /// One end of a path on which each PING is answered at once, second by second.
    fn pinged(
        carrier: Carrier,
        interval: Duration,
        until: u64,
        mut change: impl FnMut(&mut Keepalive, u64, Instant),
    ) -> Vec<u64> {
        let start = crate::any_instant();
        let mut keepalive = Keepalive::new(start, interval);
        let mut times = Vec::new();
        for at in 0..until {
            let now = start + Duration::from_secs(at);
            change(&mut keepalive, at, now);
            assert!(!keepalive.is_dead(now, carrier), "at {at}");
            if let Some(nonce) = keepalive.take_ping(now, carrier) {
                times.push(at);
                keepalive.heard(now);
                assert!(keepalive.received_pong(now, nonce).unwrap().is_some());
            }
        }
        times
    }

    #[test]
    fn a_session_without_use_asks_seldom_and_over_quic_not_at_all() {
        let day = 24 * 3_600;
        let ordered = pinged(Carrier::Ordered, INTERVAL, day, |_, _, _| {});
        let (awake, asleep) = ordered.split_at(21);
        assert!(awake.iter().copied().eq((0..=60).step_by(3)), "{awake:?}");
        assert!(asleep.windows(2).all(|two| two[1] - two[0] == 45));
        assert!((1_900..=1_920).contains(&asleep.len()), "{}", asleep.len());
        let lanes = pinged(Carrier::Lanes, INTERVAL, day, |_, _, _| {});
        assert_eq!(lanes, awake);
        let as_before = pinged(Carrier::Ordered, PING_INTERVAL, day, |_, _, _| {});
        assert_eq!(as_before.len(), 28_800);
        let often = pinged(Carrier::Ordered, Duration::from_secs(1), 100, |_, _, _| {});
        assert_eq!(often.len(), 100);
    }

    #[test]
    fn whoever_is_asked_needs_not_ask() {
        let asked = |keepalive: &mut Keepalive, at, now| {
            if at % 40 == 0 {
                keepalive.heard(now);
            }
        };
        let times = pinged(Carrier::Ordered, INTERVAL, 1_000, asked);
        assert_eq!(times.last(), Some(&60), "{times:?}");
    }

    #[test]
    fn use_wakes_a_session_at_once() {
        for carrier in [Carrier::Ordered, Carrier::Lanes] {
            let stream = |keepalive: &mut Keepalive, at, now| {
                keepalive.set_busy(now, (200..400).contains(&at));
            };
            let times = pinged(carrier, INTERVAL, 1_000, stream);
            let while_busy = times.iter().filter(|at| (200..400).contains(*at));
            assert!(while_busy.copied().eq((200..400).step_by(3)), "{times:?}");
            let datagram = |keepalive: &mut Keepalive, at, now| {
                if at == 200 {
                    keepalive.used(now);
                }
            };
            let times = pinged(carrier, INTERVAL, 1_000, datagram);
            let after = times.iter().filter(|at| (200..265).contains(*at));
            assert!(after.copied().eq((200..=260).step_by(3)), "{times:?}");
        }
    }

    #[test]
    fn a_dead_path_is_found_three_seconds_after_the_question() {
        let start = crate::any_instant();
        let secs = |s| start + Duration::from_secs(s);
        for carrier in [Carrier::Ordered, Carrier::Lanes] {
            let mut keepalive = Keepalive::new(start, INTERVAL);
            for at in 0..=60 {
                if keepalive.take_ping(secs(at), carrier).is_some() {
                    keepalive.heard(secs(at));
                    keepalive.received_pong(secs(at), keepalive.nonce).unwrap();
                }
            }
            // From here on the path is gone, and nobody knows.
            let next = keepalive.next_timeout(false, carrier);
            match carrier {
                Carrier::Ordered => assert_eq!(next, Some(secs(105))),
                Carrier::Lanes => assert_eq!(next, None),
            }
            assert!(!keepalive.is_dead(secs(100), carrier));
            keepalive.set_busy(secs(100), true);
            assert_eq!(keepalive.next_timeout(false, carrier), Some(secs(100)));
            assert!(keepalive.take_ping(secs(100), carrier).is_some());
            assert!(!keepalive.is_dead(secs(102), carrier));
            assert_eq!(keepalive.next_timeout(true, carrier), Some(secs(103)));
            assert!(keepalive.is_dead(secs(103), carrier));
        }
    }

    #[test]
    fn silence_on_lanes_is_found_though_an_old_ping_has_no_answer() {
        let start = crate::any_instant();
        let secs = |s| start + Duration::from_secs(s);
        let mut keepalive = Keepalive::new(start, INTERVAL);
        keepalive.set_busy(start, true);
        assert_eq!(keepalive.take_ping(start, Carrier::Lanes), Some(1));
        keepalive.heard(secs(10));
        assert_eq!(keepalive.take_ping(secs(12), Carrier::Lanes), None);
        assert!(!keepalive.is_dead(secs(17), Carrier::Lanes));
        assert!(keepalive.is_dead(secs(18), Carrier::Lanes));
    }

    #[test]
    fn acknowledges_after_50_ms_or_32_kib_or_256_on_lanes() {
        let start = crate::any_instant();
        let mut keepalive = Keepalive::new(start, INTERVAL);
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
        let mut keepalive = Keepalive::new(start, INTERVAL);
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
        let mut keepalive = Keepalive::new(start, INTERVAL);
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
