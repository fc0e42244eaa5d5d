//! The streams of a session by index, and how many there are.

use crate::mux::scheduler::{Slot, Slots};
use crate::mux::stream::{Opener, Stream, StreamKey};
use crate::mux::tier::Tier;
use slab::Slab;

/// A stream stays until nothing is left to do for it here, which may be long after its owner has let go.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    streams: Slab<Stream>,
    generation: u32,
    /// Streams that their owner hasn't released.
    active: usize,
    /// Those among them that the peer has opened.
    of_peer: usize,
    /// Streams so far.
    total: u64,
}

impl Slots for StreamTable {
    #[inline]
    fn slot(&mut self, index: usize) -> Option<&mut Slot> {
        self.streams.get_mut(index).map(|stream| &mut stream.slot)
    }

    #[inline]
    fn has_frame(&self, index: usize) -> bool {
        self.streams
            .get(index)
            .is_some_and(|stream| stream.send.has_frame())
    }
}

impl StreamTable {
    #[inline]
    pub(super) fn insert(&mut self, mut stream: Stream) -> StreamKey {
        self.generation = self.generation.wrapping_add(1);
        stream.generation = self.generation;
        self.active += 1;
        self.of_peer += usize::from(stream.opener == Opener::Peer);
        self.total += 1;
        let generation = self.generation;
        let index = self.streams.insert(stream);
        StreamKey { index, generation }
    }

    #[inline]
    pub(super) fn at(&self, index: usize) -> Option<&Stream> {
        self.streams.get(index)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Stream> {
        self.streams.get_mut(index)
    }

    /// The stream of a key, whoever still wants it.
    pub(super) fn of_key(&self, key: StreamKey) -> Option<&Stream> {
        let stream = self.streams.get(key.index)?;
        (stream.generation == key.generation).then_some(stream)
    }

    /// The stream of a key, while its owner hasn't let go.
    #[inline]
    pub(super) fn live(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(key.index)?;
        (stream.generation == key.generation && !stream.released).then_some(stream)
    }

    /// The owner lets go of a live stream.
    #[inline]
    pub(super) fn release(&mut self, key: StreamKey) {
        let Some(stream) = self.live(key) else { return };
        stream.released = true;
        let of_peer = usize::from(stream.opener == Opener::Peer);
        self.of_peer -= of_peer;
        self.active -= 1;
    }

    /// Forgets a stream.
    #[inline]
    pub(super) fn remove(&mut self, index: usize) -> Stream {
        self.streams.remove(index)
    }

    /// True if a stream assumes more than this many bytes of the peer's memory, and its OPEN hasn't left.
    pub(super) fn has_unopened_beyond(&self, bytes: u32) -> bool {
        let mut streams = self.streams.iter();
        streams.any(|(_, stream)| stream.is_unopened_beyond(bytes))
    }

    /// Indexes of the streams that `is_meant` picks.
    pub(super) fn indexes(&self, is_meant: impl Fn(&Stream) -> bool) -> Vec<usize> {
        let meant = self.streams.iter().filter(|(_, stream)| is_meant(stream));
        meant.map(|(index, _)| index).collect()
    }

    /// Keys of the streams that their owner hasn't released.
    #[cfg(feature = "testing")]
    pub(super) fn live_keys(&self) -> Vec<StreamKey> {
        let live = self.streams.iter().filter(|(_, stream)| !stream.released);
        live.map(|(index, stream)| stream.key(index)).collect()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    #[inline]
    pub(super) fn active(&self) -> usize {
        self.active
    }

    #[inline]
    pub(super) fn of_peer(&self) -> usize {
        self.of_peer
    }

    /// Payload that waits to be sent, in bytes: in the `data` tier, and in the `sustained` one.
    pub(super) fn queued(&self) -> [usize; 2] {
        let mut queued = [0; 2];
        for (_, stream) in &self.streams {
            let [data, sustained] = &mut queued;
            *match stream.tier() {
                Tier::Data => data,
                Tier::Sustained => sustained,
            } += stream.send.queued;
        }
        queued
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}
