//! Watches what one end puts on the wire: every frame is legal by itself and in its place, replay repeats exactly.

use crate::{EDGE, frames};
use bytes::{Buf, Bytes};
use remoteingress_proto::mux::LaneOutput;
use remoteingress_proto::wire::frame::{Frame, FrameKind, HEADER_LEN, MAX_FRAME_LEN, StreamId};
use std::collections::{HashMap, HashSet};

/// Everything one end has sent about one stream.
#[derive(Debug, Default)]
struct Said {
    opened: bool,
    payload: u64,
    /// Credit given to the other end.
    granted: u64,
    fin: bool,
    abort: bool,
    cancel: bool,
}

/// One end's output.
#[derive(Debug, Default)]
struct Direction {
    /// All numbered frames ever.
    history: Vec<Bytes>,
    /// The number of the next numbered frame on this connection.
    at: usize,
    streams: HashMap<u32, Said>,
    highest_id: u32,
    acknowledged: u64,
    went_away: bool,
    finished_lanes: HashSet<StreamId>,
}

/// Both ends' output.
#[derive(Debug, Default)]
pub(crate) struct Wire([Direction; 2]);

impl Wire {
    /// A connection begins; end `side` sends from frame number `offset`.
    pub(crate) fn connected(&mut self, side: usize, offset: u64) {
        self.0[side].at = usize::try_from(offset).expect("small");
        assert!(self.0[side].at <= self.0[side].history.len());
    }

    /// End `side` does something on the lanes.
    pub(crate) fn sent_on_lane(&mut self, side: usize, output: &LaneOutput) {
        match output {
            LaneOutput::Frame { lane, frame, .. } => {
                assert!(
                    !self.0[side].finished_lanes.contains(lane),
                    "a frame after the end of lane {}",
                    lane.0
                );
                let decoded = frames::decoded(frame);
                let own = frames::lane_of(decoded.kind, decoded.stream);
                assert_eq!(*lane, own, "{:?} on another lane", decoded.kind);
                assert_ne!(decoded.kind, FrameKind::Datagram);
                self.sent(side, frame);
            }
            LaneOutput::Finish(lane) => {
                assert!(
                    self.0[side].finished_lanes.insert(*lane),
                    "a lane ends once"
                );
                assert!(self.is_opened(lane.0), "a lane ends that never began");
            }
            LaneOutput::Datagram(datagram) => {
                assert!((1..=MAX_FRAME_LEN - HEADER_LEN).contains(&datagram.len()));
            }
        }
    }

    /// Each end has ended the lane of each stream that was opened.
    pub(crate) fn assert_all_lanes_are_finished(&self) {
        for direction in &self.0 {
            for (id, _) in direction.streams.iter().filter(|(_, said)| said.opened) {
                for end in &self.0 {
                    assert!(
                        end.finished_lanes.contains(&StreamId(*id)),
                        "lane {id} leaks"
                    );
                }
            }
        }
    }

    /// End `side` sends `frame`.
    pub(crate) fn sent(&mut self, side: usize, frame: &Bytes) {
        assert!(frame.len() <= MAX_FRAME_LEN);
        let decoded = frames::decoded(frame);
        assert_eq!(decoded.payload.len() + HEADER_LEN, frame.len());
        if !decoded.kind.is_numbered() {
            return self.unnumbered(side, decoded);
        }
        let direction = &mut self.0[side];
        direction.at += 1;
        if let Some(known) = direction.history.get(direction.at - 1) {
            assert_eq!(known, frame, "replay repeats exactly");
            return;
        }
        direction.history.push(frame.clone());
        self.numbered(side, decoded);
    }

    fn unnumbered(&mut self, side: usize, mut frame: Frame) {
        if frame.kind == FrameKind::Ack {
            let received = frame.payload.get_u64();
            assert!(received > self.0[side].acknowledged, "an ACK brings news");
            self.0[side].acknowledged = received;
            assert!(
                self.0[side].at == self.0[side].history.len(),
                "an ACK follows replay"
            );
        }
    }

    fn numbered(&mut self, side: usize, mut frame: Frame) {
        let id = frame.stream.0;
        match frame.kind {
            FrameKind::Open => {
                let (back, there) = (frame.payload.get_u32(), frame.payload.get_u32());
                let direction = &mut self.0[side];
                assert!(id > direction.highest_id, "P9: ids only rise");
                assert_eq!(id % 2, u32::from(side == EDGE), "P9: parity");
                direction.highest_id = id;
                let said = direction.streams.entry(id).or_default();
                said.opened = true;
                said.granted = back.into();
                self.0[1 - side].streams.entry(id).or_default().granted = there.into();
            }
            FrameKind::Data => {
                let granted = self.0[1 - side].streams.get(&id).expect("opened").granted;
                let said = self.said(side, id);
                assert!(!said.fin && !said.abort, "P8: nothing after the end");
                assert!(!frame.payload.is_empty(), "P16: no empty DATA");
                said.payload += frame.payload.len() as u64;
                assert!(said.payload <= granted, "P6: sent <= granted");
            }
            FrameKind::Fin => {
                let said = self.said(side, id);
                assert!(!said.fin && !said.abort, "P8: one end");
                said.fin = true;
            }
            FrameKind::Abort => {
                let said = self.said(side, id);
                assert!(!said.abort, "P8: one ABORT");
                said.abort = true;
            }
            FrameKind::Cancel => {
                let said = self.said(side, id);
                assert!(!said.cancel && !said.abort, "P8: one CANCEL");
                said.cancel = true;
            }
            FrameKind::Window => {
                let more = frame.payload.get_u32();
                assert!(more > 0, "P6: a WINDOW gives something");
                let said = self.said(side, id);
                assert!(
                    !said.abort && !said.cancel,
                    "no credit for what isn't wanted"
                );
                said.granted += u64::from(more);
            }
            FrameKind::GoAway => {
                assert!(!self.0[side].went_away, "P14: one GOAWAY");
                self.0[side].went_away = true;
            }
            FrameKind::Control | FrameKind::Credit => {}
            FrameKind::Ping
            | FrameKind::Pong
            | FrameKind::Ack
            | FrameKind::Datagram
            | FrameKind::Begin => {
                unreachable!("unnumbered")
            }
        }
    }

    fn said(&mut self, side: usize, id: u32) -> &mut Said {
        assert!(
            self.is_opened(id),
            "a frame for stream {id} before its OPEN"
        );
        self.0[side].streams.entry(id).or_default()
    }

    fn is_opened(&self, id: u32) -> bool {
        let mut directions = self.0.iter();
        directions.any(|d| d.streams.get(&id).is_some_and(|s| s.opened))
    }
}
