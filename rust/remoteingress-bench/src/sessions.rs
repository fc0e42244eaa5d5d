//! The session: one stream of full frames, many that ask and answer, and short ones from OPEN to release.

use crate::workload::{Work, Workload};
use remoteingress_proto::mux::stream::StreamEnd;
use remoteingress_proto::mux::{Carrier, Event, Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN};
use remoteingress_testkit::HUB;
use remoteingress_testkit::pair::Pair;
use std::time::{Duration, Instant};

/// Full frames per run of a bulk stream.
const FRAMES: usize = 64;
/// Frames that a stream may have queued.
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
            let mut pair = Pair::new();
            let keys: Vec<StreamKey> = (0..ASKING).map(|_| open(&mut pair)).collect();
            Box::new(move || ask_on_all(&mut pair, &keys))
        },
    },
    Workload {
        name: "session_short_stream",
        operations: SHORT as u64,
        new: || {
            let mut pair = Pair::new();
            Box::new(move || (0..SHORT).for_each(|_| serve_short(&mut pair)))
        },
    },
    Workload {
        name: "session_short_stream_on_lanes",
        operations: SHORT as u64,
        new: || {
            let mut pair = Pair::on(Carrier::Lanes);
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
        let mut pair = Pair::on(carrier);
        Self {
            key: open(&mut pair),
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
            let (session, now) = (&mut self.pair.edge, self.pair.now);
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
        write(&mut pair.edge, pair.now, *key, &MESSAGE);
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
    let key = open(pair);
    say(&mut pair.edge, now, key);
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

fn open(pair: &mut Pair) -> StreamKey {
    let header = [7; 32]; // an IPv6 client and what else the edge says of it
    pair.edge.open(pair.now, &header).expect("memory")
}

/// Reads all that a stream has; says how much that was, and the end.
fn read(session: &mut Session, now: Instant, key: StreamKey) -> (usize, Option<StreamEnd>) {
    let (chunks, end) = session.take(key);
    let bytes = chunks.iter().map(|chunk| chunk.len()).sum();
    session.consumed(now, key, bytes);
    (bytes, end)
}

/// Sends that much as one frame.
fn write(session: &mut Session, now: Instant, key: StreamKey, payload: &[u8]) {
    assert!(session.room(now, key) >= payload.len());
    session
        .send(key, DataBuffer::copy_from(payload))
        .expect("room");
}
