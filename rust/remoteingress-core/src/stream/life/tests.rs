use super::*;
use crate::any_instant;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const NEVER: Timeouts = Timeouts {
    idle: None,
    half_closed: None,
    ack: None,
};
const RESET: Outcome = Outcome::Aborted(AbortCode::Reset);

fn connected(now: Instant) -> StreamLife {
    let mut life = StreamLife::new(now);
    life.handle_connected();
    life
}

#[test]
fn an_idle_stream_pays_for_48_bytes() {
    assert!(size_of::<StreamLife>() <= 48, "{}", size_of::<StreamLife>());
}

#[test]
fn both_ends_by_fin_finish_the_stream_in_either_order() {
    let now = any_instant();
    let mut life = connected(now);
    assert_eq!(life.handle_eof(), Fin::Pass);
    assert!(!life.wants_read());
    assert_eq!(life.conclude(), None, "the other direction goes on");
    assert_eq!(life.handle_fin(), Fin::Pass);
    assert_eq!(life.conclude(), Some(Outcome::Finished));

    let mut life = connected(now);
    assert_eq!(life.handle_fin(), Fin::Pass);
    assert!(!life.takes_bytes() && life.wants_read());
    assert_eq!(life.conclude(), None);
    assert_eq!(life.handle_eof(), Fin::Pass);
    assert_eq!(life.conclude(), Some(Outcome::Finished));
}

#[test]
fn an_end_is_passed_on_once() {
    let mut life = connected(any_instant());
    assert_eq!(life.handle_eof(), Fin::Pass);
    assert_eq!(life.handle_eof(), Fin::Withhold);
    assert_eq!(life.handle_fin(), Fin::Pass);
    assert_eq!(life.handle_fin(), Fin::Withhold);
}

#[test]
fn a_fin_waits_for_the_bytes_before_it() {
    let mut life = connected(any_instant());
    life.handle_write_blocked();
    assert!(life.is_blocked() && !life.is_writable());
    assert_eq!(life.handle_fin(), Fin::Withhold);
    assert!(life.takes_bytes());
    life.handle_write_ready();
    assert_eq!(life.handle_fin(), Fin::Pass);
}

#[test]
fn nothing_is_read_before_there_is_a_socket_nor_after_cancel() {
    let mut life = StreamLife::new(any_instant());
    assert!(!life.wants_read() && !life.is_writable() && life.takes_bytes());
    life.handle_cancel();
    life.handle_connected();
    assert!(!life.wants_read() && life.is_writable());
    assert_eq!(life.handle_eof(), Fin::Withhold);
}

#[test]
fn another_taker_is_told_of_the_end_again() {
    let now = any_instant();
    let mut life = connected(now);
    assert_eq!(life.handle_fin(), Fin::Pass);
    life.handle_handed_over();
    assert!(life.takes_bytes() && !life.is_writable() && !life.wants_read());
    life.handle_connected();
    assert_eq!(life.handle_fin(), Fin::Pass);
    // A socket that failed has taken the stream's way out with it.
    life.handle_write_failed();
    life.handle_handed_over();
    life.handle_connected();
    assert!(!life.takes_bytes());
}

#[test]
fn a_cancelled_direction_and_a_fin_finish_the_stream() {
    let mut life = connected(any_instant());
    life.handle_cancel();
    assert_eq!(life.conclude(), None);
    assert_eq!(life.handle_fin(), Fin::Pass);
    assert_eq!(life.conclude(), Some(Outcome::Finished));
}

#[test]
fn a_failed_write_lets_the_socket_say_the_rest_and_then_resets() {
    let mut life = connected(any_instant());
    life.handle_write_failed();
    assert!(life.wants_read() && !life.takes_bytes());
    assert_eq!(life.conclude(), None);
    assert_eq!(
        life.handle_eof(),
        Fin::Withhold,
        "an abort follows, not a FIN"
    );
    assert_eq!(life.conclude(), Some(Outcome::SocketReset));
}

#[test]
fn an_abort_ends_a_stream_of_which_no_byte_waits() {
    let now = any_instant();
    let enders: [fn(&mut StreamLife); 4] = [
        |_| {},
        |life| assert_eq!(life.handle_fin(), Fin::Pass),
        |life| life.handle_write_failed(),
        |life| {
            life.handle_write_blocked();
            life.handle_write_ready();
        },
    ];
    for before in enders {
        let mut life = connected(now);
        before(&mut life);
        life.handle_abort(now, AbortCode::Reset);
        assert_eq!(life.conclude(), Some(RESET));
    }
    let mut dialling = StreamLife::new(now);
    dialling.handle_abort(now, AbortCode::Reset);
    assert_eq!(dialling.conclude(), Some(RESET));
}

#[test]
fn an_abort_lingers_five_seconds_for_bytes_that_wait() {
    let start = any_instant();
    let mut life = connected(start);
    life.handle_write_blocked();
    life.handle_abort(start, AbortCode::Reset);
    assert_eq!(life.ending(), Some(RESET));
    assert_eq!(life.conclude(), None);
    // Neither a second abort nor bytes that move set the time back.
    life.handle_abort(start + SECOND, AbortCode::Ended);
    life.handle_written(start + 4 * SECOND);
    let early = start + LINGER - Duration::from_millis(1);
    assert_eq!(life.sweep(early, NEVER), Sweep::Done);
    assert_eq!(life.sweep(start + LINGER, NEVER), Sweep::Over);
    assert_eq!(life.conclude(), Some(RESET));
}

#[test]
fn a_lingering_abort_ends_once_the_bytes_have_gone() {
    let now = any_instant();
    let mut life = connected(now);
    life.handle_write_blocked();
    life.handle_abort(now, AbortCode::Ended);
    life.handle_write_ready();
    life.handle_abort(now, AbortCode::Ended);
    assert_eq!(life.conclude(), Some(Outcome::Aborted(AbortCode::Ended)));
}

#[test]
fn a_reset_of_a_socket_that_is_read_later_lingers_for_room() {
    let start = any_instant();
    let mut life = connected(start);
    assert!(
        !life.watches_reset(),
        "a read tells of a reset while there is room"
    );
    life.handle_room(0);
    assert!(life.watches_reset());
    life.handle_reset(start);
    assert!(!life.watches_reset() && life.wants_read() && !life.takes_bytes());
    assert_eq!(life.conclude(), None);
    // There is room, and the socket says the rest and its end.
    let mut read = life;
    read.handle_room(10);
    assert_eq!(read.handle_read(start, 3, 10), Read::Short);
    assert_eq!(read.handle_eof(), Fin::Withhold);
    assert_eq!(read.conclude(), Some(Outcome::SocketReset));
    // There is none for too long.
    assert_eq!(life.sweep(start + LINGER, NEVER), Sweep::Over);
    assert_eq!(life.conclude(), Some(Outcome::SocketReset));
}

#[test]
fn a_reset_of_a_socket_that_is_read_no_more_ends_the_stream() {
    let now = any_instant();
    let enders: [fn(&mut StreamLife); 2] = [
        |life| assert_eq!(life.handle_eof(), Fin::Pass),
        StreamLife::handle_cancel,
    ];
    for before in enders {
        let mut life = connected(now);
        before(&mut life);
        assert!(life.watches_reset());
        life.handle_reset(now);
        assert!(!life.watches_reset());
        assert_eq!(life.conclude(), Some(Outcome::SocketReset));
    }
}

#[test]
fn the_next_read_is_large_after_one_that_filled_its_room() {
    let now = any_instant();
    let mut life = connected(now);
    assert!(!life.is_bulk());
    assert_eq!(life.handle_read(now, 10, 10), Read::Filled);
    assert!(life.is_bulk());
    life.handle_room(0);
    assert!(life.is_bulk(), "also when it has waited for room");
    life.handle_room(40);
    assert_eq!(life.handle_read(now, 39, 40), Read::Short);
    assert!(!life.is_bulk());
    assert_eq!(life.handle_read(now, 10, 10), Read::Filled);
    life.handle_read_nothing();
    assert!(!life.is_bulk());
}

#[test]
fn a_sweep_looks_once_after_a_short_read() {
    let now = any_instant();
    let mut life = connected(now);
    assert_eq!(life.sweep(now, NEVER), Sweep::Done);
    assert_eq!(life.handle_read(now, 3, 10), Read::Short);
    // While there is no room a look would be for nothing.
    life.handle_room(0);
    assert_eq!(life.sweep(now, NEVER), Sweep::Done);
    life.handle_room(10);
    assert_eq!(life.sweep(now, NEVER), Sweep::Look);
    assert_eq!(life.sweep(now, NEVER), Sweep::Done);
    assert!(!life.has_unseen());
}

#[test]
fn bytes_without_a_sign_are_read_until_a_read_is_short() {
    let now = any_instant();
    let mut life = connected(now);
    assert_eq!(life.handle_read(now, 3, 10), Read::Short);
    assert_eq!(life.sweep(now, NEVER), Sweep::Look);
    life.handle_unseen();
    assert!(life.has_unseen() && !life.is_bulk());
    life.handle_room(0);
    life.handle_room(10);
    assert!(life.has_unseen(), "also after a wait for room");
    assert_eq!(life.handle_read(now, 10, 10), Read::Filled);
    assert!(life.has_unseen() && life.is_bulk());
    assert_eq!(life.handle_read(now, 1, 40), Read::Short);
    assert!(!life.has_unseen());
    // It may have ended at another mark.
    assert_eq!(life.sweep(now, NEVER), Sweep::Look);
}

#[test]
fn an_idle_stream_ends_after_its_time_without_a_byte() {
    let start = any_instant();
    let timeouts = Timeouts {
        idle: Some(10 * SECOND),
        half_closed: None,
        ack: None,
    };
    let mut life = connected(start);
    assert_eq!(life.handle_read(start + SECOND, 5, 10), Read::Short);
    life.handle_written(start + 2 * SECOND);
    assert_eq!(life.sweep(start + 11 * SECOND, timeouts), Sweep::Look);
    assert_eq!(life.sweep(start + 12 * SECOND, timeouts), Sweep::Over);
    let idle = Outcome::Aborted(AbortCode::IdleTimeout);
    assert_eq!(life.conclude(), Some(idle));
}

#[test]
fn the_shorter_of_both_times_counts_for_half_closed_streams_only() {
    let start = any_instant();
    let timeouts = Timeouts {
        idle: Some(10 * SECOND),
        half_closed: Some(3 * SECOND),
        ack: None,
    };
    let mut open = connected(start);
    assert_eq!(open.sweep(start + 9 * SECOND, timeouts), Sweep::Done);
    let mut half = open;
    assert_eq!(half.handle_eof(), Fin::Pass);
    assert_eq!(half.sweep(start + 3 * SECOND, timeouts), Sweep::Over);
    let mut half = open;
    assert_eq!(half.handle_fin(), Fin::Pass);
    assert_eq!(half.sweep(start + 3 * SECOND, timeouts), Sweep::Over);
    let long = Timeouts {
        half_closed: Some(20 * SECOND),
        ..timeouts
    };
    let mut half = open;
    half.handle_cancel();
    assert_eq!(half.sweep(start + 9 * SECOND, long), Sweep::Done);
    assert_eq!(half.sweep(start + 10 * SECOND, long), Sweep::Over);
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Connected,
    HandedOver,
    Room(usize),
    Read { bytes: usize, room: usize },
    ReadNothing,
    Eof,
    SocketError,
    Cancel,
    Written,
    WriteBlocked,
    WriteReady,
    WriteFailed,
    Fin,
    Abort(AbortCode),
    ResetSeen,
    Unseen,
    Sweep,
    Wait(u64),
    Conclude,
}

fn any_input() -> impl Strategy<Value = Input> {
    use Input::*;
    prop_oneof![
        3 => Just(Connected),
        1 => Just(HandedOver),
        2 => (0_usize..3).prop_map(Room),
        3 => (1_usize..4, 0_usize..3).prop_map(|(bytes, more)| Read { bytes, room: bytes + more }),
        1 => Just(ReadNothing),
        1 => Just(Eof),
        1 => Just(SocketError),
        1 => Just(Cancel),
        2 => Just(Written),
        3 => Just(WriteBlocked),
        2 => Just(WriteReady),
        1 => Just(WriteFailed),
        1 => Just(Fin),
        1 => Just(Abort(AbortCode::Ended)),
        1 => Just(Abort(AbortCode::TargetRefused)),
        1 => Just(ResetSeen),
        1 => Just(Unseen),
        4 => Just(Sweep),
        4 => (0_u64..4_000).prop_map(Wait),
        1 => Just(Conclude),
    ]
}

/// A stream as a watcher outside knows it, kept by other means than the machine's.
struct Watcher {
    life: StreamLife,
    timeouts: Timeouts,
    now: Instant,
    progress_at: Instant,
    is_connected: bool,
    inward_ended: bool,
    outward_ended: bool,
    bytes_wait: bool,
    fins: [usize; 2],
    /// The outward direction failed, also if that came too late to count.
    is_broken: bool,
    failed: bool,
    doomed_at: Option<Instant>,
    is_full: bool,
    is_look_due: bool,
    outcome: Option<Outcome>,
}

impl Watcher {
    fn new(timeouts: Timeouts) -> Self {
        let now = any_instant();
        Self {
            life: StreamLife::new(now),
            timeouts,
            now,
            progress_at: now,
            is_connected: false,
            inward_ended: false,
            outward_ended: false,
            bytes_wait: false,
            fins: [0; 2],
            is_broken: false,
            failed: false,
            doomed_at: None,
            is_full: false,
            is_look_due: false,
            outcome: None,
        }
    }

    fn feed(&mut self, input: Input) {
        let (life, now) = (&mut self.life, self.now);
        match input {
            Input::Connected => {
                life.handle_connected();
                self.is_connected = true;
            }
            Input::HandedOver => {
                life.handle_handed_over();
                if !self.is_broken {
                    (self.is_connected, self.outward_ended) = (false, false);
                    (self.bytes_wait, self.fins[1]) = (false, 0);
                }
            }
            Input::Room(bytes) => {
                life.handle_room(bytes);
                self.is_full = bytes == 0;
            }
            Input::Read { bytes, room } => {
                let read = life.handle_read(now, bytes, room);
                assert_eq!(read == Read::Short, bytes < room);
                if !self.inward_ended {
                    self.progress_at = now;
                    (self.is_look_due, self.is_full) = (bytes < room, false);
                    assert_eq!(life.is_bulk(), bytes == room);
                }
            }
            Input::ReadNothing => {
                life.handle_read_nothing();
                self.is_look_due &= self.is_full;
            }
            Input::Eof => {
                self.fins[0] += usize::from(life.handle_eof() == Fin::Pass);
                assert!(self.fins[0] == 0 || !self.failed || self.inward_ended);
                self.inward_ended = true;
            }
            Input::SocketError => life.end(Outcome::SocketReset),
            Input::Cancel => {
                life.handle_cancel();
                self.inward_ended = true;
            }
            Input::Written => {
                life.handle_written(now);
                self.progress_at = now;
            }
            Input::WriteBlocked => {
                life.handle_write_blocked();
                self.bytes_wait |= self.is_connected && !self.outward_ended;
            }
            Input::WriteReady => {
                life.handle_write_ready();
                self.bytes_wait = false;
            }
            Input::WriteFailed => {
                life.handle_write_failed();
                self.note_broken();
            }
            Input::Fin => {
                let passed = life.handle_fin() == Fin::Pass;
                assert!(!passed || !self.bytes_wait, "FIN before the bytes");
                self.fins[1] += usize::from(passed);
                self.outward_ended |= passed;
            }
            Input::Abort(code) => {
                life.handle_abort(now, code);
                self.doomed_at.get_or_insert(now);
                assert!(life.ending().is_some());
            }
            Input::ResetSeen => {
                life.handle_reset(now);
                if self.is_connected {
                    self.note_broken();
                    self.doomed_at.get_or_insert(now);
                }
            }
            Input::Unseen => {
                life.handle_unseen();
                self.is_look_due &= self.is_full;
            }
            Input::Sweep => self.sweep(),
            Input::Wait(millis) => self.now += Duration::from_millis(millis),
            Input::Conclude => {
                life.conclude();
            }
        }
    }

    fn note_broken(&mut self) {
        if self.is_connected {
            self.is_broken = true;
            self.failed |= !self.life.is_over();
            (self.outward_ended, self.bytes_wait) = (true, false);
        }
    }

    fn sweep(&mut self) {
        let was_over = self.life.is_over() || self.inward_ended && self.outward_ended;
        let is_half_closed = self.inward_ended != self.outward_ended;
        let quiet = self.now - self.progress_at;
        let Timeouts {
            idle, half_closed, ..
        } = self.timeouts;
        let is_idle = idle.is_some_and(|limit| quiet >= limit)
            || is_half_closed && half_closed.is_some_and(|limit| quiet >= limit);
        let is_late = self.doomed_at.is_some_and(|at| self.now >= at + LINGER);
        let swept = self.life.sweep(self.now, self.timeouts);
        assert_eq!(swept == Sweep::Over, was_over || is_idle || is_late);
        if swept != Sweep::Over {
            let is_look = self.is_look_due && !self.is_full && !self.inward_ended;
            assert_eq!(swept == Sweep::Look, is_look);
            self.is_look_due &= !is_look;
        }
        if !was_over && is_idle && !is_late {
            let idle = Some(Outcome::Aborted(AbortCode::IdleTimeout));
            assert_eq!(self.life.ending(), idle);
        }
    }

    fn check(&mut self) {
        let life = &self.life;
        assert!(!life.wants_read() || !self.inward_ended, "read after EOF");
        assert!(!life.wants_read() || self.is_connected);
        assert!(!life.is_writable() || !self.bytes_wait);
        assert!(!(life.is_blocked() && life.is_writable()));
        assert!(self.fins.iter().all(|passed| *passed <= 1));
        assert!(!life.is_over() || !(life.wants_read() || life.watches_reset()));
        let was_over = self.life.is_over();
        // A copy, so that this is no input.
        let concluded = { self.life }.conclude();
        let is_over = was_over || self.inward_ended && self.outward_ended;
        assert_eq!(concluded.is_some(), is_over);
        assert!(self.outcome.is_none() || self.outcome == concluded);
        if was_over {
            self.outcome = concluded;
        }
        if concluded == Some(Outcome::Finished) {
            assert!(!self.failed, "a failure looks like an end");
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_inputs_keeps_the_invariants(
        inputs in prop::collection::vec(any_input(), 0..60),
        idle in prop::option::of(1_u64..20),
        half_closed in prop::option::of(1_u64..10),
    ) {
        let mut watcher = Watcher::new(Timeouts {
            idle: idle.map(Duration::from_secs),
            half_closed: half_closed.map(Duration::from_secs),
            ack: None,
        });
        for input in inputs {
            watcher.feed(input);
            watcher.check();
        }
    }
}
