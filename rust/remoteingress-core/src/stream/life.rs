//! Half-close, linger and idle of one stream as one state machine. It moves no bytes.
//!
//! ```text
//!  from the socket into the tunnel             from the tunnel into the socket
//!
//!  Open <--room, none--> Full                  Connecting --connected--> Open <--ready, blocked--> Blocked
//!    |                     |                                               |                          |
//!    +--EOF-----> Ended <--+                                               +--FIN-----> Finished      |
//!    +--CANCEL--> Cancelled+                                               +--failed--> Failed <------+
//!
//!  the stream:  Running --aborted while bytes wait--> Ending --they have gone, or 5 s--> Over
//!                  \--aborted, the socket failed, idle, or both directions have ended-----^
//! ```
//!
//! The contract of the shell that moves the bytes: each thing that happens is told by one `handle_*`, after the bytes
//! before it have been moved or are known to wait. After a turn [`StreamLife::conclude`] says whether the stream is over.
//! A call that its phase doesn't allow changes nothing.

#[cfg(test)]
mod tests;

use super::ack_watch::{AckFigures, AckWatch};
use super::outcome::Outcome;
use remoteingress_config::EngineSettings;
use remoteingress_proto::mux::stream::AbortCode;
use std::time::{Duration, Instant};

/// For this long the last bytes before a reset are offered to a reader that doesn't take them.
pub const LINGER: Duration = Duration::from_secs(5);

/// The life of one stream. It is small and `Copy`, since each idle stream has one.
#[derive(Clone, Copy, Debug)]
pub struct StreamLife {
    whole: Whole,
    /// Time at which payload last moved, in either direction.
    progress_at: Instant,
    inward: Inward,
    outward: Outward,
    acks: AckWatch,
    cause: Cause,
}

/// Thing that a running stream waits for at this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its socket isn't connected yet.
    Dial,
    /// Its socket's peer doesn't read.
    Socket,
    /// The tunnel takes nothing for now.
    Tunnel,
}

/// Origin of a stream's end, as this end sees it: of the first FIN, or of what cut the stream off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Nothing has ended.
    #[default]
    Nothing,
    /// This end's socket.
    Socket,
    /// The other end's socket, which said FIN.
    Peer,
    /// The other end, which aborted the stream.
    PeerAbort,
    /// This end itself.
    Here,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Running,
    /// It is known since then how the stream ends, while bytes from before that still wait.
    Ending {
        since: Instant,
        outcome: Outcome,
    },
    Over(Outcome),
}

/// From the socket into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inward {
    Open(LastRead),
    /// The tunnel takes nothing for now.
    Full(LastRead),
    /// The socket has said its end.
    Ended,
    /// The peer wants no more of it.
    Cancelled,
}

/// From the tunnel into the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outward {
    /// There is no socket yet.
    Connecting,
    Open,
    /// Bytes wait until the socket takes them.
    Blocked,
    /// The peer's FIN was passed on.
    Finished,
    /// The socket refused to take more. Anything it still sends is passed on, then the stream aborts.
    Failed,
}

/// Result of the last read, which decides the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastRead {
    /// There was none, or it found nothing, or a look at the socket found nothing after it.
    Nothing,
    /// It was short, so that nothing should be left. The next sweep looks whether that is so.
    Short,
    /// It filled all the room: the next one is larger.
    Filled,
    /// Something was left all the same, which the kernel gives no sign of.
    Unseen,
    /// That has filled all the room, so that there may be more without a sign.
    UnseenFilled,
}

/// Amount that a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// As much as there was room for: there may be more.
    Filled,
    /// Less than that: the kernel has no more now, or it gives a sign of it, except after TCP's urgent mark.
    Short,
}

/// Tells whether an end is passed on as FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fin {
    /// It is, now.
    Pass,
    /// It isn't: a failure follows or came before, or it was passed on already.
    Withhold,
}

/// After how much time a stream ends, without a byte if not said otherwise; None is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// In any phase.
    pub idle: Option<Duration>,
    /// Once one of the directions has ended.
    pub half_closed: Option<Duration>,
    /// Without an acknowledgement of the socket's peer, while bytes wait for one.
    pub ack: Option<Duration>,
}

impl From<&EngineSettings> for Timeouts {
    fn from(engine: &EngineSettings) -> Self {
        Self {
            idle: engine.idle_timeout,
            half_closed: engine.half_closed_timeout,
            ack: engine.ack_timeout,
        }
    }
}

/// The shell's part of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sweep {
    /// Nothing.
    Done,
    /// To ask the kernel whether the socket has bytes, and if so call [`StreamLife::handle_unseen`].
    Look,
    /// To give the stream's task a turn: it is over.
    Over,
}

impl StreamLife {
    /// A stream whose socket is still to come.
    pub fn new(now: Instant) -> Self {
        Self {
            whole: Whole::Running,
            progress_at: now,
            inward: Inward::Open(LastRead::Nothing),
            outward: Outward::Connecting,
            acks: AckWatch::default(),
            cause: Cause::Nothing,
        }
    }

    /// The socket has come.
    pub fn handle_connected(&mut self) {
        if self.outward == Outward::Connecting {
            self.outward = Outward::Open;
        }
    }

    /// Another taker of the tunnel's bytes is to come: [`Self::handle_connected`] tells of it. An end that was passed on
    /// to the one so far is passed on again.
    pub fn handle_handed_over(&mut self) {
        if self.outward != Outward::Failed {
            self.outward = Outward::Connecting;
        }
    }

    /// The tunnel has room for `bytes` now, perhaps none.
    pub fn handle_room(&mut self, bytes: usize) {
        if let Inward::Open(last) | Inward::Full(last) = self.inward {
            self.inward = if bytes == 0 {
                Inward::Full(last)
            } else {
                Inward::Open(last)
            };
        }
    }

    /// A read has brought payload: `bytes` of at most `room`, neither of them 0.
    pub fn handle_read(&mut self, now: Instant, bytes: usize, room: usize) -> Read {
        let read = if bytes < room {
            Read::Short
        } else {
            Read::Filled
        };
        if let Inward::Open(last) | Inward::Full(last) = self.inward {
            self.inward = Inward::Open(match (read, last) {
                (Read::Short, _) => LastRead::Short,
                (Read::Filled, LastRead::Unseen | LastRead::UnseenFilled) => LastRead::UnseenFilled,
                (Read::Filled, LastRead::Nothing | LastRead::Short | LastRead::Filled) => {
                    LastRead::Filled
                }
            });
            self.progress_at = now;
        }
        read
    }

    /// A read has found nothing.
    pub fn handle_read_nothing(&mut self) {
        if let Inward::Open(_) = self.inward {
            self.inward = Inward::Open(LastRead::Nothing);
        }
    }

    /// The socket says nothing more.
    pub fn handle_eof(&mut self) -> Fin {
        let was_open = self.is_inward_open();
        if was_open {
            self.inward = Inward::Ended;
            self.caused_first(Cause::Socket);
        }
        if was_open && self.outward != Outward::Failed && !self.is_over() {
            Fin::Pass
        } else {
            Fin::Withhold
        }
    }

    /// The peer wants no more of what the socket says.
    pub fn handle_cancel(&mut self) {
        if self.is_inward_open() {
            self.inward = Inward::Cancelled;
        }
    }

    /// The socket took payload.
    pub fn handle_written(&mut self, now: Instant) {
        self.progress_at = now;
        self.acks.handle_written();
    }

    /// True if the shell is to look if the socket's peer acknowledges what was written, and call [`Self::handle_acks`].
    pub fn awaits_ack(&self) -> bool {
        self.acks.is_waiting() && !self.is_over()
    }

    /// Ends the stream if the socket's peer is gone; true if so.
    pub fn handle_acks(&mut self, timeout: Duration, figures: AckFigures) -> bool {
        let is_gone = self.acks.handle_look(timeout, figures);
        if is_gone {
            self.end(Outcome::SocketReset);
        }
        is_gone
    }

    /// The socket takes no more for now; bytes wait.
    pub fn handle_write_blocked(&mut self) {
        if self.outward == Outward::Open {
            self.outward = Outward::Blocked;
        }
    }

    /// The socket takes bytes again.
    pub fn handle_write_ready(&mut self) {
        if self.outward == Outward::Blocked {
            self.outward = Outward::Open;
        }
    }

    /// The socket will never take more.
    pub fn handle_write_failed(&mut self) {
        if self.outward != Outward::Connecting {
            self.outward = Outward::Failed;
        }
    }

    /// The peer says nothing more, and all that it said before was taken.
    pub fn handle_fin(&mut self) -> Fin {
        if self.outward == Outward::Open && !self.is_over() {
            self.outward = Outward::Finished;
            self.caused_first(Cause::Peer);
            self.acks.handle_written();
            Fin::Pass
        } else {
            Fin::Withhold
        }
    }

    /// The peer or the session aborted the stream after all that has been handled: bytes that wait are offered for
    /// [`LINGER`], else the stream is over.
    pub fn handle_abort(&mut self, now: Instant, code: AbortCode) {
        let outcome = Outcome::Aborted(code);
        if self.whole == Whole::Running {
            self.cause = Cause::PeerAbort;
        }
        if self.outward == Outward::Blocked {
            self.linger(now, outcome);
        } else {
            self.over(outcome);
        }
    }

    /// The socket's error state tells of a reset while nothing reads it. Bytes that it said before still count, if the
    /// tunnel has room for them within [`LINGER`].
    pub fn handle_reset(&mut self, now: Instant) {
        if self.outward == Outward::Connecting {
            return;
        }
        self.handle_write_failed();
        if self.is_inward_open() {
            if self.whole == Whole::Running {
                self.cause = Cause::Socket;
            }
            self.linger(now, Outcome::SocketReset);
        } else {
            self.end(Outcome::SocketReset);
        }
    }

    /// The socket has bytes that the kernel gave no sign of.
    pub fn handle_unseen(&mut self) {
        if let Inward::Open(_) = self.inward {
            self.inward = Inward::Open(LastRead::Unseen);
        }
    }

    /// Time has passed. To be called every second or so.
    pub fn sweep(&mut self, now: Instant, timeouts: Timeouts) -> Sweep {
        self.conclude();
        if let Whole::Ending { since, outcome } = self.whole
            && now >= since + LINGER
        {
            self.over(outcome);
        }
        let limit = if self.is_inward_open() == self.is_outward_open() {
            timeouts.idle
        } else {
            timeouts.half_closed.into_iter().chain(timeouts.idle).min()
        };
        if limit.is_some_and(|limit| now >= self.progress_at + limit) {
            self.end(Outcome::Aborted(AbortCode::IdleTimeout));
        }
        if self.is_over() {
            return Sweep::Over;
        }
        if self.inward == Inward::Open(LastRead::Short) {
            self.inward = Inward::Open(LastRead::Nothing);
            return Sweep::Look;
        }
        Sweep::Done
    }

    /// Ends the stream from here now, unless it is over already.
    pub fn end(&mut self, outcome: Outcome) {
        if self.whole == Whole::Running {
            self.cause = match outcome {
                Outcome::SocketReset => Cause::Socket,
                Outcome::Finished | Outcome::Aborted(_) => Cause::Here,
            };
        }
        self.over(outcome);
    }

    fn over(&mut self, outcome: Outcome) {
        if !self.is_over() {
            self.whole = Whole::Over(outcome);
        }
    }

    fn caused_first(&mut self, cause: Cause) {
        if self.cause == Cause::Nothing {
            self.cause = cause;
        }
    }

    /// Origin of the stream's end, so far.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Thing that the stream waits for; None while nothing holds it up.
    pub fn waits(&self) -> Option<Wait> {
        match (self.outward, self.inward) {
            _ if self.is_over() => None,
            (Outward::Connecting, _) => Some(Wait::Dial),
            (Outward::Blocked, _) => Some(Wait::Socket),
            (_, Inward::Full(_)) => Some(Wait::Tunnel),
            _ => None,
        }
    }

    /// Outcome of the stream, if it is over. That is so, too, when both directions have ended.
    pub fn conclude(&mut self) -> Option<Outcome> {
        if !self.is_inward_open() && !self.is_outward_open() {
            if self.outward == Outward::Failed {
                self.end(Outcome::SocketReset);
            } else {
                self.over(Outcome::Finished);
            }
        }
        match self.whole {
            Whole::Over(outcome) => Some(outcome),
            Whole::Running | Whole::Ending { .. } => None,
        }
    }

    /// True if it was ended, by what has been told or by `conclude`.
    pub fn is_over(&self) -> bool {
        matches!(self.whole, Whole::Over(_))
    }

    /// Outcome of the stream, once that is known, although bytes may still wait.
    pub fn ending(&self) -> Option<Outcome> {
        match self.whole {
            Whole::Running => None,
            Whole::Ending { outcome, .. } | Whole::Over(outcome) => Some(outcome),
        }
    }

    /// True if the socket is to be read, as far as the tunnel has room.
    pub fn wants_read(&self) -> bool {
        self.is_inward_open() && self.outward != Outward::Connecting && !self.is_over()
    }

    /// The last read brought as much as it could: the next one is to be larger.
    pub fn is_bulk(&self) -> bool {
        matches!(
            self.inward,
            Inward::Open(LastRead::Filled | LastRead::UnseenFilled)
                | Inward::Full(LastRead::Filled | LastRead::UnseenFilled)
        )
    }

    /// The socket is to be read without waiting for the kernel's sign.
    pub fn has_unseen(&self) -> bool {
        matches!(
            self.inward,
            Inward::Open(LastRead::Unseen | LastRead::UnseenFilled)
                | Inward::Full(LastRead::Unseen | LastRead::UnseenFilled)
        )
    }

    /// True if bytes from the tunnel are still wanted: not after the peer's FIN was passed on, or the socket failed.
    pub fn takes_bytes(&self) -> bool {
        self.is_outward_open()
    }

    /// Bytes can be written at once: there is a socket, and none waits.
    #[cfg(test)]
    fn is_writable(&self) -> bool {
        self.outward == Outward::Open
    }

    /// Bytes wait until the socket takes them.
    pub fn is_blocked(&self) -> bool {
        self.outward == Outward::Blocked
    }

    /// Nothing reads the socket now, so that only its error state tells of a reset.
    pub fn watches_reset(&self) -> bool {
        match self.inward {
            Inward::Open(_) => false,
            Inward::Full(_) => self.whole == Whole::Running,
            Inward::Ended | Inward::Cancelled => !self.is_over(),
        }
    }

    /// The stream is to end when the bytes from before that have gone, or soon.
    fn linger(&mut self, now: Instant, outcome: Outcome) {
        if self.whole == Whole::Running {
            self.whole = Whole::Ending {
                since: now,
                outcome,
            };
        }
    }

    fn is_inward_open(&self) -> bool {
        matches!(self.inward, Inward::Open(_) | Inward::Full(_))
    }

    fn is_outward_open(&self) -> bool {
        matches!(
            self.outward,
            Outward::Connecting | Outward::Open | Outward::Blocked
        )
    }
}
