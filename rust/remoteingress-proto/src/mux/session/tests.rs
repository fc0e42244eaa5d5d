//! The part of an unfinished frame that a session keeps, which can't be seen from outside.

use super::*;
use crate::mux::budget::BudgetPool;
use crate::mux::role::Role;
use crate::wire::frame::encode;

const LANE: StreamId = StreamId(1);

/// A hub's session with one stream, of which half a frame has come.
fn with_half_a_frame(now: Instant) -> (Session, StreamKey, Bytes) {
    let config = SessionConfig {
        role: Role::Hub,
        carrier: Carrier::Lanes,
        max_peer_streams: 10,
        resume_timeout: Duration::ZERO,
        keepalive: Duration::from_secs(45),
        announced_credit: 65_536,
        peer_credit: 65_536,
        is_welcome: true,
        expects_begin: false,
    };
    let budget = Budget::new(BudgetPool::new(16 << 20));
    let mut session = Session::new(&config, &budget, now);
    let open = [0, 1, 0, 0, 0, 1, 0, 0];
    let open = encode(FrameKind::Open, LANE, &[&open]);
    session.handle_lane(now, LANE, open).expect("legal");
    let Some(Event::Opened { key, .. }) = session.poll_event() else {
        panic!("a stream was opened");
    };
    let mut frame = encode(FrameKind::Data, LANE, &[&[1; 16_000]]);
    let half = frame.split_to(8_000);
    session.handle_lane(now, LANE, half).expect("legal");
    (session, key, frame)
}

fn kept(session: &Session) -> Option<usize> {
    session.receiving.kept(LANE)
}

#[test]
fn half_a_frame_is_kept_while_somebody_wants_it() {
    let now = crate::any_instant();
    for leave in [Session::cancel, Session::release, |s: &mut Session, key| {
        s.abort(key, AbortCode::Reset);
    }] {
        let (mut session, key, rest) = with_half_a_frame(now);
        assert!(kept(&session) >= Some(8_000));
        leave(&mut session, key);
        assert!(kept(&session) <= Some(2 * HEADER_LEN), "payload is kept");
        let more = rest.slice(..7_000);
        session.handle_lane(now, LANE, more).expect("legal");
        assert!(kept(&session) <= Some(2 * HEADER_LEN), "payload is kept");
        session
            .handle_lane(now, LANE, rest.slice(7_000..))
            .expect("legal");
        assert_eq!((kept(&session), session.received()), (None, 2));
        // A frame that begins only now is not even kept at first, known as the stream may be or not.
        while session.poll_lane(now, true).is_some() {}
        let next = encode(FrameKind::Data, LANE, &[&[1; 16_000]]);
        session
            .handle_lane(now, LANE, next.slice(..8_000))
            .expect("legal");
        assert!(kept(&session) <= Some(2 * HEADER_LEN), "payload is kept");
        session
            .handle_lane(now, LANE, next.slice(8_000..))
            .expect("legal");
        assert_eq!((kept(&session), session.received()), (None, 3));
    }
}

#[test]
fn what_waits_is_counted_by_what_it_is() {
    let now = crate::any_instant();
    let (mut session, key, _) = with_half_a_frame(now);
    while session.poll_lane(now, true).is_some() {}
    assert_eq!(session.queued(), Queued::default());
    assert!(session.room_for(now, key, 1) >= 1_000);
    let mut buffer = session.take_buffer();
    buffer.truncate(1_000);
    session.send(key, buffer).expect("there is room");
    session.send_control(&[7; 10]);
    session.send_datagram(now, Bytes::from_static(&[0; 100]));
    let waiting = Queued {
        control: HEADER_LEN + 10,
        datagrams: 164,
        data: 1_000,
        sustained: 0,
    };
    assert_eq!(session.queued(), waiting);
    while session.poll_lane(now, true).is_some() {}
    assert_eq!(session.queued(), Queued::default(), "all has left");
}
