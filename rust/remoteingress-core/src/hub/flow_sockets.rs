//! How many sockets UDP flows may have, all edges together, and which flow makes room when there are as many (D10).
//!
//! A quarter of them belongs to the workers in equal parts, so that a flood on one worker leaves something to the others,
//! whose flows it can't end. The rest is for whoever comes first.

use crate::udp_counters::UdpDrop;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unanswered flows of a session from which on its next flow ends the oldest of its own, without a look at other sessions.
const MANY: usize = 64;
/// Pause between two warnings.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// The sockets of all flows of a hub.
#[derive(Debug)]
pub struct FlowSockets {
    max: usize,
    /// Which of the machine's means is short when there are `max`.
    short: UdpDrop,
    of_worker: usize,
    common: usize,
    common_taken: AtomicUsize,
    warned: Mutex<Option<Instant>>,
}

impl FlowSockets {
    /// For a process that may have so many descriptors, on a machine with so many ephemeral ports. Flows get half of the
    /// descriptors, so that sessions and streams never lack one, and three quarters of the ports, so that every other
    /// program of the machine still gets one.
    pub fn new(descriptors: u64, ports: usize, workers: usize) -> Self {
        let descriptors = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        let ports = ports - ports / 4;
        let (max, short) = if ports < descriptors {
            (ports, UdpDrop::EphemeralPorts)
        } else {
            (descriptors, UdpDrop::Descriptors)
        };
        let of_worker = max / 4 / workers.max(1);
        Self {
            max,
            short,
            of_worker,
            common: max - of_worker * workers.max(1),
            common_taken: AtomicUsize::new(0),
            warned: Mutex::default(),
        }
    }

    /// The most that there are.
    pub fn max(&self) -> usize {
        self.max
    }

    /// True if a warning that flows had to make room, or couldn't, is to be written now, which counts as written.
    pub fn is_warning_due(&self, now: Instant) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.is_none_or(|at| now >= at + WARN_AGAIN);
        if is_due {
            *warned = Some(now);
        }
        is_due
    }
}

/// The sockets of one worker's flows.
#[derive(Debug)]
pub struct WorkerSockets {
    all: Arc<FlowSockets>,
    taken: Cell<usize>,
}

/// A socket that a flow has or is to have; it is given back when dropped.
#[derive(Debug)]
pub struct FlowSocket(Rc<WorkerSockets>);

impl WorkerSockets {
    /// None is taken yet.
    pub fn new(all: Arc<FlowSockets>) -> Rc<Self> {
        Rc::new(Self {
            all,
            taken: Cell::new(0),
        })
    }

    /// Lets one more flow have a socket, or says what is short.
    pub fn take(self: &Rc<Self>) -> Result<FlowSocket, UdpDrop> {
        let FlowSockets {
            of_worker,
            common,
            common_taken,
            short,
            ..
        } = &*self.all;
        if self.taken.get() >= *of_worker {
            let one_more = |taken: usize| (taken < *common).then(|| taken + 1);
            common_taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                .map_err(|_| *short)?;
        }
        self.taken.set(self.taken.get() + 1);
        Ok(FlowSocket(self.clone()))
    }
}

impl Drop for FlowSocket {
    fn drop(&mut self) {
        let WorkerSockets { all, taken } = &*self.0;
        taken.set(taken.get() - 1);
        if taken.get() >= all.of_worker {
            all.common_taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whose oldest unanswered flow makes room for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakesRoom {
    /// The new flow's own session.
    Own,
    /// The other session with this place in the list.
    Other(usize),
    /// All flows are answered.
    Nobody,
}

impl MakesRoom {
    /// The session with the most unanswered flows makes room, so that a flood displaces itself. `own` counts those of the
    /// new flow's session, and `others` those of the worker's other sessions.
    pub fn of(own: usize, others: impl Iterator<Item = usize>) -> Self {
        if own >= MANY {
            return Self::Own;
        }
        let most = others.enumerate().max_by_key(|(_, count)| *count);
        match most {
            Some((place, count)) if count > own => Self::Other(place),
            _ if own > 0 => Self::Own,
            _ => Self::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    #[test]
    fn flows_leave_the_machine_a_quarter_of_its_ports_and_the_process_half_of_its_descriptors() {
        let by_ports = FlowSockets::new(1_048_576, 28_232, 2);
        assert_eq!(
            (by_ports.max, by_ports.short),
            (21_174, UdpDrop::EphemeralPorts)
        );
        let by_descriptors = FlowSockets::new(1_024, 28_232, 2);
        assert_eq!(
            (by_descriptors.max, by_descriptors.short),
            (512, UdpDrop::Descriptors)
        );
        assert_eq!(FlowSockets::new(u64::MAX, 100, 2).max, 75);
        assert_eq!(FlowSockets::new(10, 0, 2).max, 0);
    }

    #[test]
    fn one_edge_on_one_worker_may_have_its_default_limit_of_flows() {
        for workers in [1, 2, 16, 64] {
            let all = FlowSockets::new(1_048_576, 28_232, workers);
            assert!(all.of_worker + all.common >= 15_880, "{workers}");
        }
    }

    #[test]
    fn a_worker_that_takes_all_leaves_each_other_its_part() {
        let all = Arc::new(FlowSockets::new(u64::MAX, 100, 2));
        let (greedy, modest) = (
            WorkerSockets::new(all.clone()),
            WorkerSockets::new(all.clone()),
        );
        let take_all = |worker: &Rc<WorkerSockets>| {
            let taken: Vec<_> = std::iter::from_fn(|| worker.take().ok()).collect();
            assert_eq!(worker.take().err(), Some(UdpDrop::EphemeralPorts));
            taken
        };
        let taken = take_all(&greedy);
        let left = take_all(&modest);
        assert_eq!((taken.len(), left.len()), (66, 9));
        drop(taken);
        assert_eq!(take_all(&modest).len(), 57);
        drop(left);
        assert_eq!(take_all(&greedy).len(), 66);
        assert_eq!(all.common_taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_session_with_the_most_unanswered_flows_makes_room() {
        let of = |own, others: &[usize]| MakesRoom::of(own, others.iter().copied());
        assert_eq!(of(3, &[1, 2]), MakesRoom::Own);
        assert_eq!(of(3, &[1, 4, 2]), MakesRoom::Other(1));
        assert_eq!(of(0, &[0, 1]), MakesRoom::Other(1));
        assert_eq!(of(0, &[0, 0]), MakesRoom::Nobody);
        assert_eq!(of(0, &[]), MakesRoom::Nobody);
        assert_eq!(of(MANY, &[1_000]), MakesRoom::Own);
    }

    #[test]
    fn there_is_a_warning_a_minute() {
        let now = any_instant();
        let all = FlowSockets::new(1, 1, 1);
        assert!(all.is_warning_due(now));
        assert!(!all.is_warning_due(now + WARN_AGAIN - Duration::from_millis(1)));
        assert!(all.is_warning_due(now + WARN_AGAIN));
    }
}
