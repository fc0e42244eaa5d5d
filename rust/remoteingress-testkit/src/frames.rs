//! Frames by hand. The encoder here is written from the format's description, apart from the one under test.

use bytes::Bytes;
use remoteingress_proto::wire::frame::{Frame, FrameDecoder, FrameKind, StreamId};

/// The bytes of a frame, which may be one that no peer may send.
///
/// # Panics
/// If the length of `payload` doesn't fit into a header.
pub fn encoded(kind: FrameKind, id: u32, payload: &[u8]) -> Bytes {
    let length = u16::try_from(payload.len()).expect("at most 65,535 bytes");
    let mut bytes = vec![kind as u8, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.into()
}

/// The payload of a WINDOW or CREDIT frame.
pub fn window(credit: u32) -> [u8; 4] {
    credit.to_be_bytes()
}

/// The payload of an OPEN frame without a header: `credit` for the way back, and credit `assumed` for the way there.
pub fn open(credit: u32, assumed: u32) -> Vec<u8> {
    [credit.to_be_bytes(), assumed.to_be_bytes()].concat()
}

/// The one frame that a session under test put into `bytes`.
///
/// # Panics
/// If the frame isn't legal, isn't whole or isn't alone (P4).
pub fn decoded(bytes: &Bytes) -> Frame {
    let mut input = bytes.clone();
    let frame = FrameDecoder::default().next(&mut input);
    let frame = frame
        .expect("P4: a legal frame")
        .expect("P4: a whole frame");
    assert!(input.is_empty(), "P4: exactly one frame");
    frame
}

/// The lane that frames of this kind travel on.
pub fn lane_of(kind: FrameKind, stream: StreamId) -> StreamId {
    use FrameKind::{Abort, Data, Fin, Open};
    if matches!(kind, Open | Data | Fin | Abort) {
        stream
    } else {
        StreamId::SESSION
    }
}
