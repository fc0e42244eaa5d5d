//! A session that goes ahead of the hub's Welcome: what may, and what becomes of it when the hub answers (D4).

use super::{Carrier, Link, MAX_CREDIT, Session, Violation};
use crate::mux::closed::ClosedStreams;
use crate::mux::keepalive::Keepalive;
use crate::mux::stream::AbortCode;
use crate::mux::unconfirmed::Unconfirmed;
use crate::wire::frame::{StreamId, addressee};
use std::time::Instant;

impl Session {
    /// Whether this session may go on before the hub says Welcome: nothing that the hub may have missed is kept, or only
    /// what a hub has refused to look at (D4).
    pub fn may_resume_early(&self) -> bool {
        let is_caught_up = self.log.next() == self.log.acknowledged();
        self.carrier == Carrier::Ordered && (is_caught_up || !self.is_welcome)
    }

    /// A connection of `attach_early` is gone and its hub hasn't answered: it may have carried out what it was sent, which
    /// must not go out again in another session.
    pub fn leave_early(&mut self) {
        self.is_welcome |= self.first_early_id > 0;
    }

    /// A new connection whose peer hasn't said Welcome yet. What was sent before such a connection died goes out again.
    pub fn attach_early(&mut self, now: Instant, carrier: Carrier) {
        self.detach(now);
        if carrier == Carrier::Ordered {
            // It has no lanes that could end.
            self.finished_lanes.clear();
        }
        self.carrier = carrier;
        if std::mem::take(&mut self.is_welcome) {
            self.first_early_id = self.next_id;
        }
        self.link = Link::Attached(Keepalive::new(now));
        self.wake_starved();
    }

    /// The hub has said Welcome to a new session of this end's.
    pub fn welcome(&mut self, peer_credit: u32) {
        self.is_welcome = true;
        self.peer_credit = peer_credit.min(MAX_CREDIT);
    }

    /// The hub has said Welcome to a connection of `attach_early`, and has received so many numbered frames of this
    /// session. On error it knows another session than this end does.
    pub fn welcome_back(&mut self, received: u64) -> Result<(), Violation> {
        if received != self.log.acknowledged() {
            return Err(Violation::BadOffset(received));
        }
        self.is_welcome = true;
        Ok(())
    }

    /// Whether the hub has said Welcome.
    pub fn is_welcome(&self) -> bool {
        self.is_welcome
    }

    /// The hub was asked for a session that is lost and has given this one: it waits for BEGIN.
    pub fn say_begin(&mut self) {
        self.begin_due = true;
    }

    /// The hub has said Welcome, but to a new session: of a lost one only the streams go on that were opened since
    /// `attach_early`, and all that they have sent goes out again.
    pub fn begin_again(&mut self, peer_credit: u32) {
        self.welcome(peer_credit);
        self.begin_due = true;
        self.received = 0;
        self.closed = ClosedStreams::default();
        self.unconfirmed = Unconfirmed::default();
        let first = self.first_early_id;
        let is_early = |id: StreamId| id == StreamId::SESSION || id.0 >= first;
        self.log.begin_again(|frame| is_early(addressee(frame).0));
        let lost = self
            .streams
            .0
            .iter()
            .filter(|(_, stream)| stream.id.is_some_and(|id| !is_early(id)));
        let lost: Vec<usize> = lost.map(|(index, _)| index).collect();
        for index in lost {
            self.lose_stream(index, AbortCode::TunnelLost);
        }
        self.first_early_id = 0;
    }
}
