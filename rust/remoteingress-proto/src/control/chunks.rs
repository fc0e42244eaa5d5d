//! Control messages, cut into frames.
//!
//! ```text
//! frame payload: type u8 · flags u8 (1 = more follows) · a part of the body
//! ```
//!
//! Nothing may come between the parts of a message, so at most one is ever half there.

/// The longest payload of a CONTROL frame, in bytes.
pub const MAX_CONTROL_PAYLOAD: usize = 1024;

/// The longest body of a control message, in bytes: room for a report of 65,535 entries of 8 bytes, the longest without
/// a message.
pub const MAX_CONTROL_MESSAGE: usize = 640 * 1024;

/// The longest body that a peer without [`MANY_PORTS`](crate::wire::features::Features::MANY_PORTS) takes: room for a
/// configuration of 4,096 entries of 22 bytes, the longest.
pub(super) const MAX_CONTROL_MESSAGE_BEFORE: usize = 96 * 1024;

/// Kind and flags.
const PREFIX: usize = 2;
/// Another part of the same message follows.
pub(super) const FLAG_MORE: u8 = 1;

/// Cuts a body of at most [`MAX_CONTROL_MESSAGE`] bytes into payloads of frames.
pub(super) fn split(kind: u8, body: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = body.chunks(MAX_CONTROL_PAYLOAD - PREFIX).peekable();
    let mut frames = Vec::with_capacity(parts.len());
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { FLAG_MORE } else { 0 };
        let mut frame = Vec::with_capacity(PREFIX + part.len());
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(part);
        frames.push(frame);
    }
    frames
}

/// True if another part follows the one in this payload.
pub(crate) fn has_more(payload: &[u8]) -> bool {
    payload.get(1) == Some(&FLAG_MORE)
}
