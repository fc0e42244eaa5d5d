//! State of the hub's Welcome to a session, and with it which frames may be carried out twice (D4).

use crate::wire::frame::FrameKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Never said: the hub has looked at nothing, and all of it may go out again.
    Unsaid,
    /// The hub knew this session, and is asked on a new connection whether it still does. Only streams with ids from
    /// `first` on may go out again in another session.
    AskedAgain {
        /// The next id when it was asked.
        first: u32,
    },
    /// The hub knows this session.
    Said,
}

/// Keeps track of the hub's word on this session, and of BEGIN, which separates a session from a lost one.
#[derive(Debug)]
pub(super) struct Greeting {
    phase: Phase,
    /// BEGIN is to be sent first.
    begin_due: bool,
    /// Frames are dropped until BEGIN comes.
    expects_begin: bool,
}

impl Greeting {
    pub(super) fn new(is_welcome: bool, expects_begin: bool) -> Self {
        Self {
            phase: if is_welcome {
                Phase::Said
            } else {
                Phase::Unsaid
            },
            begin_due: false,
            expects_begin,
        }
    }

    #[inline]
    pub(super) fn is_welcome(&self) -> bool {
        self.phase == Phase::Said
    }

    /// The hub has said Welcome to this session.
    pub(super) fn welcome(&mut self) {
        self.phase = Phase::Said;
    }

    /// The connection is gone, and with it all that may have come or left before BEGIN: the next one carries frames of
    /// this session alone.
    pub(super) fn detach(&mut self) {
        self.begin_due = false;
        self.expects_begin = false;
    }

    /// Frames go out again before the hub's word; `next_id` is the next stream's.
    pub(super) fn ask_again(&mut self, next_id: u32) {
        if self.is_welcome() {
            self.phase = Phase::AskedAgain { first: next_id };
        }
    }

    /// The hub didn't answer, and may have carried out what it was sent.
    pub(super) fn leave(&mut self) {
        if matches!(self.phase, Phase::AskedAgain { .. }) {
            self.phase = Phase::Said;
        }
    }

    /// The hub has lost the session and given another one; gives the first id that goes on there.
    pub(super) fn begin_again(&mut self) -> u32 {
        let first = match self.phase {
            Phase::Unsaid => 0,
            Phase::AskedAgain { first } => first,
            Phase::Said => u32::MAX,
        };
        self.phase = Phase::Said;
        self.begin_due = true;
        first
    }

    /// True if BEGIN is to be sent now; from then on it counts as sent.
    #[inline]
    pub(super) fn take_begin(&mut self) -> bool {
        std::mem::take(&mut self.begin_due)
    }

    /// True if a frame that came belongs to this session.
    #[inline]
    pub(super) fn admits(&mut self, kind: FrameKind) -> bool {
        if self.expects_begin {
            self.expects_begin = kind != FrameKind::Begin;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_may_go_out_again_as_a_whole_until_the_welcome() {
        let mut greeting = Greeting::new(false, false);
        greeting.ask_again(7);
        greeting.leave();
        assert!(!greeting.is_welcome(), "a refusal carried out nothing");
        assert_eq!(greeting.begin_again(), 0);
        assert!(greeting.is_welcome() && greeting.take_begin() && !greeting.take_begin());
    }

    #[test]
    fn of_a_known_session_only_later_streams_go_on_in_another() {
        let mut greeting = Greeting::new(true, false);
        greeting.ask_again(7);
        greeting.ask_again(9);
        assert!(!greeting.is_welcome());
        assert_eq!(greeting.begin_again(), 7);
        greeting.ask_again(11);
        greeting.leave();
        assert!(greeting.is_welcome(), "the hub may have carried it out");
    }

    #[test]
    fn frames_before_begin_are_a_lost_sessions() {
        let mut greeting = Greeting::new(true, true);
        assert!(!greeting.admits(FrameKind::Open) && !greeting.admits(FrameKind::Begin));
        assert!(greeting.admits(FrameKind::Open));
    }
}
