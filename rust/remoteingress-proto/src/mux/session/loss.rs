//! Streams that the peer doesn't know, or not any more.

use super::streams::Streams;
use crate::mux::closed::Parting;
use crate::mux::stream::{AbortCode, Opener, Stream, StreamEnd};

impl Streams {
    /// The peer doesn't know this stream: its owner learns that it was aborted, unless both directions had ended.
    pub(super) fn lose(&mut self, index: usize, code: AbortCode, parting: Parting) {
        let was_sending = self.table.at(index).is_some_and(|s| !s.send.is_done());
        self.stop_sending(index);
        let Some(stream) = self.table.at_mut(index) else {
            return;
        };
        stream.receive.end = match stream.receive.end {
            // As if an ABORT had come after the FIN: what this end still had to send is lost.
            Some(StreamEnd::Finished) if was_sending => Some(StreamEnd::Aborted(code)),
            Some(end) => Some(end),
            None => Some(StreamEnd::Aborted(code)),
        };
        stream.receive.window.close();
        self.tell_readable(index);
        self.free_if_done(index, parting);
    }

    /// The peer knows none of those that `is_lost` picks.
    pub(super) fn lose_all(
        &mut self,
        is_lost: impl Fn(&Stream) -> bool,
        code: AbortCode,
        parting: Parting,
    ) {
        for index in self.table.indexes(is_lost) {
            self.lose(index, code, parting);
        }
    }

    /// The peer's GOAWAY names the last stream of this end that it serves. Nothing of later ones was looked at: opening
    /// them elsewhere is safe.
    pub(super) fn lose_unserved(&mut self, last: u32, parting: Parting) {
        let is_unserved = |stream: &Stream| {
            stream.opener == Opener::Local && stream.id.is_none_or(|id| id.0 > last)
        };
        self.lose_all(is_unserved, AbortCode::Refused, parting);
    }

    /// Whether a stream assumes more than this many bytes of the peer's memory, and its OPEN hasn't left.
    pub(super) fn has_unopened_beyond(&self, bytes: u32) -> bool {
        let mut streams = self.table.iter();
        streams.any(|stream| stream.is_unopened_beyond(bytes))
    }
}
