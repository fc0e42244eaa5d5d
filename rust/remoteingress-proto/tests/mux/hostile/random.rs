//! A hostile peer that does anything in any order, on both carriers.

use proptest::prelude::*;
use remoteingress_proto::mux::{Carrier, SessionError, Violation};
use remoteingress_proto::wire::frame::{FrameKind, StreamId};
use remoteingress_testkit::frames::window;
use remoteingress_testkit::victim::Victim;
use std::time::Duration;

/// The next step of the hostile peer.
#[derive(Clone, Debug)]
enum Act {
    Open {
        credit: u32,
        assumed: u32,
    },
    /// Payload: this much more or less than the credit.
    ToCredit(usize, i64),
    Data(usize, usize),
    Fin(usize),
    Abort(usize),
    Cancel(usize),
    Window(usize, u32),
    GoAway(u32),
    Credit(u32),
    Ping,
    Pong(u64),
    Ack(i64),
    /// The peer reads what is there.
    Read,
    Reattach,
    Wait(u64),
    /// The victim's owner, at a stream of its own.
    Owner(usize, u8),
    OwnerOpens,
}

fn act() -> impl Strategy<Value = Act> {
    let pick = || 0..10usize;
    let credit = || prop_oneof![6 => 0..300_000u32, 1 => Just(u32::MAX), 1 => Just((1 << 31) - 1)];
    prop_oneof![
        8 => (credit(), prop_oneof![9 => 0..=Victim::CREDIT, 1 => any::<u32>()])
            .prop_map(|(credit, assumed)| Act::Open { credit, assumed }),
        6 => (pick(), prop_oneof![8 => Just(0i64), 1 => Just(1), 2 => Just(-1)])
            .prop_map(|(p, n)| Act::ToCredit(p, n)),
        6 => (pick(), 0..3_000usize).prop_map(|(p, n)| Act::Data(p, n)),
        3 => pick().prop_map(Act::Fin),
        3 => pick().prop_map(Act::Abort),
        4 => pick().prop_map(Act::Cancel),
        4 => (pick(), credit()).prop_map(|(p, n)| Act::Window(p, n)),
        1 => (0..20u32).prop_map(Act::GoAway),
        1 => credit().prop_map(Act::Credit),
        2 => Just(Act::Ping),
        1 => (0..4u64).prop_map(Act::Pong),
        3 => prop_oneof![9 => -3..=0i64, 1 => Just(1i64)].prop_map(Act::Ack),
        8 => Just(Act::Read),
        2 => Just(Act::Reattach),
        4 => (0..4_000u64).prop_map(Act::Wait),
        16 => (pick(), 0..7u8).prop_map(|(p, b)| Act::Owner(p, b)),
        4 => Just(Act::OwnerOpens),
    ]
}

fn apply(victim: &mut Victim, act: &Act) -> Result<(), SessionError> {
    match *act {
        Act::Open { credit, assumed } => victim.open_with(credit, assumed),
        Act::ToCredit(pick, more) => victim.data_to_credit(pick, more),
        Act::Data(pick, n) => {
            let id = victim.pick_id(pick);
            victim.data(id, n)
        }
        Act::Fin(pick) => victim.feed_picked(FrameKind::Fin, pick, b""),
        Act::Abort(pick) => victim.feed_picked(FrameKind::Abort, pick, b"\x02"),
        Act::Cancel(pick) => victim.feed_picked(FrameKind::Cancel, pick, b""),
        Act::Window(pick, n) => victim.feed_picked(FrameKind::Window, pick, &window(n)),
        Act::GoAway(last) => {
            let payload = [&[1, 0, 0, 0, 9][..], &last.to_be_bytes()].concat();
            victim.feed(FrameKind::GoAway, 0, &payload)
        }
        Act::Credit(n) => victim.feed(FrameKind::Credit, 0, &window(n)),
        Act::Ping => victim.feed(FrameKind::Ping, 0, &[3; 8]),
        Act::Pong(nonce) => victim.feed(FrameKind::Pong, 0, &nonce.to_be_bytes()),
        Act::Ack(behind) => victim.acknowledge_behind(behind),
        Act::Read => {
            victim.transmit();
            Ok(())
        }
        Act::Reattach => {
            victim.reattach();
            Ok(())
        }
        Act::Wait(ms) => {
            victim.now += Duration::from_millis(ms);
            victim.session.handle_timeout(victim.now)
        }
        Act::Owner(pick, what) => {
            victim.owner(pick, what);
            Ok(())
        }
        Act::OwnerOpens => {
            victim.owner_opens();
            Ok(())
        }
    }
}

proptest! {
    #[test]
    fn p3_valid_frames_in_the_wrong_place_never_panic_and_never_break_the_budget(
        carrier in prop_oneof![Just(Carrier::Ordered), Just(Carrier::Lanes)],
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut victim = Victim::on(carrier);
        for act in &acts {
            let result = apply(&mut victim, act);
            prop_assert!(victim.budget.used() <= Victim::LIMIT);
            if result.is_err() {
                break;
            }
        }
        let budget = victim.budget.clone();
        drop(victim);
        prop_assert_eq!(budget.used(), 0);
    }

    /// Whatever the streams went through before, credit is exact to the byte on a live one.
    #[test]
    fn p6_credit_is_exact_after_anything(
        carrier in prop_oneof![Just(Carrier::Ordered), Just(Carrier::Lanes)],
        acts in prop::collection::vec(act(), 0..60),
        pick in 0..10usize,
        more in 0..2i64,
    ) {
        let mut victim = Victim::on(carrier);
        if acts.iter().try_for_each(|act| apply(&mut victim, act)).is_err() {
            return Ok(());
        }
        victim.transmit();
        let Some(id) = victim.live_id(pick) else { return Ok(()) };
        let verdict = victim.data_until(id, more);
        if more == 0 {
            prop_assert_eq!(verdict, Ok(()));
        } else {
            let exceeded = Violation::CreditExceeded(StreamId(id)).into();
            prop_assert_eq!(verdict, Err(exceeded));
        }
    }
}
