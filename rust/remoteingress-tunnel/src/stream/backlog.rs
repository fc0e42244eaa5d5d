//! Bytes from the tunnel that nobody has taken yet.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Copies of bytes that weren't taken have at least this room, so that tiny ones are gathered.
const LEAST_KEPT: usize = 512;

/// Bytes from the tunnel that go out before anything newer, in the order of the fields.
#[derive(Default)]
pub(crate) struct Backlog {
    /// The PROXY header, which is no payload.
    pub(crate) prefix: Bytes,
    /// Payload for which the peer has credit already: somebody looked at it and gave it back.
    preface: VecDeque<Bytes>,
    /// Right-sized copies of payload: a slice would pin the whole read buffer that it lies in.
    waiting: VecDeque<BytesMut>,
}

/// Parts of what left a backlog, in bytes; each is a part of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// All but the prefix.
    pub(crate) payload: usize,
    /// Of that, the bytes that are credit for the peer now.
    pub(crate) uncredited: usize,
    /// Of that, the bytes that weren't in the backlog.
    pub(crate) fresh: usize,
}

impl Left {
    /// Bytes that left although there was no backlog.
    pub(crate) fn fresh(bytes: usize) -> Self {
        Self {
            payload: bytes,
            uncredited: bytes,
            fresh: bytes,
        }
    }
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.preface.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let preface = self.preface.iter().map(|piece| &piece[..]);
        let waiting = self.waiting.iter().map(|piece| &piece[..]);
        std::iter::once(&self.prefix[..])
            .chain(preface)
            .chain(waiting)
    }

    /// Takes `bytes` off the front, of which there may be fewer.
    pub(crate) fn advance(&mut self, bytes: usize) -> Left {
        let head = self.prefix.len().min(bytes);
        self.prefix.advance(head);
        let payload = bytes - head;
        let uncredited = advance(&mut self.preface, payload);
        let fresh = advance(&mut self.waiting, uncredited);
        Left {
            payload,
            uncredited,
            fresh,
        }
    }

    /// Takes the next piece of payload, of at most `most` bytes, and how many of these are credit for the peer now.
    pub(crate) fn pop(&mut self, most: usize) -> Option<(Bytes, usize)> {
        if let Some(piece) = pop(&mut self.preface, most, Bytes::split_to) {
            return Some((piece, 0));
        }
        let piece = pop(&mut self.waiting, most, BytesMut::split_to)?.freeze();
        let bytes = piece.len();
        Some((piece, bytes))
    }

    /// Payload that was popped comes back.
    pub(crate) fn put_back(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.preface.push_front(piece);
        }
    }

    /// Adds copies of newer payload, small ones together.
    pub(crate) fn keep(&mut self, chunks: VecDeque<Bytes>) {
        for chunk in chunks {
            let has_room = |last: &BytesMut| last.capacity() - last.len() >= chunk.len();
            if let Some(last) = self.waiting.back_mut().filter(|last| has_room(last)) {
                last.extend_from_slice(&chunk);
                continue;
            }
            let mut copy = BytesMut::with_capacity(chunk.len().max(LEAST_KEPT));
            copy.extend_from_slice(&chunk);
            self.waiting.push_back(copy);
        }
    }

    /// Copies the preface, too, which was held by reference.
    pub(crate) fn unshare(&mut self) {
        let pieces: Vec<&[u8]> = self.preface.iter().map(|piece| &piece[..]).collect();
        if !pieces.is_empty() {
            self.preface = VecDeque::from([Bytes::from(pieces.concat())]);
        }
    }
}

/// Takes `bytes` off the front; gives how many there were not.
pub(crate) fn advance(chunks: &mut VecDeque<impl Buf>, mut bytes: usize) -> usize {
    while let Some(front) = chunks.front_mut() {
        if front.remaining() > bytes {
            front.advance(bytes);
            return 0;
        }
        bytes -= front.remaining();
        chunks.pop_front();
    }
    bytes
}

/// Takes the first piece, or `most` bytes of it, without copying.
pub(crate) fn pop<T: Buf>(
    chunks: &mut VecDeque<T>,
    most: usize,
    split_to: impl FnOnce(&mut T, usize) -> T,
) -> Option<T> {
    let front = chunks.front_mut()?;
    if front.remaining() > most {
        return Some(split_to(front, most));
    }
    chunks.pop_front()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_only_those_without_credit_are_credit() {
        let mut backlog = Backlog {
            prefix: Bytes::from_static(b"PROXY"),
            ..Backlog::default()
        };
        backlog.keep(VecDeque::from([
            Bytes::from_static(b"ef"),
            Bytes::from_static(b"gh"),
        ]));
        backlog.put_back(Bytes::from_static(b"cd"));
        backlog.put_back(Bytes::from_static(b"ab"));
        backlog.put_back(Bytes::new());
        backlog.unshare();
        let all: Vec<&[u8]> = backlog.pieces().collect();
        assert_eq!(all, [&b"PROXY"[..], b"abcd", b"efgh"]);
        let nothing = Left::fresh(0);
        assert_eq!(backlog.advance(3), nothing);
        let payload = Left {
            payload: 1,
            ..nothing
        };
        assert_eq!(backlog.advance(3), payload);
        assert_eq!(backlog.pop(2), Some((Bytes::from_static(b"bc"), 0)));
        let left = Left {
            payload: 3,
            uncredited: 2,
            fresh: 0,
        };
        assert_eq!(backlog.advance(3), left);
        assert_eq!(backlog.pop(9), Some((Bytes::from_static(b"gh"), 2)));
        assert_eq!(backlog.pop(9), None);
        assert!(backlog.is_empty());
        assert_eq!(backlog.advance(7), Left::fresh(7));
    }

    #[test]
    fn small_pieces_share_a_copy() {
        let mut backlog = Backlog::default();
        let piece = Bytes::from(vec![7; 100]);
        backlog.keep(std::iter::repeat_n(piece, 10).collect());
        let lengths: Vec<usize> = backlog.pieces().skip(1).map(<[u8]>::len).collect();
        assert_eq!(lengths, [500, 500]);
    }
}
