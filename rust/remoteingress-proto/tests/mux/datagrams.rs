//! Datagrams beside streams, on both carriers: neither starves the other, the oldest make room, the late are dropped.

use remoteingress_proto::mux::Carrier;
use remoteingress_proto::wire::frame::{MAX_FRAME_LEN, MAX_PAYLOAD_LEN};
use remoteingress_testkit::sender::{Out, Sender};
use std::time::Duration;

/// Bytes that datagrams may be ahead by, and the cost of each beside its bytes.
const BURST: usize = 64 * 1_024;
const OVERHEAD: usize = 64;

on_each_carrier!(
    datagrams_and_streams_that_never_rest_get_half_each,
    either_gets_everything_while_the_other_rests,
    the_oldest_make_room_for_the_newest,
    what_has_waited_for_500_ms_is_dropped,
    a_datagram_is_never_longer_than_a_frames_payload,
);

fn datagrams_and_streams_that_never_rest_get_half_each(carrier: Carrier) {
    for size in [4, 100, 1_200, 16_376] {
        let mut sender = Sender::new(carrier);
        let key = sender.open();
        let (mut datagrams, mut streams) = (0usize, 0usize);
        while datagrams + streams < 16 << 20 {
            sender.fill(key, MAX_PAYLOAD_LEN);
            sender.datagram(0, size);
            match sender.next().expect("both have something") {
                Out::Datagram(datagram) => datagrams += datagram.len() + OVERHEAD,
                Out::Frame(_, _, bytes, _) => streams += bytes,
                Out::Finish(_) => panic!("nothing ended"),
            }
            let apart = datagrams.abs_diff(streams);
            assert!(
                apart <= BURST + 2 * MAX_FRAME_LEN,
                "{carrier:?}: {datagrams} in datagrams of {size}, {streams} in streams"
            );
        }
    }
}

fn either_gets_everything_while_the_other_rests(carrier: Carrier) {
    let mut sender = Sender::new(carrier);
    for _ in 0..1_000 {
        sender.datagram(0, 1_200);
        assert!(matches!(sender.next(), Some(Out::Datagram(_))));
    }
    let key = sender.open();
    for _ in 0..100 {
        sender.fill(key, MAX_PAYLOAD_LEN);
        assert!(matches!(sender.next(), Some(Out::Frame(..))));
    }
    // Datagrams sent while nobody waited aren't owed: they have their burst again.
    for _ in 0..BURST / (1_200 + OVERHEAD) {
        sender.datagram(0, 1_200);
        assert!(matches!(sender.next(), Some(Out::Datagram(_))));
    }
}

fn the_oldest_make_room_for_the_newest(carrier: Carrier) {
    let mut sender = Sender::new(carrier);
    for number in 0..2_000 {
        sender.datagram(number, 1_200);
    }
    let numbers = sender.numbers();
    let dropped = sender.session.datagram_drops().overflow;
    assert!(numbers.len() * 1_200 <= 1_024 * 1_024 && numbers.len() > 800);
    assert_eq!(numbers.len() as u64 + dropped, 2_000);
    assert!(numbers.iter().copied().eq(dropped as u32..2_000));
}

fn what_has_waited_for_500_ms_is_dropped(carrier: Carrier) {
    let mut sender = Sender::new(carrier);
    sender.datagram(0, 9);
    sender.now += Duration::from_millis(1);
    sender.datagram(1, 9);
    sender.now += Duration::from_millis(499);
    assert_eq!(sender.numbers(), [1]);
    assert_eq!(sender.session.datagram_drops().late, 1);
}

#[test]
fn datagrams_wait_while_the_path_takes_none_and_streams_go_on() {
    let mut sender = Sender::new(Carrier::Lanes);
    let key = sender.open();
    sender.datagram(5, 9);
    sender.fill(key, 1_000);
    let mut frames = 0;
    while let Some(out) = sender.poll(false) {
        assert!(!matches!(out, Out::Datagram(_)));
        frames += 1;
    }
    assert!(frames > 100, "{frames}");
    assert_eq!(sender.numbers(), [5]);
}

fn a_datagram_is_never_longer_than_a_frames_payload(carrier: Carrier) {
    let mut sender = Sender::new(carrier);
    sender.session.set_max_datagram(70_000);
    assert_eq!(sender.session.max_datagram(), MAX_PAYLOAD_LEN);
    sender.datagram(0, MAX_PAYLOAD_LEN);
    let Some(Out::Datagram(datagram)) = sender.next() else {
        panic!("a datagram was expected");
    };
    assert_eq!(datagram.len(), MAX_PAYLOAD_LEN);
}

#[test]
fn none_waits_for_another_connection() {
    let mut sender = Sender::new(Carrier::Ordered);
    sender.datagram(0, 9);
    sender.session.detach(sender.now);
    sender.datagram(1, 9);
    assert_eq!(sender.session.datagram_drops().detached, 2);
    sender.session.attach(sender.now, 0).expect("fits");
    assert_eq!(sender.numbers(), Vec::<u32>::new());
}
