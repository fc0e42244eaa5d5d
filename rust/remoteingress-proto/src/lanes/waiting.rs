//! Frames that the connection doesn't take at once: which lanes wait, in which order they are tried again, and how much
//! may wait at all.
//!
//! A connection refuses bytes because the peer allows no more of them, or no more lanes. It says when a lane takes some
//! again, and only such lanes are tried: a turn costs by what has changed, not by how many lanes wait. A peer can make
//! 16,000 of them wait for as long as it likes (threats A3.10).

use super::output::Urgency;
use crate::mux::role::Role;
use crate::wire::frame::StreamId;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// From this many waiting bytes on no stream sends anything: the send limit alone doesn't bound them, since a peer can
/// acknowledge as many frames as lie here. More is control, of which a peer may cause as much again.
pub(super) const MOST_WAITING: usize = 1_024 * 1_024;

/// The connection, as far as lanes need it.
pub trait LaneSink {
    /// Reason why the connection is to be closed.
    type Error;

    /// Opens this end's next lane; false if the peer allows no more now.
    fn open_next(&mut self) -> bool;

    /// Bytes of the lane that wait in the connection compete with this urgency from now on.
    fn set_urgency(&mut self, lane: StreamId, urgency: Urgency);

    /// Takes as much of `frame` as it can and leaves the rest there. When something is left,
    /// [`WaitingLanes::handle_writable`] is to follow as soon as the lane and the connection take more.
    fn write(&mut self, lane: StreamId, frame: &mut Bytes) -> Result<(), Self::Error>;

    /// Ends a lane: nothing more is written there.
    fn finish(&mut self, lane: StreamId);
}

/// Those that may send while bytes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneRoom {
    /// Everyone.
    ForAll,
    /// The session itself: streams are held.
    ForControl,
    /// Nobody: the peer makes this end keep more than it may, and its session ends.
    Exceeded,
}

#[derive(Debug)]
enum Waiting {
    Frame(Urgency, Bytes),
    Finish,
}

/// Lanes that wait for the connection; each keeps the order of its frames. Bounded by the session, which gives no
/// stream's frame while [`LaneRoom::ForControl`] holds and ends at [`LaneRoom::Exceeded`].
#[derive(Debug)]
pub struct WaitingLanes {
    /// Opens the lanes whose streams it opens.
    role: Role,
    /// The first lane of this end that isn't open.
    next: u32,
    lanes: HashMap<StreamId, VecDeque<Waiting>>,
    /// Payload and headers in `lanes`.
    bytes: usize,
    /// Those of `lanes` that the peer doesn't allow to be opened yet, in the order of their opening.
    unopened: VecDeque<StreamId>,
    /// Those of `lanes` that the connection said take more.
    ready: BTreeSet<StreamId>,
    /// Lanes whose urgency isn't that of a turn.
    urgencies: HashMap<StreamId, Urgency>,
}

impl WaitingLanes {
    /// No lane but the session's own is open.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            next: role.first_id(),
            lanes: HashMap::new(),
            bytes: 0,
            unopened: VecDeque::new(),
            ready: BTreeSet::new(),
            urgencies: HashMap::new(),
        }
    }

    /// Lanes that this end has opened so far, without the session's own.
    pub fn opened(&self) -> impl Iterator<Item = StreamId> + use<> {
        (self.role.first_id()..self.next).step_by(2).map(StreamId)
    }

    /// Those that may send now.
    pub fn room(&self) -> LaneRoom {
        if self.bytes > 2 * MOST_WAITING {
            LaneRoom::Exceeded
        } else if self.bytes >= MOST_WAITING {
            LaneRoom::ForControl
        } else {
            LaneRoom::ForAll
        }
    }

    /// The connection takes more on this lane.
    pub fn handle_writable(&mut self, lane: StreamId) {
        if self.lanes.contains_key(&lane) {
            self.ready.insert(lane);
        }
    }

    /// Sends a frame on its lane, or keeps what the connection doesn't take.
    pub fn send<S: LaneSink>(
        &mut self,
        lane: StreamId,
        urgency: Urgency,
        mut frame: Bytes,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            self.bytes += frame.len();
            waiting.push_back(Waiting::Frame(urgency, frame));
            return Ok(());
        }
        if !self.open(lane, sink) {
            self.unopened.push_back(lane);
        } else {
            self.write(lane, urgency, &mut frame, sink)?;
            if frame.is_empty() {
                return Ok(());
            }
        }
        self.bytes += frame.len();
        let waiting = VecDeque::from([Waiting::Frame(urgency, frame)]);
        self.lanes.insert(lane, waiting);
        Ok(())
    }

    /// Ends a lane after what waits on it.
    pub fn finish<S: LaneSink>(&mut self, lane: StreamId, sink: &mut S) {
        match self.lanes.get_mut(&lane) {
            Some(waiting) => waiting.push_back(Waiting::Finish),
            None => self.end(lane, sink),
        }
    }

    /// Tries again where something has changed, in the order of the lanes, which is that of their opening. Says whether
    /// anything was written.
    pub fn retry<S: LaneSink>(&mut self, sink: &mut S) -> Result<bool, S::Error> {
        let mut has_written = false;
        while let Some(lane) = self.ready.pop_first() {
            if !self.drain(lane, sink)? {
                // The lane itself would take something: it is the connection that doesn't, on any lane. It says when
                // this one can go on, and the others follow.
                break;
            }
            has_written = true;
        }
        while let Some(lane) = self.unopened.front().copied() {
            if !self.open(lane, sink) {
                break;
            }
            self.unopened.pop_front();
            self.drain(lane, sink)?;
            has_written = true;
        }
        Ok(has_written)
    }

    /// Writes what waits on an open lane, as far as it is taken; says whether anything was.
    fn drain<S: LaneSink>(&mut self, lane: StreamId, sink: &mut S) -> Result<bool, S::Error> {
        let mut has_written = false;
        let Some(mut waiting) = self.lanes.remove(&lane) else {
            return Ok(true);
        };
        while let Some(first) = waiting.pop_front() {
            match first {
                Waiting::Finish => self.end(lane, sink),
                Waiting::Frame(urgency, mut frame) => {
                    let before = frame.len();
                    self.write(lane, urgency, &mut frame, sink)?;
                    self.bytes -= before - frame.len();
                    has_written |= frame.len() < before;
                    if !frame.is_empty() {
                        waiting.push_front(Waiting::Frame(urgency, frame));
                        break;
                    }
                }
            }
        }
        if !waiting.is_empty() {
            self.lanes.insert(lane, waiting);
        }
        Ok(has_written)
    }

    /// True if the lane is open, or can be opened now. Lanes of the peer and the session's own are open.
    fn open(&mut self, lane: StreamId, sink: &mut impl LaneSink) -> bool {
        let is_open = lane == StreamId::SESSION || !self.role.opens(lane) || lane.0 < self.next;
        if is_open {
            return true;
        }
        let waits_for_others = self.unopened.front().is_some_and(|first| *first != lane);
        if waits_for_others || !sink.open_next() {
            return false;
        }
        self.next += 2;
        true
    }

    fn write<S: LaneSink>(
        &mut self,
        lane: StreamId,
        urgency: Urgency,
        frame: &mut Bytes,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let current = self.urgencies.get(&lane).copied();
        if current.unwrap_or(Urgency::Turn) != urgency {
            sink.set_urgency(lane, urgency);
            if urgency == Urgency::Turn {
                self.urgencies.remove(&lane);
            } else {
                self.urgencies.insert(lane, urgency);
            }
        }
        sink.write(lane, frame)
    }

    fn end(&mut self, lane: StreamId, sink: &mut impl LaneSink) {
        sink.finish(lane);
        self.urgencies.remove(&lane);
    }
}

#[cfg(test)]
mod tests;
