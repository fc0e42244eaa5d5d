//! One tunnel datagram: a payload or a part of one with its flow id, or what a hub says about a flow id.
//!
//! ```text
//! kind u8 · flow id u32 · header length u16 · header · packet u32 · offset u16 · total u16 · payload
//!                         kinds 2 and 4 only           kinds 3 and 4 only                   kinds 1 to 4
//! ```

use super::id::{FlowId, MAX_PAYLOAD};
use crate::wire::header::{HeaderError, MAX_HEADER, Protocol, StreamHeader};
use crate::wire::tlv::{Cursor, UnexpectedEnd};
use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

const PAYLOAD: u8 = 1;
const PAYLOAD_WITH_HEADER: u8 = 2;
const FRAGMENT: u8 = 3;
const FRAGMENT_WITH_HEADER: u8 = 4;
const FLOW_KNOWN: u8 = 5;
const FLOW_UNKNOWN: u8 = 6;

/// Kind and flow id.
const FIXED: usize = 5;
/// Packet, offset and total.
const FRAGMENT_FIELDS: usize = 8;
/// Fragments of one packet: twice what paths of 1,200 bytes need, so that lists of them stay short.
pub(super) const MAX_FRAGMENTS: usize = 128;
/// Datagrams are written into pieces of one buffer: this many bytes are allocated at a time.
const ARENA: usize = 64 * 1_024;

/// A datagram of the tunnel, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelDatagram {
    /// A client's datagram, or a target's, as a whole.
    Payload {
        /// The flow that it belongs to.
        flow: FlowId,
        /// Whom the flow stands for, until the hub is known to have that.
        header: Option<StreamHeader>,
        /// Of 0 to 65,507 bytes.
        payload: Bytes,
    },
    /// A part of one.
    Fragment {
        /// The flow that it belongs to.
        flow: FlowId,
        /// Whom the flow stands for, until the hub is known to have that.
        header: Option<StreamHeader>,
        /// The part.
        fragment: Fragment,
    },
    /// The hub has the header of this flow.
    Known(FlowId),
    /// The hub has no such flow: it needs the header again.
    Unknown(FlowId),
}

/// A part of a payload: never empty, never all of it, and inside `total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The same for all parts of one payload; not used again in the flow for long.
    pub packet: u32,
    /// Bytes of the payload before this part.
    pub offset: u16,
    /// Bytes of the whole payload.
    pub total: u16,
    /// The bytes themselves.
    pub part: Bytes,
}

/// Reason why a tunnel datagram was not understood: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// A field goes beyond the end.
    #[error("tunnel datagram ends too soon: {0}")]
    End(#[from] UnexpectedEnd),
    /// The first byte is no kind of this version.
    #[error("unknown kind {0} of a tunnel datagram")]
    Kind(u8),
    /// The header isn't understood.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header is that of a stream.
    #[error("the header of a flow isn't one of UDP")]
    NotUdp,
    /// A part that is empty, all of its payload or outside of it.
    #[error("a fragment doesn't fit its packet")]
    Fragment,
    /// More than UDP carries.
    #[error("a payload is larger than any of UDP")]
    TooLarge,
    /// More bytes than the kind has.
    #[error("bytes after the end of a tunnel datagram")]
    Trailing,
}

impl TunnelDatagram {
    /// Reads what fills `datagram`; payload is a slice of it.
    pub fn decode(datagram: &Bytes) -> Result<Self, DatagramError> {
        let mut cursor = Cursor::new(datagram);
        let kind = cursor.u8()?;
        let flow = FlowId(cursor.u32()?);
        match kind {
            PAYLOAD | PAYLOAD_WITH_HEADER => {
                let header = read_header(&mut cursor, kind == PAYLOAD_WITH_HEADER)?;
                let payload = datagram.slice_ref(cursor.rest());
                if payload.len() > MAX_PAYLOAD {
                    return Err(DatagramError::TooLarge);
                }
                Ok(Self::Payload {
                    flow,
                    header,
                    payload,
                })
            }
            FRAGMENT | FRAGMENT_WITH_HEADER => {
                let header = read_header(&mut cursor, kind == FRAGMENT_WITH_HEADER)?;
                let (packet, offset, total) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
                let part = datagram.slice_ref(cursor.rest());
                let end = usize::from(offset) + part.len();
                let is_part = !part.is_empty() && part.len() < usize::from(total);
                if !is_part || end > usize::from(total) || usize::from(total) > MAX_PAYLOAD {
                    return Err(DatagramError::Fragment);
                }
                Ok(Self::Fragment {
                    flow,
                    header,
                    fragment: Fragment {
                        packet,
                        offset,
                        total,
                        part,
                    },
                })
            }
            FLOW_KNOWN | FLOW_UNKNOWN if !cursor.is_empty() => Err(DatagramError::Trailing),
            FLOW_KNOWN => Ok(Self::Known(flow)),
            FLOW_UNKNOWN => Ok(Self::Unknown(flow)),
            _ => Err(DatagramError::Kind(kind)),
        }
    }
}

fn read_header(
    cursor: &mut Cursor<'_>,
    has_header: bool,
) -> Result<Option<StreamHeader>, DatagramError> {
    if !has_header {
        return Ok(None);
    }
    let length = usize::from(cursor.u16()?);
    let header = StreamHeader::decode(cursor.take(length)?)?;
    if header.protocol == Protocol::Udp {
        Ok(Some(header))
    } else {
        Err(DatagramError::NotUdp)
    }
}

/// A payload doesn't go through the tunnel, not even in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a datagram is too large for the tunnel")]
pub struct TooLarge;

/// Writes tunnel datagrams, as pieces of buffers that are used again once all pieces of one are gone.
#[derive(Debug, Default)]
pub struct Encoder {
    arena: BytesMut,
    header: Vec<u8>,
    next_packet: u32,
}

impl Encoder {
    /// Gives `send` the one datagram of a payload, or its fragments where `max_datagram` bytes are too few.
    pub fn payload(
        &mut self,
        flow: FlowId,
        header: Option<&StreamHeader>,
        payload: &[u8],
        max_datagram: usize,
        mut send: impl FnMut(Bytes),
    ) -> Result<(), TooLarge> {
        let total = u16::try_from(payload.len()).map_err(|_| TooLarge)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(TooLarge);
        }
        self.header.clear();
        if let Some(header) = header {
            header.encode(&mut self.header);
        }
        let header_size = header.map_or(0, |_| 2 + self.header.len());
        if FIXED + header_size + payload.len() <= max_datagram {
            self.begin(FIXED + header_size + payload.len());
            self.put_head(PAYLOAD, PAYLOAD_WITH_HEADER, flow);
            self.arena.put_slice(payload);
            send(self.arena.split().freeze());
            return Ok(());
        }
        let overhead = FIXED + header_size + FRAGMENT_FIELDS;
        let room = max_datagram.saturating_sub(overhead);
        // Fewer than two bytes can't be parted.
        if payload.len() < 2 || room * MAX_FRAGMENTS < payload.len() {
            return Err(TooLarge);
        }
        let packet = self.next_packet;
        self.next_packet = packet.wrapping_add(1);
        // Parts of about the same size: none is so small that it costs more than it carries.
        let parts = payload.len().div_ceil(room).max(2);
        let size = payload.len().div_ceil(parts);
        let mut offset = 0;
        for part in payload.chunks(size) {
            self.begin(overhead + part.len());
            self.put_head(FRAGMENT, FRAGMENT_WITH_HEADER, flow);
            self.arena.put_u32(packet);
            self.arena.put_u16(offset);
            self.arena.put_u16(total);
            self.arena.put_slice(part);
            // Parts add up to `total`, which is one.
            offset += u16::try_from(part.len()).map_err(|_| TooLarge)?;
            send(self.arena.split().freeze());
        }
        Ok(())
    }

    /// Says that the hub has the header of a flow.
    pub fn known(&mut self, flow: FlowId) -> Bytes {
        self.bare(FLOW_KNOWN, flow)
    }

    /// Says that the hub needs the header of a flow again.
    pub fn unknown(&mut self, flow: FlowId) -> Bytes {
        self.bare(FLOW_UNKNOWN, flow)
    }

    fn bare(&mut self, kind: u8, flow: FlowId) -> Bytes {
        self.begin(FIXED);
        self.arena.put_u8(kind);
        self.arena.put_u32(flow.0);
        self.arena.split().freeze()
    }

    fn begin(&mut self, size: usize) {
        if self.arena.capacity() < size {
            self.arena.reserve(size.max(ARENA));
        }
    }

    fn put_head(&mut self, plain: u8, with_header: u8, flow: FlowId) {
        let has_header = !self.header.is_empty();
        self.arena
            .put_u8(if has_header { with_header } else { plain });
        self.arena.put_u32(flow.0);
        if has_header {
            debug_assert!(self.header.len() <= MAX_HEADER);
            // A header that this end writes has at most 41 bytes.
            let length = u16::try_from(self.header.len()).unwrap_or(0);
            self.arena.put_u16(length);
            self.arena.put_slice(&self.header);
        }
    }
}
