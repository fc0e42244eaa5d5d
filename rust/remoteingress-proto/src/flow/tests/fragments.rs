//! Fragments come in any order, twice, mixed and not at all; what is put together is what was cut.

use super::wire::encoded;
use crate::any_instant;
use crate::flow::{Encoder, FlowId, Fragment, FragmentDrops, Reassembler, TunnelDatagram};
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;

const FLOW: FlowId = FlowId(1);

fn cut(encoder: &mut Encoder, payload: &[u8], max: usize) -> Vec<Fragment> {
    let datagrams = encoded(encoder, None, payload, max).unwrap();
    let fragment = |datagram: &Bytes| {
        let decoded = TunnelDatagram::decode(datagram).unwrap();
        let TunnelDatagram::Fragment { fragment, .. } = decoded else {
            panic!("{decoded:?}");
        };
        fragment
    };
    datagrams.iter().map(fragment).collect()
}

fn part(packet: u32, offset: u16, total: u16, part: &'static [u8]) -> Fragment {
    let part = Bytes::from_static(part);
    Fragment {
        packet,
        offset,
        total,
        part,
    }
}

#[test]
fn parts_that_contradict_each_other_end_their_packet() {
    let now = any_instant();
    for contradiction in [
        part(1, 1, 6, b"bc"),
        part(1, 0, 6, b"abc"),
        part(1, 2, 7, b"cd"),
        part(1, 0, 6, b"a"),
    ] {
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.handle(now, FLOW, &part(1, 0, 6, b"ab")), None);
        assert_eq!(reassembler.handle(now, FLOW, &contradiction), None);
        assert_eq!(reassembler.drops().invalid, 1, "{contradiction:?}");
        assert_eq!(reassembler.bytes(), 0);
    }
    let mut reassembler = Reassembler::default();
    assert_eq!(reassembler.handle(now, FLOW, &part(1, 0, 4, b"ab")), None);
    assert_eq!(reassembler.handle(now, FLOW, &part(1, 0, 4, b"ab")), None);
    let whole = reassembler.handle(now, FLOW, &part(1, 2, 4, b"cd"));
    assert_eq!(whole, Some(Bytes::from_static(b"abcd")));
    assert_eq!(reassembler.drops(), FragmentDrops::default());
}

#[test]
fn a_flow_keeps_two_packets_and_none_for_long() {
    let now = any_instant();
    let mut reassembler = Reassembler::default();
    for packet in 1..=3 {
        reassembler.handle(now, FLOW, &part(packet, 0, 4, b"ab"));
    }
    assert_eq!(reassembler.drops().overflow, 1);
    // The oldest has made room; its second part begins anew, and takes the place of the next.
    assert_eq!(reassembler.handle(now, FLOW, &part(1, 2, 4, b"cd")), None);
    let later = now + Duration::from_millis(1_999);
    let whole = reassembler.handle(later, FLOW, &part(3, 2, 4, b"cd"));
    assert!(whole.is_some());
    reassembler.expire(now + Duration::from_secs(2));
    assert_eq!(reassembler.drops().late, 1);
    assert_eq!(reassembler.bytes(), 0);
}

#[test]
fn a_session_keeps_four_mebibytes() {
    let now = any_instant();
    let mut reassembler = Reassembler::default();
    for flow in 0..1_000 {
        reassembler.handle(now, FlowId(flow), &part(1, 0, 65_507, b"ab"));
        assert!(reassembler.bytes() <= 4 * 1_024 * 1_024);
    }
    assert_eq!(reassembler.drops().overflow, 1_000 - 63);
}

proptest! {
    #[test]
    fn any_order_gives_the_whole(
        payload in prop::collection::vec(any::<u8>(), 1_200..20_000),
        max in 1_162..1_180_usize, order in any::<prop::sample::Index>(), again in any::<bool>(),
    ) {
        let mut encoder = Encoder::default();
        let mut fragments = cut(&mut encoder, &payload, max);
        let turn = order.index(fragments.len());
        fragments.rotate_left(turn);
        if again {
            fragments.insert(1, fragments[0].clone());
        }
        let (mut reassembler, now) = (Reassembler::default(), any_instant());
        let mut whole = Vec::new();
        for fragment in &fragments {
            prop_assert!(whole.is_empty());
            whole.extend(reassembler.handle(now, FLOW, fragment));
        }
        prop_assert_eq!(whole, [payload]);
        prop_assert_eq!(reassembler.bytes(), 0);
    }

    #[test]
    fn arbitrary_fragments_stay_within_their_bounds(
        fragments in prop::collection::vec((0..3_u32, 0..4_u32, 0..12_u16, 1..6_usize, 0..700_u64), 0..200),
    ) {
        let (mut reassembler, mut now) = (Reassembler::default(), any_instant());
        for (flow, packet, offset, length, pause) in fragments {
            now += Duration::from_millis(pause);
            let total = 12;
            let end = usize::from(offset) + length;
            if end <= usize::from(total) {
                let part = Bytes::from_static(&[7; 12]).slice(..length);
                let fragment = Fragment { packet, offset, total, part };
                let whole = reassembler.handle(now, FlowId(flow), &fragment);
                prop_assert!(whole.is_none_or(|whole| whole[..] == [7; 12]));
            }
            prop_assert!(reassembler.bytes() <= 3 * 2 * (12 + 256));
        }
        reassembler.expire(now + Duration::from_secs(2));
        prop_assert_eq!(reassembler.bytes(), 0);
    }
}
