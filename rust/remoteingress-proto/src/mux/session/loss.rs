//! Streams that the peer doesn't know, or not any more.

use super::sending::Sending;
use super::streams::Streams;
use crate::mux::closed::Parting;
use crate::mux::event::{Event, GoAwayCode};
use crate::mux::stream::{AbortCode, Opener, Stream, StreamEnd};
use crate::wire::frame::{StreamId, take_u32};
use bytes::{Buf, Bytes};
use std::time::Duration;

/// The peer doesn't know this stream: its owner learns that it was aborted, unless both directions had ended.
pub(super) fn lose(streams: &mut Streams, index: usize, code: AbortCode, parting: Parting) {
    let was_sending = streams.table.at(index).is_some_and(|s| !s.send.is_done());
    streams.stop_sending(index);
    let Some(stream) = streams.table.at_mut(index) else {
        return;
    };
    stream.receive.end = match stream.receive.end {
        // As if an ABORT had come after the FIN: what this end still had to send is lost.
        Some(StreamEnd::Finished) if was_sending => Some(StreamEnd::Aborted(code)),
        Some(end) => Some(end),
        None => Some(StreamEnd::Aborted(code)),
    };
    stream.receive.window.close();
    streams.tell_readable(index);
    streams.free_if_done(index, parting);
}

/// The peer knows none of those that `is_lost` picks.
fn lose_all(
    streams: &mut Streams,
    is_lost: impl Fn(&Stream) -> bool,
    code: AbortCode,
    parting: Parting,
) {
    for index in streams.table.indexes(is_lost) {
        lose(streams, index, code, parting);
    }
}

/// GOAWAY.
pub(super) fn peer_goes_away(mut payload: Bytes, streams: &mut Streams, parting: Parting) {
    let code = GoAwayCode::from_wire(payload.get_u8());
    let retry_after = Duration::from_millis(take_u32(&mut payload).into());
    let last = take_u32(&mut payload);
    if streams.ids.peer_goes_away() {
        streams.tell(Event::GoAway { code, retry_after });
        lose_unserved(streams, last, parting);
    }
}

/// The peer's GOAWAY names the last stream of this end that it serves. Nothing of later ones was looked at: opening
/// them elsewhere is safe.
fn lose_unserved(streams: &mut Streams, last: u32, parting: Parting) {
    let is_unserved =
        |stream: &Stream| stream.opener == Opener::Local && stream.id.is_none_or(|id| id.0 > last);
    lose_all(streams, is_unserved, AbortCode::Refused, parting);
}

/// The hub has lost the session and made another one, in which it has announced `peer_credit` bytes: only own streams
/// go on, with ids from `first` on or none yet.
pub(super) fn begin_again(
    first: u32,
    peer_credit: u32,
    sending: &mut Sending,
    streams: &mut Streams,
) {
    streams.credit.begin_again(peer_credit);
    streams.closed.begin_again();
    let goes_on = |id: StreamId| id == StreamId::SESSION || id.0 >= first;
    sending.begin_again(goes_on);
    let parting = sending.parting(streams.carrier);
    let is_old = |stream: &Stream| stream.id.is_some_and(|id| !goes_on(id));
    lose_all(
        streams,
        |stream| is_old(stream) || stream.is_unopened_beyond(peer_credit),
        AbortCode::TunnelLost,
        parting,
    );
}
