//! Properties P1 to P3 of the wire format and of a session that is fed with anything.

use bytes::Bytes;
use proptest::prelude::*;
use remoteingress_proto::mux::{Event, Role, SessionError};
use remoteingress_proto::wire::frame::{
    Frame, FrameDecoder, FrameError, FrameKind, HEADER_LEN, MAX_PAYLOAD_LEN, StreamId,
};
use remoteingress_testkit::any_instant;
use remoteingress_testkit::builder::{SessionBuilder, budget};
use remoteingress_testkit::frames::encoded;

/// By the reference encoder.
fn encode(frame: &Frame) -> Vec<u8> {
    encoded(frame.kind, frame.stream.0, &frame.payload).to_vec()
}

/// A frame that is legal by itself.
fn frame() -> impl Strategy<Value = Frame> {
    let of = |kind: FrameKind,
              id: std::ops::RangeInclusive<u32>,
              len: std::ops::RangeInclusive<usize>| {
        (id, prop::collection::vec(any::<u8>(), len)).prop_map(move |(id, payload)| Frame {
            kind,
            stream: StreamId(id),
            payload: payload.into(),
        })
    };
    let (any_stream, session) = (1..=u32::MAX, 0..=0);
    prop_oneof![
        of(FrameKind::Open, any_stream.clone(), 8..=264),
        of(FrameKind::Data, any_stream.clone(), 0..=600),
        of(
            FrameKind::Data,
            any_stream.clone(),
            MAX_PAYLOAD_LEN - 1..=MAX_PAYLOAD_LEN
        ),
        of(FrameKind::Fin, any_stream.clone(), 0..=0),
        of(FrameKind::Abort, any_stream.clone(), 1..=1),
        of(FrameKind::Cancel, any_stream.clone(), 0..=0),
        of(FrameKind::Window, any_stream, 4..=4),
        of(FrameKind::Control, session.clone(), 1..=1_024),
        of(FrameKind::GoAway, session.clone(), 9..=9),
        of(FrameKind::Credit, session.clone(), 4..=4),
        of(FrameKind::Ping, session.clone(), 8..=8),
        of(FrameKind::Pong, session.clone(), 8..=8),
        of(FrameKind::Ack, session, 8..=8),
    ]
}

fn pieces(wire: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    cuts.extend([0, wire.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|w| Bytes::copy_from_slice(&wire[w[0]..w[1]]))
        .collect()
}

fn decode(pieces: &[Bytes]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        let mut piece = piece.clone();
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(
            piece.is_empty(),
            "P2: None only when all of the input is used up"
        );
    }
    (frames, None)
}

/// Feeds a fresh session; gives its events, how it ended and what it answered.
fn feed(role: Role, pieces: &[Bytes]) -> (Vec<Event>, Result<(), SessionError>, Vec<Bytes>) {
    const LIMIT: usize = 4 << 20;
    let now = any_instant();
    let budget = budget(LIMIT);
    let builder = SessionBuilder::new(role)
        .max_peer_streams(8)
        .announced_credit(65_536)
        .peer_credit(65_536);
    let mut session = builder.build(&budget, now);
    let (mut events, mut result) = (Vec::new(), Ok(()));
    for piece in pieces {
        result = session.handle_input(now, piece.clone());
        events.extend(std::iter::from_fn(|| session.poll_event()));
        assert!(budget.used() <= LIMIT, "P3: memory within the budget");
        if result.is_err() {
            break;
        }
    }
    let answers = std::iter::from_fn(|| session.poll_transmit(now)).collect();
    drop(session);
    assert_eq!(budget.used(), 0, "P3: everything is given back");
    (events, result, answers)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Edge), Just(Role::Hub)]
}

proptest! {
    #[test]
    fn p1_decoding_undoes_encoding(frame in frame()) {
        let wire = encode(&frame);
        prop_assert_eq!(wire.len(), HEADER_LEN + frame.payload.len());
        let (frames, error) = decode(&[wire.into()]);
        prop_assert_eq!(frames, vec![frame]);
        prop_assert_eq!(error, None);
    }

    #[test]
    fn p2_the_same_frames_come_out_wherever_the_input_is_cut(
        frames in prop::collection::vec(frame(), 0..8),
        garbage in prop::collection::vec(any::<u8>(), 0..24),
        cuts in prop::collection::vec(any::<usize>(), 0..16),
    ) {
        let mut wire: Vec<u8> = frames.iter().flat_map(encode).collect();
        wire.extend(garbage);
        let whole = decode(&pieces(&wire, &[]));
        prop_assert_eq!(&whole.0[..frames.len()], &frames[..]);
        prop_assert_eq!(&decode(&pieces(&wire, &cuts)), &whole);
        let bytes: Vec<usize> = (0..wire.len()).collect();
        if wire.len() < 2_000 {
            prop_assert_eq!(&decode(&pieces(&wire, &bytes)), &whole);
        }
    }

    #[test]
    fn p3_no_bytes_are_too_much_for_the_decoder(
        head in prop::collection::vec(prop_oneof![any::<u8>(), 0..10u8], 0..64),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let (frames, _) = decode(&pieces(&head, &cuts));
        let taken: usize = frames.iter().map(|f| HEADER_LEN + f.payload.len()).sum();
        prop_assert!(taken <= head.len());
    }

    #[test]
    fn p2_p3_a_session_takes_anything_and_cuts_make_no_difference(
        role in role(),
        frames in prop::collection::vec((frame(), 0..6u32), 0..24),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        // Mostly ids that the peer may open, so that frames meet streams.
        let near = frames.into_iter().map(|(mut frame, id)| {
            if frame.stream != StreamId::SESSION && frame.stream.0 % 8 != 0 {
                frame.stream = StreamId(id + 1);
            }
            frame
        });
        let wire: Vec<u8> = near.flat_map(|frame| encode(&frame)).collect();
        let (events, result, answers) = feed(role, &pieces(&wire, &[]));
        let (cut_events, cut_result, cut_answers) = feed(role, &pieces(&wire, &cuts));
        prop_assert_eq!(result, cut_result);
        prop_assert_eq!(events, cut_events);
        let has = |answers: &[Bytes], kind| answers.iter().any(|f| f[0] == kind as u8);
        prop_assert_eq!(has(&answers, FrameKind::Pong), has(&cut_answers, FrameKind::Pong));
    }
}
