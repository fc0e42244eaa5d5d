//! Regressions: ends of streams that cross on the way, each of which once cost a legal peer a glitch or leaked a stream.

use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_testkit::world::{Setup, World};
use remoteingress_testkit::{EDGE, HUB};
use std::time::Duration;

/// An ACK is due after this.
const ACK: Duration = Duration::from_millis(60);

/// A stream that the edge has opened and the hub knows.
fn opened() -> (World, usize) {
    let mut world = World::new(&Setup::default());
    let serial = world.open(EDGE).expect("open");
    deliver(&mut world, EDGE);
    deliver(&mut world, HUB);
    (world, serial)
}

/// All that end `side` has to send arrives; legal traffic costs no glitch.
fn deliver(world: &mut World, side: usize) {
    world.transfer(side, usize::MAX);
    world.check();
}

#[test]
fn a_stream_cancelled_and_aborted_before_its_open_left_leaves_nothing() {
    let mut world = World::new(&Setup::default());
    let serial = world.open(EDGE).expect("open");
    world.cancel(EDGE, serial);
    world.abort(EDGE, serial, AbortCode::Reset);
    world.release(EDGE, serial);
    assert!(world.sessions[EDGE].is_flushed());
    world.wind_up();
}

#[test]
fn payload_replayed_for_a_stream_that_was_released_meanwhile_is_free() {
    let (mut world, serial) = opened();
    world.write(HUB, serial, 5_000);
    world.transfer(HUB, 100);
    world.release(EDGE, serial);
    deliver(&mut world, EDGE);
    world.cut();
    world.resume();
    world.pass(ACK);
    deliver(&mut world, HUB);
    world.wind_up();
}

#[test]
fn payload_on_its_way_when_a_finished_stream_is_cancelled_is_free() {
    let (mut world, serial) = opened();
    world.finish(EDGE, serial);
    deliver(&mut world, EDGE);
    world.write(HUB, serial, 5_000);
    world.control(EDGE, b"between FIN and CANCEL");
    world.transfer(EDGE, 1);
    world.release(EDGE, serial);
    // The control message arrives, of the CANCEL after it only a byte.
    world.transfer(EDGE, 30);
    world.check();
    world.pass(ACK);
    deliver(&mut world, HUB);
    world.wind_up();
}

#[test]
fn an_abort_that_would_come_after_both_fins_isnt_sent() {
    let (mut world, serial) = opened();
    world.finish(HUB, serial);
    deliver(&mut world, HUB);
    world.abort(HUB, serial, AbortCode::Reset);
    world.finish(EDGE, serial);
    world.release(EDGE, serial);
    deliver(&mut world, EDGE);
    world.pass(ACK);
    deliver(&mut world, HUB);
    world.wind_up();
}

#[test]
fn an_abort_that_would_come_after_both_cancels_isnt_sent() {
    let (mut world, serial) = opened();
    world.cancel(HUB, serial);
    deliver(&mut world, HUB);
    world.abort(HUB, serial, AbortCode::Reset);
    world.release(EDGE, serial);
    deliver(&mut world, EDGE);
    world.pass(ACK);
    deliver(&mut world, HUB);
    world.wind_up();
}

#[test]
fn a_refusal_goes_before_the_acknowledgement_of_what_made_it_pointless() {
    let mut world = World::new(&Setup {
        max_peer_streams: 1,
        ..Setup::default()
    });
    for _ in 0..2 {
        world.open(HUB).expect("open");
    }
    deliver(&mut world, HUB);
    world.release(HUB, 1);
    deliver(&mut world, HUB);
    world.pass(ACK);
    deliver(&mut world, EDGE);
    world.wind_up();
}
