//! Two sessions, the link between them, and the model that both are held against after every step.

mod lanes;
mod links;
mod wire;

use crate::builder::{DEFAULT_BUDGET, SessionBuilder, budget};
use crate::model::{End, Stream, byte};
use crate::{EDGE, HUB, any_instant};
use bytes::{Buf, Bytes};
use links::Links;
use remoteingress_proto::mux::budget::{Budget, Purpose};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{
    Carrier, Event, GoAwayCode, OpenError, Session, SessionError, StreamKey,
};
use remoteingress_proto::wire::frame::DataBuffer;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// The parameters of both ends.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The way frames travel.
    pub carrier: Carrier,
    /// Decides in which order things arrive on lanes.
    pub seed: u64,
    /// Memory budgets in bytes.
    pub limits: [usize; 2],
    /// Bytes of each budget that something else has used up.
    pub ballast: [usize; 2],
    /// Streams that each end may have open at the other at once.
    pub max_peer_streams: usize,
    /// Stream ids left to each end.
    pub ids_left: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            carrier: Carrier::Ordered,
            seed: 1,
            limits: [DEFAULT_BUDGET; 2],
            ballast: [0; 2],
            max_peer_streams: 1_000,
            ids_left: None,
        }
    }
}

/// Two sessions, what is on its way between them, and the owners' side of every stream.
///
/// Owners do what the test tells them, as far as the model lets them: nobody writes after an end. Each
/// method that names a `side` and a `serial` acts as the owner of one end of one stream.
#[derive(Debug)]
pub struct World {
    /// Virtual time, which [`World::pass`] moves.
    pub now: Instant,
    /// The edge's session and the hub's.
    pub sessions: [Session; 2],
    /// Each session's memory.
    pub budgets: [Budget; 2],
    /// The model of every stream that was opened, by its serial.
    pub streams: Vec<Stream>,
    setup: Setup,
    serials: [HashMap<StreamKey, usize>; 2],
    links: Links,
    controls: [Vec<Bytes>; 2],
    controls_seen: [usize; 2],
    went_away: [bool; 2],
    is_silent: [bool; 2],
    /// Numbers of datagrams that an end has sent and that haven't arrived.
    datagrams: [BTreeSet<u64>; 2],
    datagrams_sent: u64,
    /// Streams that each end refused.
    pub refused: [usize; 2],
}

impl World {
    /// Two attached sessions without a stream.
    pub fn new(setup: &Setup) -> Self {
        let now = any_instant();
        let budgets = setup.limits.map(budget);
        for (budget, ballast) in budgets.iter().zip(setup.ballast) {
            assert!(budget.reserve(ballast, Purpose::Send));
        }
        let session = |side: usize| {
            let builder = SessionBuilder::of_side(side)
                .carrier(setup.carrier)
                .max_peer_streams(setup.max_peer_streams)
                .resume_timeout(Duration::from_secs(u64::MAX))
                .peer_credit(budgets[1 - side].initial_credit());
            let mut session = builder.build(&budgets[side], now);
            if let Some(left) = setup.ids_left {
                session.skip_stream_ids(left);
            }
            session
        };
        Self {
            now,
            sessions: [session(EDGE), session(HUB)],
            budgets,
            streams: Vec::new(),
            setup: setup.clone(),
            serials: Default::default(),
            links: Links::new(setup.carrier, setup.seed),
            controls: Default::default(),
            controls_seen: [0; 2],
            went_away: [false; 2],
            is_silent: [false; 2],
            datagrams: Default::default(),
            datagrams_sent: 0,
            refused: [0; 2],
        }
    }

    /// Opens a stream, whose header is its serial.
    pub fn open(&mut self, side: usize) -> Result<usize, OpenError> {
        let serial = self.streams.len();
        let key = self.sessions[side].open(self.now, &(serial as u32).to_be_bytes())?;
        let mut stream = Stream {
            opener: side,
            ..Stream::default()
        };
        stream.ends[side].key = Some(key);
        self.streams.push(stream);
        assert_eq!(
            self.serials[side].insert(key, serial),
            None,
            "keys are unique"
        );
        Ok(serial)
    }

    /// Wants to send `bytes` more.
    pub fn write(&mut self, side: usize, serial: usize, bytes: usize) {
        let end = &mut self.streams[serial].ends[side];
        if !end.finish_wanted && end.may_write() {
            end.to_write += bytes;
            self.pump(side, serial);
        }
    }

    /// Sends what the owner wants to send; once told that there is no room, only after SendReady.
    fn pump(&mut self, side: usize, serial: usize) {
        let end = &mut self.streams[serial].ends[side];
        let Some(key) = end.live().filter(|_| end.may_write()) else {
            return;
        };
        while end.to_write > 0 && !end.waits_for_room {
            let room = self.sessions[side].room(self.now, key);
            if room == 0 {
                end.waits_for_room = true;
                break;
            }
            let n = room.min(end.to_write);
            let payload: Vec<u8> = (0..n as u64)
                .map(|i| byte(serial, side, end.written + i))
                .collect();
            self.sessions[side]
                .send(key, DataBuffer::copy_from(&payload))
                .expect("room said so");
            end.written += n as u64;
            end.to_write -= n;
        }
        if end.finish_wanted && end.to_write == 0 && !end.finished {
            end.finished = true;
            self.sessions[side].finish(key);
        }
    }

    /// Reads at most `bytes`, if something is there.
    pub fn read(&mut self, side: usize, serial: usize, bytes: usize) {
        let end = &mut self.streams[serial].ends[side];
        let Some(key) = end.live().filter(|_| end.readable) else {
            return;
        };
        let (mut chunks, stream_end) = self.sessions[side].take(key);
        let mut got = 0;
        while got < bytes
            && let Some(chunk) = chunks.front_mut()
        {
            let piece = chunk.split_to(chunk.len().min(bytes - got));
            for b in &piece {
                assert_eq!(
                    *b,
                    byte(serial, 1 - side, end.read),
                    "P7: at byte {}",
                    end.read
                );
                end.read += 1;
            }
            got += piece.len();
            if chunk.is_empty() {
                chunks.pop_front();
            }
        }
        end.readable = !chunks.is_empty();
        let all = chunks.is_empty();
        self.sessions[side].put_back(key, chunks);
        self.sessions[side].consumed(self.now, key, got);
        let stream = &mut self.streams[serial];
        assert!(
            stream.ends[side].read <= stream.ends[1 - side].written,
            "P7: delivered <= sent"
        );
        if let Some(end) = stream_end.filter(|_| all) {
            stream.saw_end(side, end);
        }
    }

    /// Writes nothing more; FIN follows what was written.
    pub fn finish(&mut self, side: usize, serial: usize) {
        let end = &mut self.streams[serial].ends[side];
        if end.may_write() {
            end.finish_wanted = true;
            self.pump(side, serial);
        }
    }

    /// Ends the stream in both directions.
    pub fn abort(&mut self, side: usize, serial: usize, code: AbortCode) {
        let end = &mut self.streams[serial].ends[side];
        if let Some(key) = end.live() {
            end.aborted.get_or_insert(code);
            self.sessions[side].abort(key, code);
        }
    }

    /// Reads nothing more.
    pub fn cancel(&mut self, side: usize, serial: usize) {
        let end = &mut self.streams[serial].ends[side];
        if let Some(key) = end.live() {
            end.cancelled = true;
            self.sessions[side].cancel(key);
        }
    }

    /// Lets go of the stream; that resets it if this end hasn't ended it.
    pub fn release(&mut self, side: usize, serial: usize) {
        let end = &mut self.streams[serial].ends[side];
        if let Some(key) = end.live() {
            if end.may_write() {
                end.aborted = Some(AbortCode::Reset);
            }
            end.released = true;
            self.sessions[side].release(key);
        }
    }

    /// End `side` serves no new streams.
    pub fn go_away(&mut self, side: usize, code: GoAwayCode) {
        self.sessions[side].go_away(code, Duration::from_secs(1));
        assert!(self.sessions[side].is_closing());
        assert!(self.sessions[side].open(self.now, b"no").is_err());
    }

    /// End `side` sends a control message.
    pub fn control(&mut self, side: usize, payload: &[u8]) {
        self.sessions[side].send_control(payload);
        self.controls[side].push(Bytes::copy_from_slice(payload));
    }

    /// Sends a datagram that begins with its number.
    pub fn datagram(&mut self, side: usize, bytes: usize) {
        let mut datagram = self.datagrams_sent.to_be_bytes().to_vec();
        datagram.resize(bytes.clamp(8, self.sessions[side].max_datagram()), 7);
        self.datagrams[side].insert(self.datagrams_sent);
        self.datagrams_sent += 1;
        self.sessions[side].send_datagram(self.now, datagram.into());
    }

    /// The socket of end `side` takes frames while fewer than `bytes` are on their way; then at most `bytes` arrive.
    pub fn transfer(&mut self, side: usize, bytes: usize) {
        let (sessions, now) = (&mut self.sessions, self.now);
        if let Err(error) = self.links.transfer(sessions, now, side, bytes) {
            panic!("P16: what end {side} sent is no offence: {error}");
        }
    }

    /// The connection dies with whatever is on its way; not on lanes, where the session would die with it.
    pub fn cut(&mut self) {
        if self.setup.carrier == Carrier::Lanes {
            return;
        }
        self.links.cut();
        for session in &mut self.sessions {
            session.detach(self.now);
        }
    }

    /// Another connection takes over, unless one is there.
    pub fn resume(&mut self) {
        if self.sessions[EDGE].is_attached() {
            return;
        }
        for side in [EDGE, HUB] {
            let offset = self.sessions[1 - side].received();
            assert!(self.sessions[side].can_resume(offset));
            self.sessions[side]
                .attach(self.now, offset)
                .expect("the offset fits");
            self.links.connected(side, offset);
        }
    }

    /// Time passes; a connection that was silent for too long is cut.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in [EDGE, HUB] {
            match self.sessions[side].handle_timeout(self.now) {
                Ok(()) => {}
                Err(SessionError::PeerSilent) => self.cut(),
                Err(error) => panic!("time alone gave {error}"),
            }
        }
    }

    /// Takes all events and holds both ends against the model.
    pub fn check(&mut self) {
        for side in [EDGE, HUB] {
            while let Some(event) = self.sessions[side].poll_event() {
                self.handle(side, event);
            }
            let used = self.budgets[side].used();
            assert!(
                used <= self.setup.limits[side],
                "P13: {used} bytes committed"
            );
            assert_eq!(
                self.sessions[side].glitches(),
                0,
                "P16: legal traffic costs nothing"
            );
            let live = self
                .streams
                .iter()
                .filter(|s| s.ends[side].live().is_some());
            assert_eq!(live.clone().count(), self.sessions[side].active_streams());
            let peers = live.filter(|s| s.opener != side).count();
            assert!(peers <= self.setup.max_peer_streams, "P10: {peers} streams");
        }
    }

    fn handle(&mut self, side: usize, event: Event) {
        match event {
            Event::Opened { key, header } => {
                let serial = u32::from_be_bytes(header[..].try_into().expect("4 bytes")) as usize;
                let stream = &mut self.streams[serial];
                assert_eq!(stream.opener, 1 - side);
                assert!(!stream.is_refused(), "P15: refused, and yet opened");
                assert_eq!(stream.ends[side].key.replace(key), None, "opened once");
                assert_eq!(
                    self.serials[side].insert(key, serial),
                    None,
                    "keys are unique"
                );
            }
            Event::Readable(key) => self.end(side, key).readable = true,
            Event::SendReady(key) => {
                let end = self.end(side, key);
                assert!(
                    std::mem::take(&mut end.waits_for_room),
                    "SendReady was not asked for"
                );
                let serial = self.serials[side][&key];
                self.pump(side, serial);
            }
            Event::SendStopped(key) => {
                let end = self.end(side, key);
                assert!(
                    !std::mem::replace(&mut end.stopped, true),
                    "P8: stopped once"
                );
                assert!(end.aborted.is_none(), "P8: stopped after abort");
                let serial = self.serials[side][&key];
                assert!(
                    self.streams[serial].ends[1 - side].unwanted(),
                    "stopped by nobody"
                );
            }
            Event::Control(payload) => {
                let at = self.controls_seen[side];
                assert_eq!(
                    self.controls[1 - side].get(at),
                    Some(&payload),
                    "in order, once"
                );
                self.controls_seen[side] += 1;
            }
            Event::Refused => self.refused[side] += 1,
            Event::Datagram(mut datagram) => {
                let number = datagram.get_u64();
                let sent = &mut self.datagrams[1 - side];
                assert!(sent.remove(&number), "a datagram of nobody, or twice");
                if self.setup.carrier == Carrier::Ordered {
                    // Those before it are lost.
                    *sent = sent.split_off(&number);
                }
            }
            Event::Silent => {
                assert_eq!(self.setup.carrier, Carrier::Lanes);
                assert!(!std::mem::replace(&mut self.is_silent[side], true));
            }
            Event::Heard => assert!(std::mem::take(&mut self.is_silent[side])),
            Event::GoAway { retry_after, .. } => {
                assert!(
                    !std::mem::replace(&mut self.went_away[side], true),
                    "P14: once"
                );
                assert_eq!(retry_after, Duration::from_secs(1));
            }
        }
    }

    fn end(&mut self, side: usize, key: StreamKey) -> &mut End {
        let serial = self.serials[side][&key];
        let end = &mut self.streams[serial].ends[side];
        assert!(!end.released, "P8: an event after release");
        end
    }

    /// All that the ends have to say to each other arrives; no time passes.
    pub fn settle(&mut self) {
        let sums = |world: &Self| {
            world
                .sessions
                .each_ref()
                .map(|s| (s.received(), s.totals()))
        };
        let mut before = None;
        while before != Some(sums(self)) {
            before = Some(sums(self));
            for side in [EDGE, HUB] {
                self.transfer(side, usize::MAX);
                self.check();
            }
        }
    }

    /// Everything that can move moves: reads all, lets time pass, until all payload that nobody
    /// gave up on has arrived (P11).
    pub fn run_until_delivered(&mut self) {
        self.resume();
        let (mut moved, mut idle) = (0, 0);
        while idle < 100 {
            self.check();
            for serial in 0..self.streams.len() {
                for side in [EDGE, HUB] {
                    self.read(side, serial, usize::MAX);
                }
            }
            for side in [EDGE, HUB] {
                self.transfer(side, usize::MAX);
            }
            self.check();
            if self
                .streams
                .iter()
                .all(|s| is_delivered(s, EDGE) && is_delivered(s, HUB))
            {
                return;
            }
            let ends = || self.streams.iter().flat_map(|s| &s.ends);
            let now_moved: u64 = ends()
                .map(|end| end.read + u64::from(end.end.is_some()))
                .sum();
            idle = if now_moved == moved { idle + 1 } else { 0 };
            moved = now_moved;
            self.pass(Duration::from_millis(10));
        }
        let stuck = self
            .streams
            .iter()
            .find(|s| !is_delivered(s, EDGE) || !is_delivered(s, HUB));
        panic!("P11: no progress in a second: {stuck:?}");
    }

    /// All streams end; then nothing may be left anywhere.
    pub fn wind_up(&mut self) {
        self.run_until_delivered();
        for serial in 0..self.streams.len() {
            for side in [EDGE, HUB] {
                self.release(side, serial);
            }
        }
        for _round in 0..20 {
            for side in [EDGE, HUB] {
                self.transfer(side, usize::MAX);
            }
            // Streams that arrive only now.
            self.check();
            for serial in 0..self.streams.len() {
                for side in [EDGE, HUB] {
                    self.release(side, serial);
                }
            }
            self.pass(Duration::from_millis(60));
        }
        self.check();
        for side in [EDGE, HUB] {
            assert!(self.sessions[side].is_flushed(), "end {side} isn't flushed");
            assert!(self.sessions[side].live_streams().is_empty());
            assert_eq!(
                self.budgets[side].used(),
                self.setup.ballast[side],
                "leaked memory"
            );
            assert_eq!(self.controls_seen[1 - side], self.controls[side].len());
        }
        self.links.assert_all_lanes_are_finished();
    }
}

/// Nothing that end `side` wants to send is still on its way, or somebody gave up.
fn is_delivered(stream: &Stream, side: usize) -> bool {
    let (from, to) = (&stream.ends[side], &stream.ends[1 - side]);
    if stream.is_refused() {
        return true;
    }
    if to.key.is_none() {
        // Its OPEN must arrive or be refused, unless it vanished.
        return from.key.is_none() || from.aborted.is_some() || from.released;
    }
    !stream.must_arrive_from(side)
        || (from.to_write == 0 && to.read == from.written && (!from.finished || to.end.is_some()))
}
