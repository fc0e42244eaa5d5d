//! The layout of a tunnel datagram, and that no bytes do harm.

use crate::fixture::golden;
use crate::flow::{DatagramError, Encoder, FlowId, MAX_PAYLOAD, TooLarge, TunnelDatagram};
use crate::wire::header::{Protocol, StreamHeader};
use bytes::Bytes;
use proptest::prelude::*;

fn header(protocol: Protocol) -> StreamHeader {
    StreamHeader {
        protocol,
        listener_port: 53,
        client: "203.0.113.9:51234".parse().unwrap(),
        listener: "192.0.2.1:53".parse().unwrap(),
    }
}

pub(super) fn encoded(
    encoder: &mut Encoder,
    header: Option<&StreamHeader>,
    payload: &[u8],
    max: usize,
) -> Result<Vec<Bytes>, TooLarge> {
    let mut datagrams = Vec::new();
    encoder.payload(FlowId(0x0102_0304), header, payload, max, |datagram| {
        datagrams.push(datagram);
    })?;
    Ok(datagrams)
}

#[test]
fn golden_bytes() {
    let mut encoder = Encoder::default();
    let udp = header(Protocol::Udp);
    let plain = encoded(&mut encoder, None, b"ping", 1_200).unwrap();
    assert_eq!(plain, [golden("flowPayload")]);
    let opening = encoded(&mut encoder, Some(&udp), b"ping", 1_200).unwrap();
    assert_eq!(opening, [golden("flowPayloadWithHeader")]);
    let parts = encoded(&mut encoder, None, b"a payload in parts", 22).unwrap();
    assert_eq!(
        parts,
        [golden("flowFragmentFirst"), golden("flowFragmentLast")]
    );
    let opening = encoded(&mut encoder, Some(&udp), b"a payload in parts", 41).unwrap();
    assert_eq!(opening[0], golden("flowFragmentWithHeader"));
    assert_eq!(encoder.known(FlowId(0x0102_0304)), golden("flowKnown"));
    assert_eq!(encoder.unknown(FlowId(0x0102_0304)), golden("flowUnknown"));
}

/// The peer decides how large a datagram may be.
#[test]
fn whatever_the_path_takes_a_payload_goes_whole_or_not_at_all() {
    let udp = header(Protocol::Udp);
    for (max, length) in (0..64).flat_map(|max| [0, 1, 2, 200].map(|length| (max, length))) {
        for header in [None, Some(&udp)] {
            let payload = vec![7; length];
            let Ok(datagrams) = encoded(&mut Encoder::default(), header, &payload, max) else {
                continue;
            };
            assert!(datagrams.iter().all(|datagram| datagram.len() <= max));
            let carried =
                datagrams
                    .iter()
                    .map(|datagram| match TunnelDatagram::decode(datagram).unwrap() {
                        TunnelDatagram::Payload { payload, .. } => payload.len(),
                        TunnelDatagram::Fragment { fragment, .. } => fragment.part.len(),
                        TunnelDatagram::Known(_) | TunnelDatagram::Unknown(_) => 0,
                    });
            assert_eq!(carried.sum::<usize>(), length, "{max}");
        }
    }
}

#[test]
fn what_breaks_the_format_is_refused() {
    let decode = |bytes: &[u8]| TunnelDatagram::decode(&Bytes::copy_from_slice(bytes));
    assert!(matches!(decode(&[]), Err(DatagramError::End(_))));
    assert_eq!(decode(&[9, 0, 0, 0, 1]), Err(DatagramError::Kind(9)));
    assert_eq!(decode(&[5, 0, 0, 0, 1, 0]), Err(DatagramError::Trailing));
    for (offset, total, part) in [
        (0_u16, 0_u16, b"".as_slice()),
        (0, 4, b""),
        (0, 4, b"abcd"),
        (3, 4, b"ab"),
        (u16::MAX, u16::MAX, b"ab"),
        (0, 65_508, b"ab"),
    ] {
        let bytes = [
            [3, 0, 0, 0, 1, 0, 0, 0, 1].as_slice(),
            &offset.to_be_bytes(),
            &total.to_be_bytes(),
            part,
        ];
        assert_eq!(decode(&bytes.concat()), Err(DatagramError::Fragment));
    }
    let mut encoder = Encoder::default();
    let tcp = encoded(&mut encoder, Some(&header(Protocol::Tcp)), b"", 1_200).unwrap();
    assert_eq!(decode(&tcp[0]), Err(DatagramError::NotUdp));
}

#[test]
fn what_fits_no_tunnel_is_refused() {
    let mut encoder = Encoder::default();
    let longest = vec![0; MAX_PAYLOAD + 1];
    assert_eq!(encoded(&mut encoder, None, &longest, 16_376), Err(TooLarge));
    // 128 fragments of 100 bytes are the most.
    assert_eq!(
        encoded(&mut encoder, None, &longest[..12_801], 113),
        Err(TooLarge)
    );
    let most = encoded(&mut encoder, None, &longest[..12_800], 113).unwrap();
    assert_eq!(most.len(), 128);
    assert_eq!(encoded(&mut encoder, None, b"x", 5), Err(TooLarge));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        size in 0..=MAX_PAYLOAD, max in 1_162..=16_376_usize, has_header in any::<bool>(),
    ) {
        let payload: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
        let given = has_header.then(|| header(Protocol::Udp));
        let datagrams = encoded(&mut Encoder::default(), given.as_ref(), &payload, max).unwrap();
        let mut read = Vec::new();
        for datagram in &datagrams {
            prop_assert!((1..=max).contains(&datagram.len()));
            match TunnelDatagram::decode(datagram).unwrap() {
                TunnelDatagram::Payload { flow, header, payload } => {
                    prop_assert_eq!((flow, header), (FlowId(0x0102_0304), given));
                    prop_assert_eq!(datagrams.len(), 1);
                    read.extend_from_slice(&payload);
                }
                TunnelDatagram::Fragment { header, fragment, .. } => {
                    prop_assert_eq!(header, given);
                    prop_assert_eq!(usize::from(fragment.offset), read.len());
                    prop_assert_eq!(usize::from(fragment.total), size);
                    read.extend_from_slice(&fragment.part);
                }
                TunnelDatagram::Known(_) | TunnelDatagram::Unknown(_) => prop_assert!(false),
            }
        }
        prop_assert_eq!(read, payload);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0..8_u8) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let _ = TunnelDatagram::decode(&bytes.into());
    }
}
