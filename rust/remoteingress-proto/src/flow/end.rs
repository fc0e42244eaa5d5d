//! How flows end.

/// Reason why a flow is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowEnd {
    /// It was silent for too long.
    #[default]
    Idle,
    /// It made room for another one.
    Displaced,
    /// Its listener, or what it stands for, is gone, or its session has ended in order.
    Closed,
    /// Its session was lost.
    SessionLost,
}
