//! Timing of the first byte that a target sends, for streams of which somebody wants to know.

use remoteingress_observe::stream_times::StreamTimes;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The side on which this end meets the bytes of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSide {
    /// The stream's socket: at a hub.
    Socket,
    /// The tunnel: at an edge.
    Tunnel,
}

/// Kept by a stream until the byte has come.
pub(crate) struct FirstByte {
    pub(crate) times: Arc<StreamTimes>,
    pub(crate) since: Instant,
    pub(crate) side: TargetSide,
    /// Where somebody looks for it, too.
    pub(crate) told: Option<Rc<Cell<Option<Duration>>>>,
}
