//! The kinds of handshake messages.

/// The kind of a message; on the wire its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Edge to hub, first.
    Hello,
    /// Hub to edge: the session it gives.
    Welcome,
    /// It gives none: to the end that has asked.
    Refused,
    /// Hub to edge, first, on a connection that the hub has dialled.
    Call,
}

impl MessageKind {
    pub(super) const fn to_wire(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Refused => 3,
            Self::Call => 4,
        }
    }

    pub(super) const fn from_wire(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Hello),
            2 => Some(Self::Welcome),
            3 => Some(Self::Refused),
            4 => Some(Self::Call),
            _ => None,
        }
    }
}
