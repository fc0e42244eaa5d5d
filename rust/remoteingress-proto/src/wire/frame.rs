//! Wire format of a session: an 8-byte header and at most 16,376 bytes of payload, on both transports.
//!
//! ```text
//!  0        1        2                 4                                   8
//! +--------+--------+-----------------+-----------------------------------+---------
//! | kind   | 0      | payload length  | stream id (0: the session itself) | payload
//! +--------+--------+-----------------+-----------------------------------+---------
//! ```
//! All numbers are big-endian. A full data frame with its header is exactly one TLS record
//! (16,384 bytes, RFC 8446 section 5.1), so that no record is split and little waits for one.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Bytes before every frame's payload.
pub const HEADER_LEN: usize = 8;
/// The largest frame with its header: one full TLS record (RFC 8446 section 5.1).
pub const MAX_FRAME_LEN: usize = 16_384;
/// The largest payload of a frame.
pub const MAX_PAYLOAD_LEN: usize = MAX_FRAME_LEN - HEADER_LEN;

/// Identifies a stream within its session. Ids of one opener strictly increase: odd ones are
/// the edge's, even ones the hub's; 0 means the session itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// Frames that concern no single stream carry this id.
    pub const SESSION: Self = Self(0);
}

/// The kinds of frames. The first group is numbered (acknowledged, replayed after a resume), the
/// second is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Opens a stream: credit for the way back (u32), credit assumed for the way there (u32), header.
    Open = 0x01,
    /// Payload of a stream.
    Data = 0x02,
    /// No more payload will come on this stream in this direction.
    Fin = 0x03,
    /// The sender's socket was reset, after the bytes sent so far; a code (u8).
    Abort = 0x04,
    /// The sender wants no more payload of this stream.
    Cancel = 0x05,
    /// Additional credit (u32 bytes).
    Window = 0x06,
    /// A control message (see [`crate::control`]).
    Control = 0x07,
    /// No new streams please: code (u8), delay hint in ms (u32), last stream id that will be served (u32).
    GoAway = 0x08,
    /// The credit a stream opened from now on may assume (u32 bytes).
    Credit = 0x09,
    /// Asks for a PONG with the same 8 bytes.
    Ping = 0x40,
    /// Answers a PING.
    Pong = 0x41,
    /// Count of numbered frames that have arrived (u64).
    Ack = 0x42,
    /// One datagram (see `flow`); tcpTls only, QUIC has datagrams of its own.
    Datagram = 0x43,
    /// Everything before belongs to a session that is lost; the new one begins here (D4).
    Begin = 0x44,
}

impl FrameKind {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Open,
            0x02 => Self::Data,
            0x03 => Self::Fin,
            0x04 => Self::Abort,
            0x05 => Self::Cancel,
            0x06 => Self::Window,
            0x07 => Self::Control,
            0x08 => Self::GoAway,
            0x09 => Self::Credit,
            0x40 => Self::Ping,
            0x41 => Self::Pong,
            0x42 => Self::Ack,
            0x43 => Self::Datagram,
            0x44 => Self::Begin,
            _ => return None,
        })
    }

    /// Numbered frames form the sequence that resume replays (D3).
    pub fn is_numbered(self) -> bool {
        (self as u8) < 0x40
    }

    /// Payload lengths that this kind may have. Checked before anything is looked up or stored.
    fn payload_limits(self) -> (usize, usize) {
        match self {
            Self::Open => (8, 8 + 256),
            Self::Data => (0, MAX_PAYLOAD_LEN),
            Self::Fin | Self::Cancel | Self::Begin => (0, 0),
            Self::Abort => (1, 1),
            Self::Window | Self::Credit => (4, 4),
            Self::Control => (1, 1_024),
            Self::GoAway => (9, 9),
            Self::Ping | Self::Pong | Self::Ack => (8, 8),
            Self::Datagram => (1, MAX_PAYLOAD_LEN),
        }
    }

    /// Frames of a stream carry its id, the others carry 0.
    fn concerns_stream(self) -> bool {
        match self {
            Self::Open | Self::Data | Self::Fin | Self::Abort | Self::Cancel | Self::Window => true,
            Self::Control
            | Self::GoAway
            | Self::Credit
            | Self::Ping
            | Self::Pong
            | Self::Ack
            | Self::Datagram
            | Self::Begin => false,
        }
    }

    /// On QUIC these travel on their stream's own QUIC stream, all others on the session's (D8).
    pub(crate) fn travels_with_stream(self) -> bool {
        matches!(self, Self::Open | Self::Data | Self::Fin | Self::Abort)
    }
}

/// A frame as it came off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind, which has decided the bounds of its payload.
    pub kind: FrameKind,
    /// The stream it concerns.
    pub stream: StreamId,
    /// Its payload: a range of the buffer it was read into.
    pub payload: Bytes,
}

/// Reason why bytes are not a frame. Each ends the connection: the peer doesn't speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A kind this version doesn't know.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// The second header byte is reserved and must be 0.
    #[error("reserved frame bits are set")]
    ReservedBits,
    /// A payload shorter or longer than the kind allows.
    #[error("a {kind:?} frame can't have {length} bytes of payload")]
    Length {
        /// The frame's kind.
        kind: FrameKind,
        /// The declared payload length.
        length: usize,
    },
    /// A stream's frame without id, or a session's frame with one.
    #[error("a {0:?} frame with a wrong stream id")]
    StreamId(FrameKind),
}

fn header(kind: FrameKind, stream: StreamId, length: usize) -> [u8; HEADER_LEN] {
    debug_assert!(length <= MAX_PAYLOAD_LEN);
    let [l0, l1] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [s0, s1, s2, s3] = stream.0.to_be_bytes();
    [kind as u8, 0, l0, l1, s0, s1, s2, s3]
}

/// The stream that an encoded frame concerns, and whether it travels on that stream's lane.
pub(crate) fn addressee(frame: &[u8]) -> (StreamId, bool) {
    match frame.first_chunk::<HEADER_LEN>() {
        Some(&[kind, _, _, _, s0, s1, s2, s3]) => {
            let own = FrameKind::from_wire(kind).is_some_and(FrameKind::travels_with_stream);
            (StreamId(u32::from_be_bytes([s0, s1, s2, s3])), own)
        }
        None => (StreamId::SESSION, false),
    }
}

/// Encodes a small frame from its parts.
pub fn encode(kind: FrameKind, stream: StreamId, parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|p| p.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(HEADER_LEN + length);
    out.extend_from_slice(&header(kind, stream, length));
    for part in parts {
        out.extend_from_slice(part);
    }
    out.freeze()
}

/// Payload on its way into a stream, after room for the frame header, so that emitting it copies nothing.
#[derive(Debug)]
pub struct DataBuffer(BytesMut);

impl DataBuffer {
    /// A buffer of [`MAX_PAYLOAD_LEN`] zeros: reads go straight there, and `truncate` says what came.
    pub(crate) fn full() -> Self {
        Self(BytesMut::zeroed(MAX_FRAME_LEN))
    }

    /// The buffer of a frame that nobody else holds, as `full` makes it but with other content; None if it has another size.
    pub(crate) fn recycled(frame: Bytes) -> Option<Self> {
        let mut buf = frame.try_into_mut().ok()?;
        (buf.capacity() == MAX_FRAME_LEN).then(|| {
            buf.resize(MAX_FRAME_LEN, 0);
            Self(buf)
        })
    }

    /// A right-sized copy. The slice is cut to [`MAX_PAYLOAD_LEN`].
    pub fn copy_from(payload: &[u8]) -> Self {
        let payload = &payload[..payload.len().min(MAX_PAYLOAD_LEN)];
        let mut buf = BytesMut::with_capacity(HEADER_LEN + payload.len());
        buf.extend_from_slice(&[0; HEADER_LEN]);
        buf.extend_from_slice(payload);
        Self(buf)
    }

    /// The payload, to be written over.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.0.get_mut(HEADER_LEN..).unwrap_or_default()
    }

    /// Keeps this much of the payload.
    pub fn truncate(&mut self, payload: usize) {
        self.0.truncate(HEADER_LEN + payload);
    }

    /// The payload so far.
    pub fn payload(&self) -> &[u8] {
        self.0.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Payload bytes.
    pub fn len(&self) -> usize {
        self.payload().len()
    }

    /// No payload yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its cost for the memory budget in bytes: its allocation, not its content.
    pub fn cost(&self) -> usize {
        self.0.capacity()
    }

    /// Writes the header into its room.
    pub fn into_frame(mut self, stream: StreamId) -> Bytes {
        let length = self.len();
        if let Some(room) = self.0.get_mut(..HEADER_LEN) {
            room.copy_from_slice(&header(FrameKind::Data, stream, length));
        }
        self.0.freeze()
    }
}

/// Cuts frames out of whatever pieces the connection brings. A frame that lies in one piece is
/// handed out as a range of it; only one split between two pieces is copied together.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    partial: BytesMut,
    /// Bytes of the partial frame's payload that have come and weren't kept: nobody wants them.
    unwanted: Option<usize>,
}

/// Zeros that stand for payload which nobody looks at.
static UNWANTED: [u8; MAX_PAYLOAD_LEN] = [0; MAX_PAYLOAD_LEN];

impl FrameDecoder {
    /// Takes the next whole frame from the front of `input`; None when all of `input` is used up.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        if let Some(had) = self.unwanted {
            return Ok(self.skip(had, input));
        }
        if !self.partial.is_empty() {
            top_up(&mut self.partial, input, HEADER_LEN);
            let Some(head) = Head::parse(&self.partial)? else {
                return Ok(None);
            };
            top_up(&mut self.partial, input, HEADER_LEN + head.length);
            if self.partial.len() < HEADER_LEN + head.length {
                return Ok(None);
            }
            let mut whole = self.partial.split().freeze();
            whole.advance(HEADER_LEN);
            return Ok(Some(head.with(whole)));
        }
        let Some(head) = Head::parse(input)? else {
            self.partial.extend_from_slice(input);
            input.clear();
            return Ok(None);
        };
        if input.len() < HEADER_LEN + head.length {
            self.partial.reserve(HEADER_LEN + head.length);
            self.partial.extend_from_slice(input);
            input.clear();
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        let payload = input.split_to(head.length);
        Ok(Some(head.with(payload)))
    }

    /// Counts the payload of an unwanted frame; gives the frame when all of it has come.
    fn skip(&mut self, had: usize, input: &mut Bytes) -> Option<Frame> {
        let head = self.head()?;
        let more = head.length.saturating_sub(had).min(input.len());
        input.advance(more);
        if had + more < head.length {
            self.unwanted = Some(had + more);
            return None;
        }
        self.reset();
        let payload = UNWANTED.get(..head.length).unwrap_or_default();
        Some(head.with(Bytes::from_static(payload)))
    }

    /// The header of the unfinished frame, once that is there.
    pub(crate) fn head(&self) -> Option<Head> {
        Head::parse(&self.partial).ok().flatten()
    }

    /// Payload of the unfinished frame isn't wanted: none of it is kept any more.
    pub(crate) fn forget_payload(&mut self) {
        let is_data = self.head().is_some_and(|head| head.kind == FrameKind::Data);
        if is_data && self.unwanted.is_none() {
            self.unwanted = Some(self.partial.len() - HEADER_LEN);
            self.partial = BytesMut::from(self.partial.get(..HEADER_LEN).unwrap_or_default());
        }
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.partial.capacity()
    }

    /// No part of a frame waits for the rest.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// A partial frame dies with its connection.
    pub fn reset(&mut self) {
        self.partial = BytesMut::new();
        self.unwanted = None;
    }
}

fn top_up(partial: &mut BytesMut, input: &mut Bytes, wanted: usize) {
    let missing = wanted.saturating_sub(partial.len()).min(input.len());
    partial.extend_from_slice(&input.split_to(missing));
}

/// A frame's first 8 bytes.
pub(crate) struct Head {
    pub(crate) kind: FrameKind,
    pub(crate) length: usize,
    pub(crate) stream: StreamId,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&[kind, reserved, l0, l1, s0, s1, s2, s3]) = bytes.first_chunk::<HEADER_LEN>()
        else {
            return Ok(None);
        };
        let kind = FrameKind::from_wire(kind).ok_or(FrameError::UnknownKind(kind))?;
        if reserved != 0 {
            return Err(FrameError::ReservedBits);
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (least, most) = kind.payload_limits();
        if length < least || length > most {
            return Err(FrameError::Length { kind, length });
        }
        let stream = StreamId(u32::from_be_bytes([s0, s1, s2, s3]));
        if (stream == StreamId::SESSION) == kind.concerns_stream() {
            return Err(FrameError::StreamId(kind));
        }
        Ok(Some(Self {
            kind,
            length,
            stream,
        }))
    }

    fn with(self, payload: Bytes) -> Frame {
        Frame {
            kind: self.kind,
            stream: self.stream,
            payload,
        }
    }
}

/// The four bytes of a credit, code or id at the front of a payload.
pub(crate) fn take_u32(payload: &mut Bytes) -> u32 {
    if payload.len() < 4 {
        0
    } else {
        payload.get_u32()
    }
}

/// The eight bytes of a nonce or count at the front of a payload.
pub(crate) fn take_u64(payload: &mut Bytes) -> u64 {
    if payload.len() < 8 {
        0
    } else {
        payload.get_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(input: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames, mut at) = (FrameDecoder::default(), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([input.len()]) {
            let cut = cut.clamp(at, input.len());
            let mut piece = Bytes::copy_from_slice(&input[at..cut]);
            at = cut;
            while let Some(frame) = decoder.next(&mut piece)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn a_full_data_frame_is_one_record() {
        let mut buffer = DataBuffer::full();
        buffer.payload_mut().fill(7);
        assert_eq!(buffer.into_frame(StreamId(1)).len(), 16_384);
    }

    #[test]
    fn golden_bytes() {
        let window = encode(FrameKind::Window, StreamId(5), &[&262_144u32.to_be_bytes()]);
        assert_eq!(&window[..], [6, 0, 0, 4, 0, 0, 0, 5, 0, 4, 0, 0]);
        let data = DataBuffer::copy_from(b"hi").into_frame(StreamId(0x0102_0304));
        assert_eq!(&data[..], [2, 0, 0, 2, 1, 2, 3, 4, b'h', b'i']);
    }

    #[test]
    fn lengths_are_checked_before_the_payload_arrives() {
        let refused = |bytes: [u8; 8]| all(&bytes, &[]).expect_err("refused");
        assert_eq!(
            refused([2, 0, 0xff, 0xff, 0, 0, 0, 1]),
            FrameError::Length {
                kind: FrameKind::Data,
                length: 65_535
            }
        );
        assert_eq!(
            refused([2, 0, 0x3f, 0xf9, 0, 0, 0, 1]),
            FrameError::Length {
                kind: FrameKind::Data,
                length: 16_377
            }
        );
        assert_eq!(
            refused([0x33, 0, 0, 0, 0, 0, 0, 1]),
            FrameError::UnknownKind(0x33)
        );
        assert_eq!(refused([2, 1, 0, 0, 0, 0, 0, 1]), FrameError::ReservedBits);
        assert_eq!(
            refused([2, 0, 0, 0, 0, 0, 0, 0]),
            FrameError::StreamId(FrameKind::Data)
        );
        assert_eq!(
            refused([0x40, 0, 0, 8, 0, 0, 0, 1]),
            FrameError::StreamId(FrameKind::Ping)
        );
        assert!(all(&[2, 0, 0x3f, 0xf8, 0, 0, 0, 1], &[]).is_ok());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding_wherever_the_input_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..12),
            mut cuts in prop::collection::vec(0usize..8_000, 0..12),
        ) {
            let mut wire = Vec::new();
            for (i, p) in (0..).zip(&payloads) {
                wire.extend_from_slice(&DataBuffer::copy_from(p).into_frame(StreamId(i * 2 + 1)));
            }
            cuts.sort_unstable();
            let frames = all(&wire, &cuts).expect("valid");
            prop_assert_eq!(frames.len(), payloads.len());
            for (frame, payload) in frames.iter().zip(&payloads) {
                prop_assert_eq!(&frame.payload[..], &payload[..]);
            }
        }

        #[test]
        fn any_bytes_give_the_same_result_wherever_they_are_cut(
            input in prop::collection::vec(any::<u8>(), 0..400),
            mut cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(all(&input, &cuts), all(&input, &[]));
        }
    }
}
