//! When targets are checked, and what becomes of their answers, in virtual time.

use proptest::prelude::*;
use remoteingress_upstream::checks::{Answer, Check, Rhythm, Schedule};
use remoteingress_upstream::member::Checked;
use remoteingress_upstream::time::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

const INTERVAL: u64 = 10_000;
const FAST: u64 = 1_000;
const MOST: usize = 64;

/// A schedule, its clock, and targets that answer after a time.
struct World {
    schedule: Schedule,
    now: Moment,
    /// Checks that run, by the moment of their end.
    running: BTreeMap<(Moment, u32), Check>,
    /// Begins of checks, in order.
    begun: Vec<(Moment, u32)>,
    /// Changes of state, in order.
    changes: Vec<(Moment, u32, Checked)>,
    most: usize,
    seed: u64,
}

impl World {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(MOST),
            now: Moment(5_000),
            running: BTreeMap::new(),
            begun: Vec::new(),
            changes: Vec::new(),
            most: 0,
            seed: 1,
        }
    }

    fn with(targets: u32, state: Checked) -> Self {
        let mut world = Self::new();
        for target in 0..targets {
            world.add(target, state);
        }
        world
    }

    fn add(&mut self, target: u32, state: Checked) {
        self.schedule
            .add(target, Rhythm::default(), state, self.now);
    }

    fn unit(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1;
        (self.seed >> 33) as f64 / (1_u64 << 31) as f64
    }

    /// Runs all that is due until `end`; `answer` says how long a target takes, and what it says.
    fn run(&mut self, millis: u64, mut answer: impl FnMut(u32, Moment) -> (u64, Answer)) {
        let end = Moment(self.now.0 + millis);
        loop {
            while let Some(check) = self.schedule.next(self.now) {
                let target = check.target();
                self.begun.push((self.now, target));
                let over = Moment(self.now.0 + answer(target, self.now).0);
                let twice = self.running.insert((over, target), check);
                assert!(twice.is_none());
            }
            self.most = self.most.max(self.running.len());
            assert_eq!(self.schedule.running(), self.running.len());
            let over = self.running.first_key_value().map(|((over, _), _)| *over);
            let next = over.into_iter().chain(self.schedule.next_at()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.running.first_entry() {
                let (over, target) = *entry.key();
                if over > self.now {
                    break;
                }
                let check = entry.remove();
                let (_, answer) = answer(target, self.now);
                let unit = self.unit();
                let change = self.schedule.done(check, answer, self.now, unit);
                self.changes
                    .extend(change.map(|state| (self.now, target, state)));
            }
        }
    }

    fn begun_between(&self, from: u64, to: u64) -> usize {
        let between = |(at, _): &&(Moment, u32)| (from..to).contains(&at.0);
        self.begun.iter().filter(between).count()
    }
}

fn good(_: u32, _: Moment) -> (u64, Answer) {
    (5, Answer::Good)
}

#[test]
fn three_bad_answers_a_second_apart_take_it_down_and_two_good_ones_bring_it_up() {
    let mut world = World::with(1, Checked::Up);
    // It answers 500 from the 30th second to the 60th.
    let is_bad = |at: Moment| (30_000..60_000).contains(&at.0);
    let answer = |at| {
        if is_bad(at) {
            Answer::Bad
        } else {
            Answer::Good
        }
    };
    world.run(100_000, |_, at| (5, answer(at)));
    let [(down_at, 0, Checked::Down), (up_at, 0, Checked::Up)] = world.changes[..] else {
        panic!("{:?}", world.changes);
    };
    let first_after = |from: u64| world.begun.iter().find(|(at, _)| at.0 + 5 >= from);
    let (first_bad, _) = *first_after(30_000).unwrap();
    assert_eq!(down_at.since(first_bad).as_millis(), 2_005);
    assert!(down_at.0 <= 30_000 + INTERVAL * 11 / 10 + 2 * FAST + 10);
    let (first_good, _) = *first_after(60_000).unwrap();
    assert_eq!(up_at.since(first_good).as_millis(), 1_005);
}

#[test]
fn a_bad_answer_between_good_ones_changes_nothing_but_the_next_moment() {
    let mut world = World::with(1, Checked::Up);
    let mut checks = 0;
    // Two bad ones of three: the answer is asked for twice, at the begin and at the end.
    world.run(600_000, |_, _| {
        checks += 1;
        let is_good = (checks / 2) % 3 == 0;
        (5, if is_good { Answer::Good } else { Answer::Bad })
    });
    assert_eq!(world.changes, []);
    assert_eq!(world.schedule.state(0), Some(Checked::Up));
    let gaps: Vec<_> = world
        .begun
        .windows(2)
        .map(|two| two[1].0.0 - two[0].0.0)
        .collect();
    let fast = gaps.iter().filter(|gap| **gap == FAST).count();
    let usual = gaps
        .iter()
        .filter(|gap| (INTERVAL * 9 / 10..=INTERVAL * 11 / 10).contains(gap))
        .count();
    assert_eq!(fast + usual, gaps.len());
    assert!(fast.abs_diff(2 * usual) <= 2, "{fast} {usual}");
    // The usual ones are spread over a fifth of the interval.
    let (least, most) = (
        gaps.iter().filter(|gap| **gap != FAST).min(),
        gaps.iter().max(),
    );
    assert!(
        least.unwrap() < &9_400 && most.unwrap() > &10_600,
        "{least:?} {most:?}"
    );
}

#[test]
fn checks_that_take_longer_than_the_interval_are_followed_by_others_at_once() {
    let mut world = World::with(50, Checked::Up);
    // All end at the same moment.
    world.run(100_000, |_, at| (30_000 - at.0 % 30_000, Answer::Good));
    for from in [30_000, 60_000, 90_000] {
        assert_eq!(world.begun_between(from, from + 1), 50);
    }
    assert_eq!(world.begun.len(), 4 * 50);
}

#[test]
fn the_fast_interval_is_no_longer_than_the_usual_one() {
    let mut world = World::new();
    let rhythm = Rhythm {
        interval: Duration::from_millis(500),
        ..Rhythm::default()
    };
    world.schedule.add(1, rhythm, Checked::Up, world.now);
    world.run(10_000, |_, _| (5, Answer::Bad));
    let longest = world.begun.windows(2).map(|two| two[1].0.0 - two[0].0.0);
    assert!(longest.max().unwrap() <= 550);
}

#[test]
fn a_thousand_are_checked_over_ten_seconds_and_at_most_64_at_once() {
    let mut world = World::with(1_000, Checked::Up);
    let start = world.now.0;
    // 600 ms each: 60 at a time on average.
    world.run(65_000, |_, _| (600, Answer::Good));
    let mut firsts = BTreeMap::new();
    for (at, target) in &world.begun {
        firsts.entry(target).or_insert(at.0 - start);
    }
    let last = firsts.values().max().unwrap();
    assert_eq!(firsts.len(), 1_000);
    assert!((9_000..=11_000).contains(last), "{last}");
    assert!((50..=MOST).contains(&world.most), "{}", world.most);
    for second in 0..60 {
        let from = start + second * 1_000;
        let begun = world.begun_between(from, from + 1_000);
        assert!((70..=130).contains(&begun), "{begun} in second {second}");
    }
    assert_eq!(world.changes, []);
}

#[test]
fn few_are_checked_at_once_and_ten_thousand_within_the_interval() {
    let mut world = World::with(3, Checked::Up);
    let start = world.now.0;
    world.run(100, good);
    assert_eq!(world.begun_between(start, start + 30), 3);
    // One more, long after: at once.
    world.run(60_000, good);
    let before = world.begun.len();
    world.add(3, Checked::Down);
    world.run(0, good);
    assert_eq!(world.begun[before..], [(world.now, 3)]);

    let mut world = World::with(10_000, Checked::Up);
    let start = world.now.0;
    world.run(INTERVAL + 100, |_, _| (2, Answer::Good));
    let mut firsts: Vec<_> = world.begun.iter().map(|(_, target)| *target).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 10_000);
    for second in 0..10 {
        let from = start + second * 1_000;
        let begun = world.begun_between(from, from + 1_000);
        assert!((500..=1_500).contains(&begun), "{begun} in second {second}");
    }
}

#[test]
fn a_target_that_is_added_later_is_down_until_two_good_answers() {
    let mut world = World::with(1, Checked::Up);
    world.run(30_000, good);
    world.add(9, Checked::Down);
    let added = world.now;
    world.run(30_000, good);
    let [(up_at, 9, Checked::Up)] = world.changes[..] else {
        panic!("{:?}", world.changes);
    };
    assert_eq!(up_at.since(added).as_millis(), 1_005);
}

#[test]
fn what_streams_have_found_dead_is_asked_every_minute() {
    let mut world = World::new();
    let rhythm = Rhythm::recovery(Duration::from_secs(60));
    let start = world.now;
    world
        .schedule
        .add_later(4, rhythm, Checked::Down, start, 0.5);
    // Refused for five minutes.
    let answer = |at: Moment| {
        if at.since(start) < Duration::from_secs(300) {
            Answer::Bad
        } else {
            Answer::Good
        }
    };
    world.run(400_000, |_, at| (1, answer(at)));
    assert_eq!(world.begun[0], (Moment(start.0 + 60_000), 4));
    assert!((4..=6).contains(&world.begun_between(start.0, start.0 + 300_000)));
    let [(up_at, 4, Checked::Up)] = world.changes[..] else {
        panic!("{:?}", world.changes);
    };
    assert!(up_at.since(start) <= Duration::from_secs(366));
    for two in world.begun.windows(2) {
        let gap = two[1].0.0 - two[0].0.0;
        assert!((54_000..=66_000).contains(&gap), "{gap}");
    }
}

#[test]
fn a_machine_that_stood_still_checks_each_once_and_no_crowd() {
    for jump in [3_600_000, 315_576_000_000] {
        let mut world = World::with(1_000, Checked::Up);
        world.run(35_000, good);
        world.begun.clear();
        // Those that run end when the machine goes on.
        world.now = Moment(world.now.0 + jump);
        let start = world.now.0;
        world.run(INTERVAL, good);
        assert!((900..=1_300).contains(&world.begun.len()));
        for tenth in 0..100 {
            let from = start + tenth * 100;
            let begun = world.begun_between(from, from + 100);
            assert!(begun <= 40, "{begun} in tenth {tenth}");
        }
        let mut each: Vec<_> = world.begun.iter().map(|(_, target)| *target).collect();
        each.sort_unstable();
        each.dedup();
        assert!(each.len() >= 995, "{}", each.len());
        assert_eq!(world.changes, []);
    }
}

#[test]
fn silent_targets_delay_others_and_starve_none() {
    let mut world = World::with(1_000, Checked::Up);
    // 900 take all of 2 s: 64 at a time need half a minute for them.
    let answer = |target| {
        if target % 10 == 0 {
            (5, Answer::Good)
        } else {
            (2_000, Answer::Bad)
        }
    };
    world.run(400_000, |target, _| answer(target));
    assert_eq!(world.most, MOST);
    assert_eq!(world.changes.len(), 900);
    for target in [0, 1, 10, 555, 990, 999] {
        let of = world.begun.iter().filter(|(_, one)| *one == target);
        let moments: Vec<_> = of.map(|(at, _)| at.0).collect();
        let longest = moments.windows(2).map(|two| two[1] - two[0]).max();
        assert!(longest.unwrap() <= 45_000, "{target}: {longest:?}");
    }
}

#[test]
fn a_check_of_a_target_that_was_removed_says_nothing_of_the_next_with_its_number() {
    let mut schedule = Schedule::new(1);
    let rhythm = Rhythm {
        rise: 0,
        fall: 1,
        ..Rhythm::default()
    };
    let now = Moment(0);
    schedule.add(1, rhythm, Checked::Up, now);
    let old = schedule.next(now).unwrap();
    assert_eq!((schedule.next_at(), schedule.running()), (None, 1));
    schedule.remove(1);
    assert_eq!((schedule.len(), schedule.running()), (0, 0));
    schedule.add(1, rhythm, Checked::Up, now);
    let at = schedule.next_at().unwrap();
    let new = schedule.next(at).unwrap();
    assert_eq!(schedule.done(old, Answer::Bad, at, 0.5), None);
    assert_eq!(
        (schedule.state(1), schedule.running()),
        (Some(Checked::Up), 1)
    );
    let down = schedule.done(new, Answer::Bad, at, 0.5);
    assert_eq!((down, schedule.running()), (Some(Checked::Down), 0));
    // Down again at once by another, whose first check has been waiting.
    schedule.remove(1);
    assert_eq!((schedule.next_at(), schedule.is_empty()), (None, true));
}

#[test]
fn a_fault_of_this_machine_says_nothing() {
    let mut world = World::with(1, Checked::Up);
    world.run(100_000, |_, _| (5, Answer::Unknown));
    assert_eq!(world.changes, []);
    assert!((9..=12).contains(&world.begun.len()));
}

#[test]
fn a_reload_keeps_what_is_known_and_makes_no_check_earlier() {
    let mut world = World::with(100, Checked::Up);
    world.run(30_000, |_, _| (5, Answer::Bad));
    assert_eq!(world.changes.len(), 100);
    let before = world.begun.len();
    for _ in 0..1_200 {
        for target in 0..100 {
            world.add(target, Checked::Up);
        }
        world.run(10, good);
    }
    assert_eq!(world.changes.len(), 200);
    let begun = world.begun.len() - before;
    // Two to come up, a second apart, at most one after that.
    assert!((200..=300).contains(&begun), "{begun}");

    // A shorter interval is in force at once, and spread.
    let long = Rhythm {
        interval: Duration::from_secs(3_600),
        ..Rhythm::default()
    };
    let mut world = World::new();
    for rhythm in [long, Rhythm::default()] {
        for target in 0..1_000 {
            world.schedule.add(target, rhythm, Checked::Up, world.now);
        }
        if rhythm == long {
            world.run(3_600_000, good);
            world.begun.clear();
        }
    }
    let start = world.now.0;
    world.run(INTERVAL, good);
    assert!(world.begun.len() >= 1_000);
    assert!(world.begun_between(start, start + 1_000) <= 130);
}

#[test]
fn targets_that_come_and_go_push_no_check_away() {
    let mut world = World::with(1, Checked::Up);
    world.run(1_000, good);
    for _ in 0..100 {
        for target in 1..2_000 {
            world.add(target, Checked::Down);
        }
        for target in 1..2_000 {
            world.schedule.remove(target);
        }
    }
    world.add(7, Checked::Down);
    world.run(INTERVAL, good);
    assert!(world.begun.iter().any(|(_, target)| *target == 7));
}

#[test]
fn rhythms_and_chances_of_every_kind_are_survived() {
    let times = [Duration::ZERO, Duration::from_secs(10), Duration::MAX];
    for interval in times {
        for fast_interval in times {
            for unit in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1.0, 2.0] {
                for (now, fall) in [
                    (0, 0),
                    (1, u32::MAX),
                    (u64::MAX - 1, 0),
                    (u64::MAX, u32::MAX),
                ] {
                    let now = Moment(now);
                    let rhythm = Rhythm {
                        interval,
                        fast_interval,
                        rise: u32::MAX,
                        fall,
                    };
                    let mut schedule = Schedule::new(0);
                    schedule.add(1, rhythm, Checked::Up, now);
                    schedule.add_later(2, rhythm, Checked::Up, now, unit);
                    let check = schedule.next(now).unwrap();
                    assert_eq!(schedule.next(now), None);
                    let change = schedule.done(check, Answer::Bad, now, unit);
                    assert_eq!(change, (fall == 0).then_some(Checked::Down));
                    let next = schedule.next_at().unwrap();
                    assert!(next > now || now.0 == u64::MAX);
                }
            }
        }
    }
}

/// A target in the plainest words: all of its answers, and when its checks began.
struct Plain {
    rhythm: Rhythm,
    initial: Checked,
    answers: Vec<Answer>,
    last_begun: Option<u64>,
}

impl Plain {
    /// The state by going over all answers, and whether the last of them speak against it.
    fn state(&self) -> (Checked, bool) {
        let mut state = self.initial;
        let mut row = Vec::new();
        for answer in &self.answers {
            let found = match answer {
                Answer::Good => Checked::Up,
                Answer::Bad => Checked::Down,
                Answer::Unknown => continue,
            };
            row.push(found);
            let against = row.iter().rev().take_while(|one| **one != state).count();
            let needed = match state {
                Checked::Up => self.rhythm.fall,
                Checked::Down => self.rhythm.rise,
            };
            if against >= needed.max(1) as usize {
                state = found;
            }
        }
        (state, row.last().is_some_and(|last| *last != state))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u32, u32, u32, bool),
    Remove(u32),
    Begin,
    /// The how-many-th of those that run, what it says, and the chance.
    End(usize, u8, f64),
    Wait(u64),
    WaitUntilNext,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0_u32..8, 0_u32..4, 0_u32..4, any::<bool>()).prop_map(|(target, rise, fall, is_up)| Step::Add(target, rise, fall, is_up)),
        1 => (0_u32..8).prop_map(Step::Remove),
        6 => Just(Step::Begin),
        6 => (0_usize..4, 0_u8..3, 0.0..1.0).prop_map(|(at, answer, unit)| Step::End(at, answer, unit)),
        2 => (0_u64..12_000).prop_map(Step::Wait),
        4 => Just(Step::WaitUntilNext),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn it_is_a_list_of_targets_and_their_answers(steps in steps()) {
        const MOST: usize = 3;
        let mut schedule = Schedule::new(MOST);
        let mut plain: BTreeMap<u32, Plain> = BTreeMap::new();
        let mut running: Vec<Check> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Add(target, rise, fall, is_up) => {
                    // One that is there keeps its rhythm, so that its answers can be gone over.
                    let rhythm = plain.get(&target).map_or_else(|| Rhythm { rise, fall, ..Rhythm::default() }, |plain| plain.rhythm);
                    let initial = if is_up { Checked::Up } else { Checked::Down };
                    schedule.add(target, rhythm, initial, Moment(now));
                    plain.entry(target).or_insert(Plain { rhythm, initial, answers: Vec::new(), last_begun: None });
                }
                Step::Remove(target) => {
                    schedule.remove(target);
                    plain.remove(&target);
                    running.retain(|check| check.target() != target);
                }
                Step::Begin => {
                    let may_begin = running.len() < MOST;
                    let Some(check) = schedule.next(Moment(now)) else { continue };
                    prop_assert!(may_begin);
                    prop_assert!(running.iter().all(|other| other.target() != check.target()));
                    let of = plain.get_mut(&check.target()).expect("a target that is there");
                    let (_, is_changing) = of.state();
                    let least = if is_changing { FAST } else { INTERVAL * 9 / 10 };
                    prop_assert!(of.last_begun.is_none_or(|last| now - last >= least));
                    of.last_begun = Some(now);
                    running.push(check);
                }
                Step::End(at, answer, unit) => {
                    if at >= running.len() {
                        continue;
                    }
                    let check = running.remove(at);
                    let target = check.target();
                    let of = plain.get_mut(&target).expect("a target that is there");
                    let (before, _) = of.state();
                    let answer = [Answer::Good, Answer::Bad, Answer::Unknown][answer as usize];
                    of.answers.push(answer);
                    let (after, is_changing) = of.state();
                    let change = schedule.done(check, answer, Moment(now), unit);
                    prop_assert_eq!(change, (before != after).then_some(after));
                    // With room for a check it is due within its interval, or at once if it took longer.
                    let latest = of.last_begun.unwrap_or(0) + if is_changing { FAST } else { INTERVAL * 11 / 10 };
                    let next = schedule.next_at().expect("room for a check");
                    prop_assert!(next.0 <= latest.max(now));
                }
                Step::Wait(millis) => now += millis,
                Step::WaitUntilNext => now = schedule.next_at().map_or(now, |next| next.0.max(now)),
            }
            prop_assert_eq!(schedule.len(), plain.len());
            prop_assert_eq!(schedule.running(), running.len());
            prop_assert_eq!(schedule.next_at().is_some(), running.len() < MOST && plain.len() > running.len());
            for (target, plain) in &plain {
                prop_assert_eq!(schedule.state(*target), Some(plain.state().0));
            }
        }
    }
}
