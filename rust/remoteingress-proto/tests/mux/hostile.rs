//! A peer that knows the protocol and breaks it, or keeps to it at our cost (threats A3.3 to A3.9).

mod random;

use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Event, GoAwayCode, SessionError, Violation};
use remoteingress_proto::wire::frame::{FrameKind, MAX_PAYLOAD_LEN, StreamId};
use remoteingress_testkit::frames::{self, window};
use remoteingress_testkit::victim::{Victim, until_excessive};
use std::time::Duration;

/// The victim is the hub: the peer opens odd ids.
const ID: u32 = 1;
const CREDIT: u32 = Victim::CREDIT;

fn violation<T: std::fmt::Debug>(result: Result<T, SessionError>) -> Violation {
    match result {
        Err(SessionError::Violation(violation)) => violation,
        other => panic!("a violation was expected, not {other:?}"),
    }
}

#[test]
fn p6_credit_may_be_used_up_and_not_exceeded() {
    for (extra, verdict) in [
        (0, Ok(())),
        (1, Err(Violation::CreditExceeded(StreamId(ID)))),
    ] {
        let mut victim = Victim::new();
        victim.open(ID, CREDIT).expect("legal");
        let mut left = CREDIT as usize + extra;
        let mut result = Ok(());
        while left > 0 && result.is_ok() {
            let n = left.min(MAX_PAYLOAD_LEN);
            result = victim.data(ID, n);
            left -= n;
        }
        assert_eq!(result, verdict.map_err(SessionError::Violation));
        assert_eq!(left, 0, "and not a byte earlier");
    }
}

#[test]
fn p6_impossible_credit_is_refused() {
    let bad = Violation::BadCredit(StreamId(ID));
    let most = (1u32 << 31) - 1;
    let open = |credit: u32, assumed: u32| {
        Victim::new().feed(FrameKind::Open, ID, &frames::open(credit, assumed))
    };
    assert_eq!(open(most, CREDIT), Ok(()));
    assert_eq!(violation(open(most + 1, CREDIT)), bad);
    assert_eq!(
        violation(open(0, CREDIT + 1)),
        Violation::CreditExceeded(StreamId(ID))
    );
    let mut victim = Victim::new();
    victim.open(ID, 0).expect("legal");
    assert_eq!(
        victim.feed(FrameKind::Window, ID, &window(most - 1 - CREDIT)),
        Ok(())
    );
    assert_eq!(victim.feed(FrameKind::Window, ID, &window(1)), Ok(()));
    assert_eq!(
        violation(victim.feed(FrameKind::Window, ID, &window(1))),
        bad
    );
    assert_eq!(
        violation(victim.feed(FrameKind::Window, ID, &window(0))),
        bad
    );
    let credit = victim.feed(FrameKind::Credit, 0, &window(most + 1));
    assert_eq!(violation(credit), Violation::BadCredit(StreamId(0)));
}

#[test]
fn p9_ids_rise_and_have_the_right_parity() {
    for (id, next) in [
        (5, 5),
        (5, 3),
        (5, 2),
        (5, 8),
        (u32::MAX, u32::MAX),
        (u32::MAX, 1),
    ] {
        let mut victim = Victim::new();
        victim.open(id, CREDIT).expect("legal");
        assert_eq!(
            violation(victim.open(next, CREDIT)),
            Violation::BadStreamId(StreamId(next))
        );
    }
}

#[test]
fn a_frame_for_a_stream_that_was_never_opened_is_a_violation_at_once() {
    for (kind, payload) in [
        (FrameKind::Data, &b"x"[..]),
        (FrameKind::Fin, b""),
        (FrameKind::Abort, b"\0"),
        (FrameKind::Cancel, b""),
        (FrameKind::Window, b"\0\0\0\x01"),
    ] {
        for id in [2, 3, 4, u32::MAX - 1, u32::MAX] {
            let mut victim = Victim::new();
            victim.open(ID, CREDIT).expect("legal");
            let id = StreamId(id);
            let result = victim.feed(kind, id.0, payload);
            assert_eq!(violation(result), Violation::NeverOpened { id, kind });
        }
    }
}

#[test]
fn p8_nothing_comes_after_the_end() {
    use FrameKind::{Abort, Data, Fin};
    let after = |first: FrameKind, then: FrameKind| {
        let mut victim = Victim::new();
        victim.open(ID, CREDIT).expect("legal");
        let payload = |kind| {
            if kind == Fin { &b""[..] } else { &b"\0"[..] }
        };
        victim.feed(first, ID, payload(first)).expect("legal");
        victim.feed(then, ID, payload(then))
    };
    for (first, then) in [
        (Fin, Fin),
        (Fin, Data),
        (Abort, Data),
        (Abort, Fin),
        (Abort, Abort),
    ] {
        assert_eq!(
            violation(after(first, then)),
            Violation::AfterEnd(StreamId(ID))
        );
    }
    assert_eq!(after(Fin, Abort), Ok(()), "the other direction died too");
}

#[test]
fn p14_what_is_said_twice_counts_once() {
    let mut victim = Victim::new();
    victim.open(ID, CREDIT).expect("legal");
    for _ in 0..3 {
        victim.feed(FrameKind::Cancel, ID, b"").expect("harmless");
        victim
            .feed(FrameKind::GoAway, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 9])
            .expect("harmless");
    }
    let count = |wanted: fn(&Event) -> bool| victim.events.iter().filter(|e| wanted(e)).count();
    assert_eq!(count(|e| matches!(e, Event::SendStopped(_))), 1);
    assert_eq!(count(|e| matches!(e, Event::GoAway { .. })), 1);
}

#[test]
fn frames_for_a_forgotten_stream_cost_a_glitch_each() {
    let mut victim = Victim::new();
    victim.open(ID, CREDIT).expect("legal");
    victim.feed(FrameKind::Abort, ID, b"\0").expect("legal");
    victim.release_all();
    victim.transmit();
    victim.acknowledge().expect("legal");
    assert_eq!(victim.session.glitches(), 0);
    for i in 1..=1_000 {
        victim.data(ID, 9).expect("tolerated");
        assert_eq!(victim.session.glitches(), i);
    }
    assert_eq!(violation(victim.data(ID, 9)), Violation::Excessive);
}

#[test]
fn frames_for_a_stream_closed_here_are_free_until_the_peer_knows() {
    let mut victim = Victim::new();
    victim.open(ID, CREDIT).expect("legal");
    victim.release_all();
    victim.transmit();
    for _ in 0..3 {
        victim
            .data(ID, 9)
            .expect("on its way when the stream was closed");
    }
    victim.feed(FrameKind::Fin, ID, b"").expect("likewise");
    assert_eq!(victim.session.glitches(), 0);
    victim.acknowledge().expect("legal");
    victim.feed(FrameKind::Cancel, ID, b"").expect("tolerated");
    assert_eq!(victim.session.glitches(), 1);
}

#[test]
fn floods_of_worthless_frames_are_excessive() {
    let mut victim = Victim::new();
    victim.open(ID, CREDIT).expect("legal");
    assert_eq!(until_excessive(2_000, |_| victim.data(ID, 0)), 1_000);
    let mut victim = Victim::new();
    let pings = until_excessive(2_000, |_| victim.feed(FrameKind::Ping, 0, &[7; 8]));
    assert_eq!(pings, 1_004);
    assert_eq!(
        victim.transmit_kinds(FrameKind::Pong),
        1,
        "one PONG waits, however many PINGs came"
    );
    let mut victim = Victim::new();
    assert_eq!(
        until_excessive(2_000, |_| victim.feed(FrameKind::Pong, 0, &[7; 8])),
        1_000
    );
}

#[test]
fn acknowledgements_that_dont_fit_are_violations() {
    let mut victim = Victim::new();
    victim.session.send_control(b"x");
    victim.transmit();
    let ack = |victim: &mut Victim, n: u64| victim.feed(FrameKind::Ack, 0, &n.to_be_bytes());
    assert_eq!(violation(ack(&mut victim, 2)), Violation::BadOffset(2));
    assert_eq!(
        violation(ack(&mut victim, u64::MAX)),
        Violation::BadOffset(u64::MAX)
    );
    assert_eq!(ack(&mut victim, 1), Ok(()));
    assert_eq!(violation(ack(&mut victim, 0)), Violation::BadOffset(0));
}

#[test]
fn p10_streams_beyond_the_limit_are_refused_and_the_refusals_bounded() {
    let mut victim = Victim::new();
    let opened = until_excessive(2 * Victim::MOST_KEPT, |i| victim.open(1 + 2 * i as u32, 0));
    assert!(opened <= Victim::MOST_KEPT, "{opened}");
    let seen = victim
        .events
        .iter()
        .filter(|e| matches!(e, Event::Opened { .. }))
        .count();
    assert_eq!(seen, Victim::MAX_PEER_STREAMS);
}

/// Rapid reset, and all that makes this end reset streams, from a peer that reads nothing.
#[test]
fn p10_p13_streams_that_end_at_once_are_bounded_if_the_peer_doesnt_read() {
    for how in 0..4 {
        let mut victim = Victim::new();
        let opened = until_excessive(2 * Victim::MOST_KEPT, |i| {
            let id = 1 + 2 * i as u32;
            victim.open(id, 1_000)?;
            match how {
                0 => victim.feed(FrameKind::Abort, id, b"\0")?,
                1 => victim.feed(FrameKind::Fin, id, b"")?,
                2 => victim.feed(FrameKind::Cancel, id, b"")?,
                _ => {}
            }
            victim.release_all();
            // A peer's ABORT leaves nothing to say: end it here, or the flood costs nothing.
            if how == 0 && i == Victim::MOST_KEPT {
                Err(Violation::Excessive.into())
            } else {
                Ok(())
            }
        });
        assert!(opened <= Victim::MOST_KEPT, "{opened} in way {how}");
        assert!(victim.session.active_streams() <= 1);
    }
}

#[test]
fn p13_what_waits_for_an_acknowledgement_is_bounded() {
    let mut victim = Victim::new();
    let opened = until_excessive(1_200_000, |i| {
        victim.open(1 + 2 * i as u32, 1_000)?;
        victim.release_all();
        victim.transmit();
        Ok(())
    });
    assert!(opened <= Victim::MOST_KEPT, "{opened}");
}

#[test]
fn p15_after_enhance_your_calm_new_streams_are_ignored_with_all_that_follows() {
    let mut victim = Victim::new();
    victim.open(1, CREDIT).expect("legal");
    victim
        .session
        .go_away(GoAwayCode::EnhanceYourCalm, Duration::ZERO);
    victim.open(3, CREDIT).expect("on its way");
    victim.data(3, 100).expect("on its way");
    victim.feed(FrameKind::Abort, 3, b"\0").expect("on its way");
    victim.data(1, 100).expect("still served");
    assert_eq!(
        victim
            .events
            .iter()
            .filter(|e| matches!(e, Event::Opened { .. }))
            .count(),
        1
    );
    assert_eq!(victim.session.glitches(), 0);
    assert_eq!(victim.transmit_kinds(FrameKind::Abort), 0);
}

#[test]
fn p17_ten_years_are_only_a_number() {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);
    let mut victim = Victim::new();
    let key = victim.session.open(victim.now, b"h").expect("open");
    for _ in 0..3 {
        victim.transmit();
        victim.data_on_new_stream(1_000);
        victim.read_all();
        victim.now += TEN_YEARS;
        assert_eq!(
            victim.session.handle_timeout(victim.now),
            Err(SessionError::PeerSilent)
        );
        victim.session.room(victim.now, key);
        victim.feed(FrameKind::Ping, 0, &[1; 8]).expect("legal");
        victim
            .feed(FrameKind::Pong, 0, &1u64.to_be_bytes())
            .expect("late");
        victim.reattach();
        assert!(
            victim
                .session
                .poll_timeout()
                .is_some_and(|at| at <= victim.now + TEN_YEARS)
        );
    }
    victim.session.detach(victim.now);
    victim.now += TEN_YEARS;
    assert_eq!(
        victim.session.handle_timeout(victim.now),
        Err(SessionError::ResumeExpired)
    );
    // A clock that seems to run backwards is survived, too.
    victim.reattach();
    victim.now -= Duration::from_secs(3_600);
    victim.transmit();
    victim.data_on_new_stream(1_000);
    assert_eq!(victim.session.handle_timeout(victim.now), Ok(()));
}

#[test]
fn an_abort_reaches_the_owner_after_the_payload_before_it() {
    let mut victim = Victim::new();
    victim.open(ID, CREDIT).expect("legal");
    victim.data(ID, 5).expect("legal");
    victim
        .feed(FrameKind::Abort, ID, &[250])
        .expect("codes of later versions are legal");
    let (payload, end) = victim.take(0);
    assert_eq!(
        (payload, end),
        (5, Some(StreamEnd::Aborted(AbortCode::Reset)))
    );
}
