//! Lanes that wait: nothing is lost, reordered or forgotten, and a turn costs by what has changed.

use super::*;
use proptest::prelude::*;
use std::convert::Infallible;

/// A connection that counts what it is asked, and says which lanes take more as QUIC does: once for each that was
/// refused.
#[derive(Default)]
struct Connection {
    lanes: u32,
    opened: u32,
    /// Bytes that all lanes together may still send.
    room: usize,
    /// Bytes that each lane may still send.
    credit: HashMap<StreamId, usize>,
    /// Lanes that were refused because there was no `room`.
    refused: BTreeSet<StreamId>,
    /// Lanes to be told of.
    writable: Vec<StreamId>,
    written: HashMap<StreamId, Vec<u8>>,
    finished: BTreeSet<StreamId>,
    urgencies: Vec<(StreamId, Urgency)>,
    asked: usize,
}

impl LaneSink for Connection {
    type Error = Infallible;

    fn open_next(&mut self) -> bool {
        self.asked += 1;
        let may = self.opened < self.lanes;
        self.opened += u32::from(may);
        may
    }

    fn set_urgency(&mut self, lane: StreamId, urgency: Urgency) {
        self.urgencies.push((lane, urgency));
    }

    fn write(&mut self, lane: StreamId, frame: &mut Bytes) -> Result<(), Infallible> {
        self.asked += 1;
        assert!(!self.finished.contains(&lane));
        let credit = self.credit.entry(lane).or_default();
        let taken = frame.len().min(*credit).min(self.room);
        *credit -= taken;
        self.room -= taken;
        self.written
            .entry(lane)
            .or_default()
            .extend(frame.split_to(taken));
        if !frame.is_empty() && self.room == 0 {
            self.refused.insert(lane);
        }
        Ok(())
    }

    fn finish(&mut self, lane: StreamId) {
        assert!(self.finished.insert(lane));
    }
}

impl Connection {
    fn grant(&mut self, lane: StreamId, bytes: usize) {
        let credit = self.credit.entry(lane).or_default();
        let was_blocked = *credit == 0;
        *credit += bytes;
        if was_blocked && self.room > 0 {
            self.writable.push(lane);
        } else if was_blocked {
            self.refused.insert(lane);
        }
    }

    fn make_room(&mut self, bytes: usize) {
        self.room += bytes;
        for lane in std::mem::take(&mut self.refused) {
            if self.credit.get(&lane).is_some_and(|credit| *credit > 0) {
                self.writable.push(lane);
            }
        }
    }

    /// A turn; gives the number of questions that it took.
    fn turn(&mut self, waiting: &mut WaitingLanes) -> usize {
        self.asked = 0;
        for lane in std::mem::take(&mut self.writable) {
            waiting.handle_writable(lane);
        }
        let Ok(_) = waiting.retry(self);
        self.asked
    }
}

fn lane(index: u32) -> StreamId {
    StreamId(2 * index + 1)
}

fn frame(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

fn send(waiting: &mut WaitingLanes, id: StreamId, bytes: usize, connection: &mut Connection) {
    let Ok(()) = waiting.send(id, Urgency::Turn, frame(bytes), connection);
}

const MANY: u32 = 16_000;

/// A hub with 16,000 lanes of a hostile edge, which allows no byte on any.
fn all_stalled(room: usize) -> (WaitingLanes, Connection) {
    let mut waiting = WaitingLanes::new(Role::Hub);
    let mut connection = Connection {
        room,
        ..Connection::default()
    };
    for index in 0..MANY {
        send(&mut waiting, lane(index), 64, &mut connection);
    }
    assert_eq!(waiting.lanes.len(), 16_000);
    (waiting, connection)
}

#[test]
fn a_turn_with_16_000_stalled_lanes_and_one_change_asks_for_one() {
    let (mut waiting, mut connection) = all_stalled(usize::MAX);
    assert_eq!(connection.turn(&mut waiting), 0);
    connection.grant(lane(9_000), 10);
    assert_eq!(connection.turn(&mut waiting), 1);
    assert_eq!(connection.written[&lane(9_000)].len(), 10);
    assert_eq!(connection.turn(&mut waiting), 0);
}

#[test]
fn a_connection_that_is_full_is_asked_once_whatever_waits() {
    let (mut waiting, mut connection) = all_stalled(0);
    for index in 0..MANY {
        connection.grant(lane(index), 1_000);
    }
    connection.make_room(64 + 10);
    assert_eq!(connection.turn(&mut waiting), 3, "one, a part of one, none");
    assert!(connection.turn(&mut waiting) <= 1);
    connection.make_room(1);
    assert!(connection.turn(&mut waiting) <= 3);
    connection.make_room(usize::MAX >> 1);
    connection.turn(&mut waiting);
    assert!(waiting.lanes.is_empty() && waiting.bytes == 0);
}

#[test]
fn lanes_that_may_not_be_opened_wait_in_their_order_and_are_asked_for_once() {
    let mut waiting = WaitingLanes::new(Role::Edge);
    let mut connection = Connection {
        lanes: 2,
        room: usize::MAX,
        ..Connection::default()
    };
    for index in 0..MANY {
        connection.grant(lane(index), 100);
        send(&mut waiting, lane(index), 64, &mut connection);
    }
    connection.writable.clear();
    assert_eq!(waiting.opened().collect::<Vec<_>>(), [lane(0), lane(1)]);
    assert_eq!(connection.turn(&mut waiting), 1);
    connection.lanes = 5;
    assert!(connection.turn(&mut waiting) <= 2 * 3 + 1);
    assert_eq!(waiting.opened().last(), Some(lane(4)));
    assert_eq!(connection.written.len(), 5);
}

#[test]
fn streams_are_held_before_a_peer_exceeds_its_bound() {
    let mut waiting = WaitingLanes::new(Role::Hub);
    let mut connection = Connection::default();
    let mut send_until = |room| {
        while waiting.room() != room {
            send(&mut waiting, lane(0), 16_384, &mut connection);
        }
        waiting.bytes
    };
    assert_eq!(send_until(LaneRoom::ForControl), MOST_WAITING);
    assert_eq!(send_until(LaneRoom::Exceeded), 2 * MOST_WAITING + 16_384);
}

#[test]
fn urgency_is_said_when_it_changes() {
    let mut waiting = WaitingLanes::new(Role::Hub);
    let mut connection = Connection {
        room: usize::MAX,
        ..Connection::default()
    };
    connection.grant(lane(0), usize::MAX >> 1);
    let all = [
        Urgency::Turn,
        Urgency::Newcomer,
        Urgency::Newcomer,
        Urgency::Turn,
        Urgency::Leftover,
    ];
    for urgency in all {
        let Ok(()) = waiting.send(lane(0), urgency, frame(1), &mut connection);
    }
    let said: Vec<_> = connection.urgencies.iter().map(|(_, said)| *said).collect();
    assert_eq!(said, [Urgency::Newcomer, Urgency::Turn, Urgency::Leftover]);
    waiting.finish(lane(0), &mut connection);
    assert!(waiting.urgencies.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32, usize),
    Finish(u32),
    Grant(u32, usize),
    Room(usize),
    Lanes,
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u32, 1..50_usize).prop_map(|(index, bytes)| Step::Send(index, bytes)),
        1 => (0..6_u32).prop_map(Step::Finish),
        3 => (0..6_u32, 1..80_usize).prop_map(|(index, bytes)| Step::Grant(index, bytes)),
        2 => (1..80_usize).prop_map(Step::Room),
        1 => Just(Step::Lanes),
        3 => Just(Step::Turn),
    ]
}

proptest! {
    #[test]
    fn everything_arrives_in_order_whatever_is_refused_meanwhile(
        steps in prop::collection::vec(step(), 0..80), is_edge in any::<bool>(),
    ) {
        let mut waiting = WaitingLanes::new(if is_edge { Role::Edge } else { Role::Hub });
        let mut connection = Connection::default();
        let mut sent: HashMap<StreamId, Vec<u8>> = HashMap::new();
        let mut ended = BTreeSet::new();
        let mut begun = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(index, bytes) => {
                    // Streams begin one after the other.
                    let index = index.min(begun);
                    if ended.contains(&lane(index)) {
                        continue;
                    }
                    begun = begun.max(index + 1);
                    let content = vec![u8::try_from(number).unwrap(); bytes];
                    sent.entry(lane(index)).or_default().extend(&content);
                    let Ok(()) =
                        waiting.send(lane(index), Urgency::Turn, content.into(), &mut connection);
                }
                Step::Finish(index) => {
                    if index < begun && ended.insert(lane(index)) {
                        waiting.finish(lane(index), &mut connection);
                    }
                }
                Step::Grant(index, bytes) => connection.grant(lane(index), bytes),
                Step::Room(bytes) => connection.make_room(bytes),
                Step::Lanes => connection.lanes += 1,
                Step::Turn => _ = connection.turn(&mut waiting),
            }
            for (lane, written) in &connection.written {
                prop_assert!(sent[lane].starts_with(written));
            }
        }
        connection.lanes = 6;
        connection.make_room(1 << 20);
        for index in 0..6 {
            connection.grant(lane(index), 1 << 20);
        }
        connection.turn(&mut waiting);
        prop_assert_eq!(waiting.bytes, 0);
        prop_assert!(waiting.lanes.is_empty() && waiting.unopened.is_empty());
        prop_assert_eq!(&connection.finished, &ended);
        connection.written.retain(|_, written| !written.is_empty());
        prop_assert_eq!(connection.written, sent);
    }
}
