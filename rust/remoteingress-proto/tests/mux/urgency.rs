//! Frames that go out although enough is on its way, and on lanes how urgent the connection is told that it is.

use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Carrier, Event, StreamKey, Urgency};
use remoteingress_proto::wire::frame::{
    DataBuffer, FrameKind, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, StreamId,
};
use remoteingress_testkit::sender::{Out, Sender};
use std::time::Duration;

const LIMIT: usize = 100_000;
/// Bytes that streams which were silent may send beyond the limit, in all.
const RESERVE: usize = 256 * 1_024;

/// A download that has sent all that may be on its way, and has more.
fn full() -> (Sender, StreamKey) {
    let mut sender = Sender::new(Carrier::Lanes);
    sender.session.set_send_limit(LIMIT);
    let bulk = sender.open();
    let mut sent = 0;
    loop {
        sender.fill(bulk, MAX_PAYLOAD_LEN);
        let Some(out) = sender.next() else { break };
        let Out::Frame(_, _, bytes, urgency) = out else {
            panic!("{out:?}")
        };
        let expected = if sent < MAX_FRAME_LEN {
            Urgency::Newcomer
        } else {
            Urgency::Turn
        };
        assert_eq!(urgency, Some(expected), "at byte {sent}");
        sent += bytes;
    }
    assert!((LIMIT..LIMIT + MAX_FRAME_LEN).contains(&sent), "{sent}");
    (sender, bulk)
}

#[test]
fn a_silent_streams_frame_goes_out_although_the_limit_is_reached() {
    let (mut sender, _) = full();
    let key = sender.open();
    let buffer = DataBuffer::copy_from(b"keystroke");
    sender.session.send(key, buffer).expect("room");
    let newcomer = Some(Urgency::Newcomer);
    let lane = StreamId(3);
    assert_eq!(
        [sender.next(), sender.next(), sender.next()],
        [
            Some(Out::Frame(FrameKind::Open, lane, 17, newcomer)),
            Some(Out::Frame(FrameKind::Data, lane, 17, newcomer)),
            None,
        ]
    );
}

#[test]
fn held_streams_wait_and_control_goes_out() {
    let (mut sender, _) = full();
    sender.session.hold_streams(true);
    let key = sender.open();
    let buffer = DataBuffer::copy_from(b"keystroke");
    sender.session.send(key, buffer).expect("room");
    assert_eq!(sender.next(), None);
    sender.session.send_control(b"news");
    let out = sender.next();
    assert!(
        matches!(out, Some(Out::Frame(FrameKind::Control, ..))),
        "{out:?}"
    );
    assert_eq!(sender.next(), None);
    sender.session.hold_streams(false);
    let out = sender.next();
    assert!(
        matches!(out, Some(Out::Frame(FrameKind::Open, ..))),
        "{out:?}"
    );
}

/// Sends until enough is on its way; gives the bytes.
fn send_all(sender: &mut Sender, bulk: StreamKey) -> usize {
    let mut sent = 0;
    loop {
        sender.fill(bulk, MAX_PAYLOAD_LEN);
        let Some(Out::Frame(_, _, bytes, _)) = sender.next() else {
            return sent;
        };
        sent += bytes;
    }
}

#[test]
fn on_an_ordered_connection_the_path_is_the_limit_and_a_silent_stream_passes_it() {
    let mut sender = Sender::new(Carrier::Ordered);
    let rtt = Duration::from_micros(50);
    sender.session.set_path_rtt(sender.now, rtt);
    let bulk = sender.open();
    let sent = send_all(&mut sender, bulk);
    let least = 128 * 1_024;
    assert!((least..least + MAX_FRAME_LEN).contains(&sent), "{sent}");
    let key = sender.open();
    let buffer = DataBuffer::copy_from(b"keystroke");
    sender.session.send(key, buffer).expect("room");
    let kinds = [sender.next(), sender.next()].map(|out| match out {
        Some(Out::Frame(kind, ..)) => Some(kind),
        _ => None,
    });
    assert_eq!(kinds, [Some(FrameKind::Open), Some(FrameKind::Data)]);
    // A path that carried this in a span carries more at once from now on.
    sender.acknowledge();
    sender.now += Duration::from_millis(100);
    let rtt = Duration::from_millis(100);
    sender.session.set_path_rtt(sender.now, rtt);
    let more = send_all(&mut sender, bulk);
    assert!(more >= least + 2 * sent, "{more} after {sent}");
}

#[test]
fn what_silent_streams_send_beyond_the_limit_is_bounded() {
    let (mut sender, bulk) = full();
    let mut beyond = 0;
    for _ in 0..100 {
        let key = sender.open();
        sender.fill(key, MAX_PAYLOAD_LEN);
    }
    while let Some(out) = sender.next() {
        let Out::Frame(_, id, bytes, urgency) = out else {
            panic!("{out:?}")
        };
        assert_eq!(urgency, Some(Urgency::Newcomer));
        assert_ne!(sender.session.view(bulk).and_then(|view| view.id), Some(id));
        beyond += bytes;
    }
    let most = RESERVE + MAX_FRAME_LEN;
    assert!(
        (RESERVE - MAX_FRAME_LEN..=most).contains(&beyond),
        "{beyond}"
    );
    // Frames of the session itself wait for nothing.
    sender.session.send_control(b"c");
    let control = Out::Frame(
        FrameKind::Control,
        StreamId::SESSION,
        9,
        Some(Urgency::Control),
    );
    assert_eq!((sender.next(), sender.next()), (Some(control), None));
    sender.acknowledge();
    assert!(sender.next().is_some(), "there is room again");
}

#[test]
fn a_sustained_stream_is_leftover_unless_its_share_is_due() {
    let mut sender = Sender::new(Carrier::Lanes);
    let bulk = sender.open();
    for _ in 0..1_700 {
        sender.fill(bulk, MAX_PAYLOAD_LEN);
        sender.next().expect("bulk");
        sender.acknowledge();
    }
    sender.now += Duration::from_secs(10);
    sender.fill(bulk, MAX_PAYLOAD_LEN);
    sender.next().expect("bulk");
    let mut urgencies = Vec::new();
    for _ in 0..4 {
        sender.fill(bulk, MAX_PAYLOAD_LEN);
        let Some(Out::Frame(FrameKind::Data, _, _, urgency)) = sender.next() else {
            panic!("bulk")
        };
        urgencies.push(urgency.expect("on lanes"));
    }
    assert_eq!(urgencies[1..], [Urgency::Leftover; 3]);
    // Beside a stream of the other tier: its guaranteed share is a turn like any other.
    let other = sender.open();
    let mut of_bulk = Vec::new();
    for _ in 0..20 {
        sender.fill(bulk, MAX_PAYLOAD_LEN);
        sender.fill(other, MAX_PAYLOAD_LEN);
        let Some(Out::Frame(_, id, _, urgency)) = sender.next() else {
            panic!("both")
        };
        if sender.session.view(bulk).and_then(|view| view.id) == Some(id) {
            of_bulk.push(urgency.expect("on lanes"));
        }
    }
    assert!((1..=8).contains(&of_bulk.len()), "{of_bulk:?}");
    assert!(of_bulk.iter().all(|u| *u == Urgency::Turn), "{of_bulk:?}");
}

#[test]
fn an_end_travels_after_what_is_queued_and_the_lane_ends_after_it() {
    let mut sender = Sender::new(Carrier::Lanes);
    let key = sender.open();
    sender.fill(key, MAX_PAYLOAD_LEN);
    sender.session.abort(key, AbortCode::Reset);
    let lane = StreamId(1);
    assert_eq!(sender.next(), None, "not even the OPEN had left");
    sender.session.release(key);
    let key = sender.open();
    assert!(matches!(
        sender.next(),
        Some(Out::Frame(FrameKind::Open, ..))
    ));
    sender.session.release(key);
    let newcomer = Some(Urgency::Newcomer);
    assert_eq!(
        [sender.next(), sender.next(), sender.next()],
        [
            Some(Out::Frame(FrameKind::Abort, lane, 9, newcomer)),
            Some(Out::Finish(lane)),
            None,
        ]
    );
    assert!(!sender.session.is_flushed());
    sender.acknowledge();
    assert!(sender.session.is_flushed());
    assert_eq!(sender.budget.used(), 0);
}

#[test]
fn a_full_queue_is_asked_for_more_when_it_is_half_empty() {
    let mut sender = Sender::new(Carrier::Ordered);
    let key = sender.open();
    sender.fill(key, MAX_PAYLOAD_LEN);
    assert_eq!(sender.session.room_for(sender.now, key, 4), 0);
    let is_asked = |sender: &mut Sender| {
        let mut events = std::iter::from_fn(|| sender.session.poll_event());
        events.any(|event| matches!(event, Event::SendReady(_)))
    };
    // The first is OPEN.
    for _ in 0..1 + 3 {
        sender.next().expect("a frame");
        assert!(!is_asked(&mut sender));
    }
    sender.next().expect("a frame");
    assert!(is_asked(&mut sender));
    let room = |sender: &mut Sender, frames| sender.session.room_for(sender.now, key, frames);
    assert_eq!(room(&mut sender, 1), MAX_PAYLOAD_LEN);
    assert_eq!(room(&mut sender, 3), 3 * MAX_PAYLOAD_LEN);
    assert_eq!(room(&mut sender, 9), 4 * MAX_PAYLOAD_LEN);
}
