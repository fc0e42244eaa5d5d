//! Streams that an edge may open, and the time for which each of them counts (threats A3.5, A3.6).

use remoteingress_config::HubLimits;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::header::{HeaderError, Protocol, StreamHeader};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The streams that count against a new one.
#[derive(Clone, Copy, Debug)]
pub struct StreamLoad {
    /// Streams of the same edge, on all workers.
    pub edge: usize,
    /// Streams of all edges.
    pub hub: usize,
    /// Streams of the same edge whose targets are being dialled.
    pub dials: usize,
}

/// Reason why a stream is refused before its target is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// The edge broke the format of the header.
    BadHeader(HeaderError),
    /// The header is of a UDP flow, which is no stream.
    NotTcp,
    /// The edge has as many streams as it may.
    StreamsPerEdge,
    /// All edges together have as many streams as they may.
    Streams,
    /// As many targets of the edge are being dialled as may be.
    PendingDialsPerEdge,
}

impl From<StreamRefusal> for HubRefusalReason {
    fn from(refusal: StreamRefusal) -> Self {
        match refusal {
            StreamRefusal::BadHeader(_) | StreamRefusal::NotTcp => Self::BadHeader,
            StreamRefusal::StreamsPerEdge => Self::MaxStreamsPerEdge,
            StreamRefusal::Streams => Self::MaxStreams,
            StreamRefusal::PendingDialsPerEdge => Self::MaxPendingDialsPerEdge,
        }
    }
}

impl StreamRefusal {
    /// The code that the edge is told.
    pub fn abort_code(self) -> AbortCode {
        match self {
            Self::BadHeader(_) | Self::NotTcp => AbortCode::UnknownListener,
            Self::StreamsPerEdge | Self::Streams | Self::PendingDialsPerEdge => {
                AbortCode::Overloaded
            }
        }
    }
}

/// Reads a new stream's header, unless the stream must be refused. Nothing is counted yet, see [`CountedStream`].
pub fn admit_stream(
    limits: &HubLimits,
    load: StreamLoad,
    header: &[u8],
) -> Result<StreamHeader, StreamRefusal> {
    let header = StreamHeader::decode(header).map_err(StreamRefusal::BadHeader)?;
    if !limits.max_streams_per_edge.admits(load.edge) {
        return Err(StreamRefusal::StreamsPerEdge);
    }
    if !limits.max_streams.admits(load.hub) {
        return Err(StreamRefusal::Streams);
    }
    if !limits.max_pending_dials_per_edge.admits(load.dials) {
        return Err(StreamRefusal::PendingDialsPerEdge);
    }
    match header.protocol {
        Protocol::Tcp => Ok(header),
        Protocol::Udp => Err(StreamRefusal::NotTcp),
    }
}

/// Counts of a session's streams.
pub trait StreamCounts {
    /// One count each for the hub, the edge and the worker.
    fn streams(&self) -> impl Iterator<Item = &AtomicUsize>;

    /// Those of the edge's streams whose targets are being dialled.
    fn dials(&self) -> &AtomicUsize;
}

/// A stream that counts until its work has ended, and as a dial until [`Self::dialled`].
///
/// Every idle stream keeps one of these: it holds nothing but who counts.
#[derive(Debug)]
pub struct CountedStream<S: std::ops::Deref<Target: StreamCounts>> {
    owner: S,
    is_dialling: bool,
}

impl<S: std::ops::Deref<Target: StreamCounts>> CountedStream<S> {
    /// Counts a stream that was admitted. One read may bring thousands of them: count before the next is looked at.
    pub fn new(owner: S) -> Self {
        for count in owner.streams() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        owner.dials().fetch_add(1, Ordering::Relaxed);
        Self {
            owner,
            is_dialling: true,
        }
    }

    /// The one that counts the stream.
    pub fn owner(&self) -> &S {
        &self.owner
    }

    /// The dial has ended, whichever way.
    pub fn dialled(&mut self) {
        if std::mem::take(&mut self.is_dialling) {
            self.owner.dials().fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<S: std::ops::Deref<Target: StreamCounts>> Drop for CountedStream<S> {
    fn drop(&mut self) {
        self.dialled();
        for count in self.owner.streams() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::Limit;
    use std::rc::Rc;

    #[test]
    fn each_limit_has_its_reason_and_the_edges_own_comes_first() {
        let full = StreamLoad {
            edge: 10,
            hub: 20,
            dials: 5,
        };
        let refused = |load| admit_stream(&limits(), load, &encoded(Protocol::Tcp)).unwrap_err();
        assert_eq!(refused(full), StreamRefusal::StreamsPerEdge);
        assert_eq!(
            refused(StreamLoad { edge: 9, ..full }),
            StreamRefusal::Streams
        );
        let dialling = StreamLoad {
            edge: 9,
            hub: 19,
            ..full
        };
        assert_eq!(refused(dialling), StreamRefusal::PendingDialsPerEdge);
        for (refusal, name) in [
            (StreamRefusal::StreamsPerEdge, "maxStreamsPerEdge"),
            (StreamRefusal::Streams, "maxStreams"),
            (StreamRefusal::PendingDialsPerEdge, "maxPendingDialsPerEdge"),
        ] {
            assert_eq!(HubRefusalReason::from(refusal).as_str(), name);
            assert_eq!(refusal.abort_code(), AbortCode::Overloaded);
        }
        let last = StreamLoad {
            dials: 4,
            ..dialling
        };
        let admitted = admit_stream(&limits(), last, &encoded(Protocol::Tcp));
        assert_eq!(admitted, Ok(header(Protocol::Tcp)));
    }

    #[test]
    fn a_limit_that_is_off_admits_any_number() {
        let off = HubLimits {
            max_streams: Limit::OFF,
            max_streams_per_edge: Limit::OFF,
            max_pending_dials_per_edge: Limit::OFF,
            ..HubLimits::default()
        };
        let many = StreamLoad {
            edge: usize::MAX,
            hub: usize::MAX,
            dials: usize::MAX,
        };
        assert!(admit_stream(&off, many, &encoded(Protocol::Tcp)).is_ok());
    }

    #[test]
    fn a_header_that_is_broken_or_of_a_flow_is_refused_as_such() {
        let none = StreamLoad {
            edge: 0,
            hub: 0,
            dials: 0,
        };
        for bytes in [vec![], vec![9; 5], encoded(Protocol::Udp)] {
            let refusal = admit_stream(&limits(), none, &bytes).unwrap_err();
            assert_eq!(HubRefusalReason::from(refusal), HubRefusalReason::BadHeader);
            assert_eq!(refusal.abort_code(), AbortCode::UnknownListener);
        }
        let flow = admit_stream(&limits(), none, &encoded(Protocol::Udp));
        assert_eq!(flow, Err(StreamRefusal::NotTcp));
    }

    #[test]
    fn a_stream_counts_until_its_work_ends_and_as_a_dial_until_that_ends() {
        let counts = Rc::new(Counts::default());
        let mut stream = CountedStream::new(counts.clone());
        let reset_while_dialling = CountedStream::new(counts.clone());
        assert_eq!(counts.now(), ([2, 2, 2], 2));
        stream.dialled();
        stream.dialled();
        assert_eq!(counts.now(), ([2, 2, 2], 1));
        drop(reset_while_dialling);
        assert_eq!(counts.now(), ([1, 1, 1], 0));
        drop(stream);
        assert_eq!(counts.now(), ([0, 0, 0], 0));
    }

    #[derive(Debug, Default)]
    struct Counts {
        streams: [AtomicUsize; 3],
        dials: AtomicUsize,
    }

    impl Counts {
        fn now(&self) -> ([usize; 3], usize) {
            let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            (self.streams.each_ref().map(read), read(&self.dials))
        }
    }

    impl StreamCounts for Counts {
        fn streams(&self) -> impl Iterator<Item = &AtomicUsize> {
            self.streams.iter()
        }

        fn dials(&self) -> &AtomicUsize {
            &self.dials
        }
    }

    fn limits() -> HubLimits {
        HubLimits {
            max_streams: Limit::new(20),
            max_streams_per_edge: Limit::new(10),
            max_pending_dials_per_edge: Limit::new(5),
            ..HubLimits::default()
        }
    }

    fn header(protocol: Protocol) -> StreamHeader {
        StreamHeader {
            protocol,
            listener_port: 443,
            client: "192.0.2.1:1234".parse().unwrap(),
            listener: "198.51.100.1:443".parse().unwrap(),
        }
    }

    fn encoded(protocol: Protocol) -> Vec<u8> {
        let mut bytes = Vec::new();
        header(protocol).encode(&mut bytes);
        bytes
    }
}
