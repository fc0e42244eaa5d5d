//! Splits control messages into frames and puts them together again.
//!
//! ```text
//! frame payload: type u8 · flags u8 (1 = more follows) · a part of the body
//! ```
//!
//! Nothing may come between the parts of a message, so at most one is ever half there.

use super::{ControlError, ControlMessage};
use crate::wire::tlv::Cursor;

/// The longest payload of a CONTROL frame, in bytes.
pub const MAX_CONTROL_PAYLOAD: usize = 1024;

/// The longest body of a control message, in bytes: room for a configuration of [`MAX_PORTS`](super::MAX_PORTS)
/// entries of 22 bytes, the longest.
pub const MAX_CONTROL_MESSAGE: usize = 96 * 1024;

const PREFIX: usize = 2;
const FLAG_MORE: u8 = 1;

pub(super) fn split(kind: u8, body: &[u8]) -> Result<Vec<Vec<u8>>, ControlError> {
    if body.len() > MAX_CONTROL_MESSAGE {
        return Err(ControlError::TooLong);
    }
    let mut parts = body.chunks(MAX_CONTROL_PAYLOAD - PREFIX).peekable();
    let mut frames = Vec::with_capacity(parts.len());
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { FLAG_MORE } else { 0 };
        let mut frame = Vec::with_capacity(PREFIX + part.len());
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(part);
        frames.push(frame);
    }
    Ok(frames)
}

/// Takes the payloads of CONTROL frames and gives whole messages.
///
/// It keeps at most one message of [`MAX_CONTROL_MESSAGE`] bytes, and grows with what came, not with what was
/// announced. After an error the session is over.
#[derive(Debug, Default)]
pub struct ControlAssembler {
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    kind: u8,
    body: Vec<u8>,
}

impl ControlAssembler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one payload; gives the message that it completes, unless that is of an unknown type.
    pub fn handle(&mut self, payload: &[u8]) -> Result<Option<ControlMessage>, ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::FrameTooLong);
        }
        let mut cursor = Cursor::new(payload);
        let kind = cursor.u8()?;
        let more = match cursor.u8()? {
            0 => false,
            FLAG_MORE => true,
            _ => return Err(ControlError::Malformed("unknown flag")),
        };
        let part = cursor.rest();
        if more && part.is_empty() {
            return Err(ControlError::Malformed("empty part")); // it could go on for ever
        }

        let body = match self.partial.take() {
            None if !more => return ControlMessage::decode(kind, part),
            None => part.to_vec(),
            Some(partial) if partial.kind != kind => return Err(ControlError::Interrupted),
            Some(Partial { mut body, .. }) => {
                if body.len() + part.len() > MAX_CONTROL_MESSAGE {
                    return Err(ControlError::TooLong);
                }
                body.extend_from_slice(part);
                body
            }
        };
        if more {
            self.partial = Some(Partial { kind, body });
            return Ok(None);
        }
        ControlMessage::decode(kind, &body)
    }
}
