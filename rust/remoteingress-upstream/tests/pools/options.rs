//! Options that a pool may have beside its way to choose.

use crate::world::{World, target, targets};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use remoteingress_upstream::member::{Checked, Slot};
use remoteingress_upstream::pick::Picked;
use remoteingress_upstream::plan::{Strategy, TargetSettings};
use remoteingress_upstream::region::{Origin, Place, RegionId};

fn in_region(id: &str, region: u16, soft_limit: u32) -> TargetSettings {
    TargetSettings {
        soft_limit,
        place: Place {
            country: None,
            region: Some(RegionId(region)),
        },
        ..target(id, 1)
    }
}

fn from(region: u16) -> Origin {
    Origin {
        region: Some(RegionId(region)),
        local: Some(RegionId(1)),
        ..Origin::default()
    }
}

#[test]
fn a_region_at_its_soft_limits_is_left_for_the_next() {
    let all = vec![
        in_region("sa-1", 0, 2),
        in_region("sa-2", 0, 2),
        in_region("eu", 1, 3),
        in_region("us", 2, 1),
    ];
    let mut world = World::new(Strategy::Geo, all);
    world.settings.spills_at_soft = true;
    world.reload();
    let mut pick = || world.pick_as(1, from(0), &[]).expect("a target");
    let mut held: Vec<_> = (0..8).map(|_| pick()).collect();
    let order: Vec<_> = held.iter().map(|picked| picked.index).collect();
    assert_eq!(order[..4].iter().sum::<usize>(), 2, "{order:?}");
    assert_eq!(order[4..], [2, 2, 2, 3]);
    // All are at it: the near ones again.
    held.extend((0..10).map(|_| pick()));
    assert!(held[8..].iter().all(|picked| picked.index < 2));
    // One comes below it: that one, wherever it is.
    held.retain(|picked| picked.index != 3);
    assert_eq!(pick().index, 3);
}

#[test]
fn one_client_fills_a_hashed_target_only_to_its_bound() {
    let mut world = World::new(Strategy::IpHash, targets(&[1; 10]));
    let unbound: Vec<_> = (0..100).map(|_| world.pick().index).collect();
    world.settings.load_bound_percent = Some(125);
    world.reload();
    // With none under way each client has its own target.
    let bound: Vec<_> = (0..100).map(|_| world.pick().index).collect();
    assert_eq!(unbound, bound);
    let held: Vec<Slot> = (0..1_000).map(|_| world.pick().slot).collect();
    let most = |world: &World| {
        let entries = world.plan.entries().iter();
        entries.map(|entry| entry.member.streams()).max()
    };
    assert_eq!(most(&world), Some(125));
    drop(held);
    world.settings.load_bound_percent = None;
    world.reload();
    let _held: Vec<Slot> = (0..1_000).map(|_| world.pick().slot).collect();
    assert_eq!(most(&world), Some(1_000));
}

#[test]
fn most_clients_of_a_bounded_pool_have_their_own_target() {
    let mut world = World::new(Strategy::IpHash, targets(&[1; 10]));
    let pick = |world: &mut World, client| {
        let picked = world.pick_as(client, Origin::default(), &[]);
        picked.expect("a target")
    };
    let own: Vec<_> = (0..4_000)
        .map(|client| pick(&mut world, client).index)
        .collect();
    world.settings.load_bound_percent = Some(125);
    world.reload();
    let held: Vec<_> = (0..4_000).map(|client| pick(&mut world, client)).collect();
    let same = held
        .iter()
        .zip(&own)
        .filter(|(one, own)| one.index == **own);
    assert!(same.count() > 3_600);
}

fn any_target() -> impl proptest::strategy::Strategy<Value = TargetSettings> {
    (1_u16..4, 0_u32..6, 0_u16..3, any::<bool>()).prop_map(|(weight, soft, region, is_backup)| {
        TargetSettings {
            weight,
            priority: u8::from(is_backup),
            ..in_region("", region, soft)
        }
    })
}

fn any_targets() -> impl proptest::strategy::Strategy<Value = Vec<TargetSettings>> {
    proptest::collection::vec(any_target(), 1..9).prop_map(|mut all| {
        for (index, target) in all.iter_mut().enumerate() {
            target.id = format!("t{index}");
        }
        all
    })
}

/// Places of targets that take streams, of the first priority that has some.
fn takers(world: &World) -> Vec<usize> {
    let entries = world.plan.entries();
    let takes = |index: &usize| entries[*index].member.checked() == Checked::Up;
    let first = (0..entries.len())
        .filter(takes)
        .map(|index| entries[index].settings.priority)
        .min();
    (0..entries.len())
        .filter(takes)
        .filter(|index| Some(entries[*index].settings.priority) == first)
        .collect()
}

proptest! {
    #[test]
    fn a_target_at_its_soft_limit_gets_nothing_while_another_is_below_its_own(
        all in any_targets(),
        steps in proptest::collection::vec((0_u16..4, 0_u8..6, 0_usize..9), 1..120),
    ) {
        let mut world = World::new(Strategy::Geo, all);
        world.settings.spills_at_soft = true;
        world.reload();
        let mut held: Vec<Picked> = Vec::new();
        for (region, step, at) in steps {
            let member = |at: usize| {
                let entries = world.plan.entries();
                &entries[at % entries.len()].member
            };
            match step {
                0 => member(at).set_checked(Checked::Down, world.now),
                1 => member(at).set_checked(Checked::Up, world.now),
                2 if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                _ => {}
            }
            let takers = takers(&world);
            let is_below = |index: usize| {
                let entry = &world.plan.entries()[index];
                entry.member.streams() < entry.settings.soft_limit.max(1)
            };
            let below: Vec<_> = takers.iter().copied().filter(|index| is_below(*index)).collect();
            let Ok(picked) = world.pick_as(1, from(region), &[]) else {
                prop_assert!(takers.is_empty());
                continue;
            };
            let tier = |index: usize| {
                let place = world.plan.entries()[index].settings.place;
                from(region).tier(place, false)
            };
            let among = if below.is_empty() { &takers } else { &below };
            prop_assert!(among.contains(&picked.index));
            // The pick has made it one more: loads stay far below a tier's hundred.
            let nearest = among.iter().map(|index| tier(*index)).min();
            prop_assert_eq!(Some(tier(picked.index)), nearest);
            held.push(picked);
        }
    }

    #[test]
    fn no_hashed_target_gets_more_than_its_bound_and_one_always_has_room(
        all in any_targets(),
        percent in 0_u16..200,
        steps in proptest::collection::vec((0_u32..4, 0_u8..6, 0_usize..9), 1..200),
    ) {
        let mut world = World::new(Strategy::IpHash, all);
        world.settings.load_bound_percent = Some(percent);
        world.reload();
        let mut held: Vec<Picked> = Vec::new();
        for (client, step, at) in steps {
            let at_place = at % world.plan.entries().len();
            let member = &world.plan.entries()[at_place].member;
            match step {
                0 => member.set_checked(Checked::Down, world.now),
                1 => member.set_checked(Checked::Up, world.now),
                2 if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                _ => {}
            }
            let takers = takers(&world);
            let Ok(picked) = world.pick_as(client, Origin::default(), &[]) else {
                prop_assert!(takers.is_empty());
                continue;
            };
            let weight = |index: usize| u64::from(world.plan.entries()[index].settings.weight);
            let streams = |index: usize| u64::from(world.plan.entries()[index].member.streams());
            let all: u64 = takers.iter().map(|index| streams(*index)).sum();
            let weights: u64 = takers.iter().map(|index| weight(*index)).sum();
            let factor = u64::from(percent.max(100));
            let most = (factor * all * weight(picked.index)).div_ceil(100 * weights);
            prop_assert!(streams(picked.index) <= most);
            held.push(picked);
        }
    }
}
