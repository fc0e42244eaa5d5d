//! The content of a header, whichever version it came in.

use std::net::SocketAddr;

use crate::tlv::Tlvs;

/// A parsed header; it borrows from the bytes it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its version.
    pub version: Version,
    /// Both ends of the connection that it speaks for.
    pub addresses: Addresses<'a>,
    /// Empty in v1, and where the addresses are [`Addresses::Local`] or [`Addresses::Unknown`].
    pub tlvs: Tlvs<'a>,
}

/// The format a header is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Whom the connection is from and whom it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// v2 LOCAL: the sender speaks for itself, as in a health check. The connection's own addresses hold.
    Local,
    /// v1 UNKNOWN or v2 UNSPEC: the sender doesn't know. The connection's own addresses hold.
    Unknown,
    /// An internet client and the address that it connected to.
    Inet {
        /// TCP or UDP.
        protocol: Protocol,
        /// The client.
        source: SocketAddr,
        /// The address that the client connected to, not the one this connection goes to.
        destination: SocketAddr,
    },
    /// v2 only: two `sun_path`s, padded with NUL.
    Unix {
        /// Streams or datagrams.
        protocol: Protocol,
        /// The path of the client's socket.
        source: &'a [u8; 108],
        /// The path that it connected to.
        destination: &'a [u8; 108],
    },
}

/// The kind of socket the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, or a Unix stream socket.
    Stream,
    /// UDP, or a Unix datagram socket.
    Datagram,
}

impl Header<'_> {
    /// The client's address, where the header gives one.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet { source, .. } => Some(source),
            Addresses::Local | Addresses::Unknown | Addresses::Unix { .. } => None,
        }
    }

    /// The address the client connected to, where the header gives one.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet { destination, .. } => Some(destination),
            Addresses::Local | Addresses::Unknown | Addresses::Unix { .. } => None,
        }
    }
}
