//! Bytes on their way from one end to the other on lanes: each lane in order, lanes among each other as chance has it.

use crate::chance::Chance;
use bytes::Bytes;
use remoteingress_proto::mux::LaneOutput;
use remoteingress_proto::wire::frame::StreamId;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    is_ended: bool,
}

/// The session's own lane beside the others.
#[derive(Clone, Copy, Debug, Default)]
enum SessionLane {
    #[default]
    Equal,
    Ahead,
    Behind,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Those with something on its way.
    lanes: BTreeMap<StreamId, Lane>,
    datagrams: Vec<Bytes>,
    bytes: usize,
    session: SessionLane,
}

/// One thing that arrives.
pub(crate) enum Arrival {
    Bytes(StreamId, Bytes),
    End(StreamId),
    Datagram(Bytes),
}

impl Lanes {
    /// Bytes on their way, without datagrams.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn put(&mut self, output: LaneOutput) {
        match output {
            LaneOutput::Frame { lane, frame, .. } => {
                self.bytes += frame.len();
                self.lanes.entry(lane).or_default().bytes.extend(&frame);
            }
            LaneOutput::Finish(lane) => self.lanes.entry(lane).or_default().is_ended = true,
            LaneOutput::Datagram(datagram) => self.datagrams.push(datagram),
        }
    }

    /// The next thing that arrives, of at most `most` bytes.
    pub(crate) fn arrive(&mut self, chance: &mut Chance, most: usize) -> Option<Arrival> {
        while !self.datagrams.is_empty() && chance.below(3) == 0 {
            let at = chance.below(self.datagrams.len());
            let datagram = self.datagrams.swap_remove(at);
            if chance.below(4) > 0 {
                return Some(Arrival::Datagram(datagram));
            }
        }
        let id = self.choose(chance)?;
        let lane = self.lanes.get_mut(&id)?;
        if lane.bytes.is_empty() {
            self.lanes.remove(&id);
            return Some(Arrival::End(id));
        }
        let n = match chance.below(4) {
            0 => 1 + chance.below(20),
            1 => 1 + chance.below(2_000),
            2 => 1 + chance.below(40_000),
            _ => usize::MAX,
        };
        let n = n.min(most).min(lane.bytes.len());
        self.bytes -= n;
        let bytes: Vec<u8> = lane.bytes.drain(..n).collect();
        if lane.bytes.is_empty() && !lane.is_ended {
            self.lanes.remove(&id);
        }
        Some(Arrival::Bytes(id, bytes.into()))
    }

    fn choose(&mut self, chance: &mut Chance) -> Option<StreamId> {
        if chance.below(16) == 0 {
            self.session = match chance.below(3) {
                0 => SessionLane::Equal,
                1 => SessionLane::Ahead,
                _ => SessionLane::Behind,
            };
        }
        let has_session = self.lanes.contains_key(&StreamId::SESSION);
        if has_session && matches!(self.session, SessionLane::Ahead) {
            return Some(StreamId::SESSION);
        }
        let behind = has_session && matches!(self.session, SessionLane::Behind);
        let others = self.lanes.len() - usize::from(behind);
        if others == 0 {
            return self.lanes.keys().next().copied();
        }
        // The session's is the first in order.
        let at = chance.below(others) + usize::from(behind);
        self.lanes.keys().nth(at).copied()
    }
}
