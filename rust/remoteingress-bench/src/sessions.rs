//! The session: one stream of full frames, many that ask and answer, and short ones from OPEN to release.

use crate::pair::{EDGE, HUB, Pair, read, write};
use crate::{Work, Workload};
use remoteingress_proto::mux::{Carrier, Event, Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN};
use std::time::{Duration, Instant};

/// Full frames per run of a bulk stream.
const FRAMES: usize = 64;
/// What a stream may have queued.
const FRAMES_PER_TURN: usize = 8;
/// Streams that ask and answer.
const ASKING: usize = 64;
/// Short streams per run, one after the other.
const SHORT: usize = 32;
/// A question, and an answer.
const MESSAGE: [u8; 512] = [7; 512];
/// From one turn to the next.
const TURN: Duration = Duration::from_millis(1);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "session_bulk_frame",
        operations: FRAMES as u64,
        new: || Box::new(Bulk::new(Carrier::Ordered)),
    },
    Workload {
        name: "session_bulk_frame_on_lanes",
        operations: FRAMES as u64,
        new: || Box::new(Bulk::new(Carrier::Lanes)),
    },
    Workload {
        name: "session_ping_pong_64_streams",
        operations: ASKING as u64,
        new: || {
            let mut pair = Pair::new(Carrier::Ordered);
            let keys: Vec<StreamKey> = (0..ASKING).map(|_| pair.open()).collect();
            Box::new(move || ask_on_all(&mut pair, &keys))
        },
    },
    Workload {
        name: "session_short_stream",
        operations: SHORT as u64,
        new: || {
            let mut pair = Pair::new(Carrier::Ordered);
            Box::new(move || (0..SHORT).for_each(|_| serve_short(&mut pair)))
        },
    },
    Workload {
        name: "session_short_stream_on_lanes",
        operations: SHORT as u64,
        new: || {
            let mut pair = Pair::new(Carrier::Lanes);
            Box::new(move || (0..SHORT).for_each(|_| serve_short(&mut pair)))
        },
    },
];

/// One stream that always has full frames, with the ACKs and the credit that come back.
struct Bulk {
    pair: Pair,
    key: StreamKey,
    buffers: Vec<DataBuffer>,
}

impl Bulk {
    fn new(carrier: Carrier) -> Self {
        let mut pair = Pair::new(carrier);
        Self {
            key: pair.open(),
            pair,
            buffers: Vec::new(),
        }
    }
}

impl Work for Bulk {
    /// Filling a buffer is the socket's part.
    fn prepare(&mut self) {
        let buffer = || DataBuffer::copy_from(&[7; MAX_PAYLOAD_LEN]);
        self.buffers.resize_with(FRAMES, buffer);
    }

    fn run(&mut self) {
        let mut got = 0;
        while !self.buffers.is_empty() {
            let (session, now) = (&mut self.pair.sessions[EDGE], self.pair.now);
            for _ in 0..FRAMES_PER_TURN {
                assert_eq!(session.room(now, self.key), MAX_PAYLOAD_LEN);
                let buffer = self.buffers.pop().expect("a multiple");
                session.send(self.key, buffer).expect("room");
            }
            self.pair.turn(TURN, |session, now, _side, event| {
                if let Event::Readable(key) = event {
                    got += read(session, now, key).0;
                }
            });
        }
        assert_eq!(got, FRAMES * MAX_PAYLOAD_LEN);
    }
}

/// A question on each stream, all at once, and its answer.
fn ask_on_all(pair: &mut Pair, keys: &[StreamKey]) {
    for key in keys {
        write(&mut pair.sessions[EDGE], pair.now, *key, &MESSAGE);
    }
    let mut answered = 0;
    pair.turn(TURN, |session, now, side, event| {
        let Event::Readable(key) = event else { return };
        let (bytes, _end) = read(session, now, key);
        assert_eq!(bytes, MESSAGE.len());
        if side == HUB {
            write(session, now, key, &MESSAGE);
        } else {
            answered += 1;
        }
    });
    assert_eq!(answered, keys.len());
}

/// A stream from its OPEN to its release: a question and FIN, the answer and FIN.
fn serve_short(pair: &mut Pair) {
    let now = pair.now;
    let key = pair.open();
    say(&mut pair.sessions[EDGE], now, key);
    let mut ended = 0;
    pair.turn(TURN, |session, now, side, event| {
        let Event::Readable(key) = event else { return };
        let (bytes, end) = read(session, now, key);
        if side == HUB && bytes > 0 {
            say(session, now, key);
        }
        if end.is_some() {
            session.release(key);
            ended += 1;
        }
    });
    assert_eq!(ended, 2);
}

fn say(session: &mut Session, now: Instant, key: StreamKey) {
    write(session, now, key, &MESSAGE);
    session.finish(key);
}
