//! Whom a pool picks.

use crate::world::{ALL, World, target, targets};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use remoteingress_config::pool_status::PickReason;
use remoteingress_upstream::client::ClientKey;
use remoteingress_upstream::member::{Admin, Checked, Out};
use remoteingress_upstream::pick::{Ask, NoTarget, Pick, Picked};
use remoteingress_upstream::plan::{Strategy, TargetSettings};
use remoteingress_upstream::region::{Country, Origin, Place, RegionId};
use remoteingress_upstream::time::Moment;
use std::time::Duration;

#[test]
fn idle_targets_share_by_weight() {
    for strategy in [
        Strategy::Geo,
        Strategy::LeastConnections,
        Strategy::RoundRobin,
    ] {
        let even = World::new(strategy, targets(&[1, 1, 1])).shares(9_000);
        assert!(
            even.iter().all(|share| share.abs_diff(3_000) <= 60),
            "{strategy:?} {even:?}"
        );
        let weighted = World::new(strategy, targets(&[1, 2, 3])).shares(9_000);
        for (share, wanted) in weighted.iter().zip([1_500, 3_000, 4_500_u32]) {
            assert!(
                share.abs_diff(wanted) <= wanted / 50,
                "{strategy:?} {weighted:?}"
            );
        }
    }
}

#[test]
fn held_streams_fill_targets_by_weight() {
    for strategy in [Strategy::Geo, Strategy::LeastConnections] {
        let mut world = World::new(strategy, targets(&[1, 2, 3]));
        let held: Vec<_> = (0..3_000).map(|_| world.pick().slot).collect();
        let streams: Vec<_> = world
            .plan
            .entries()
            .iter()
            .map(|entry| entry.member.streams())
            .collect();
        for (streams, wanted) in streams.iter().zip([500, 1_000, 1_500_u32]) {
            assert!(streams.abs_diff(wanted) <= 3, "{strategy:?} {streams:?}");
        }
        drop(held);
        assert!(
            world
                .plan
                .entries()
                .iter()
                .all(|entry| entry.member.streams() == 0)
        );
    }
}

#[test]
fn chance_is_even_and_two_choices_are_nearly_so() {
    let picks = 100_000;
    let shares = World::new(Strategy::Random, targets(&[1; 10])).shares(picks);
    let wanted = f64::from(picks) / 10.0;
    let chi: f64 = shares
        .iter()
        .map(|share| (f64::from(*share) - wanted).powi(2) / wanted)
        .sum();
    // p > 0.001 with nine degrees of freedom.
    assert!(chi < 27.9, "{chi} {shares:?}");
    let mut world = World::new(Strategy::TwoChoices, targets(&[1; 100]));
    let _held: Vec<_> = (0..10_000).map(|_| world.pick().slot).collect();
    let most = world
        .plan
        .entries()
        .iter()
        .map(|entry| entry.member.streams())
        .max();
    assert!(most.is_some_and(|most| most <= 103), "{most:?}");
}

#[test]
fn a_client_keeps_its_hashed_target_and_comes_back_to_it() {
    let mut world = World::new(Strategy::IpHash, targets(&[1; 10]));
    let whole = |world: &mut World| -> Vec<usize> {
        let pick = |client| {
            world
                .pick_as(client, Origin::default(), &[])
                .expect("a target")
                .index
        };
        (0..20_000).map(pick).collect()
    };
    let before = whole(&mut world);
    world.plan.entries()[3]
        .member
        .set_checked(Checked::Down, world.now);
    let without = whole(&mut world);
    for (home, other) in before.iter().zip(&without) {
        assert!(if *home == 3 {
            *other != 3
        } else {
            home == other
        });
    }
    // Those of the one that is out spread over all others.
    let moved = |index| {
        before
            .iter()
            .zip(&without)
            .filter(|(home, other)| **home == 3 && **other == index)
            .count()
    };
    assert!(
        (0..10)
            .filter(|index| *index != 3)
            .all(|index| moved(index) > 100)
    );
    world.plan.entries()[3]
        .member
        .set_checked(Checked::Up, world.now);
    assert_eq!(whole(&mut world), before);
}

#[test]
fn a_full_region_spills_and_comes_back() {
    let (sa, eu) = (RegionId(0), RegionId(1));
    let mut all = targets(&[1, 1]);
    for (target, region) in all.iter_mut().zip([sa, eu]) {
        target.place.region = Some(region);
        target.hard_limit = 2;
    }
    let mut world = World::new(Strategy::Geo, all);
    let brazil = Origin {
        region: Some(sa),
        local: Some(eu),
        ..Origin::default()
    };
    let mut held: Vec<Picked> = Vec::new();
    for wanted in [0, 0, 1, 1] {
        let picked = world.pick_as(1, brazil, &[]).expect("a target");
        assert_eq!(picked.index, wanted);
        held.push(picked);
    }
    assert_eq!(world.pick_as(1, brazil, &[]).unwrap_err(), NoTarget::Full);
    held.remove(0);
    assert_eq!(world.pick_as(1, brazil, &[]).expect("a target").index, 0);
    // One who comes from nowhere goes to the local region.
    drop(held);
    let unknown = Origin {
        local: Some(eu),
        ..Origin::default()
    };
    assert_eq!(world.pick_as(1, unknown, &[]).expect("a target").index, 1);
}

#[test]
fn a_backup_is_used_only_while_no_other_takes_streams() {
    for strategy in ALL {
        let mut all = targets(&[1, 1, 1]);
        all[2].priority = 1;
        let mut world = World::new(strategy, all);
        assert_eq!(world.shares(200)[2], 0, "{strategy:?}");
        for index in [0, 1] {
            world.plan.entries()[index].member.set_admin(Admin::Dead);
        }
        assert_eq!(world.shares(200), [0, 0, 200], "{strategy:?}");
    }
}

#[test]
fn a_target_that_was_tried_isnt_tried_again() {
    for strategy in ALL {
        let mut world = World::new(strategy, targets(&[1, 1, 1]));
        for client in 0..200 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let picked = world
                    .pick_as(client, Origin::default(), &tried)
                    .expect("a target");
                assert!(!tried.contains(&picked.index), "{strategy:?}");
                tried.push(picked.index);
            }
            let none = world
                .pick_as(client, Origin::default(), &tried)
                .unwrap_err();
            assert_eq!(none, NoTarget::NoneHealthy, "{strategy:?}");
        }
    }
}

#[test]
fn failures_put_a_target_out_for_a_while_and_it_comes_back_one_stream_at_a_time() {
    for strategy in ALL {
        let mut world = World::new(strategy, targets(&[1, 1, 1]));
        world.fail(0, 3);
        assert_eq!(world.shares(100)[0], 0, "{strategy:?}");
        world.wait(Duration::from_secs(10));
        let mut held = Vec::new();
        for client in 0..100 {
            held.push(
                world
                    .pick_as(client, Origin::default(), &[])
                    .expect("a target"),
            );
        }
        let trials = held.iter().filter(|picked| picked.index == 0).count();
        assert_eq!(trials, 1, "{strategy:?}");
        let trial = held
            .iter_mut()
            .find(|picked| picked.index == 0)
            .expect("a trial");
        trial.slot.succeeded(world.now, Duration::from_millis(1));
        for _ in 0..2 {
            let member = &world.plan.entries()[0].member;
            let mut slot = member.reserve(0).expect("a trial");
            assert_eq!(member.reserve(0).unwrap_err(), Out::Trial);
            slot.succeeded(world.now, Duration::from_millis(1));
        }
        drop(held);
        assert!(world.shares(300)[0] > 30, "{strategy:?}");
    }
}

#[test]
fn a_flow_that_fails_again_counts_once_and_is_evidence_each_time() {
    let mut world = World::new(Strategy::RoundRobin, targets(&[1, 1]));
    let mut flow = world.pick().slot;
    let member = flow.member().clone();
    for failures in 1..=3 {
        flow.failed(world.now, 0.5);
        assert_eq!((member.failed(), member.failures()), (1, failures));
    }
    assert!(matches!(
        member.out(world.now, 0, false),
        Some(Out::Open { .. })
    ));
    flow.was_reset(world.now, 0.5);
    assert_eq!(member.failed(), 1);
    let mut other = member.reserve(0).expect("a place");
    other.was_reset(world.now, 0.5);
    other.failed(world.now, 0.5);
    assert_eq!((member.failed(), member.total()), (2, 2));
}

#[test]
fn failures_of_streams_put_out_half_of_a_pool_at_most() {
    let mut world = World::new(Strategy::RoundRobin, targets(&[1; 10]));
    for index in 0..10 {
        world.fail(index, 10);
    }
    let used = world
        .shares(1_000)
        .iter()
        .filter(|share| **share > 0)
        .count();
    assert_eq!(used, 5);
    // Checks and people may put out all.
    for entry in world.plan.entries() {
        entry.member.set_checked(Checked::Down, world.now);
    }
    let none = world.pick_as(1, Origin::default(), &[]).unwrap_err();
    assert_eq!(none, NoTarget::NoneHealthy);
}

#[test]
fn where_all_others_are_down_an_ejected_target_is_better_than_none() {
    let mut world = World::new(Strategy::Geo, targets(&[1, 1]));
    world.fail(0, 3);
    world.plan.entries()[1]
        .member
        .set_checked(Checked::Down, world.now);
    assert_eq!(world.pick().index, 0);
}

/// The target of a client that is there and is bound to this one, and why it is that.
fn reasoned(world: &World, origin: Origin, bound: Option<usize>) -> (usize, PickReason) {
    let ask = Ask {
        client: ClientKey(1),
        origin,
        bound,
        tried: &[],
        now: world.now,
    };
    let picked = Pick::new(&world.plan, &ask).take(&mut || 0);
    let picked = picked.expect("a target");
    (picked.index, picked.reason(&world.plan, &ask))
}

#[test]
fn a_pick_says_why_it_is_this_target() {
    let [sa, eu, us] = [0, 1, 2].map(RegionId);
    let brazil = Origin {
        region: Some(sa),
        local: Some(eu),
        country: Some(Country(*b"BR")),
    };
    for (region, near, with_countries) in [
        (sa, PickReason::Tier0, PickReason::Tier1),
        (eu, PickReason::Tier1, PickReason::Tier2),
        (us, PickReason::Tier2, PickReason::Tier3),
    ] {
        let mut all = targets(&[1, 0]);
        all[0].place.region = Some(region);
        let world = World::new(Strategy::Geo, all.clone());
        assert_eq!(reasoned(&world, brazil, None), (0, near));
        // One that takes nobody has a country: so the client's own comes first.
        all[1].place.country = Some(Country(*b"PE"));
        let world = World::new(Strategy::Geo, all.clone());
        assert_eq!(reasoned(&world, brazil, None), (0, with_countries));
        all[0].place.country = brazil.country;
        let world = World::new(Strategy::Geo, all);
        assert_eq!(reasoned(&world, brazil, None), (0, PickReason::Tier0));
    }
    for strategy in ALL {
        let mut world = World::new(strategy, targets(&[1, 1]));
        let own = if strategy == Strategy::Geo {
            PickReason::Tier2
        } else {
            PickReason::Strategy
        };
        let nowhere = Origin::default();
        assert_eq!(reasoned(&world, nowhere, None).1, own, "{strategy:?}");
        let bound = reasoned(&world, nowhere, Some(1));
        assert_eq!(bound, (1, PickReason::Binding), "{strategy:?}");
        world.fail(0, 3);
        let other = reasoned(&world, nowhere, Some(0));
        assert_eq!(other, (1, own), "{strategy:?}");
        world.plan.entries()[1]
            .member
            .set_checked(Checked::Down, world.now);
        for bound in [None, Some(0)] {
            let last = reasoned(&world, nowhere, bound);
            assert_eq!(last, (0, PickReason::LastResort), "{strategy:?}");
        }
    }
}

#[test]
fn a_target_that_comes_back_rises_slowly() {
    let rising = [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::IpHash,
        Strategy::LeastConnections,
    ];
    for strategy in rising {
        let mut world = World::new(strategy, targets(&[1, 1]));
        world.settings.slow_start = Duration::from_secs(30);
        world.reload();
        let member = world.plan.entries()[0].member.clone();
        member.set_checked(Checked::Down, world.now);
        member.set_checked(Checked::Up, world.now);
        let share = |world: &mut World| f64::from(world.shares(4_000)[0]) / 4_000.0;
        world.wait(Duration::from_secs(3));
        let early = share(&mut world);
        assert!(early <= 0.20, "{strategy:?} {early}");
        world.wait(Duration::from_secs(12));
        let middle = share(&mut world);
        assert!((0.25..0.45).contains(&middle), "{strategy:?} {middle}");
        world.wait(Duration::from_secs(16));
        let late = share(&mut world);
        assert!((0.45..0.55).contains(&late), "{strategy:?} {late}");
    }
}

#[test]
fn the_faster_target_gets_most_streams() {
    let mut world = World::new(Strategy::LeastLatency, targets(&[1, 1]));
    let latency = [5, 50].map(Duration::from_millis);
    let mut shares = [0_u32; 2];
    for _ in 0..2_000 {
        let mut picked = world.pick();
        picked.slot.succeeded(world.now, latency[picked.index]);
        shares[picked.index] += 1;
        world.wait(Duration::from_millis(10));
    }
    assert!(shares[0] >= 1_700, "{shares:?}");
}

#[test]
fn a_weight_of_0_takes_no_new_client_and_drain_only_bound_ones() {
    for strategy in ALL {
        let world = World::new(strategy, targets(&[0]));
        let ask = |bound| Ask {
            client: ClientKey(1),
            origin: Origin::default(),
            bound,
            tried: &[],
            now: world.now,
        };
        let mut random = || 1;
        assert_eq!(
            Pick::new(&world.plan, &ask(None))
                .take(&mut random)
                .unwrap_err(),
            NoTarget::NoneHealthy
        );
        assert_eq!(
            Pick::new(&world.plan, &ask(Some(0)))
                .take(&mut random)
                .expect("its own")
                .index,
            0
        );
        let member = &world.plan.entries()[0].member;
        member.set_admin(Admin::Drain);
        assert_eq!(
            Pick::new(&world.plan, &ask(Some(0)))
                .take(&mut random)
                .expect("its own")
                .index,
            0
        );
        member.set_admin(Admin::Dead);
        assert!(
            Pick::new(&world.plan, &ask(Some(0)))
                .take(&mut random)
                .is_err()
        );
    }
}

#[test]
fn an_empty_pool_has_no_target() {
    for strategy in ALL {
        let mut world = World::new(strategy, Vec::new());
        assert_eq!(
            world.pick_as(1, Origin::default(), &[]).unwrap_err(),
            NoTarget::Empty
        );
    }
}

/// The seeds' formula, written by somebody who hasn't read the code: the lowest region_score × 100 + load_factor / weight.
fn lowest_by_hand(world: &World, origin: Origin) -> Option<f64> {
    let entries = world.plan.entries().iter();
    let scores = entries.filter_map(|entry| {
        let (settings, streams) = (&entry.settings, entry.member.streams());
        if settings.weight == 0 || (settings.hard_limit != 0 && streams >= settings.hard_limit) {
            return None;
        }
        let region = match settings.place.region {
            Some(region) if origin.region == Some(region) => 0.0,
            Some(region) if origin.local == Some(region) => 1.0,
            _ => 2.0,
        };
        let load = f64::from(streams) / f64::from(settings.soft_limit);
        Some(region * 100.0 + load / f64::from(settings.weight))
    });
    scores.min_by(f64::total_cmp)
}

fn any_target() -> impl proptest::strategy::Strategy<Value = TargetSettings> {
    (
        0_u16..4,
        1_u32..20,
        0_u32..12,
        proptest::option::of(0_u16..4),
    )
        .prop_map(|(weight, soft_limit, hard_limit, region)| TargetSettings {
            weight,
            soft_limit,
            hard_limit,
            place: Place {
                country: None,
                region: region.map(RegionId),
            },
            ..target("", 1)
        })
}

proptest! {
    #[test]
    fn geo_picks_the_lowest_score_and_no_limit_breaks(
        mut all in proptest::collection::vec(any_target(), 1..12),
        clients in proptest::collection::vec((proptest::option::of(0_u16..4), proptest::option::of(0_u16..4), any::<bool>()), 1..200),
    ) {
        for (index, target) in all.iter_mut().enumerate() {
            target.id = format!("t{index}");
        }
        let mut world = World::new(Strategy::Geo, all);
        let mut held: Vec<Picked> = Vec::new();
        for (region, local, ends) in clients {
            let origin = Origin { country: None, region: region.map(RegionId), local: local.map(RegionId) };
            let lowest = lowest_by_hand(&world, origin);
            let seen = Pick::new(&world.plan, &Ask { client: ClientKey(1), origin, bound: None, tried: &[], now: world.now }).explain();
            match world.pick_as(1, origin, &[]) {
                Ok(picked) => {
                    let score = seen[picked.index].score;
                    prop_assert!((score - lowest.expect("one by hand")).abs() < 1e-6);
                    held.push(picked);
                }
                Err(_) => prop_assert_eq!(lowest, None),
            }
            if ends && !held.is_empty() {
                held.swap_remove(0);
            }
            for entry in world.plan.entries() {
                let limit = entry.settings.hard_limit;
                prop_assert!(limit == 0 || entry.member.streams() <= limit);
            }
        }
        drop(held);
        prop_assert!(world.plan.entries().iter().all(|entry| entry.member.streams() == 0));
    }

    #[test]
    fn nothing_panics_whatever_the_clock_says(
        steps in proptest::collection::vec((0_u8..6, 0_usize..4, any::<u64>()), 1..120),
        strategy in 0_usize..7,
    ) {
        let mut world = World::new(ALL[strategy], targets(&[1, 2, 0, 5]));
        world.settings.slow_start = Duration::from_secs(30);
        world.reload();
        for (step, index, number) in steps {
            match step {
                0 => world.now = Moment(number),
                1 => world.fail(index, 1),
                2 => world.plan.entries()[index].member.set_checked(Checked::Up, world.now),
                3 => world.plan.entries()[index].member.set_checked(Checked::Down, world.now),
                4 => world.reload(),
                _ => {
                    if let Ok(mut picked) = world.pick_as(1, Origin::default(), &[]) {
                        picked.slot.succeeded(world.now, Duration::from_nanos(number));
                    }
                }
            }
        }
    }
}
