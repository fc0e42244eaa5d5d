//! The hub has lost the session, and the edge begins it anew.

use remoteingress_proto::control::{ControlAssembler, ControlMessage};
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Carrier, EARLY_CREDIT, Event, GoAwayCode, Role};
use remoteingress_proto::wire::frame::FrameKind;
use remoteingress_testkit::any_instant;
use remoteingress_testkit::builder::{DEFAULT_BUDGET, SessionBuilder, budget};
use remoteingress_testkit::pair::{Pair, edge, hub};
use std::time::Duration;

const LOST: StreamEnd = StreamEnd::Aborted(AbortCode::TunnelLost);

/// The hub loses the session, and the edge learns it.
fn lose(pair: &mut Pair) {
    pair.ask_again_in_vain();
    pair.edge_events.clear();
    pair.begin_again();
    pair.settle();
}

#[test]
fn a_client_that_still_sends_after_the_targets_fin_learns_that_its_stream_is_lost() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    pair.send(hub(b), b"early answer");
    pair.finish(hub(b));
    pair.settle();
    let answer = (b"early answer".to_vec(), Some(StreamEnd::Finished));
    assert_eq!(pair.read(edge(a)), answer);
    lose(&mut pair);
    assert_eq!(pair.edge_events, [Event::Readable(a)]);
    assert_eq!(pair.read(edge(a)), (vec![], Some(LOST)));
    pair.release(edge(a));
    pair.settle_until_flushed();
    assert_eq!(pair.committed(), 0);
}

#[test]
fn a_fin_that_never_left_counts_as_still_sending() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    pair.finish(hub(b));
    pair.settle();
    pair.send(edge(a), b"question");
    pair.finish(edge(a));
    lose(&mut pair);
    assert_eq!(pair.read(edge(a)), (vec![], Some(LOST)));
}

#[test]
fn a_stream_that_has_ended_in_both_directions_stays_finished() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    pair.finish(edge(a));
    pair.send(hub(b), b"answer");
    pair.finish(hub(b));
    pair.settle();
    lose(&mut pair);
    let answer = (b"answer".to_vec(), Some(StreamEnd::Finished));
    assert_eq!(pair.read(edge(a)), answer);
}

/// The control messages that the hub has got.
fn messages(pair: &Pair) -> Vec<ControlMessage> {
    let mut assembler = ControlAssembler::new();
    let mut messages = Vec::new();
    for event in &pair.hub_events {
        if let Event::Control(payload) = event {
            messages.extend(assembler.handle(payload).expect("whole messages"));
        }
    }
    messages
}

fn send_control(pair: &mut Pair, parts: &[Vec<u8>]) {
    for part in parts {
        pair.edge.send_control(part);
    }
}

#[test]
fn no_rest_of_a_control_message_goes_out_without_its_beginning() {
    let address = |last| ControlMessage::PublicAddress([192, 0, 2, last].into());
    let whole = address(0).encode().expect("short").concat();
    let (kind, body) = (whole[0], &whole[2..]);
    // In four parts.
    let parts = [(0, 1), (1, 2), (2, 3), (3, body.len())].map(|(from, to)| {
        let has_more = u8::from(to < body.len());
        [&[kind, has_more], &body[from..to]].concat()
    });
    // Numbers of parts that are acknowledged and that leave.
    for (acknowledged, left) in [(0, 4), (1, 2), (2, 2), (3, 4), (4, 4)] {
        let mut pair = Pair::new();
        pair.open(b"h");
        send_control(&mut pair, &parts[..acknowledged]);
        pair.settle_until_acknowledged();
        send_control(&mut pair, &parts[acknowledged..left]);
        pair.transfer(0);
        pair.cut();
        send_control(&mut pair, &parts[left..]);
        send_control(&mut pair, &address(1).encode().expect("short"));
        lose(&mut pair);
        let goes_on = (acknowledged == 0).then(|| address(0));
        let expected: Vec<_> = goes_on.into_iter().chain([address(1)]).collect();
        assert_eq!(messages(&pair), expected, "{acknowledged} of {left}");
    }
}

#[test]
fn a_cancel_of_a_stream_that_goes_on_is_said_after_its_open() {
    let mut pair = Pair::new();
    pair.open(b"h");
    pair.ask_again_in_vain();
    let key = pair.edge.open(pair.now, b"ahead").expect("open");
    pair.transfer(0);
    pair.edge.cancel(key);
    pair.transfer(usize::MAX);
    pair.begin_again();
    pair.settle();
    let b = *pair.opened.last().expect("it goes on");
    assert_eq!(pair.hub_events.last(), Some(&Event::SendStopped(b)));
}

fn go_away(pair: &mut Pair) {
    pair.edge.go_away(GoAwayCode::Draining, Duration::ZERO);
}

/// Number of times the hub's session has heard that the edge goes away.
fn go_aways(pair: &Pair) -> usize {
    let is_go_away = |event: &&Event| matches!(event, Event::GoAway { .. });
    pair.hub_events.iter().filter(is_go_away).count()
}

#[test]
fn a_session_that_goes_away_says_so_again_in_the_hubs_other_session() {
    let mut pair = Pair::new();
    pair.open(b"h");
    go_away(&mut pair);
    pair.settle_until_acknowledged();
    assert_eq!(go_aways(&pair), 1);
    for _ in 0..2 {
        lose(&mut pair);
        assert_eq!(go_aways(&pair), 1);
        assert!(pair.hub.is_closing());
    }
}

#[test]
fn a_go_away_that_is_still_under_way_is_said_once() {
    let mut pair = Pair::new();
    pair.open(b"h");
    go_away(&mut pair);
    pair.settle();
    assert_eq!(go_aways(&pair), 1, "it has come, but isn't acknowledged");
    lose(&mut pair);
    assert_eq!(go_aways(&pair), 1);
    // It has not even left.
    let mut pair = Pair::new();
    pair.open(b"h");
    pair.cut();
    go_away(&mut pair);
    lose(&mut pair);
    assert_eq!(go_aways(&pair), 1);
}

#[test]
fn a_go_away_that_died_with_its_connection_is_replayed() {
    let mut pair = Pair::new();
    pair.open(b"h");
    go_away(&mut pair);
    pair.transfer(0);
    pair.cut();
    pair.resume();
    pair.settle();
    assert_eq!(go_aways(&pair), 1);
    pair.cut();
    pair.resume();
    pair.settle();
    assert_eq!(go_aways(&pair), 1, "what has come isn't replayed");
}

#[test]
fn a_begin_that_died_with_its_connection_isnt_missed() {
    let mut pair = Pair::new();
    pair.ask_again_in_vain();
    let key = pair.edge.open(pair.now, b"h").expect("open");
    pair.begin_again();
    pair.transfer(0);
    pair.cut();
    pair.resume();
    pair.settle();
    let b = *pair.opened.last().expect("its frames are replayed");
    pair.send(edge(key), b"question");
    pair.settle();
    assert_eq!(pair.read(hub(b)), (b"question".to_vec(), None));
}

#[test]
fn a_begin_that_never_left_isnt_said_on_the_next_connection() {
    let mut pair = Pair::new();
    pair.ask_again_in_vain();
    pair.edge.open(pair.now, b"h").expect("open");
    pair.begin_again();
    pair.cut();
    pair.resume();
    pair.settle();
    assert_eq!((pair.opened.len(), pair.hub.glitches()), (1, 0));
}

#[test]
fn a_stream_from_before_the_welcome_assumes_what_any_hub_allows() {
    let mut pair = Pair::new();
    pair.open(b"h");
    pair.cut();
    let away = pair.edge.open(pair.now, b"while away").expect("open");
    pair.hub_announces(EARLY_CREDIT);
    pair.ask_again_in_vain();
    let early = pair.edge.open(pair.now, b"ahead").expect("open");
    for key in [away, early] {
        assert_eq!(pair.edge.room(pair.now, key), EARLY_CREDIT as usize);
        pair.send(edge(key), &[1; EARLY_CREDIT as usize]);
    }
    pair.begin_again();
    pair.settle();
    assert_eq!(pair.opened.len(), 2, "both go on");
}

#[test]
fn a_welcome_back_gives_new_streams_their_credit_again() {
    let mut pair = Pair::new();
    pair.open(b"h");
    let room = |pair: &mut Pair| {
        let key = pair.edge.open(pair.now, b"h").expect("open");
        pair.edge.room_for(pair.now, key, 4)
    };
    let whole = room(&mut pair);
    assert!(whole > EARLY_CREDIT as usize);
    pair.settle_until_acknowledged();
    pair.cut();
    pair.resume();
    assert_eq!(room(&mut pair), whole);
    pair.settle_until_acknowledged();
    let received = pair.hub.received();
    pair.edge.attach_early(pair.now, Carrier::Ordered);
    assert_eq!(room(&mut pair), EARLY_CREDIT as usize);
    pair.edge.welcome_back(received).expect("all is known");
    assert_eq!(room(&mut pair), whole);
}

#[test]
fn a_stream_that_assumes_too_much_for_the_other_session_is_lost() {
    let mut pair = Pair::new();
    pair.open(b"h");
    pair.settle_until_acknowledged();
    // Its OPEN doesn't leave before the connection is gone.
    let key = pair.edge.open(pair.now, b"late").expect("open");
    pair.send(edge(key), &[1; 10_000]);
    pair.cut();
    assert!(!pair.edge.may_resume_early(), "it would assume too much");
    pair.hub_announces(EARLY_CREDIT);
    lose(&mut pair);
    assert_eq!(pair.read(edge(key)), (vec![], Some(LOST)));
    assert_eq!(pair.opened, [], "it has never left");
}

#[test]
fn what_the_lanes_were_limited_to_ends_with_them() {
    let now = any_instant();
    let mut edge = SessionBuilder::new(Role::Edge)
        .carrier(Carrier::Lanes)
        .build(&budget(DEFAULT_BUDGET), now);
    let most = edge.max_datagram();
    edge.hold_streams(true);
    edge.set_send_limit(0);
    edge.set_max_datagram(1_000);
    edge.open(now, b"h").expect("open");
    edge.attach_early(now, Carrier::Ordered);
    assert_eq!(edge.max_datagram(), most);
    let mut frames = std::iter::from_fn(|| edge.poll_transmit(now));
    assert!(frames.any(|frame| frame[0] == FrameKind::Open as u8));
}
