//! State that outlives a plan.

use crate::world::{World, target, targets};
use remoteingress_upstream::member::{Member, Numbers, Out, Slot};
use remoteingress_upstream::plan::{Pool, Strategy};
use remoteingress_upstream::time::Moment;
use std::collections::HashMap;
use std::sync::Arc;

#[test]
fn a_reload_keeps_counts_and_health_by_id() {
    let mut world = World::new(Strategy::RoundRobin, targets(&[1, 1, 1]));
    world.fail(0, 3);
    let held: Vec<Slot> = (0..10).map(|_| world.pick().slot).collect();
    world.settings.targets.reverse();
    world.settings.targets.push(target("new", 1));
    world.reload();
    let entries = world.plan.entries();
    assert_eq!(entries[2].member.id(), "t0");
    assert!(matches!(
        entries[2].member.out(world.now, 0, false),
        Some(Out::Open { .. })
    ));
    let streams: u32 = entries.iter().map(|entry| entry.member.streams()).sum();
    assert_eq!(streams, 10);
    drop(held);
    assert!(
        world
            .plan
            .entries()
            .iter()
            .all(|entry| entry.member.streams() == 0)
    );
    // A target that goes and comes back has lost its place among the ejected.
    world.settings.targets.retain(|target| target.id != "t0");
    world.reload();
    world.fail(0, 3);
    world.fail(1, 3);
    assert_eq!(
        world.shares(300).iter().filter(|share| **share > 0).count(),
        2
    );
}

#[test]
fn a_reload_brings_no_new_retries() {
    let mut world = World::new(Strategy::RoundRobin, targets(&[1, 1]));
    let taken = |world: &World| {
        (0..200)
            .filter(|_| world.plan.retries().take(world.now))
            .count()
    };
    assert_eq!(taken(&world), 100);
    world.reload();
    assert_eq!(taken(&world), 0);
}

#[test]
fn a_number_names_one_target_over_all_plans_and_pools() {
    let numbers: Arc<Numbers> = Arc::default();
    let settings = World::new(Strategy::Geo, targets(&[1; 50])).settings;
    let mut pools = [0, 1].map(|_| Pool::new(&numbers));
    let mut by_number = HashMap::new();
    for round in 0..20 {
        for pool in &mut pools {
            let mut settings = settings.clone();
            settings.targets.rotate_left(round * 7 % 50);
            settings.targets.truncate(50 - round);
            let plan = pool.plan(&settings, Moment(0));
            for (place, entry) in plan.entries().iter().enumerate() {
                let member = &entry.member;
                assert_eq!(plan.place_of(member.number()), Some(place));
                let kept = pool.member(member.id()).expect("a member");
                assert!(Arc::ptr_eq(kept, member));
                // One that went and came back is another one.
                let known = by_number
                    .entry(member.number())
                    .or_insert_with(|| member.clone());
                assert!(Arc::ptr_eq(known, member));
            }
            assert_eq!(pool.members().count(), 50 - round);
            let gone = |member: &&Arc<Member>| pool.member(member.id()).is_none();
            for member in by_number.values().filter(gone) {
                assert_eq!(plan.place_of(member.number()), None);
            }
            assert_eq!(plan.place_of(u32::MAX), None);
        }
    }
    assert!(pools[0].member("other").is_none());
}
