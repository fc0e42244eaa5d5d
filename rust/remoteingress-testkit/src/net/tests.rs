//! The network's promises: order, the same run from the same seed, and each way in which things go wrong.

use super::*;
use crate::any_instant;

const DELAY: Duration = Duration::from_millis(10);
const JITTERY: Path = Path {
    delay: DELAY,
    jitter: Duration::from_millis(50),
    dials: Dials::Accepted,
};

/// An edge, a hub and a connection between them that both know.
struct Connected {
    network: Network<u32>,
    edge: Endpoint,
    hub: Endpoint,
    connection: Connection,
}

fn connected(seed: u64, path: Path) -> Connected {
    let mut network = Network::new(seed, any_instant(), path);
    let (edge, hub) = (network.endpoint("edge"), network.endpoint("hub"));
    let connection = network.dial(edge, hub);
    let from = edge;
    let accepted = Event::Accepted { connection, from };
    assert_eq!(network.pop(), Some((hub, accepted)));
    assert_eq!(network.pop(), Some((edge, Event::Connected(connection))));
    Connected {
        network,
        edge,
        hub,
        connection,
    }
}

/// All that still happens, each with the time since `begin`.
fn rest(network: &mut Network<u32>, begin: Instant) -> Vec<(Duration, Endpoint, Event<u32>)> {
    let mut all = Vec::new();
    while let Some((to, event)) = network.pop() {
        all.push((network.now() - begin, to, event));
    }
    all
}

#[test]
fn a_dial_is_known_after_one_way_there_and_two_ways_here() {
    let mut network = Network::<u32>::new(1, any_instant(), Path::default());
    let begin = network.now();
    let (edge, hub) = (network.endpoint("edge"), network.endpoint("hub"));
    let connection = network.dial(edge, hub);
    assert_eq!(network.next_at(), Some(begin + DELAY));
    assert_eq!(network.ends(connection), [edge, hub]);
    assert_eq!((network.name(edge), network.name(hub)), ("edge", "hub"));
    let from = edge;
    assert_eq!(
        rest(&mut network, begin),
        [
            (DELAY, hub, Event::Accepted { connection, from }),
            (2 * DELAY, edge, Event::Connected(connection)),
        ]
    );
    assert_eq!(network.next_at(), None);
}

#[test]
fn a_connection_keeps_order_in_each_direction_whatever_the_jitter() {
    for seed in 0..50 {
        let mut at = connected(seed, JITTERY);
        for number in 0..40 {
            at.network.send(at.connection, at.edge, number);
            at.network.send(at.connection, at.hub, 100 + number);
        }
        at.network.finish(at.connection, at.edge);
        let begin = at.network.now();
        let (mut to_hub, mut to_edge) = (Vec::new(), Vec::new());
        for (_, to, event) in rest(&mut at.network, begin) {
            let received = if to == at.hub {
                &mut to_hub
            } else {
                &mut to_edge
            };
            received.push(event);
        }
        let arrived = |number| Event::Arrived(at.connection, number);
        assert_eq!(to_hub.pop(), Some(Event::Finished(at.connection)));
        assert!(to_hub.into_iter().eq((0..40).map(arrived)));
        assert!(to_edge.into_iter().eq((100..140).map(arrived)));
    }
}

#[test]
fn datagrams_overtake_each_other() {
    let mut at = connected(7, JITTERY);
    for number in 0..40 {
        at.network.send_datagram(at.edge, at.hub, number);
    }
    let begin = at.network.now();
    let arrived = rest(&mut at.network, begin);
    let numbers = arrived.iter().map(|(_, to, event)| {
        let Event::Datagram { from, payload } = event else {
            panic!("a datagram was expected, not {event:?}");
        };
        assert_eq!((*from, *to), (at.edge, at.hub));
        *payload
    });
    let mut numbers: Vec<u32> = numbers.collect();
    assert!(!numbers.is_sorted());
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..40));
}

/// Three edges that say the same at the same time; gives what happened where and when.
fn busy_hour(seed: u64, path: Path) -> Vec<(Duration, Endpoint, Event<u32>)> {
    let mut network = Network::new(seed, any_instant(), path);
    let begin = network.now();
    let hub = network.endpoint("hub");
    for number in 0..3 {
        let edge = network.endpoint(&format!("edge {number}"));
        let connection = network.dial(edge, hub);
        network.send(connection, edge, number);
        network.send_datagram(edge, hub, number);
        network.wake(edge, begin + DELAY);
    }
    rest(&mut network, begin)
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    for path in [Path::default(), JITTERY] {
        let runs: Vec<_> = (0..20).map(|number| busy_hour(2 * number, path)).collect();
        for (number, run) in (0..).zip(&runs) {
            assert_eq!(*run, busy_hour(2 * number, path));
            assert!(run.is_sorted_by_key(|(at, ..)| *at));
        }
        assert!(runs.iter().any(|run| *run != runs[0]));
    }
}

#[test]
fn a_cut_loses_what_is_on_its_way_and_each_end_hears_of_it_in_its_own_time() {
    let second = Duration::from_secs(1);
    for (seen, expected) in [
        (
            [Some(2 * second), Some(second)],
            vec![(second, 1), (2 * second, 0)],
        ),
        ([Some(Duration::ZERO), None], vec![(Duration::ZERO, 0)]),
        ([None, Some(second)], vec![(second, 1)]),
        ([None, None], vec![]),
    ] {
        let mut at = connected(1, Path::default());
        at.network.send(at.connection, at.edge, 1);
        at.network.send(at.connection, at.hub, 2);
        at.network.cut(at.connection, seen);
        // Nobody needs to know yet, and a second cut changes nothing.
        at.network.send(at.connection, at.edge, 3);
        at.network.cut(at.connection, [Some(Duration::ZERO); 2]);
        let begin = at.network.now();
        let died = |(after, side): (Duration, usize)| {
            let to = [at.edge, at.hub][side];
            (after, to, Event::Died(at.connection))
        };
        let expected: Vec<_> = expected.into_iter().map(died).collect();
        assert_eq!(rest(&mut at.network, begin), expected);
    }
}

#[test]
fn a_cut_leaves_other_connections_alone() {
    let mut at = connected(1, Path::default());
    let other = at.network.dial(at.edge, at.hub);
    at.network.send(other, at.edge, 1);
    at.network.send_datagram(at.edge, at.hub, 2);
    at.network.cut(at.connection, [None; 2]);
    let begin = at.network.now();
    let mut events = rest(&mut at.network, begin).into_iter();
    let of_other = |event: &Event<u32>| event.connection() == Some(other);
    assert_eq!(events.clone().filter(|(.., e)| of_other(e)).count(), 3);
    let is_datagram = |event: &Event<u32>| matches!(event, Event::Datagram { payload: 2, .. });
    assert!(events.any(|(.., event)| is_datagram(&event)));
}

#[test]
fn a_cut_is_no_news_to_an_end_that_never_heard_of_the_connection() {
    let mut network = Network::<u32>::new(1, any_instant(), Path::default());
    let (edge, hub) = (network.endpoint("edge"), network.endpoint("hub"));
    let connection = network.dial(edge, hub);
    network.cut(connection, [Some(Duration::ZERO); 2]);
    let begin = network.now();
    let died = Event::Died(connection);
    assert_eq!(rest(&mut network, begin), [(Duration::ZERO, edge, died)]);
}

#[test]
fn a_refused_dial_is_known_after_a_round_trip_and_carries_nothing() {
    let mut network = Network::new(1, any_instant(), Path::default());
    let begin = network.now();
    let (edge, hub) = (network.endpoint("edge"), network.endpoint("hub"));
    let refusing = Path {
        dials: Dials::Refused,
        ..Path::default()
    };
    network.set_path(hub, edge, refusing);
    let connection = network.dial(edge, hub);
    network.send(connection, edge, 1);
    let refused = Event::Refused(connection);
    assert_eq!(rest(&mut network, begin), [(2 * DELAY, edge, refused)]);
}

#[test]
fn an_ignored_dial_goes_on_until_the_path_answers_or_the_dialer_gives_up() {
    let ignoring = Path {
        dials: Dials::Ignored,
        ..Path::default()
    };
    let mut network = Network::<u32>::new(1, any_instant(), ignoring);
    let (edge, hub) = (network.endpoint("edge"), network.endpoint("hub"));
    let [given_up, answered] = [(); 2].map(|()| network.dial(edge, hub));
    assert_eq!(network.next_at(), None);
    network.cut(given_up, [Some(Duration::ZERO), None]);
    assert_eq!(network.pop(), Some((edge, Event::Died(given_up))));
    network.set_path(edge, hub, Path::default());
    let begin = network.now();
    let (connection, from) = (answered, edge);
    assert_eq!(
        rest(&mut network, begin),
        [
            (DELAY, hub, Event::Accepted { connection, from }),
            (2 * DELAY, edge, Event::Connected(connection)),
        ]
    );
}

#[test]
fn a_black_hole_swallows_datagrams_and_delays_all_else() {
    let mut at = connected(1, Path::default());
    at.network.send(at.connection, at.edge, 1);
    at.network.set_black_hole(at.hub, at.edge, true);
    at.network.send(at.connection, at.edge, 2);
    at.network.finish(at.connection, at.edge);
    at.network.send_datagram(at.edge, at.hub, 3);
    let dialled = at.network.dial(at.hub, at.edge);
    let arrived = |number| Event::Arrived(at.connection, number);
    assert_eq!(at.network.pop(), Some((at.hub, arrived(1))));
    assert_eq!(at.network.next_at(), None, "nothing gets through");
    let until = at.network.now() + Duration::from_secs(60);
    at.network.wake(at.edge, until);
    assert_eq!(at.network.pop(), Some((at.edge, Event::Woken)));
    at.network.set_black_hole(at.edge, at.hub, false);
    let mut events = rest(&mut at.network, until);
    events.sort_by_key(|(after, to, _)| (*after, *to != at.hub));
    let (connection, from) = (dialled, at.hub);
    assert_eq!(
        events,
        [
            (DELAY, at.hub, arrived(2)),
            (DELAY, at.hub, Event::Finished(at.connection)),
            (DELAY, at.edge, Event::Accepted { connection, from }),
            (2 * DELAY, at.hub, Event::Connected(dialled)),
        ]
    );
}

#[test]
fn a_connection_cut_in_a_black_hole_brings_nothing_when_it_ends() {
    let mut at = connected(1, Path::default());
    at.network.set_black_hole(at.edge, at.hub, true);
    at.network.send(at.connection, at.edge, 1);
    at.network.cut(at.connection, [None; 2]);
    at.network.set_black_hole(at.edge, at.hub, false);
    assert_eq!(at.network.next_at(), None);
}

#[test]
fn a_time_that_is_past_wakes_now() {
    let mut at = connected(1, Path::default());
    let now = at.network.now();
    at.network.wake(at.hub, now - DELAY);
    assert_eq!(at.network.pop(), Some((at.hub, Event::Woken)));
    assert_eq!(at.network.now(), now, "time doesn't run backwards");
}

#[test]
fn events_of_one_lane_that_are_due_at_once_keep_their_order() {
    let now = any_instant();
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let mut queue = Queue::new(seed);
        for event in 0..20 {
            queue.schedule(now, event % 2, event);
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|(_, e)| e).collect();
        for lane in [0, 1] {
            assert!(order.iter().filter(|e| *e % 2 == lane).is_sorted());
        }
        orders.insert(order);
    }
    assert_eq!(orders.len(), 2, "the seed decides which lane is first");
}
