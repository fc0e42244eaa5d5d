//! What is sent ahead of the Welcome, and what becomes of it when the hub has lost the session (D4).

use super::Session;
use crate::mux::carrier::Carrier;
use crate::mux::config::EARLY_CREDIT;
use crate::mux::error::Violation;
use crate::mux::stream::AbortCode;
use crate::wire::frame::StreamId;
use std::time::Instant;

impl Session {
    /// Whether this session may go on before the hub says Welcome: nothing that the hub may have missed is kept, or
    /// only what a hub has refused to look at (D4), and no stream assumes more than any hub allows.
    pub fn may_resume_early(&self) -> bool {
        self.carrier() == Carrier::Ordered
            && (self.sending.is_caught_up() || !self.is_welcome())
            && !self.streams.has_unopened_beyond(EARLY_CREDIT)
    }

    /// A new connection whose peer hasn't said Welcome yet. What was sent before such a connection died goes out again.
    pub fn attach_early(&mut self, now: Instant, carrier: Carrier) {
        self.detach(now);
        if carrier == Carrier::Ordered {
            self.streams.closed.forget_lanes();
        }
        self.streams.carrier = carrier;
        self.greeting.ask_again(self.streams.ids.next());
        self.link.attach(now);
        self.streams.wake_starved();
    }

    /// A connection of `attach_early` is gone and its hub hasn't answered: it may have carried out what it was sent,
    /// which must not go out again in another session.
    pub fn leave_early(&mut self) {
        self.greeting.leave();
    }

    /// The hub has said Welcome to a new session of this end's, and announced `peer_credit` bytes for new streams.
    pub fn welcome(&mut self, peer_credit: u32) {
        self.welcomed();
        self.streams.credit.set_peer(peer_credit);
    }

    /// The hub has said Welcome to a connection of `attach_early`, and that it has received this many numbered frames
    /// of the session. On error it knows another session than this end does.
    pub fn welcome_back(&mut self, received: u64) -> Result<(), Violation> {
        if received != self.sending.acknowledged() {
            return Err(Violation::BadOffset(received));
        }
        self.welcomed();
        Ok(())
    }

    /// The hub knows this session, and what it has announced in it.
    pub(super) fn welcomed(&mut self) {
        self.greeting.welcome();
        self.streams.credit.welcome();
    }

    /// Whether the hub has said Welcome.
    pub fn is_welcome(&self) -> bool {
        self.greeting.is_welcome()
    }

    /// The hub has said Welcome, but to a new session: of a lost one only the streams go on that were opened since
    /// `attach_early` or whose OPEN hasn't left, and all that they have sent goes out again. Streams that assume more
    /// than the `peer_credit` bytes which the hub has announced now would break the protocol there.
    pub fn begin_again(&mut self, peer_credit: u32) {
        let first = self.greeting.begin_again();
        self.receiving.begin_again();
        let streams = &mut self.streams;
        streams.credit.begin_again(peer_credit);
        streams.closed.begin_again();
        let goes_on = |id: StreamId| id == StreamId::SESSION || id.0 >= first;
        self.sending.begin_again(goes_on);
        let parting = self.sending.parting(streams.carrier);
        let is_lost = |id: StreamId| !goes_on(id);
        streams.lose_all(
            |stream| stream.id.is_some_and(is_lost) || stream.is_unopened_beyond(peer_credit),
            AbortCode::TunnelLost,
            parting,
        );
    }
}
