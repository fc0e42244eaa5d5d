//! The two ways in which a session's frames travel.

/// The way frames reach the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One ordered connection; when it dies, another one takes over (tcpTls).
    Ordered,
    /// A lane for each stream, ordered in itself only, and datagrams (QUIC). It lasts as long as the session.
    Lanes,
}
