//! When to ask a silent path for a sign of life: pure timing for what QUIC doesn't do.
//!
//! QUIC asks on its own after pauses that double: after 20 s of silence it may be 8 s until it hears that the path is
//! back. Its pauses still come first, since its own packets are smaller, as a path that became narrow needs them.

use std::time::{Duration, Instant};

/// Least time between two looks, and thus between two questions: what a path costs that is gone, against the time for
/// which nobody knows that it is back (D13).
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// The same at most: the answer to a packet from before the outage makes QUIC believe in a round trip as long as that.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Questions after the first answer: it may be to a packet from before the outage and say nothing about later ones, and
/// QUIC takes a packet for lost when the third one after it is acknowledged (RFC 9002 section 6.1.1).
const FOLLOW_UPS: u32 = 4;
/// Time between them, the first of which leaves at once.
const FOLLOW_UP_PAUSE: Duration = Duration::from_millis(50);
/// Looks in a row without an answer before the first question: a second at least and four round trips.
const SILENT_LOOKS: u32 = 2;

/// The questions of one connection, while something waits for an answer.
#[derive(Debug, Default)]
pub struct Probes {
    look_at: Option<Instant>,
    /// Number of answers at the last look.
    answers: u64,
    /// Looks in a row that found no new one.
    silent: u32,
    /// Questions that are still to follow the first answer.
    follow_ups: u32,
}

impl Probes {
    /// Time at which [`Self::is_due`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// True if a question is to be sent now. `is_waiting` if the peer owes an answer, and `answers` counts those that
    /// came; it is asked rarely. To be called in each turn.
    pub fn is_due(
        &mut self,
        now: Instant,
        is_waiting: bool,
        rtt: Duration,
        answers: impl FnOnce() -> u64,
    ) -> bool {
        if !is_waiting {
            *self = Self::default();
            return false;
        }
        let pause = rtt.saturating_mul(2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let Some(look_at) = self.look_at else {
            self.look_at = Some(now + pause);
            return false;
        };
        // On a path that is gone turns are few.
        let is_silent = self.silent >= SILENT_LOOKS;
        if look_at > now && !is_silent {
            return false;
        }
        let before = std::mem::replace(&mut self.answers, answers());
        let has_answered = before != self.answers;
        if has_answered && is_silent {
            self.follow_ups = FOLLOW_UPS;
        } else if look_at > now {
            return false;
        }
        self.silent = if has_answered { 0 } else { self.silent + 1 };
        if self.follow_ups > 0 {
            self.follow_ups -= 1;
            self.look_at = Some(now + FOLLOW_UP_PAUSE);
            self.silent = 0;
            return true;
        }
        self.look_at = Some(now + pause);
        self.silent >= SILENT_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    /// Times in milliseconds at which a question left, looking every 10 ms.
    fn asked(until: u64, waits: impl Fn(u64) -> bool, answers: impl Fn(u64) -> u64) -> Vec<u64> {
        let start = crate::any_instant();
        let mut probes = Probes::default();
        let times = (0..until).step_by(10);
        let is_due = |at: &u64| {
            let now = start + Duration::from_millis(*at);
            probes.is_due(now, waits(*at), RTT, || answers(*at))
        };
        times.filter(is_due).collect()
    }

    #[test]
    fn a_silent_path_is_asked_twice_a_second_for_as_long_as_something_waits() {
        let all = asked(21_000, |_| true, |at| at.min(1_000) / 10);
        assert!((2_000..=2_500).contains(&all[0]), "{all:?}");
        assert!(all.windows(2).all(|two| two[1] - two[0] == 500), "{all:?}");
        assert!(all.last() >= Some(&20_500), "{all:?}");
        let some = asked(21_000, |at| at < 5_000, |at| at.min(1_000) / 10);
        assert!(some.last() < Some(&5_000), "{some:?}");
    }

    #[test]
    fn a_path_that_answers_or_owes_nothing_is_never_asked() {
        assert!(asked(60_000, |_| true, |at| at / 400).is_empty());
        assert!(asked(60_000, |_| false, |_| 0).is_empty());
        // Nothing waits for longer than a second.
        assert!(asked(60_000, |at| at % 1_000 != 0, |_| 0).is_empty());
    }

    #[test]
    fn the_first_answer_brings_a_few_questions_at_once() {
        let all = asked(
            30_000,
            |_| true,
            |at| match at {
                0..1_000 => at / 10,
                1_000..21_110 => 100,
                // One answer, and nothing that would follow from it.
                _ => 101,
            },
        );
        let after: Vec<_> = all.iter().filter(|at| **at > 21_100).take(5).collect();
        assert_eq!(after, [&21_110, &21_160, &21_210, &21_260, &21_810]);
    }

    #[test]
    fn a_long_path_gets_time_for_quics_own_questions() {
        let start = crate::any_instant();
        let mut probes = Probes::default();
        let rtt = Duration::from_secs(1);
        let times: Vec<_> = (0..10)
            .filter(|secs| probes.is_due(start + Duration::from_secs(*secs), true, rtt, || 1))
            .collect();
        assert_eq!(times, [6, 8]);
    }
}
