//! A control message of which a lost session has taken the first parts with it.

use crate::control::has_more;
use crate::wire::frame::{FrameKind, HEADER_LEN};

/// Tells whether a message was acknowledged in part, so that the rest of it is worthless in another session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutMessage {
    is_cut: bool,
}

impl CutMessage {
    /// A frame was acknowledged.
    pub(super) fn acknowledged(&mut self, frame: &[u8]) {
        if let Some(more) = part(frame) {
            self.is_cut = more;
        }
    }

    /// True if the frame is of that message. To be asked of all frames that weren't acknowledged, in their order.
    pub(super) fn is_rest(&mut self, frame: &[u8]) -> bool {
        let more = part(frame).filter(|_| self.is_cut);
        self.is_cut = more.unwrap_or(self.is_cut);
        more.is_some()
    }
}

/// Tells of a part of a control message whether more follows; None for any other frame.
fn part(frame: &[u8]) -> Option<bool> {
    let (&kind, payload) = (frame.first()?, frame.get(HEADER_LEN..)?);
    (kind == FrameKind::Control as u8).then(|| has_more(payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{StreamId, encode};

    #[test]
    fn the_rest_of_a_message_ends_with_its_last_part() {
        let control = |flags: u8| encode(FrameKind::Control, StreamId::SESSION, &[&[1, flags]]);
        let other = encode(FrameKind::Fin, StreamId(1), &[]);
        let mut cut = CutMessage::default();
        assert!(!cut.is_rest(&control(1)) && !cut.is_rest(&control(0)));
        cut.acknowledged(&control(1));
        cut.acknowledged(&other);
        assert!(cut.is_rest(&control(1)) && !cut.is_rest(&other) && cut.is_rest(&control(0)));
        assert!(!cut.is_rest(&control(1)) && !cut.is_rest(&control(0)));
        cut.acknowledged(&control(1));
        cut.acknowledged(&control(0));
        assert!(!cut.is_rest(&control(1)));
    }
}
