//! The way between the two ends, in which order things arrive, and the watch over what each end sends.

use super::lanes::{Arrival, Lanes};
use super::wire::Wire;
use crate::chance::Chance;
use crate::{EDGE, HUB};
use bytes::Bytes;
use remoteingress_proto::mux::{Carrier, Session, SessionError};
use std::time::Instant;

/// Both directions, on either carrier. The index of an array is the side that sends.
#[derive(Debug)]
pub(super) struct Links {
    carrier: Carrier,
    /// Sent by an end and not yet arrived, on an ordered connection.
    ordered: [Vec<u8>; 2],
    /// Sent by an end and not yet arrived, on lanes.
    lanes: [Lanes; 2],
    chance: Chance,
    wire: Wire,
}

impl Links {
    pub(super) fn new(carrier: Carrier, seed: u64) -> Self {
        Self {
            carrier,
            ordered: Default::default(),
            lanes: Default::default(),
            chance: Chance::new(seed),
            wire: Wire::default(),
        }
    }

    /// The socket of end `side` takes frames while fewer than `bytes` are on their way; then at most `bytes` arrive.
    pub(super) fn transfer(
        &mut self,
        sessions: &mut [Session; 2],
        now: Instant,
        side: usize,
        bytes: usize,
    ) -> Result<(), SessionError> {
        let [edge, hub] = sessions;
        let (sender, receiver) = if side == EDGE {
            (edge, hub)
        } else {
            (hub, edge)
        };
        match self.carrier {
            Carrier::Ordered => {
                self.take_frames(sender, now, side, bytes);
                let n = bytes.min(self.ordered[side].len());
                let input: Bytes = self.ordered[side].drain(..n).collect::<Vec<_>>().into();
                receiver.handle_input(now, input)
            }
            Carrier::Lanes => {
                self.take_lanes(sender, now, side, bytes);
                self.arrive_on_lanes(receiver, now, side, bytes)
            }
        }
    }

    fn take_frames(&mut self, sender: &mut Session, now: Instant, side: usize, bytes: usize) {
        while self.ordered[side].len() < bytes
            && let Some(frame) = sender.poll_transmit(now)
        {
            self.wire.sent(side, &frame);
            self.ordered[side].extend_from_slice(&frame);
        }
    }

    fn take_lanes(&mut self, sender: &mut Session, now: Instant, side: usize, bytes: usize) {
        while self.lanes[side].len() < bytes {
            let with_datagrams = self.chance.below(4) > 0;
            let Some(output) = sender.poll_lane(now, with_datagrams) else {
                break;
            };
            self.wire.sent_on_lane(side, &output);
            self.lanes[side].put(output);
        }
    }

    fn arrive_on_lanes(
        &mut self,
        receiver: &mut Session,
        now: Instant,
        side: usize,
        bytes: usize,
    ) -> Result<(), SessionError> {
        let mut left = bytes;
        while left > 0
            && let Some(arrival) = self.lanes[side].arrive(&mut self.chance, left)
        {
            left -= match arrival {
                Arrival::Bytes(lane, input) => {
                    let length = input.len();
                    receiver.handle_lane(now, lane, input)?;
                    length
                }
                Arrival::End(lane) => {
                    receiver.handle_lane_end(lane)?;
                    1
                }
                Arrival::Datagram(datagram) => {
                    receiver.handle_datagram(now, datagram);
                    1
                }
            };
        }
        Ok(())
    }

    /// An ordered connection dies with what is on its way.
    pub(super) fn cut(&mut self) {
        for side in [EDGE, HUB] {
            self.ordered[side].clear();
        }
    }

    /// An ordered connection begins; end `side` sends from frame number `offset`.
    pub(super) fn connected(&mut self, side: usize, offset: u64) {
        self.wire.connected(side, offset);
    }

    /// Nothing may be left of the lanes of streams that are over.
    pub(super) fn assert_all_lanes_are_finished(&self) {
        if self.carrier == Carrier::Lanes {
            self.wire.assert_all_lanes_are_finished();
        }
    }
}
