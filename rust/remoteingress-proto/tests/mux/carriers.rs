//! Property P18: an owner of streams can't tell the carriers apart. The same script gives the same bytes, ends and
//! events over one ordered connection and over lanes.
//!
//! Steps that two ends take at once may end either way on either carrier: a CANCEL that crosses a FIN, or which of
//! two OPENs takes the last permit. So the script lets everything arrive before such a step and after it; writes,
//! ends and transfers between them interleave freely. Not compared: the order of events of different streams, and in
//! how many pieces payload becomes readable.

use proptest::prelude::*;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Carrier, GoAwayCode};
use remoteingress_testkit::world::{Setup, World};
use remoteingress_testkit::{EDGE, HUB};
use std::time::Duration;

/// A step of an owner. `pick` chooses among the streams, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Write(usize, usize, usize),
    Finish(usize, usize),
    /// The network, not the owner: this many bytes move.
    Transfer(usize, usize),
    Read(usize, usize, usize),
    Abort(usize, usize, AbortCode),
    Cancel(usize, usize),
    Release(usize, usize),
    Control(usize, u8),
    GoAway(usize, GoAwayCode),
}

impl Step {
    fn may_cross(&self) -> bool {
        matches!(
            self,
            Self::Write(..) | Self::Finish(..) | Self::Transfer(..)
        )
    }
}

fn step() -> impl Strategy<Value = Step> {
    let side = || 0..2usize;
    let pick = || 0..12usize;
    let bytes = || prop_oneof![4 => 1..3_000usize, 2 => 1..70_000usize, 2 => 1..900_000usize];
    let abort = prop_oneof![Just(AbortCode::Reset), Just(AbortCode::TargetRefused)];
    let away = prop_oneof![
        Just(GoAwayCode::Draining),
        Just(GoAwayCode::EnhanceYourCalm),
        Just(GoAwayCode::Replaced)
    ];
    prop_oneof![
        10 => side().prop_map(Step::Open),
        20 => (side(), pick(), bytes()).prop_map(|(s, p, n)| Step::Write(s, p, n)),
        8 => (side(), pick()).prop_map(|(s, p)| Step::Finish(s, p)),
        12 => (side(), 1..40_000usize).prop_map(|(s, n)| Step::Transfer(s, n)),
        14 => (side(), pick(), bytes()).prop_map(|(s, p, n)| Step::Read(s, p, n)),
        4 => (side(), pick(), abort).prop_map(|(s, p, c)| Step::Abort(s, p, c)),
        4 => (side(), pick()).prop_map(|(s, p)| Step::Cancel(s, p)),
        4 => (side(), pick()).prop_map(|(s, p)| Step::Release(s, p)),
        1 => (side(), any::<u8>()).prop_map(|(s, b)| Step::Control(s, b)),
        1 => (side(), away).prop_map(|(s, c)| Step::GoAway(s, c)),
    ]
}

/// The events that the owner of one end saw.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    exists: bool,
    written: u64,
    /// All of it is checked against what was written.
    read: u64,
    end: Option<StreamEnd>,
    stopped: bool,
}

/// Everything that the owners saw: of each stream at each end, and what each end refused.
type All = (Vec<[Seen; 2]>, [usize; 2]);

fn seen(world: &World) -> All {
    let streams = world.streams.iter();
    let streams = streams.map(|stream| {
        [EDGE, HUB].map(|side| {
            let end = &stream.ends[side];
            Seen {
                exists: end.key.is_some(),
                written: end.written,
                read: end.read,
                end: end.end,
                stopped: end.stopped,
            }
        })
    });
    (streams.collect(), world.refused)
}

/// Runs the script; gives what was seen whenever everything had arrived, and in the end.
fn run(setup: Setup, script: &[Step]) -> Vec<All> {
    let mut world = World::new(&setup);
    let mut all = Vec::new();
    for step in script {
        if !step.may_cross() {
            world.settle();
            all.push(seen(&world));
        }
        let known = world.streams.len();
        let at = |pick: usize| pick % known.max(1);
        match *step {
            Step::Open(side) => drop(world.open(side)),
            Step::Transfer(side, bytes) => world.transfer(side, bytes),
            Step::Control(side, byte) => world.control(side, &[byte; 9]),
            Step::GoAway(side, code) => world.go_away(side, code),
            _ if known == 0 => {}
            Step::Write(side, pick, n) => world.write(side, at(pick), n),
            Step::Finish(side, pick) => world.finish(side, at(pick)),
            Step::Read(side, pick, n) => world.read(side, at(pick), n),
            Step::Abort(side, pick, code) => world.abort(side, at(pick), code),
            Step::Cancel(side, pick) => world.cancel(side, at(pick)),
            Step::Release(side, pick) => world.release(side, at(pick)),
        }
        world.check();
        if !step.may_cross() {
            world.settle();
        }
        world.pass(Duration::from_millis(1));
    }
    world.run_until_delivered();
    all.push(seen(&world));
    world.wind_up();
    all
}

proptest! {
    #[test]
    fn p18_both_carriers_show_the_same(
        seed in any::<u64>(),
        max_peer_streams in prop_oneof![3 => Just(1_000usize), 1 => 1..4usize],
        script in prop::collection::vec(step(), 1..60),
    ) {
        let on = |carrier| {
            let setup = Setup { carrier, seed, max_peer_streams, ..Setup::default() };
            run(setup, &script)
        };
        prop_assert_eq!(on(Carrier::Ordered), on(Carrier::Lanes));
    }
}
