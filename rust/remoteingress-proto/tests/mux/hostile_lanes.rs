//! A peer that breaks the rules of lanes, or keeps to them at our cost.

use proptest::prelude::*;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Carrier, Event, GoAwayCode, LaneOutput, SessionError, Violation};
use remoteingress_proto::wire::frame::{FrameError, FrameKind, MAX_PAYLOAD_LEN, StreamId};
use remoteingress_testkit::frames::{encoded, window};
use remoteingress_testkit::victim::{Victim, until_excessive};
use std::time::Duration;

/// The victim is the hub: the peer opens odd ids.
const ID: u32 = 1;
const CREDIT: u32 = Victim::CREDIT;
/// Unfinished frames on lanes without a live stream.
const MOST_UNFINISHED: usize = 1 << 14;

fn victim() -> Victim {
    Victim::on(Carrier::Lanes)
}

fn opened() -> Victim {
    let mut victim = victim();
    victim.open(ID, CREDIT).expect("legal");
    victim
}

fn violated<T>(violation: Violation) -> Result<T, SessionError> {
    Err(SessionError::Violation(violation))
}

fn open_frame(id: u32) -> Vec<u8> {
    encoded(FrameKind::Open, id, &[0; 8]).to_vec()
}

#[test]
fn frames_on_another_lane_than_their_own_are_violations() {
    let frames: [(FrameKind, u32, &[u8]); 13] = [
        (FrameKind::Open, 3, &[0; 8]),
        (FrameKind::Data, ID, b"x"),
        (FrameKind::Fin, ID, b""),
        (FrameKind::Abort, ID, b"\0"),
        (FrameKind::Cancel, ID, b""),
        (FrameKind::Window, ID, &[0, 0, 0, 1]),
        (FrameKind::Control, 0, b"c"),
        (FrameKind::GoAway, 0, &[0; 9]),
        (FrameKind::Credit, 0, &[0; 4]),
        (FrameKind::Ping, 0, &[0; 8]),
        (FrameKind::Pong, 0, &[0; 8]),
        (FrameKind::Ack, 0, &[0; 8]),
        (FrameKind::Datagram, 0, b"d"),
    ];
    for (kind, id, payload) in frames {
        let bytes = encoded(kind, id, payload);
        use FrameKind::{Abort, Data, Datagram, Fin, Open};
        let own = if matches!(kind, Open | Data | Fin | Abort) {
            Some(id)
        } else {
            (kind != Datagram).then_some(0)
        };
        for lane in [0, ID, 2, 3, 5] {
            if Some(lane) == own {
                continue;
            }
            // Of an unfinished frame the header is enough.
            for bytes in [&bytes[..], &bytes[..8]] {
                assert_eq!(
                    opened().feed_lane(lane, bytes),
                    violated(Violation::BadLane(StreamId(lane))),
                    "{kind:?} on lane {lane}"
                );
            }
        }
    }
}

#[test]
fn a_lane_begins_with_its_open() {
    for (kind, payload) in [
        (FrameKind::Data, &b"x"[..]),
        (FrameKind::Fin, b""),
        (FrameKind::Abort, b"\0"),
        (FrameKind::Window, b"\0\0\0\x01"),
    ] {
        // Below and above what the peer has opened, and of the victim's own.
        for id in [3, 7, 2] {
            let mut victim = victim();
            victim.open(5, CREDIT).expect("legal");
            let never = Violation::NeverOpened {
                id: StreamId(id),
                kind,
            };
            assert_eq!(victim.feed(kind, id, payload), violated(never));
        }
    }
    let mut victim = victim();
    let never = Violation::NeverOpened {
        id: StreamId(3),
        kind: FrameKind::Data,
    };
    let unfinished = &encoded(FrameKind::Data, 3, &[0; 9_000])[..8];
    assert_eq!(victim.feed_lane(3, unfinished), violated(never));
}

#[test]
fn p9_a_lane_is_opened_once_and_only_by_its_opener() {
    for (first, next) in [(1, 1), (5, 5), (1, 2), (1, 4)] {
        let mut victim = victim();
        victim.open(first, CREDIT).expect("legal");
        assert_eq!(
            victim.open(next, CREDIT),
            violated(Violation::BadStreamId(StreamId(next)))
        );
    }
    // Not even when its stream is long forgotten.
    let mut victim = opened();
    victim.feed(FrameKind::Abort, ID, b"\0").expect("legal");
    victim.release_all();
    victim.transmit();
    assert_eq!(
        victim.open(ID, CREDIT),
        violated(Violation::BadStreamId(StreamId(ID)))
    );
}

#[test]
fn a_lane_ends_after_its_streams_end() {
    let end = |victim: &mut Victim, lane| victim.session.handle_lane_end(StreamId(lane));
    let bad = |lane| violated(Violation::BadLane(StreamId(lane)));
    assert_eq!(end(&mut opened(), ID), bad(ID), "no FIN");
    assert_eq!(end(&mut opened(), 0), bad(0), "the session's own");
    assert_eq!(end(&mut opened(), 2), bad(2), "never opened by the victim");
    assert_eq!(end(&mut opened(), 3), bad(3), "never opened by the peer");
    for (kind, payload) in [(FrameKind::Fin, &b""[..]), (FrameKind::Abort, b"\0")] {
        let mut victim = opened();
        victim.feed(kind, ID, payload).expect("legal");
        assert_eq!(end(&mut victim, ID), Ok(()));
    }
    let mut victim = opened();
    victim
        .feed_lane(ID, &encoded(FrameKind::Fin, ID, b"")[..5])
        .expect("not yet known");
    assert_eq!(end(&mut victim, ID), bad(ID), "in mid-frame");
    let mut victim = opened();
    victim.release_all();
    victim
        .feed_lane(ID, &encoded(FrameKind::Data, ID, &[1; 100])[..50])
        .expect("legal");
    assert_eq!(
        end(&mut victim, ID),
        bad(ID),
        "in mid-frame, though nobody wants it"
    );
    let mut victim = opened();
    victim.release_all();
    victim.transmit();
    assert_eq!(end(&mut victim, ID), Ok(()), "the victim aborted it");
}

/// The victim opens a stream, which is told to its peer.
fn own_stream() -> Victim {
    let mut victim = victim();
    victim.owner_opens();
    assert_eq!(victim.transmit_kinds(FrameKind::Open), 1);
    victim
}

#[test]
fn an_empty_lane_that_ends_reads_as_refused_and_a_cut_one_never_does() {
    let mut victim = own_stream();
    victim
        .session
        .handle_lane_end(StreamId(2))
        .expect("a GOAWAY is on its way");
    assert_eq!(
        victim.take(0),
        (0, Some(StreamEnd::Aborted(AbortCode::Refused)))
    );
    victim
        .feed(FrameKind::GoAway, 0, &[2, 0, 0, 0, 0, 0, 0, 0, 0])
        .expect("here it is");
    assert_eq!(
        victim.take(0),
        (0, Some(StreamEnd::Aborted(AbortCode::Refused)))
    );
    let mut victim = own_stream();
    victim.data(2, 5).expect("legal");
    assert_eq!(
        victim.session.handle_lane_end(StreamId(2)),
        violated(Violation::BadLane(StreamId(2)))
    );
}

#[test]
fn p6_credit_is_exact_and_asked_for_before_the_payload_comes() {
    let mut victim = opened();
    let mut left = CREDIT as usize;
    while left > 0 {
        let n = left.min(MAX_PAYLOAD_LEN);
        victim.data(ID, n).expect("within credit");
        left -= n;
    }
    let exceeded = Violation::CreditExceeded(StreamId(ID));
    let frame = encoded(FrameKind::Data, ID, b"x");
    assert_eq!(victim.feed_lane(ID, &frame[..8]), violated(exceeded));
    // Nor is it forgiven on a stream that is read no more.
    let mut victim = opened();
    victim.owner(0, 5);
    for _ in 0..4 {
        victim.data(ID, 16_000).expect("within credit");
    }
    assert_eq!(victim.data(ID, 2_000), violated(exceeded));
}

#[test]
fn bytes_that_are_no_frame_are_violations_on_any_lane() {
    for lane in [0, ID, 3] {
        assert_eq!(
            opened().feed_lane(lane, &[0xff; 8]),
            violated(Violation::Frame(FrameError::UnknownKind(0xff)))
        );
    }
}

#[test]
fn opens_with_gaps_are_bounded() {
    // The limit of streams refuses most; the peer reads that.
    let mut victim = victim();
    let most = until_excessive_or_bad_id(&mut victim);
    assert!(most <= Victim::MOST_KEPT, "{most}");
    assert_eq!(victim.opened(), Victim::MAX_PEER_STREAMS);
}

fn until_excessive_or_bad_id(victim: &mut Victim) -> usize {
    for i in 0..2 * Victim::MOST_KEPT {
        let id = 3 + 4 * i as u32;
        let result = victim.open(id, 0);
        victim.transmit();
        victim.acknowledge().expect("legal");
        if let Err(error) = result {
            assert_eq!(
                error,
                SessionError::Violation(Violation::BadStreamId(StreamId(id)))
            );
            return i;
        }
    }
    panic!("gaps are endless");
}

#[test]
fn cancels_ahead_of_their_opens_count_once_and_are_bounded() {
    let mut victim = victim();
    for _ in 0..3 {
        victim.feed(FrameKind::Cancel, ID, b"").expect("early");
    }
    victim.open(ID, CREDIT).expect("legal");
    for _ in 0..2 {
        let stopped = |e: &&Event| matches!(e, Event::SendStopped(_));
        assert_eq!(victim.events.iter().filter(stopped).count(), 1);
        let again = victim.feed(FrameKind::Cancel, ID, b"");
        again.expect("harmless");
    }
    assert_eq!(victim.session.glitches(), 0);
    let kept = until_excessive(2 * Victim::MOST_KEPT, |i| {
        victim.feed(FrameKind::Cancel, 3 + 2 * i as u32, b"")
    });
    assert!(
        (Victim::MAX_PEER_STREAMS..=Victim::MOST_KEPT).contains(&kept),
        "{kept}"
    );
}

#[test]
fn unfinished_frames_are_bounded_in_number_and_kept_only_where_credit_was_given() {
    let mut victim = victim();
    let kept = until_excessive(2 * MOST_UNFINISHED, |i| {
        let id = 1 + 2 * i as u32;
        victim.feed_lane(id, &open_frame(id)[..15])
    });
    assert_eq!(kept, MOST_UNFINISHED);
    // Payload of streams that the owner has left: only counted, and in the end the frame is whole.
    let mut victim = self::victim();
    for i in 0..1_000 {
        let id = 1 + 2 * i;
        victim.open(id, CREDIT).expect("legal");
        let frame = encoded(FrameKind::Data, id, &[1; 16_000]);
        let (before, after) = frame.split_at(9_000);
        victim.feed_lane(id, before).expect("legal");
        victim.release_all();
        victim.feed_lane(id, &after[..6_000]).expect("legal");
        victim.feed_lane(id, &after[6_000..]).expect("legal");
        victim.feed(FrameKind::Abort, id, b"\x02").expect("legal");
        victim.session.handle_lane_end(StreamId(id)).expect("legal");
        victim.transmit();
        victim.acknowledge().expect("legal");
    }
    assert_eq!(victim.session.received(), 3_000);
    assert_eq!(victim.budget.used(), 0);
}

#[test]
fn p10_permits_hold_whatever_comes_first() {
    for how in 0..4 {
        let mut victim = victim();
        for i in 0..20_000 {
            let id = 1 + 2 * (i ^ 7);
            let cancel = |v: &mut Victim| v.feed(FrameKind::Cancel, id, b"");
            let open = |v: &mut Victim| v.open(id, 1_000);
            let abort = |v: &mut Victim| v.feed(FrameKind::Abort, id, b"\0");
            let result = match how {
                0 => cancel(&mut victim).and_then(|()| open(&mut victim)),
                1 => open(&mut victim).and_then(|()| cancel(&mut victim)),
                2 => cancel(&mut victim)
                    .and_then(|()| open(&mut victim))
                    .and_then(|()| abort(&mut victim)),
                _ => open(&mut victim).and_then(|()| abort(&mut victim)),
            };
            result.expect("within bounds");
            assert!(victim.session.active_streams() <= Victim::MAX_PEER_STREAMS);
        }
        assert_eq!(
            victim.opened(),
            Victim::MAX_PEER_STREAMS,
            "nobody released one"
        );
        assert!(victim.budget.used() <= Victim::LIMIT);
    }
}

#[test]
fn p13_refusals_and_ended_lanes_are_bounded_if_nothing_is_read() {
    let mut victim = victim();
    let refused = until_excessive(2 * Victim::MOST_KEPT, |i| victim.open(1 + 2 * i as u32, 0));
    assert!(refused <= Victim::MOST_KEPT, "{refused}");
    // Streams that both ends have ended leave a lane to be ended.
    let mut victim = self::victim();
    let ended = until_excessive(2 * Victim::MOST_KEPT, |i| {
        let id = 1 + 2 * i as u32;
        victim.open(id, 0)?;
        victim.feed(FrameKind::Abort, id, b"\0")?;
        victim.release_all();
        Ok(())
    });
    assert!(ended <= Victim::MOST_KEPT, "{ended}");
}

#[test]
fn p13_what_waits_for_an_acknowledgement_is_bounded() {
    let mut victim = victim();
    let most = until_excessive(1_200_000, |i| {
        victim.open(1 + 2 * i as u32, 1_000)?;
        victim.release_all();
        victim.transmit();
        Ok(())
    });
    assert!(most <= 1 << 19, "{most}");
}

#[test]
fn p15_an_open_that_comes_late_after_a_goaway_is_refused_by_name() {
    for code in [GoAwayCode::EnhanceYourCalm, GoAwayCode::Replaced] {
        let mut victim = victim();
        victim.open(5, CREDIT).expect("legal");
        victim.session.go_away(code, Duration::ZERO);
        victim.open(3, CREDIT).expect("late");
        victim.open(7, CREDIT).expect("after the last one served");
        for id in [3, 7] {
            victim.data(id, 100).expect("on its way");
            victim.feed(FrameKind::Fin, id, b"").expect("on its way");
        }
        assert_eq!(victim.opened(), 1);
        let (mut aborted, mut finished) = (vec![], vec![]);
        while let Some(output) = victim.session.poll_lane(victim.now, true) {
            match output {
                LaneOutput::Frame { lane, frame, .. } if frame[0] == FrameKind::Abort as u8 => {
                    assert_eq!(frame[8], AbortCode::Refused as u8);
                    aborted.push(lane.0);
                }
                LaneOutput::Finish(lane) => finished.push(lane.0),
                LaneOutput::Frame { .. } | LaneOutput::Datagram(_) => {}
            }
        }
        finished.sort_unstable();
        assert_eq!((aborted, finished), (vec![3], vec![3, 7]));
        assert_eq!(victim.session.glitches(), 0);
    }
    let mut draining = victim();
    draining.open(5, CREDIT).expect("legal");
    draining
        .session
        .go_away(GoAwayCode::Draining, Duration::ZERO);
    draining.open(3, CREDIT).expect("late");
    assert_eq!(draining.opened(), 2, "who drains still serves it");
}

#[test]
fn floods_on_the_sessions_lane_are_excessive() {
    for (kind, payload, tolerated) in [
        (FrameKind::Ping, [7; 8], 1_004),
        (FrameKind::Pong, [7; 8], 1_000),
    ] {
        let mut victim = victim();
        assert_eq!(
            until_excessive(2_000, |_| victim.feed(kind, 0, &payload)),
            tolerated
        );
    }
    let mut victim = opened();
    assert_eq!(until_excessive(2_000, |_| victim.data(ID, 0)), 1_000);
    let mut victim = opened();
    let bad = Violation::BadCredit(StreamId(ID));
    assert_eq!(
        victim.feed(FrameKind::Window, ID, &window(0)),
        violated(bad)
    );
}

#[test]
fn p17_silence_is_an_event_and_costs_no_flood_of_pings() {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);
    let mut victim = opened();
    assert_eq!(victim.transmit_kinds(FrameKind::Ping), 1);
    for step in [9, 10, 20, 60]
        .map(Duration::from_secs)
        .into_iter()
        .chain([TEN_YEARS])
    {
        victim.now += step;
        victim.session.handle_timeout(victim.now).expect("not dead");
        assert_eq!(victim.transmit_kinds(FrameKind::Ping), 0, "one is awaited");
        let next = victim.session.poll_timeout().expect("attached");
        assert!(next > victim.now, "nothing is due again at once");
    }
    victim
        .feed(FrameKind::Pong, 0, &1u64.to_be_bytes())
        .expect("late");
    victim.now += Duration::from_secs(3);
    assert_eq!(victim.transmit_kinds(FrameKind::Ping), 1);
    let told = victim
        .events
        .iter()
        .filter(|e| matches!(e, Event::Silent | Event::Heard));
    assert!(told.eq(&[Event::Silent, Event::Heard]));
    assert_eq!(victim.session.glitches(), 0);
}

#[test]
fn datagrams_that_no_frame_could_carry_are_dropped() {
    let mut victim = victim();
    for bytes in [0, 1, MAX_PAYLOAD_LEN, MAX_PAYLOAD_LEN + 1, 65_000] {
        victim
            .session
            .handle_datagram(victim.now, vec![0; bytes].into());
    }
    let mut sizes = vec![];
    while let Some(event) = victim.session.poll_event() {
        let Event::Datagram(datagram) = event else {
            panic!("{event:?}")
        };
        sizes.push(datagram.len());
    }
    assert_eq!(sizes, [1, MAX_PAYLOAD_LEN]);
}

proptest! {
    /// Any bytes on any lanes, with ends anywhere.
    #[test]
    fn p3_whatever_comes_on_lanes_never_panics(
        pieces in prop::collection::vec(
            (0..6u32, prop::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0..10u8),
            1..60,
        ),
    ) {
        let mut victim = opened();
        for (lane, bytes, is_legal, then) in pieces {
            let bytes = if is_legal {
                let kinds = [FrameKind::Open, FrameKind::Data, FrameKind::Fin, FrameKind::Abort, FrameKind::Cancel];
                let kind = kinds[bytes.len() % kinds.len()];
                let payload = if kind == FrameKind::Open { &[0; 8][..] } else { &bytes };
                encoded(kind, lane, payload).to_vec()
            } else {
                bytes
            };
            let mut result = victim.feed_lane(lane, &bytes);
            match then {
                0 => result = result.and_then(|()| victim.session.handle_lane_end(StreamId(lane))),
                1 => victim.release_all(),
                2 => victim.owner_opens(),
                3 => drop(victim.transmit()),
                4 => victim.read_all(),
                _ => {}
            }
            prop_assert!(victim.budget.used() <= Victim::LIMIT);
            if result.is_err() {
                break;
            }
        }
        let budget = victim.budget.clone();
        drop(victim);
        prop_assert_eq!(budget.used(), 0);
    }
}
