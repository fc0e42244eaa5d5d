//! Properties P11 and P12: everything moves however little memory there is, and streams share by bytes.

use proptest::prelude::*;
use remoteingress_proto::mux::Carrier;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::frame::MAX_FRAME_LEN;
use remoteingress_testkit::sender::Sender;
use remoteingress_testkit::world::{Setup, World};
use remoteingress_testkit::{EDGE, HUB};
use std::time::Duration;

const MIB: usize = 1 << 20;

on_each_carrier!(
    p11_a_mebibyte_through_small_windows_in_both_directions,
    p11_all_credit_is_promised_and_still_everything_moves,
    p11_a_reader_that_stalls_holds_up_nobody_else,
    p9_ids_end_before_they_wrap_and_all_streams_live_on,
);

/// Both ends write to each other at once on every stream, far more than a window.
fn write_both_ways(setup: &Setup, streams: usize, bytes: usize) {
    let mut world = World::new(setup);
    for i in 0..streams {
        world.open(i % 2).expect("memory for a stream");
        world.transfer(i % 2, usize::MAX);
        world.check();
    }
    for serial in 0..streams {
        world.write(EDGE, serial, bytes);
        world.write(HUB, serial, bytes);
    }
    world.run_until_delivered();
    for serial in 0..streams {
        assert!(
            world.streams[serial]
                .ends
                .iter()
                .all(|end| end.read == bytes as u64)
        );
    }
    world.wind_up();
}

fn p11_a_mebibyte_through_small_windows_in_both_directions(carrier: Carrier) {
    // 64 KiB, 16 KiB and 2 KiB to begin with.
    for sixteenths in [3, 6, 14] {
        let limit = 64 * MIB;
        let setup = Setup {
            carrier,
            limits: [limit; 2],
            ballast: [limit / 16 * sixteenths; 2],
            ..Setup::default()
        };
        write_both_ways(&setup, 4, MIB);
    }
}

fn p11_all_credit_is_promised_and_still_everything_moves(carrier: Carrier) {
    let limit = MIB;
    let ballast = limit / 16 * 15 - 40 * 2_048;
    let setup = Setup {
        carrier,
        limits: [limit; 2],
        ballast: [ballast; 2],
        ..Setup::default()
    };
    write_both_ways(&setup, 40, 100_000);
}

fn p11_a_reader_that_stalls_holds_up_nobody_else(carrier: Carrier) {
    let limit = 2 * MIB;
    let setup = Setup {
        carrier,
        limits: [limit; 2],
        ..Setup::default()
    };
    let mut world = World::new(&setup);
    let live = world.open(EDGE).expect("memory");
    let mut accepted = 0;
    for serial in 0..20 {
        world.open(EDGE).expect("memory");
        world.write(EDGE, serial, MIB);
        world.transfer(EDGE, usize::MAX);
        world.transfer(HUB, usize::MAX);
        world.check();
        accepted += usize::from(world.streams[serial].ends[HUB].key.is_some());
    }
    assert_eq!(accepted, 20);
    for _ in 0..2_000 {
        world.transfer(EDGE, usize::MAX);
        world.transfer(HUB, usize::MAX);
        world.check();
        world.read(HUB, live, usize::MAX);
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.streams[live].ends[HUB].read, MIB as u64);
    world.wind_up();
}

fn p9_ids_end_before_they_wrap_and_all_streams_live_on(carrier: Carrier) {
    for left in [1, 2, 3] {
        let mut world = World::new(&Setup {
            carrier,
            ids_left: Some(left),
            ..Setup::default()
        });
        for side in [EDGE, HUB] {
            for _ in 0..left {
                assert!(!world.sessions[side].is_closing());
                let serial = world.open(side).expect("an id is left");
                world.write(side, serial, 10_000);
            }
            assert!(world.sessions[side].is_closing());
            assert!(world.open(side).is_err());
        }
        world.run_until_delivered();
        assert!(world.open(EDGE).is_err(), "ids don't come back");
        world.wind_up();
    }
}

proptest! {
    #[test]
    fn p12_ready_streams_differ_by_at_most_two_frames(
        sizes in prop::collection::vec(1_000..16_376usize, 2..6),
        churn in prop::collection::vec(0..5usize, 2..6),
    ) {
        let mut sender = Sender::with_credit(Carrier::Ordered, 1 << 20);
        let mut keys = Vec::new();
        for (size, churn) in sizes.iter().zip(churn.iter().cycle()) {
            // Streams that vanish leave their place in the session to the next one.
            for _ in 0..*churn {
                let key = sender.open();
                sender.session.abort(key, AbortCode::Reset);
                sender.session.release(key);
            }
            let key = sender.open();
            sender.fill(key, *size);
            keys.push(key);
        }
        let mut sent = vec![0usize; sizes.len()];
        for _ in 0..200 {
            let Some(frame) = sender.session.poll_transmit(sender.now) else { break };
            let id = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            let Some(at) = keys.iter().position(|key| {
                id != 0 && sender.session.view(*key).and_then(|view| view.id).is_some_and(|own| own.0 == id)
            }) else { continue };
            sent[at] += frame.len();
            if sent[at] > (1 << 20) - 2 * MAX_FRAME_LEN {
                break;
            }
            sender.fill(keys[at], sizes[at]);
            let (least, most) = (sent.iter().min(), sent.iter().max());
            let spread = most.unwrap_or(&0) - least.unwrap_or(&0);
            prop_assert!(spread <= 2 * MAX_FRAME_LEN, "{sent:?}");
        }
    }
}
