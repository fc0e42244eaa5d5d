//! Whole messages from the payloads of CONTROL frames.

use super::chunks::{FLAG_MORE, MAX_CONTROL_MESSAGE, MAX_CONTROL_PAYLOAD};
use super::error::ControlError;
use super::message::ControlMessage;
use crate::wire::tlv::Cursor;

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
    /// Nothing has come yet.
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
