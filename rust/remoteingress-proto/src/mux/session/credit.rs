//! The credit that new streams begin with, in either direction.

use crate::mux::budget::Budget;
use crate::mux::config::{EARLY_CREDIT, MAX_CREDIT};
use crate::mux::error::Violation;
use crate::mux::unconfirmed::Unconfirmed;
use crate::wire::frame::StreamId;

/// Both ends announce how much of their memory the OPEN of a stream may assume (D9).
#[derive(Debug)]
pub(super) struct Credit {
    /// By this end, in bytes.
    announced: u32,
    /// The most that this end ever announced: the peer may not have read the latest.
    most_announced: u32,
    /// The peer is to be told of `announced`.
    is_due: bool,
    /// By the peer, in bytes.
    of_peer: u32,
    /// The peer may have lost the session, and with it what it has announced.
    may_be_lost: bool,
    unconfirmed: Unconfirmed,
}

impl Credit {
    pub(super) fn new(announced: u32, of_peer: u32) -> Self {
        Self {
            announced,
            most_announced: announced,
            is_due: false,
            of_peer: of_peer.min(MAX_CREDIT),
            may_be_lost: false,
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// Looks whether new streams may assume more or less of this end's memory than the peer knows.
    #[inline]
    pub(super) fn announce(&mut self, budget: &Budget) {
        let credit = budget.initial_credit();
        if credit != self.announced {
            self.announced = credit;
            self.most_announced = self.most_announced.max(credit);
            self.is_due = true;
        }
    }

    /// The credit to tell the peer now, if it doesn't know.
    #[inline]
    pub(super) fn take_announcement(&mut self) -> Option<u32> {
        std::mem::take(&mut self.is_due).then_some(self.announced)
    }

    /// True if an OPEN of the peer may assume this much.
    #[inline]
    pub(super) fn has_announced(&self, assumed: u32) -> bool {
        assumed <= self.most_announced
    }

    /// The peer has announced this in a frame on that stream's id.
    pub(super) fn received(&mut self, id: StreamId, credit: u32) -> Result<(), Violation> {
        if credit > MAX_CREDIT {
            return Err(Violation::BadCredit(id));
        }
        self.set_peer(credit);
        Ok(())
    }

    /// The peer has announced this.
    pub(super) fn set_peer(&mut self, credit: u32) {
        self.of_peer = credit.min(MAX_CREDIT);
    }

    /// The connection is gone, and the peer may lose the session.
    pub(super) fn detach(&mut self) {
        self.may_be_lost = true;
    }

    /// The peer knows this session.
    pub(super) fn welcome(&mut self) {
        self.may_be_lost = false;
    }

    /// Bytes that the next OPEN of this end assumes.
    #[inline]
    pub(super) fn assume(&mut self) -> u32 {
        let known = if self.may_be_lost {
            self.of_peer.min(EARLY_CREDIT)
        } else {
            self.of_peer
        };
        self.unconfirmed.assume(known)
    }

    /// That OPEN has left as the frame of this number.
    #[inline]
    pub(super) fn sent(&mut self, number: u64, assumed: u32) {
        self.unconfirmed.sent(number, assumed);
    }

    /// That OPEN never leaves.
    #[inline]
    pub(super) fn vanished(&mut self, assumed: u32) {
        self.unconfirmed.vanished(assumed);
    }

    /// The peer has every frame numbered below `received`.
    #[inline]
    pub(super) fn acknowledged(&mut self, received: u64) {
        self.unconfirmed.acknowledged(received);
    }

    /// In another session the peer has announced this, and no OPEN is known to it.
    pub(super) fn begin_again(&mut self, credit: u32) {
        self.set_peer(credit);
        self.welcome();
        self.unconfirmed = Unconfirmed::default();
    }
}
