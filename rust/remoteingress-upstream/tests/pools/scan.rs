//! Scans for the lowest score, against one that reads a plain list.

use crate::world::{World, target};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use remoteingress_upstream::member::{Admin, Checked};
use remoteingress_upstream::pick::{Ask, Pick, Picked};
use remoteingress_upstream::plan::{Entry, Strategy, TargetSettings};
use remoteingress_upstream::region::{Country, Origin, Place, RegionId};
use remoteingress_upstream::time::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// Turns of targets by id, and the clock of turns, as the list keeps them.
#[derive(Default)]
struct Turns {
    next: HashMap<u32, u64>,
    clock: u64,
}

impl Turns {
    fn of(&self, entry: &Entry) -> u64 {
        let next = self.next.get(&entry.member.number()).copied();
        next.unwrap_or(0).max(self.clock)
    }

    fn taken(&mut self, entry: &Entry, ramp: f64) {
        let turn = self.of(entry);
        self.clock = turn;
        let length = 2_f64.powi(32) / (f64::from(entry.settings.weight) * ramp);
        let next = turn + length as u64;
        self.next.insert(entry.member.number(), next);
    }
}

fn ramp(world: &World, entry: &Entry) -> f64 {
    entry.member.ramp(world.now, world.settings.slow_start)
}

/// The score as the settings have it.
fn score(world: &World, entry: &Entry, origin: Origin) -> f64 {
    let (settings, streams) = (&entry.settings, entry.member.streams());
    let limit = f64::from(settings.soft_limit.max(1)) * f64::from(settings.weight);
    let load = f64::from(streams) / limit / ramp(world, entry);
    if world.settings.strategy == Strategy::LeastConnections {
        return load;
    }
    let targets = &world.settings.targets;
    let has_countries = targets.iter().any(|target| target.place.country.is_some());
    let tier = origin.tier(settings.place, has_countries);
    let is_at_soft = world.settings.spills_at_soft && streams >= settings.soft_limit.max(1);
    100.0 * f64::from(tier) + load + if is_at_soft { 1e6 } else { 0.0 }
}

/// The target that has its turn among those with the lowest score.
fn by_list(world: &World, turns: &Turns, origin: Origin, tried: &[usize]) -> Option<usize> {
    let entries = || world.plan.entries().iter().enumerate();
    let takes = |(index, entry): &(usize, &Entry)| {
        let settings = &entry.settings;
        let out = entry.member.out(world.now, settings.hard_limit, false);
        settings.weight > 0 && out.is_none() && !tried.contains(index)
    };
    let first = entries()
        .filter(takes)
        .map(|(_, entry)| entry.settings.priority)
        .min()?;
    let takers = || {
        entries()
            .filter(takes)
            .filter(|(_, entry)| entry.settings.priority == first)
    };
    let lowest = takers()
        .map(|(_, entry)| score(world, entry, origin))
        .min_by(f64::total_cmp)?;
    let best = takers().filter(|(_, entry)| score(world, entry, origin) <= lowest + 1e-9);
    best.min_by_key(|(index, entry)| (turns.of(entry), *index))
        .map(|(index, _)| index)
}

fn any_place() -> impl proptest::strategy::Strategy<Value = Place> {
    let country = prop_oneof![4 => Just(None), 1 => Just(Some(Country(*b"BR")))];
    (country, proptest::option::of(0_u16..3)).prop_map(|(country, region)| Place {
        country,
        region: region.map(RegionId),
    })
}

fn any_target() -> impl proptest::strategy::Strategy<Value = TargetSettings> {
    let priority = prop_oneof![5 => Just(0_u8), 1 => Just(1)];
    (0_u16..4, 1_u32..6, 0_u32..7, priority, any_place()).prop_map(
        |(weight, soft_limit, hard_limit, priority, place)| TargetSettings {
            weight,
            soft_limit,
            hard_limit,
            priority,
            place,
            ..target("", 1)
        },
    )
}

fn any_targets() -> impl proptest::strategy::Strategy<Value = Vec<TargetSettings>> {
    proptest::collection::vec(any_target(), 1..40).prop_map(named)
}

fn named(mut all: Vec<TargetSettings>) -> Vec<TargetSettings> {
    for (index, target) in all.iter_mut().enumerate() {
        target.id = format!("t{index}");
    }
    all
}

#[derive(Clone, Debug)]
enum Step {
    Picks(u8, Place, Option<usize>),
    Ends(usize),
    Fails(usize),
    Checked(usize, bool),
    Admin(usize, bool),
    Waits(u64),
    Reload(usize, TargetSettings),
}

fn any_step() -> impl proptest::strategy::Strategy<Value = Step> {
    let tried = proptest::option::of(0_usize..40);
    prop_oneof![
        8 => (1_u8..20, any_place(), tried).prop_map(|(picks, place, tried)| Step::Picks(picks, place, tried)),
        4 => any::<usize>().prop_map(Step::Ends),
        1 => any::<usize>().prop_map(Step::Fails),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, is_up)| Step::Checked(at, is_up)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, is_up)| Step::Admin(at, is_up)),
        2 => (0_u64..9_000).prop_map(Step::Waits),
        2 => (any::<usize>(), any_target()).prop_map(|(at, target)| Step::Reload(at, target)),
    ]
}

/// Takes a step other than a pick.
fn take(world: &mut World, held: &mut Vec<Picked>, step: Step) {
    let count = world.plan.entries().len();
    let member = |at: usize| &world.plan.entries()[at % count].member;
    match step {
        Step::Picks(..) => {}
        Step::Ends(at) if held.is_empty() => member(at).set_admin(Admin::Active),
        Step::Ends(at) => drop(held.swap_remove(at % held.len())),
        Step::Fails(at) => {
            // None while it is on trial.
            while let Ok(mut slot) = member(at).reserve(0) {
                slot.failed(world.now, 0.5);
                if member(at).failures() % 3 == 0 {
                    break;
                }
            }
        }
        Step::Checked(at, true) => member(at).set_checked(Checked::Up, world.now),
        Step::Checked(at, false) => member(at).set_checked(Checked::Down, world.now),
        Step::Admin(at, true) => member(at).set_admin(Admin::Active),
        Step::Admin(at, false) => member(at).set_admin(Admin::Drain),
        Step::Waits(millis) => world.wait(Duration::from_millis(millis)),
        Step::Reload(at, mut target) => {
            // One changes, one is new or comes back, and all move.
            let targets = &mut world.settings.targets;
            target.id = format!("t{}", at % (count + 1));
            targets.retain(|other| other.id != target.id);
            targets.insert(at % (targets.len() + 1), target);
            if at % 3 == 0 && targets.len() > 1 {
                targets.remove(at % targets.len());
            }
            world.reload();
        }
    }
}

proptest! {
    #[test]
    fn the_pick_is_the_one_that_a_list_has(
        all in any_targets(),
        is_geo in any::<bool>(),
        spills in any::<bool>(),
        slow_start in prop_oneof![Just(0_u64), Just(30)],
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let strategy = if is_geo { Strategy::Geo } else { Strategy::LeastConnections };
        let mut world = World::new(strategy, all);
        world.settings.spills_at_soft = spills;
        world.settings.slow_start = Duration::from_secs(slow_start);
        world.reload();
        let (mut turns, mut held) = (Turns::default(), Vec::new());
        for step in steps {
            let Step::Picks(picks, place, tried) = step else {
                take(&mut world, &mut held, step);
                continue;
            };
            let origin = Origin {
                country: place.country,
                region: place.region,
                local: Some(RegionId(1)),
            };
            let tried: Vec<_> = tried.into_iter().collect();
            for _ in 0..picks {
                let Some(index) = by_list(&world, &turns, origin, &tried) else {
                    break;
                };
                let entry = &world.plan.entries()[index];
                turns.taken(entry, ramp(&world, entry));
                let picked = world.pick_as(1, origin, &tried).expect("what the list has");
                prop_assert_eq!(picked.index, index);
                held.push(picked);
            }
        }
    }
}

#[test]
fn explain_shows_the_scores_that_are_compared() {
    let all = vec![target("near", 1), target("far", 1)];
    let mut world = World::new(Strategy::Geo, all);
    world.settings.targets[0].soft_limit = 1;
    world.settings.targets[0].place.region = Some(RegionId(0));
    world.settings.spills_at_soft = true;
    world.reload();
    let ask = Ask {
        client: remoteingress_upstream::client::ClientKey(1),
        origin: Origin {
            region: Some(RegionId(0)),
            ..Origin::default()
        },
        bound: None,
        tried: &[],
        now: Moment(1_000),
    };
    let _held = world.pick_as(1, ask.origin, &[]).expect("the near one");
    let seen = Pick::new(&world.plan, &ask).explain();
    let scores: Vec<_> = seen.iter().map(|seen| (seen.tier, seen.score)).collect();
    assert_eq!(scores, [(0, 1_001.0), (2, 200.0)]);
}
