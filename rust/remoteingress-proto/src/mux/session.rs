//! The session: streams, windows, scheduling and replay over a connection that may come and go.
//!
//! Sans-IO: it has no socket and no clock. The contract, "drain after every mutation": call any
//! `handle_*` or command, then [`Session::poll_event`] and [`Session::poll_transmit`] until each
//! gives None, then arm one timer for [`Session::poll_timeout`].
//!
//! | kind | methods |
//! | --- | --- |
//! | input | `handle_input` or `handle_lane` and `handle_datagram`, `handle_timeout`, `attach`, `detach` |
//! | output | `poll_transmit` or `poll_lane`, `poll_event`, `poll_timeout` |
//! | streams | `open`, `room`, `send`, `finish`, `abort`, `cancel`, `take`, `put_back`, `consumed`, `release` |
//! | session | `send_control`, `send_datagram`, `send_notice`, `go_away`, getters |
//!
//! The [`Carrier`] decides which of the alternatives is used, and nothing that an owner of streams sees.

mod early;
mod receive;
mod streams;
mod transmit;

#[cfg(test)]
mod tests;

use super::carrier::Carrier;
use super::closed::ClosedStreams;
use super::config::SessionConfig;
use super::datagrams::{DatagramDrops, DatagramQueue};
use super::error::{OpenError, SessionError, Violation};
use super::event::{Event, GoAwayCode, Totals};
use super::glitch::GlitchBucket;
use super::keepalive::Keepalive;
use super::role::Role;
use super::send_limit::SendLimit;
use super::send_log::SendLog;
use super::unconfirmed::Unconfirmed;
use crate::lanes::order::OpenedLanes;
use crate::mux::budget::Budget;
use crate::mux::scheduler::{Scheduler, Slot, Slots};
use crate::mux::stream::{AbortCode, Stream, StreamKey};
use crate::wire::frame::{FrameDecoder, MAX_PAYLOAD_LEN, StreamId};
use bytes::Bytes;
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The largest credit a stream may have: 2^31 - 1 (RFC 9113 section 6.9.1).
const MAX_CREDIT: u32 = (1 << 31) - 1;
/// Control frames that wait to be sent are bounded by this; a peer that provokes more is closed (D9).
const MAX_CONTROL_BYTES: usize = 1_024 * 1_024;
/// Refused or closed streams that the peer hasn't heard of; a peer that provokes more is closed.
const MAX_CLOSED: usize = 1 << 17;
/// No stream id is given out beyond this; the owner opens a new session and drains this one (threats A3.4).
const LAST_STREAM_ID: u32 = (1 << 31) - (1 << 16);
/// What the path carries in this time is what a stream may send per round, within the scheduler's bounds: more than a
/// frame only on paths where 16 streams' turns are over in 16 ms.
const ROUND_SHARE: Duration = Duration::from_millis(1);
/// Streams that found the memory budget used up are asked again after this time.
const MEMORY_RETRY: Duration = Duration::from_millis(50);

/// A longer one is cut to this, so that adding it to a time can't overflow (chosen by intuition).
const LONGEST_RESUME_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug)]
enum Link {
    Attached(Keepalive),
    Away { until: Instant },
}

#[derive(Debug)]
struct Streams(Slab<Stream>);

impl Slots for Streams {
    fn slot(&mut self, index: usize) -> Option<&mut Slot> {
        self.0.get_mut(index).map(|stream| &mut stream.slot)
    }

    fn has_frame(&self, index: usize) -> bool {
        self.0
            .get(index)
            .is_some_and(|stream| stream.send.has_frame())
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    role: Role,
    max_peer_streams: usize,
    resume_timeout: Duration,
    budget: Budget,
    link: Link,
    carrier: Carrier,
    decoder: FrameDecoder,
    lanes: OpenedLanes,
    /// On lanes, of unfinished frames; the session's own is [`StreamId::SESSION`].
    decoders: HashMap<StreamId, FrameDecoder>,
    /// Streams whose CANCEL came before their OPEN.
    early_cancels: BTreeSet<u32>,
    /// Lanes on which nothing more will be sent.
    finished_lanes: VecDeque<StreamId>,
    silent: bool,
    /// The hub has said Welcome.
    is_welcome: bool,
    /// The first id of those given out since the hub was last heard to know this session.
    first_early_id: u32,
    /// BEGIN is to be sent first.
    begin_due: bool,
    /// Frames are dropped until BEGIN.
    expects_begin: bool,
    datagrams: DatagramQueue,
    max_datagram: usize,
    /// Bytes of datagrams beyond what streams have sent meanwhile.
    datagram_debt: usize,
    /// Numbered frames received.
    received: u64,
    log: SendLog,
    send_limit: SendLimit,
    streams: Streams,
    ids: HashMap<StreamId, usize>,
    closed: ClosedStreams,
    generation: u32,
    /// The id that the next stream opened here gets.
    next_id: u32,
    /// Streams opened here whose OPEN hasn't left.
    unopened: u32,
    unconfirmed: Unconfirmed,
    /// The highest id that the peer has opened.
    highest_peer_id: u32,
    /// Streams of the peer beyond this are ignored: our GOAWAY says so.
    last_served_id: u32,
    /// Streams of the peer that the owner hasn't released.
    peer_streams: usize,
    active_streams: usize,
    scheduler: Scheduler,
    /// Numbered frames of the control tier.
    control: VecDeque<Bytes>,
    control_bytes: usize,
    refusals: VecDeque<(StreamId, AbortCode)>,
    cancels: VecDeque<usize>,
    windows: VecDeque<usize>,
    starved: Vec<StreamKey>,
    starved_until: Option<Instant>,
    announced_credit: u32,
    most_announced_credit: u32,
    /// The peer is to be told of `announced_credit`.
    credit_due: bool,
    peer_credit: u32,
    going_away: bool,
    peer_going_away: bool,
    glitches: GlitchBucket,
    rtt: Option<Duration>,
    totals: Totals,
    events: VecDeque<Event>,
}

impl Session {
    /// A session whose first connection has just been authenticated.
    pub fn new(config: &SessionConfig, budget: &Budget, now: Instant) -> Self {
        Self {
            role: config.role,
            max_peer_streams: config.max_peer_streams,
            resume_timeout: config.resume_timeout.min(LONGEST_RESUME_TIMEOUT),
            budget: budget.clone(),
            link: Link::Attached(Keepalive::new(now)),
            carrier: config.carrier,
            decoder: FrameDecoder::default(),
            lanes: OpenedLanes::default(),
            decoders: HashMap::new(),
            early_cancels: BTreeSet::new(),
            finished_lanes: VecDeque::new(),
            silent: false,
            is_welcome: config.is_welcome,
            first_early_id: 0,
            begin_due: false,
            expects_begin: config.expects_begin,
            datagrams: DatagramQueue::default(),
            max_datagram: MAX_PAYLOAD_LEN,
            datagram_debt: 0,
            received: 0,
            log: SendLog::new(budget),
            send_limit: SendLimit::new(now),
            streams: Streams(Slab::new()),
            ids: HashMap::new(),
            closed: ClosedStreams::default(),
            generation: 0,
            next_id: if config.role == Role::Edge { 1 } else { 2 },
            unopened: 0,
            unconfirmed: Unconfirmed::default(),
            highest_peer_id: 0,
            last_served_id: u32::MAX,
            peer_streams: 0,
            active_streams: 0,
            scheduler: Scheduler::new(now),
            control: VecDeque::new(),
            control_bytes: 0,
            refusals: VecDeque::new(),
            cancels: VecDeque::new(),
            windows: VecDeque::new(),
            starved: Vec::new(),
            starved_until: None,
            announced_credit: config.announced_credit,
            most_announced_credit: config.announced_credit,
            credit_due: false,
            peer_credit: config.peer_credit.min(MAX_CREDIT),
            going_away: false,
            peer_going_away: false,
            glitches: GlitchBucket::new(now),
            rtt: None,
            totals: Totals::default(),
            events: VecDeque::new(),
        }
    }

    /// The connection is gone. Streams notice a pause, nothing else.
    pub fn detach(&mut self, now: Instant) {
        if self.is_attached() {
            self.link = Link::Away {
                until: now + self.resume_timeout,
            };
            self.log.rewind();
            self.decoder.reset();
            self.datagrams.detach();
        }
    }

    /// A new connection, on which the peer said that it has received `peer_received` numbered
    /// frames. On error nothing has changed and the session can't be resumed.
    pub fn attach(&mut self, now: Instant, peer_received: u64) -> Result<(), Violation> {
        self.detach(now);
        self.acknowledged(peer_received)?;
        self.is_welcome = true;
        self.link = Link::Attached(Keepalive::new(now));
        self.wake_starved();
        Ok(())
    }

    /// How long the session waits for a new connection.
    pub fn set_resume_timeout(&mut self, timeout: Duration) {
        self.resume_timeout = timeout.min(LONGEST_RESUME_TIMEOUT);
    }

    /// Whether this session could resume where the peer says it is.
    pub fn can_resume(&self, peer_received: u64) -> bool {
        self.log.contains(peer_received)
    }

    /// Numbered frames received so far: the offset for Hello and Welcome. Take it after `detach`.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether it has a connection now.
    pub fn is_attached(&self) -> bool {
        matches!(self.link, Link::Attached(_))
    }

    /// Asks the peer for a sign of life with the next transmit.
    pub fn ping_now(&mut self) {
        if let Link::Attached(keepalive) = &mut self.link {
            keepalive.ping_now();
        }
    }

    /// The last measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// On an ordered connection: what a segment's round trip takes now. To be told every few milliseconds while there is
    /// something to send: the session lets little more be on its way than the path carries, so that what waits does so in
    /// our own order.
    pub fn set_path_rtt(&mut self, now: Instant, rtt: Duration) {
        let acknowledged = self.log.acknowledged_bytes();
        let limit = self.send_limit.observe(now, acknowledged, rtt);
        self.log.set_limit(limit);
        self.scheduler
            .set_quantum(self.send_limit.carried_in(ROUND_SHARE));
    }

    /// What it runs over.
    pub fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// The largest datagram that `send_datagram` takes now, in bytes.
    pub fn max_datagram(&self) -> usize {
        self.max_datagram
    }

    /// What the path carries as one datagram, on lanes.
    pub fn set_max_datagram(&mut self, bytes: usize) {
        self.max_datagram = bytes.min(MAX_PAYLOAD_LEN);
    }

    /// On lanes: a datagram that `poll_lane` gave was too large for the path.
    pub fn count_oversized_datagram(&mut self) {
        self.datagrams.count_oversized();
    }

    /// Whether datagrams wait to leave.
    pub fn has_datagrams(&self) -> bool {
        self.is_welcome && !self.datagrams.is_empty()
    }

    /// Datagrams given to `send_datagram` that never left.
    pub fn datagram_drops(&self) -> DatagramDrops {
        self.datagrams.drops()
    }

    /// Streams that their owner hasn't released.
    pub fn active_streams(&self) -> usize {
        self.active_streams
    }

    /// Sums over the session's life.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Glitches that the peer made so far (threats A3.8); legal traffic makes none.
    pub fn glitches(&self) -> u64 {
        self.glitches.total()
    }

    /// The peer or this end accepts no new streams, or ids run out: use another session.
    pub fn is_closing(&self) -> bool {
        self.going_away || self.peer_going_away || self.is_exhausted()
    }

    fn is_exhausted(&self) -> bool {
        self.next_id.saturating_add(self.unopened.saturating_mul(2)) >= LAST_STREAM_ID
    }

    /// Nothing is left to send or to be acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.log.bytes() == 0
            && self.streams.0.is_empty()
            && self.control.is_empty()
            && self.refusals.is_empty()
            && self.finished_lanes.is_empty()
    }

    /// The next fact. Facts about a stream stop when it is released.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.link {
            Link::Attached(keepalive) => {
                let next = keepalive.next_timeout(self.silent);
                Some(self.starved_until.map_or(next, |at| at.min(next)))
            }
            Link::Away { until } => Some(*until),
        }
    }

    /// Time has passed. Read what the connection has before, or a stalled process takes its own
    /// silence for the peer's.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        match &self.link {
            Link::Attached(keepalive)
                if keepalive.is_dead(now) && self.carrier == Carrier::Ordered =>
            {
                Err(SessionError::PeerSilent)
            }
            Link::Away { until } if now >= *until => Err(SessionError::ResumeExpired),
            Link::Attached(_) | Link::Away { .. } => {
                if self.starved_until.is_some_and(|at| at <= now) {
                    self.wake_starved();
                }
                self.check_silence(now);
                self.announce_credit();
                Ok(())
            }
        }
    }

    fn wake_starved(&mut self) {
        self.starved_until = None;
        for key in std::mem::take(&mut self.starved) {
            if let Some(stream) = self.get(key) {
                stream.send.starved = false;
                self.notify_room(key.index);
            }
        }
    }

    fn acknowledged(&mut self, received: u64) -> Result<(), Violation> {
        self.log
            .acknowledge(received)
            .map_err(|_| Violation::BadOffset(received))?;
        self.unconfirmed.acknowledged(received);
        Ok(())
    }

    /// Every stream that its owner hasn't released, to be reset when the session is lost.
    pub fn live_streams(&self) -> Vec<StreamKey> {
        let live = self.streams.0.iter().filter(|(_, stream)| !stream.released);
        live.map(|(index, stream)| StreamKey {
            index,
            generation: stream.generation,
        })
        .collect()
    }
}
