//! State that outlives the hub.

use crate::world::{World, targets};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use remoteingress_upstream::breaker::{Phase, SavedBreaker};
use remoteingress_upstream::latency::SavedLatency;
use remoteingress_upstream::member::{Admin, Checked, Member, Out, SavedHealth, SavedMember};
use remoteingress_upstream::plan::Strategy;
use remoteingress_upstream::time::Moment;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn member(world: &World, index: usize) -> &Arc<Member> {
    &world.plan.entries()[index].member
}

/// The same pool after a restart that took this long; its clock begins anew.
fn restarted(before: &World, took: Duration) -> World {
    let mut after = World::new(Strategy::RoundRobin, before.settings.targets.clone());
    after.now = Moment(0);
    for old in before.pool.members() {
        let new = after.pool.member(old.id()).expect("a member");
        new.restore(&old.saved(before.now), took, after.now);
    }
    after
}

/// A pool whose members are in all states.
fn lived() -> World {
    let mut world = World::new(Strategy::RoundRobin, targets(&[1; 8]));
    member(&world, 0).set_admin(Admin::Drain);
    member(&world, 1).set_admin(Admin::Dead);
    member(&world, 2).set_checked(Checked::Down, world.now);
    world.fail(3, 3);
    world.fail(4, 2);
    let mut slot = member(&world, 5).reserve(0).expect("a place");
    slot.succeeded(world.now, Duration::from_millis(40));
    world.wait(4 * SECOND);
    world
}

#[test]
fn a_short_restart_changes_nothing() {
    let mut after = restarted(&lived(), 2 * SECOND);
    let out = |after: &World, index| member(after, index).out(after.now, 0, false);
    assert_eq!(out(&after, 0), Some(Out::Admin(Admin::Drain)));
    assert_eq!(out(&after, 1), Some(Out::Admin(Admin::Dead)));
    assert_eq!(out(&after, 2), Some(Out::Down));
    // Of its 10 s, 4 had passed before and 2 passed meanwhile.
    let until = Moment(4_000);
    assert_eq!(out(&after, 3), Some(Out::Open { until }));
    assert_eq!(out(&after, 4), None);
    let latency = member(&after, 5).latency().expect("a latency");
    assert!(latency.abs_diff(Duration::from_millis(40)) < Duration::from_micros(1));
    after.fail(4, 1);
    assert_ne!(member(&after, 4).phase(), Phase::Closed);
    // The second time that it opens it is open twice as long.
    after.now = until;
    after.fail(3, 1);
    let until = Moment(24_000);
    assert_eq!(member(&after, 3).phase(), Phase::Open { until });
}

#[test]
fn after_a_minute_health_is_forgotten_and_an_operators_word_is_not() {
    let before = lived();
    for (took, keeps) in [(60 * SECOND, true), (61 * SECOND, false)] {
        let after = restarted(&before, took);
        assert_eq!(member(&after, 0).admin(), Admin::Drain);
        assert_eq!(member(&after, 1).admin(), Admin::Dead);
        assert_eq!(member(&after, 2).checked() == Checked::Down, keeps);
        assert_eq!(member(&after, 3).phase() != Phase::Closed, keeps);
        assert_eq!(member(&after, 4).failures() == 2, keeps);
        assert_eq!(member(&after, 5).latency().is_some(), keeps);
    }
}

#[test]
fn a_good_stream_clears_failures_from_before_the_restart() {
    let mut after = restarted(&lived(), SECOND);
    let mut slot = member(&after, 4).reserve(0).expect("a place");
    slot.succeeded(after.now, SECOND);
    after.fail(4, 2);
    assert_eq!(member(&after, 4).phase(), Phase::Closed);
}

#[test]
fn an_old_latency_gives_way_as_if_there_had_been_no_restart() {
    let before = lived();
    let latency = |world: &World, now: Moment| {
        let mut slot = member(world, 5).reserve(0).expect("a place");
        slot.succeeded(now, Duration::from_millis(10));
        member(world, 5).latency().expect("a latency")
    };
    let after = restarted(&before, 6 * SECOND);
    let restarted = latency(&after, after.now);
    // A half-life of 10 s is over: 40 ms and 10 ms count alike.
    assert!(restarted.abs_diff(Duration::from_millis(25)) < Duration::from_micros(10));
    let lasting = latency(&before, before.now.after(6 * SECOND));
    assert!(restarted.abs_diff(lasting) < Duration::from_micros(10));
}

#[test]
fn no_more_are_out_after_a_restart_than_may_be() {
    let mut before = World::new(Strategy::RoundRobin, targets(&[1; 10]));
    for index in 0..5 {
        before.fail(index, 3);
    }
    before.settings.targets.truncate(6);
    before.reload();
    let mut after = restarted(&before, SECOND);
    let out = |world: &World| {
        let members = world.pool.members();
        members.filter(|one| one.phase() != Phase::Closed).count()
    };
    assert_eq!(out(&after), 3);
    // All come back, and three may be out again.
    after.now = Moment(60_000);
    for index in 0..5 {
        let member = member(&after, index).clone();
        while member.phase() != Phase::Closed {
            let mut slot = member.reserve(0).expect("a trial");
            slot.succeeded(after.now, SECOND);
        }
    }
    for index in 0..6 {
        after.fail(index, 3);
    }
    assert_eq!(out(&after), 3);
}

fn any_time() -> impl proptest::strategy::Strategy<Value = Duration> {
    let some =
        (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos));
    prop_oneof![4 => some, 1 => Just(Duration::MAX)]
}

prop_compose! {
    fn any_saved()(
        failures in any::<u32>(),
        open_for in proptest::option::of(any_time()),
        in_a_row in prop_oneof![any::<u32>(), Just(u32::MAX)],
        opened in any::<u32>(),
        latency in proptest::option::of((any_time(), any_time())),
    ) -> SavedMember {
        SavedMember {
            admin: Admin::Active,
            health: SavedHealth {
                checked: Checked::Up,
                failures,
                breaker: SavedBreaker { open_for, in_a_row, opened },
                latency: latency.map(|(connect, age)| SavedLatency { connect, age }),
            },
        }
    }
}

proptest! {
    #[test]
    fn no_file_puts_a_target_out_for_longer_than_its_rules_say(
        saved in any_saved(),
        age in 0_u64..70,
        start in any::<u32>(),
    ) {
        let mut world = World::new(Strategy::LeastLatency, targets(&[1; 2]));
        world.now = Moment(start.into());
        let target = member(&world, 0).clone();
        target.restore(&saved, Duration::from_secs(age), world.now);
        let _ = (target.latency(), target.saved(world.now), world.pick());
        world.wait(Duration::from_secs(66));
        for _ in 0..3 {
            let mut slot = target.reserve(0).expect("a place");
            slot.succeeded(world.now, SECOND);
        }
        prop_assert_eq!((target.phase(), target.failures()), (Phase::Closed, 0));
        world.fail(0, 3);
        prop_assert_ne!(target.phase(), Phase::Closed);
    }

    #[test]
    fn what_is_saved_is_what_is_restored(
        steps in proptest::collection::vec((any::<bool>(), 0_u64..30_000), 0..30),
    ) {
        let mut before = World::new(Strategy::RoundRobin, targets(&[1; 2]));
        let target = member(&before, 0).clone();
        for (is_good, millis) in steps {
            before.wait(Duration::from_millis(millis));
            if let Ok(mut slot) = target.reserve(0) {
                if is_good {
                    slot.succeeded(before.now, SECOND);
                } else {
                    slot.failed(before.now, 0.5);
                }
            }
        }
        let saved = target.saved(before.now);
        let after = restarted(&before, Duration::ZERO);
        prop_assert_eq!(member(&after, 0).saved(after.now), saved);
    }
}
