//! Receive window of one stream: what was granted, what came, what was consumed; when to grant more (D9).

use crate::mux::budget::{Budget, Purpose};
use std::time::{Duration, Instant};

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
/// Windows end here with few streams (D9).
const MAX_WINDOW: u64 = 4 * MIB;
/// From 51 to 200 active streams this is divided among them (D9).
const SHARED_WINDOWS: u64 = 200 * MIB;
/// Windows of sustained streams, and of any beyond 200 active ones, end here (D8, D9).
const MIN_MAX_WINDOW: u64 = MIB;
/// Asked for when memory is scarce: one frame.
const FRAME: u64 = 16 * KIB;
/// Kept by every open stream, though its window be used up, however scarce memory is: the
/// smallest initial credit. A stream that drains can then always be granted this much again.
const HELD: u64 = 2 * KIB;
/// Credit is given again in steps of half a window, but no larger ones: what a reader has taken comes in one burst, in
/// front of which a keystroke of the same session waits (bench, `slow`: with steps of up to 2 MiB a p99 of 1.0 ms).
const LARGEST_STEP: u64 = 128 * KIB;
/// On links faster than this round trip, half a window drained within it still counts as fast:
/// below it scheduling, not the link, is what a round trip measures (chosen by intuition).
const SHORTEST_RTT: Duration = Duration::from_millis(10);

/// The largest window with this many active streams, in bytes.
fn table(active_streams: usize) -> u64 {
    match active_streams {
        0..=50 => MAX_WINDOW,
        51..=200 => SHARED_WINDOWS / active_streams as u64,
        _ => MIN_MAX_WINDOW,
    }
}

/// More came than was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CreditExceeded;

/// Invariant: consumed <= received <= granted; granted - consumed, and never less than what is
/// held, is committed in the budget until the sender is known to have ended, received - consumed
/// from then on.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    budget: Budget,
    granted: u64,
    received: u64,
    consumed: u64,
    committed: u64,
    window: u64,
    held: u64,
    /// Time at which the half window began that is timed now, and its `consumed` then.
    timed_since: Instant,
    timed_at_consumed: u64,
    closed: bool,
}

impl ReceiveWindow {
    /// The window of a new stream; None when the budget can't promise `initial` bytes.
    pub(crate) fn new(budget: &Budget, initial: u32, now: Instant) -> Option<Self> {
        let initial = u64::from(initial);
        budget
            .reserve(to_usize(initial), Purpose::Credit)
            .then(|| Self {
                budget: budget.clone(),
                granted: initial,
                received: 0,
                consumed: 0,
                committed: initial,
                window: initial,
                held: initial.min(HELD),
                timed_since: now,
                timed_at_consumed: 0,
                closed: false,
            })
    }

    /// Payload has come.
    pub(crate) fn receive(&mut self, bytes: usize) -> Result<(), CreditExceeded> {
        let received = self.received.saturating_add(bytes as u64);
        if received > self.granted {
            return Err(CreditExceeded);
        }
        self.received = received;
        Ok(())
    }

    /// Nothing has come yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.received == 0
    }

    /// True if this many more bytes may come.
    pub(crate) fn has_credit(&self, bytes: usize) -> bool {
        self.granted - self.received >= bytes as u64
    }

    /// The socket took payload: that memory is free again.
    pub(crate) fn consume(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.received - self.consumed);
        self.consumed += bytes;
        self.release_down_to(self.needed());
    }

    /// Bytes that have to be committed now.
    fn needed(&self) -> u64 {
        if self.closed {
            self.received - self.consumed
        } else {
            (self.granted - self.consumed).max(self.held)
        }
    }

    fn release_down_to(&mut self, needed: u64) {
        let free = self.committed.saturating_sub(needed);
        self.committed -= free;
        self.budget.release(to_usize(free));
    }

    /// Credit to grant now, if a step has been drained and memory allows. The window doubles when
    /// half of it went within two round trips, up to the table; a sustained stream's ends at 1 MiB.
    pub(crate) fn next_update(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        active_streams: usize,
        sustained: bool,
    ) -> Option<u32> {
        let outstanding = self.granted - self.consumed;
        let step = (self.window / 2).min(LARGEST_STEP);
        if self.closed || outstanding > self.window - step {
            return None;
        }
        let most = if sustained {
            MIN_MAX_WINDOW
        } else {
            table(active_streams)
        };
        let fast = 2 * rtt.unwrap_or_default().max(SHORTEST_RTT);
        if self.consumed - self.timed_at_consumed >= self.window / 2 {
            let took = now.saturating_duration_since(self.timed_since);
            let doubled = (self.window * 2).min(most);
            let may_grow = doubled > self.window && took <= fast;
            let more = may_grow.then(|| self.grow_to(doubled, Purpose::Growth));
            // Where memory was refused it is asked for again with the next step.
            if more != Some(None) {
                (self.timed_since, self.timed_at_consumed) = (now, self.consumed);
            }
            if let Some(more) = more.flatten() {
                self.window = doubled;
                return Some(more);
            }
        }
        // A smaller share is due, or memory is scarce: give back what was there, or less. Only
        // the last of these is sure, and wanted only when nothing else is left to the sender.
        self.window = self.window.min(most.max(FRAME));
        let [frame, held] = if outstanding == 0 {
            [FRAME.min(self.window), self.held]
        } else {
            [0, 0]
        };
        [self.window, frame, held]
            .into_iter()
            .find_map(|credit| self.grow_to(credit, Purpose::Credit))
    }

    /// Grants what is missing to an outstanding credit of `credit`, if that is more and fits.
    fn grow_to(&mut self, credit: u64, purpose: Purpose) -> Option<u32> {
        let more = credit
            .checked_sub(self.granted - self.consumed)
            .filter(|more| *more > 0)?;
        let missing = credit.saturating_sub(self.committed);
        if missing > 0 && !self.budget.reserve(to_usize(missing), purpose) {
            return None;
        }
        self.granted += more;
        self.committed += missing;
        Some(u32::try_from(more).unwrap_or(u32::MAX))
    }

    /// No more will come: only what is unread stays committed.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.release_down_to(self.needed());
    }
}

impl Drop for ReceiveWindow {
    fn drop(&mut self) {
        self.budget.release(to_usize(self.committed));
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::budget::BudgetPool;

    fn budget(mib: usize) -> Budget {
        Budget::new(BudgetPool::new(mib * 1_024 * 1_024))
    }

    /// Sends, drains and grants until the window stops growing; gives its size.
    fn grown(budget: &Budget, active: usize, sustained: bool, pause: Duration) -> u64 {
        let mut now = crate::any_instant();
        let mut window = ReceiveWindow::new(budget, 256 * 1_024, now).expect("memory");
        let mut credit = 256 * 1_024;
        for _ in 0..64 {
            window.receive(credit).expect("within credit");
            window.consume(credit);
            now += pause;
            credit = window
                .next_update(now, Some(Duration::from_millis(1)), active, sustained)
                .map_or(0, |granted| usize::try_from(granted).expect("fits"));
        }
        window.window
    }

    #[test]
    fn grows_to_the_table_only_while_it_drains_fast() {
        let fast = Duration::from_millis(1);
        assert_eq!(grown(&budget(200), 1, false, fast), 4 * MIB);
        assert_eq!(grown(&budget(200), 100, false, fast), 2 * MIB);
        assert_eq!(grown(&budget(200), 1_000, false, fast), MIB);
        assert_eq!(grown(&budget(200), 1, true, fast), MIB);
        assert_eq!(
            grown(&budget(200), 1, false, Duration::from_secs(1)),
            256 * KIB
        );
    }

    #[test]
    fn credit_comes_in_steps_however_large_the_window() {
        let budget = budget(200);
        let mut now = crate::any_instant();
        let mut window = ReceiveWindow::new(&budget, 256 * 1_024, now).expect("memory");
        let mut granted = 256 * 1_024;
        let mut steps = Vec::new();
        for _ in 0..2_000 {
            now += Duration::from_micros(10);
            window.receive(16_000).expect("within credit");
            window.consume(16_000);
            granted -= 16_000;
            if let Some(more) = window.next_update(now, None, 1, false) {
                granted += more;
                steps.push(u64::from(more));
            }
        }
        assert_eq!(window.window, 4 * MIB);
        let last = steps.split_off(steps.len() - 100);
        assert!(
            last.iter().all(|step| *step < LARGEST_STEP + 16_000),
            "{last:?}"
        );
        assert!(u64::from(granted) > 4 * MIB - LARGEST_STEP - 16_000);
    }

    #[test]
    fn a_draining_stream_keeps_some_credit_when_memory_is_gone() {
        let budget = budget(16);
        let now = crate::any_instant();
        let mut window = ReceiveWindow::new(&budget, 65_536, now).expect("memory");
        while budget.reserve(1_024, Purpose::Send) {}
        window.receive(65_536).expect("within credit");
        window.consume(65_536);
        while budget.reserve(1_024, Purpose::Send) {}
        for _ in 0..3 {
            let full = budget.used();
            assert_eq!(window.next_update(now, None, 1, false), Some(2_048));
            window.receive(2_048).expect("within credit");
            window.consume(2_048);
            assert_eq!(budget.used(), full);
        }
        budget.release(16 * 1_024 * 1_024 - 65_536);
        assert_eq!(
            window.next_update(now, None, 1, false),
            Some(131_072),
            "memory is back"
        );
    }

    #[test]
    fn everything_committed_is_released() {
        let budget = budget(16);
        let now = crate::any_instant();
        let mut window = ReceiveWindow::new(&budget, 65_536, now).expect("memory");
        assert_eq!(window.receive(70_000), Err(CreditExceeded));
        window.receive(40_000).expect("within credit");
        window.consume(10_000);
        assert_eq!(budget.used(), 55_536);
        window.close();
        assert_eq!(budget.used(), 30_000);
        assert_eq!(window.next_update(now, None, 1, false), None);
        window.consume(30_000);
        assert_eq!(budget.used(), 0);
        drop(window);
        assert_eq!(budget.used(), 0);
    }
}
