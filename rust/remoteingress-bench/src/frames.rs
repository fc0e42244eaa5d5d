//! The frame codec: small and full frames, and full ones that the connection brings in two pieces.

use crate::workload::{Work, Workload};
use bytes::Bytes;
use remoteingress_proto::wire::frame::{
    DataBuffer, FrameDecoder, FrameKind, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, StreamId, encode,
};
use std::hint::black_box;

/// Frames per run.
const FRAMES: u32 = 64;
/// A keystroke or a small answer, in bytes.
const SMALL: usize = 64;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "frame_encode_window",
        operations: FRAMES as u64,
        new: || Box::new(|| ids().for_each(|id| drop(black_box(window(id))))),
    },
    Workload {
        name: "frame_encode_data_64_bytes",
        operations: FRAMES as u64,
        new: || Box::new(|| ids().for_each(|id| drop(black_box(data(id, SMALL))))),
    },
    Workload {
        name: "frame_encode_data_full",
        operations: FRAMES as u64,
        new: || Box::new(Full::default()),
    },
    Workload {
        name: "frame_decode_small",
        operations: FRAMES as u64,
        new: || {
            let frame = |id: StreamId| {
                if id.0 % 4 == 1 {
                    window(id)
                } else {
                    data(id, SMALL)
                }
            };
            let wire = Bytes::from(ids().flat_map(frame).collect::<Vec<u8>>());
            Box::new(move || decode([wire.clone()]))
        },
    },
    Workload {
        name: "frame_decode_full_in_two_pieces",
        operations: FRAMES as u64,
        new: || {
            let wire: Vec<u8> = ids().flat_map(|id| data(id, MAX_PAYLOAD_LEN)).collect();
            let wire = Bytes::from(wire);
            Box::new(move || {
                // Each piece ends in the middle of a frame.
                let half = MAX_FRAME_LEN / 2;
                let starts = (half..wire.len()).step_by(MAX_FRAME_LEN);
                let rest = starts.map(|at| wire.slice(at..wire.len().min(at + MAX_FRAME_LEN)));
                decode([wire.slice(..half)].into_iter().chain(rest));
            })
        },
    },
];

/// Small ids and large ones in turn.
fn ids() -> impl Iterator<Item = StreamId> {
    (0..FRAMES).map(|n| StreamId((n << (n % 4 * 8)) | 1))
}

fn window(id: StreamId) -> Bytes {
    encode(FrameKind::Window, id, &[&262_144_u32.to_be_bytes()])
}

fn data(id: StreamId, length: usize) -> Bytes {
    DataBuffer::copy_from(black_box(&[7; MAX_PAYLOAD_LEN][..length])).into_frame(id)
}

fn decode(pieces: impl IntoIterator<Item = Bytes>) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), 0);
    for mut piece in pieces {
        while let Some(frame) = decoder.next(&mut piece).expect("legal") {
            black_box(&frame);
            frames += 1;
        }
    }
    assert_eq!(frames, FRAMES);
}

/// Filling a buffer is the socket's part.
#[derive(Default)]
struct Full(Vec<DataBuffer>);

impl Work for Full {
    fn prepare(&mut self) {
        let buffer = |_| DataBuffer::copy_from(&[7; MAX_PAYLOAD_LEN]);
        self.0.extend(ids().map(buffer));
    }

    fn run(&mut self) {
        for (buffer, id) in self.0.drain(..).zip(ids()) {
            black_box(buffer.into_frame(id));
        }
    }
}
