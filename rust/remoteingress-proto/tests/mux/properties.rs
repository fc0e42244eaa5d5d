//! Properties P2 and P4 to P17 of the multiplexer on both carriers: two sessions against a model, under random
//! operations, cuts at any byte, small memory and passing time. P1 to P3 are in `frames.rs`,
//! hostile peers in `hostile.rs`.

use proptest::prelude::*;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Carrier, GoAwayCode};
use remoteingress_testkit::world::{Setup, World};
use std::time::Duration;

/// One step. `pick` chooses among the streams, modulo their number.
#[derive(Clone, Debug)]
enum Op {
    Open(usize),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Finish(usize, usize),
    Abort(usize, usize, AbortCode),
    Cancel(usize, usize),
    Release(usize, usize),
    Transfer(usize, usize),
    Cut,
    Resume,
    Pass(u64),
    Control(usize, u8),
    Datagram(usize, usize),
    GoAway(usize, GoAwayCode),
}

fn op() -> impl Strategy<Value = Op> {
    let side = || 0..2usize;
    let pick = || 0..12usize;
    // Mostly small, sometimes more than a window.
    let bytes = || prop_oneof![4 => 1..3_000usize, 2 => 1..70_000usize, 1 => 1..1_500_000usize];
    let chunk = prop_oneof![4 => 1..200usize, 3 => 1..40_000usize, 3 => Just(usize::MAX)];
    let abort = prop_oneof![Just(AbortCode::Reset), Just(AbortCode::TargetRefused)];
    let away = prop_oneof![
        Just(GoAwayCode::Draining),
        Just(GoAwayCode::Exhausted),
        Just(GoAwayCode::EnhanceYourCalm),
        Just(GoAwayCode::Replaced)
    ];
    let time = prop_oneof![6 => 1..60u64, 2 => 50..3_500u64, 1 => 3_000..10_000u64];
    prop_oneof![
        14 => side().prop_map(Op::Open),
        20 => (side(), pick(), bytes()).prop_map(|(s, p, n)| Op::Write(s, p, n)),
        18 => (side(), pick(), bytes()).prop_map(|(s, p, n)| Op::Read(s, p, n)),
        7 => (side(), pick()).prop_map(|(s, p)| Op::Finish(s, p)),
        5 => (side(), pick(), abort).prop_map(|(s, p, c)| Op::Abort(s, p, c)),
        5 => (side(), pick()).prop_map(|(s, p)| Op::Cancel(s, p)),
        7 => (side(), pick()).prop_map(|(s, p)| Op::Release(s, p)),
        36 => (side(), chunk).prop_map(|(s, n)| Op::Transfer(s, n)),
        4 => Just(Op::Cut),
        6 => Just(Op::Resume),
        10 => time.prop_map(Op::Pass),
        2 => (side(), any::<u8>()).prop_map(|(s, b)| Op::Control(s, b)),
        3 => (side(), 8..16_376usize).prop_map(|(s, n)| Op::Datagram(s, n)),
        1 => (side(), away).prop_map(|(s, c)| Op::GoAway(s, c)),
    ]
}

fn carrier() -> impl Strategy<Value = Carrier> {
    prop_oneof![Just(Carrier::Ordered), Just(Carrier::Lanes)]
}

fn setup() -> impl Strategy<Value = Setup> {
    let limit = || prop_oneof![2 => Just(200usize << 20), 2 => Just(4 << 20), 1 => Just(1 << 20)];
    // Sixteenths of the budget that something else uses.
    let ballast = || prop_oneof![2 => Just(0usize), 1 => 0..15usize, 1 => Just(14usize)];
    let streams = prop_oneof![3 => Just(1_000usize), 1 => 1..4usize];
    let ids = prop_oneof![3 => Just(None), 1 => (1..5u32).prop_map(Some)];
    let limits = ([limit(), limit()], [ballast(), ballast()]);
    (carrier(), any::<u64>(), limits, streams, ids).prop_map(
        |(carrier, seed, (limits, ballast), max_peer_streams, ids_left)| Setup {
            carrier,
            seed,
            limits,
            ballast: [limits[0] / 16 * ballast[0], limits[1] / 16 * ballast[1]],
            max_peer_streams,
            ids_left,
        },
    )
}

/// One of the streams that end `side` knows and hasn't released, else any.
fn choose(world: &World, side: usize, pick: usize) -> Option<usize> {
    let live = |serial: &usize| world.streams[*serial].ends[side].live().is_some();
    let live: Vec<usize> = (0..world.streams.len()).filter(live).collect();
    live.get(pick % live.len().max(1)).copied()
}

fn apply(world: &mut World, op: &Op) {
    let on = |world: &mut World, side: usize, pick: usize, act: &dyn Fn(&mut World, usize)| {
        if let Some(serial) = choose(world, side, pick) {
            act(world, serial);
        }
    };
    match *op {
        Op::Open(side) => drop(world.open(side)),
        Op::Write(s, pick, n) => on(world, s, pick, &|w, i| w.write(s, i, n)),
        Op::Read(s, pick, n) => on(world, s, pick, &|w, i| w.read(s, i, n)),
        Op::Finish(s, pick) => on(world, s, pick, &|w, i| w.finish(s, i)),
        Op::Abort(s, pick, code) => on(world, s, pick, &|w, i| w.abort(s, i, code)),
        Op::Cancel(s, pick) => on(world, s, pick, &|w, i| w.cancel(s, i)),
        Op::Release(s, pick) => on(world, s, pick, &|w, i| w.release(s, i)),
        Op::Transfer(side, n) => world.transfer(side, n),
        Op::Cut => world.cut(),
        Op::Resume => world.resume(),
        Op::Pass(ms) => world.pass(Duration::from_millis(ms)),
        Op::Control(side, byte) => world.control(side, &[byte; 9]),
        Op::Datagram(side, n) => world.datagram(side, n),
        Op::GoAway(side, code) => world.go_away(side, code),
    }
    world.check();
}

proptest! {
    /// P2, P4 to P11, P13 to P16: after every step both ends agree with the model, and in the
    /// end everything that nobody gave up on has arrived and nothing is left behind.
    #[test]
    fn two_sessions_do_what_the_model_does(
        setup in setup(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(&setup);
        for op in &ops {
            apply(&mut world, op);
        }
        world.wind_up();
    }

    /// P16 where it is hardest: every crossing of FIN, ABORT, CANCEL, release and cut, on one
    /// stream with next to nothing on it.
    #[test]
    fn p16_whatever_crosses_costs_no_glitch(
        carrier in carrier(),
        seed in any::<u64>(),
        opener in 0..2usize,
        ops in prop::collection::vec(crossing(), 1..40),
    ) {
        let mut world = World::new(&Setup { carrier, seed, ..Setup::default() });
        world.open(opener).expect("open");
        for op in &ops {
            if world.streams.iter().all(|s| s.ends.iter().all(|e| e.live().is_none())) {
                world.open(opener).expect("open");
            }
            apply(&mut world, op);
        }
        world.wind_up();
    }
}

/// Steps that end streams, and little else.
fn crossing() -> impl Strategy<Value = Op> {
    let side = || 0..2usize;
    let pick = || 0..2usize;
    prop_oneof![
        2 => (side(), pick(), 1..300usize).prop_map(|(s, p, n)| Op::Write(s, p, n)),
        2 => (side(), pick(), 1..300usize).prop_map(|(s, p, n)| Op::Read(s, p, n)),
        3 => (side(), pick()).prop_map(|(s, p)| Op::Finish(s, p)),
        3 => (side(), pick()).prop_map(|(s, p)| Op::Abort(s, p, AbortCode::Reset)),
        3 => (side(), pick()).prop_map(|(s, p)| Op::Cancel(s, p)),
        3 => (side(), pick()).prop_map(|(s, p)| Op::Release(s, p)),
        8 => (side(), prop_oneof![1..60usize, Just(usize::MAX)]).prop_map(|(s, n)| Op::Transfer(s, n)),
        1 => Just(Op::Cut),
        2 => Just(Op::Resume),
        2 => (1..60u64).prop_map(Op::Pass),
    ]
}
