//! The targets that a name gives over good answers, bad ones and none, in virtual time.

use proptest::prelude::*;
use remoteingress_upstream::discovery::{
    Answer, Discovery, Failure, Family, Found, MAX_RECORDS, State,
};
use remoteingress_upstream::time::Moment;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const HOLD: Duration = Duration::from_secs(300);
const DRAIN: Duration = Duration::from_secs(30);

fn secs(secs: u64) -> Moment {
    Moment(secs * 1_000)
}

fn v4(number: u16) -> Found {
    Found::address(IpAddr::V4(Ipv4Addr::from(0x0A00_0000 | u32::from(number))))
}

fn v6(number: u16) -> Found {
    Found::address(IpAddr::V6(Ipv6Addr::from(
        0xFD00 << 112 | u128::from(number),
    )))
}

fn answer(records: Vec<Found>) -> Answer {
    Answer {
        records,
        ttl: Duration::from_secs(60),
        missing: None,
    }
}

fn of(numbers: impl IntoIterator<Item = u16>) -> Answer {
    answer(numbers.into_iter().map(v4).collect())
}

fn without(family: Family, records: Vec<Found>) -> Answer {
    Answer {
        missing: Some(family),
        ..answer(records)
    }
}

/// Ids of the targets, a `-` before those that are leaving.
fn seen(discovery: &Discovery) -> Vec<String> {
    let shown = |target: &remoteingress_upstream::discovery::Target| {
        let mark = if target.leaving.is_some() { "-" } else { "" };
        format!("{mark}{}", target.id)
    };
    discovery.targets().iter().map(shown).collect()
}

fn refresh_in(discovery: &Discovery, now: Moment) -> u64 {
    discovery.refresh_at().since(now).as_secs()
}

#[test]
fn a_set_that_shrinks_grows_fails_and_returns_never_leaves_a_client_without_a_target() {
    let mut name = Discovery::new(HOLD, secs(5));
    assert_eq!(
        (name.refresh_at(), name.state(), name.poll_timeout()),
        (secs(5), State::Unanswered { failure: None }, None)
    );
    assert!(name.handle_answer(of([1, 2, 3]), secs(5)));
    assert!(name.handle_answer(of(1..=5), secs(65)));
    assert_eq!(seen(&name).len(), 5);
    assert!(name.handle_answer(of([2, 4]), secs(125)));
    let shrunk = [
        "-10.0.0.1",
        "10.0.0.2",
        "-10.0.0.3",
        "10.0.0.4",
        "-10.0.0.5",
    ];
    assert_eq!(seen(&name), shrunk);
    assert_eq!(name.poll_timeout(), Some(secs(155)));

    // SERVFAIL for a minute, then NXDOMAIN: the two stay, those that were leaving go in their time.
    let mut now = secs(130);
    for retry in [1, 2, 4, 8, 16, 30, 30] {
        name.handle_failure(Failure::Error, now);
        assert_eq!(refresh_in(&name, now), retry);
        now = name.refresh_at();
    }
    assert_eq!(seen(&name), ["10.0.0.2", "10.0.0.4"]);
    let held = State::Held {
        failure: Failure::Error,
        since: secs(130),
        until: None,
    };
    assert_eq!(name.state(), held);
    assert!(!name.handle_failure(Failure::NoSuchName, now));
    assert_eq!(seen(&name), ["10.0.0.2", "10.0.0.4"]);

    assert!(name.handle_answer(of([1, 2, 4]), now));
    assert_eq!(seen(&name), ["10.0.0.1", "10.0.0.2", "10.0.0.4"]);
    assert_eq!(name.state(), State::Current);
    // The same answer again, in another order, changes nothing.
    assert!(!name.handle_answer(of([4, 1, 2]), now));
    // A failure after it begins at the shortest time again.
    name.handle_failure(Failure::Error, now);
    assert_eq!(refresh_in(&name, now), 1);
}

#[test]
fn a_target_that_is_back_within_its_drain_was_never_away() {
    let mut name = Discovery::new(HOLD, secs(0));
    name.handle_answer(of([1, 2]), secs(0));
    name.handle_answer(of([1]), secs(60));
    // Further answers without it don't prolong its drain.
    assert!(!name.handle_answer(of([1]), secs(80)));
    assert!(name.handle_answer(of([1, 2]), secs(89)));
    assert_eq!(seen(&name), ["10.0.0.1", "10.0.0.2"]);
    assert!(!name.handle_timeout(secs(95)));

    // Whoever comes late for the end of a drain is told of it too.
    name.handle_answer(of([1]), secs(90));
    assert!(name.handle_answer(of([1]), secs(120)));
    assert_eq!(seen(&name), ["10.0.0.1"]);

    name.handle_answer(of([1, 2]), secs(120));
    name.handle_answer(of([1]), secs(121));
    assert!(!name.handle_timeout(Moment(150_999)));
    assert!(name.handle_timeout(secs(151)));
    assert_eq!(
        (seen(&name), name.poll_timeout()),
        (vec!["10.0.0.1".into()], None)
    );
}

#[test]
fn answers_that_there_are_none_empty_the_set_after_the_hold() {
    for failure in [Failure::Empty, Failure::NoSuchName] {
        let mut name = Discovery::new(HOLD, secs(0));
        name.handle_answer(of([1, 2]), secs(0));
        if failure == Failure::Empty {
            name.handle_answer(of([]), secs(60));
        } else {
            name.handle_failure(failure, secs(60));
        }
        let held = State::Held {
            failure,
            since: secs(60),
            until: Some(secs(360)),
        };
        assert_eq!((name.state(), refresh_in(&name, secs(60))), (held, 1));
        assert_eq!(name.poll_timeout(), Some(secs(360)));
        assert!(!name.handle_timeout(secs(359)));
        assert!(name.handle_timeout(secs(360)));
        assert_eq!(seen(&name), ["-10.0.0.1", "-10.0.0.2"]);
        assert_eq!(name.state(), State::Emptied { failure });
        assert!(name.handle_timeout(secs(390)));
        assert_eq!((seen(&name).len(), name.poll_timeout()), (0, None));
        // It fills again.
        assert!(name.handle_answer(of([2]), secs(1_000)));
        assert_eq!((seen(&name).len(), name.state()), (1, State::Current));
    }
}

#[test]
fn lookups_without_an_answer_never_empty_the_set() {
    let mut name = Discovery::new(HOLD, secs(0));
    name.handle_answer(of([1]), secs(0));
    name.handle_failure(Failure::Error, secs(60));
    assert_eq!(name.poll_timeout(), None);
    name.handle_failure(Failure::NoSuchName, secs(100));
    assert_eq!(name.poll_timeout(), Some(secs(400)));
    // The server is silent again when the hold is over: that is no reason to believe its earlier word.
    name.handle_failure(Failure::Error, secs(399));
    assert_eq!(name.poll_timeout(), None);
    assert!(!name.handle_timeout(secs(86_400)));
    assert_eq!(seen(&name), ["10.0.0.1"]);
    // Its next word is, for the time of the hold has passed since the first.
    assert!(name.handle_failure(Failure::Empty, secs(86_401)));
    assert_eq!(seen(&name), ["-10.0.0.1"]);
}

#[test]
fn a_name_that_never_had_an_answer_has_no_targets_and_says_why() {
    let mut name = Discovery::new(Duration::ZERO, secs(0));
    assert!(!name.handle_failure(Failure::NoSuchName, secs(0)));
    let failure = Some(Failure::NoSuchName);
    assert_eq!(name.state(), State::Unanswered { failure });
    assert_eq!((name.targets().len(), name.poll_timeout()), (0, None));
}

#[test]
fn without_a_hold_the_first_word_empties_the_set() {
    let mut name = Discovery::new(Duration::ZERO, secs(0));
    name.handle_answer(of([1]), secs(0));
    assert!(!name.handle_failure(Failure::Error, secs(1)));
    assert!(name.handle_failure(Failure::Empty, secs(2)));
    assert_eq!(seen(&name), ["-10.0.0.1"]);
}

#[test]
fn a_family_whose_lookup_failed_stays_as_it_is() {
    let mut name = Discovery::new(HOLD, secs(0));
    name.handle_answer(answer(vec![v4(1), v4(2), v6(1), v6(2)]), secs(0));
    name.handle_answer(without(Family::V6, vec![v4(2), v4(3)]), secs(60));
    let kept = ["-10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"];
    assert_eq!(seen(&name), kept);
    // It is asked again sooner than its records' time says.
    assert_eq!(refresh_in(&name, secs(60)), 30);
    // Nothing of one family and no answer about the other says nothing.
    assert!(!name.handle_answer(without(Family::V6, Vec::new()), secs(61)));
    assert_eq!(seen(&name), kept);
    name.handle_answer(without(Family::V4, vec![v6(2)]), secs(62));
    let kept = ["-10.0.0.1", "10.0.0.2", "10.0.0.3", "-fd00::1", "fd00::2"];
    assert_eq!(seen(&name), kept);
}

#[test]
fn the_time_to_the_next_lookup_is_that_of_the_records_within_bounds() {
    let mut name = Discovery::new(HOLD, secs(0));
    for (ttl, expected) in [
        (0, 1),
        (1, 1),
        (42, 42),
        (300, 300),
        (86_400, 300),
        (u64::MAX, 300),
    ] {
        let ttl = Duration::from_secs(ttl);
        name.handle_answer(Answer { ttl, ..of([1]) }, secs(7));
        assert_eq!(refresh_in(&name, secs(7)), expected);
    }
}

#[test]
fn a_name_with_too_many_records_is_cut_and_says_so() {
    let mut name = Discovery::new(HOLD, secs(0));
    name.handle_answer(of(1..=300), secs(0));
    assert_eq!((name.targets().len(), name.cut()), (MAX_RECORDS, 44));
    assert!(!name.handle_answer(of((1..=300).rev()), secs(1)));
    // Ever new ones: those that leave are bounded too, and the newest of them stay.
    for round in 1..50 {
        let from = round * 300;
        name.handle_answer(of(from..from + 256), secs(1));
        assert_eq!((name.targets().len(), name.cut()), (512, 0));
    }
    name.handle_answer(of([1]), secs(2));
    let leaving: Vec<String> = (14_700..14_956).map(|number| v4(number).id).collect();
    for target in name.targets().iter().filter(|one| one.leaving.is_some()) {
        assert!(leaving.contains(&target.id), "{}", target.id);
    }
    assert_eq!(name.targets().len(), 257);
}

#[test]
fn a_clock_that_jumps_ends_nothing_early_and_stops_nothing() {
    let ten_years = 10 * 365 * 86_400;
    let mut name = Discovery::new(HOLD, secs(ten_years));
    name.handle_answer(of([1, 2]), secs(ten_years));
    name.handle_answer(of([1]), secs(ten_years + 1));
    name.handle_timeout(secs(0));
    assert_eq!(seen(&name), ["10.0.0.1", "-10.0.0.2"]);
    assert!(name.refresh_at() <= secs(300));
    assert_eq!(name.poll_timeout(), Some(secs(30)));
    name.handle_failure(Failure::Empty, secs(0));
    name.handle_timeout(secs(ten_years));
    assert_eq!(seen(&name), ["-10.0.0.1"]);
    name.handle_answer(of([3]), Moment(u64::MAX));
    assert_eq!(name.refresh_at(), Moment(u64::MAX));
    name.handle_timeout(Moment(u64::MAX));
}

/// How a lookup ended.
#[derive(Clone, Debug)]
enum Outcome {
    Good(BTreeSet<u16>),
    Bad(Failure),
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let failures = prop_oneof![
        Just(Failure::Empty),
        Just(Failure::NoSuchName),
        Just(Failure::Error)
    ];
    prop_oneof![
        2 => proptest::collection::btree_set(0..6_u16, 1..6).prop_map(Outcome::Good),
        3 => failures.prop_map(Outcome::Bad),
    ]
}

/// All that has happened to a name, and what follows from it by the definition: nothing is remembered but this list.
#[derive(Debug, Default)]
struct History(Vec<(Moment, Outcome)>);

impl History {
    /// When the set emptied after good answer number `index`, by the failures that follow it.
    fn emptied_after(&self, index: usize, now: Moment) -> Option<Moment> {
        let mut first_word = None;
        let mut later = self.0[index + 1..].iter().peekable();
        while let Some((at, outcome)) = later.next() {
            let Outcome::Bad(failure) = outcome else {
                return None;
            };
            if *failure == Failure::Error {
                continue;
            }
            let over = first_word.get_or_insert(*at).after(HOLD);
            // A word is believed until the next lookup ends.
            let believed_until = later.peek().map_or(now, |(next, _)| *next);
            if over.max(*at) <= believed_until {
                return Some(over.max(*at));
            }
        }
        None
    }

    /// Ids of the targets in force, and of those that are leaving.
    fn targets(&self, now: Moment) -> (BTreeSet<u16>, BTreeSet<u16>) {
        let (mut present, mut left) = (BTreeSet::new(), Vec::new());
        for (index, (at, outcome)) in self.0.iter().enumerate() {
            let Outcome::Good(set) = outcome else {
                continue;
            };
            left.extend(present.difference(set).map(|id| (*id, *at)));
            present = set.clone();
            left.retain(|(id, _)| !present.contains(id));
            if let Some(end) = self.emptied_after(index, now) {
                left.extend(std::mem::take(&mut present).into_iter().map(|id| (id, end)));
            }
        }
        let leaving = left.iter().filter(|(_, since)| since.after(DRAIN) > now);
        (present, leaving.map(|(id, _)| *id).collect())
    }
}

proptest! {
    /// The targets are what the history of the lookups says, whatever happens and whenever.
    #[test]
    fn the_targets_follow_from_what_has_happened(
        steps in proptest::collection::vec((outcomes(), 0..120_000_u64), 1..60),
        start in prop_oneof![Just(0_u64), 0..u64::MAX / 2],
    ) {
        let mut now = Moment(start);
        let mut name = Discovery::new(HOLD, now);
        let mut history = History::default();
        for (outcome, pause) in steps {
            let before = name.targets().to_vec();
            let changed = match &outcome {
                Outcome::Good(set) => name.handle_answer(of(set.iter().copied()), now),
                Outcome::Bad(failure) => name.handle_failure(*failure, now),
            };
            prop_assert_eq!(changed, name.targets() != before.as_slice());
            history.0.push((now, outcome));
            agree(&name, &history, now)?;
            let refresh = name.refresh_at().since(now);
            prop_assert!((Duration::from_secs(1)..=LONGEST).contains(&refresh));

            let until = now.after(Duration::from_millis(pause));
            while let Some(end) = name.poll_timeout().filter(|end| *end <= until) {
                prop_assert!(end > now, "it ends at {:?}, and that has passed", end);
                now = end;
                prop_assert!(name.handle_timeout(now));
                agree(&name, &history, now)?;
            }
            now = until;
            prop_assert!(!name.handle_timeout(now));
            agree(&name, &history, now)?;
        }
    }

    /// Whatever records come, in whatever order and at whatever moment: the targets are sorted, unique and bounded.
    #[test]
    fn targets_are_sorted_unique_and_bounded(
        rounds in proptest::collection::vec((records(), any::<u64>()), 1..8),
    ) {
        let mut name = Discovery::new(HOLD, Moment(0));
        for (records, at) in rounds {
            let mut others = records.clone();
            others.reverse();
            let now = Moment(at);
            name.handle_answer(answer(records), now);
            prop_assert!(!name.handle_answer(answer(others), now));
            let targets = name.targets();
            prop_assert!(targets.is_sorted_by(|one, other| one.id < other.id));
            let present = targets.iter().filter(|one| one.leaving.is_none()).count();
            prop_assert!(present <= MAX_RECORDS && targets.len() <= 2 * MAX_RECORDS);
            prop_assert!(targets.iter().all(|target| target.weight > 0));
        }
    }
}

const LONGEST: Duration = Duration::from_secs(300);

fn agree(name: &Discovery, history: &History, now: Moment) -> Result<(), TestCaseError> {
    let (present, leaving) = history.targets(now);
    let mut expected: Vec<String> = present.iter().map(|id| v4(*id).id).collect();
    expected.extend(leaving.iter().map(|id| format!("-{}", v4(*id).id)));
    expected.sort_by(|one, other| {
        one.trim_start_matches('-')
            .cmp(other.trim_start_matches('-'))
    });
    prop_assert_eq!(seen(name), expected, "at {:?}", now);
    Ok(())
}

/// Up to 600 records of services, many of them alike.
fn records() -> impl Strategy<Value = Vec<Found>> {
    let record = (0..400_u16, 1..3_u16, 0..5_u16, any::<u16>());
    let found = |(host, port, priority, weight)| {
        Found::service(&format!("h{host}"), port, priority, weight)
    };
    proptest::collection::vec(record.prop_map(found), 0..600)
}
