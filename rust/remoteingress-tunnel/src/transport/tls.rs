//! The tunnel's TLS 1.3 connection: rustls' handshake over a socket, then records of our own without I/O.
//!
//! `connect` and `accept` run the handshake and give a [`TlsConnection`], which owns the keys and the bytes read
//! so far but no socket: it moves between threads, and its owner reads and writes as it likes.
//!
//! - out: `TlsConnection::sealing` and `TlsConnection::seal` append records to a buffer of the caller;
//! - in: one large read into `TlsConnection::receive_buffer`, then `TlsConnection::open` gives the plaintexts
//!   of all complete records as slices of that buffer.
//!
//! The end of the socket before `Opened::peer_closed` is a truncation.

mod config;
mod error;
mod exporter;
mod handshake;
mod protection;
mod records;
mod verifier;

use std::sync::Arc;

use crate::transport::identity::pin_of;
use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use remoteingress_proto::token::pin::Pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

pub use config::{ClientTls, ServerTls, ShownCertificate};
pub use error::{TlsError, Violation};
pub use exporter::ExportedKey;
use exporter::ExporterLog;
pub(crate) use exporter::LABEL as EXPORTER_LABEL;
use handshake::{Handshake, Role};
use protection::MAX_RECORD;
use records::Records;
pub(crate) use records::Sealing;

/// Receive buffer before the peer has proved the secret, and bound of the handshake, bytes.
const UNPROVED_CAPACITY: usize = 64 * 1024;
/// Receive buffer afterwards: about 16 full records per system call, bytes.
const RECEIVE_CAPACITY: usize = 256 * 1024;
/// First allocation of a handshake: both flights of ours fit, bytes.
const HANDSHAKE_READ: usize = 4 * 1024;

/// Calls the hub over a connected socket.
pub async fn connect<S>(
    socket: &mut S,
    tls: &ClientTls,
    deadline: Instant,
) -> Result<TlsConnection, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (engine, exporter) = tls.connection()?;
    let handshake = Handshake::new(Role::Client(Box::new(engine)));
    let mut connection = establish(handshake, socket, &exporter, deadline).await?;
    connection.peer_pin_verified = tls.has_pins();
    Ok(connection)
}

/// Answers an edge over an accepted socket.
pub async fn accept<S>(
    socket: &mut S,
    tls: &ServerTls,
    deadline: Instant,
) -> Result<TlsConnection, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (engine, exporter) = tls.connection()?;
    let handshake = Handshake::new(Role::Server(Box::new(engine)));
    establish(handshake, socket, &exporter, deadline).await
}

async fn establish<S>(
    mut handshake: Handshake,
    socket: &mut S,
    exporter: &Arc<ExporterLog>,
    deadline: Instant,
) -> Result<TlsConnection, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout_at(deadline, exchange_flights(&mut handshake, socket))
        .await
        .unwrap_or(Err(TlsError::TimedOut))?;

    if handshake.alpn_protocol() != Some(config::ALPN) {
        return Err(TlsError::WrongProtocol);
    }
    let ekm = handshake
        .cipher_suite()
        .and_then(|suite| exporter.take(suite));
    if ekm.is_none() {
        return Err(TlsError::Library("no exporter secret"));
    }
    let peer_pin = handshake
        .peer_certificate()
        .and_then(|shown| pin_of(shown).ok());
    let (records, received) = handshake.finish()?;
    Ok(TlsConnection {
        records,
        received,
        capacity: UNPROVED_CAPACITY,
        pending: Vec::new(),
        ekm,
        peer_pin,
        peer_pin_verified: false,
        state: State::Open,
    })
}

async fn exchange_flights<S>(handshake: &mut Handshake, socket: &mut S) -> Result<(), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut outgoing = Vec::new();
    loop {
        let advanced = handshake.advance(&mut outgoing);
        // Also after an error: the alert tells the peer what was wrong.
        socket.write_all(&outgoing).await?;
        outgoing.clear();
        advanced?;
        if !handshake.is_running() {
            return Ok(());
        }
        let received = &mut handshake.received;
        let room = UNPROVED_CAPACITY.saturating_sub(received.len());
        if room == 0 {
            return Err(TlsError::HandshakeTooLarge);
        }
        received.reserve(HANDSHAKE_READ.min(room));
        if socket.read_buf(&mut received.limit(room)).await? == 0 {
            return Err(TlsError::ClosedInHandshake);
        }
    }
}

/// An established TLS connection without its socket.
pub struct TlsConnection {
    records: Records,
    /// Bytes received and not yet opened.
    received: BytesMut,
    capacity: usize,
    /// Control records that go out before anything else: an answer to a KeyUpdate, an alert.
    pending: Vec<u8>,
    ekm: Option<ExportedKey>,
    peer_pin: Option<Pin>,
    peer_pin_verified: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    PeerClosed,
    /// Nothing is opened or sealed any more.
    Failed,
}

/// The other things that the received bytes said, besides payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The peer has closed its direction properly: nothing follows, and nothing was cut off.
    pub peer_closed: bool,
}

impl TlsConnection {
    /// The key that both ends of this very connection share, for the proof of the secret. It is given once.
    pub fn take_exported_key(&mut self) -> Option<ExportedKey> {
        self.ekm.take()
    }

    /// The pin of the key that the peer has shown; none of a peer that has dialled.
    pub fn peer_pin(&self) -> Option<Pin> {
        self.peer_pin
    }

    /// True if the handshake has verified the hub's key by a pin; always false on the hub.
    pub fn peer_pin_verified(&self) -> bool {
        self.peer_pin_verified
    }

    /// Allows large reads. To be called when the peer has proved the secret.
    pub(crate) fn widen(&mut self) {
        self.capacity = RECEIVE_CAPACITY;
    }

    /// Appends one record with `plaintext` (1 to 16,384 bytes; more makes several records) to `out`.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut sealing = self.sealing(out)?;
        sealing.push(plaintext)?;
        sealing.finish()
    }

    /// Lets payload be appended to `out` part by part; as many parts share a record as fit.
    pub(crate) fn sealing<'a>(&'a mut self, out: &'a mut Vec<u8>) -> Result<Sealing<'a>, TlsError> {
        self.flush(out);
        match self.state {
            State::Failed => Err(TlsError::Closed),
            State::Open | State::PeerClosed => self.records.sealing(out),
        }
    }

    /// Appends what TLS itself has to say: an answer, or after an error the alert that names it.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
    }

    /// Appends the proper end of our direction. Nothing may be sealed afterwards.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
        if self.state != State::Failed && self.records.close_notify(out).is_err() {
            self.state = State::Failed;
        }
    }

    /// Buffer for the next read of the socket: room for a large one, after the incomplete record.
    pub(crate) fn receive_buffer(&mut self) -> Limit<&mut BytesMut> {
        let bytes = &mut self.received;
        let wanted = self.capacity.saturating_sub(bytes.len()).max(MAX_RECORD);
        // Where slices of the buffer are still in use, its rest is used before there is a new one.
        let is_reclaimed = bytes.try_reclaim(wanted);
        if !is_reclaimed && bytes.capacity() - bytes.len() < self.capacity / 2 {
            bytes.reserve(wanted);
        }
        let room = wanted.min(bytes.capacity() - bytes.len());
        bytes.limit(room)
    }

    /// Opens all complete records that were received and pushes their plaintexts, slices of the receive buffer.
    ///
    /// To be called after every read, and once after the handshake.
    pub(crate) fn open(&mut self, payloads: &mut Vec<Bytes>) -> Result<Opened, TlsError> {
        match self.state {
            State::Failed => return Err(TlsError::Closed),
            State::PeerClosed => self.received.clear(),
            State::Open => {
                let opened = self
                    .records
                    .open(&mut self.received, &mut self.pending, payloads);
                match opened {
                    Ok(true) => self.state = State::PeerClosed,
                    Ok(false) => {}
                    Err(error) => {
                        self.state = State::Failed;
                        self.records.alert(&error, &mut self.pending);
                        return Err(error);
                    }
                }
            }
        }
        Ok(Opened {
            peer_closed: self.state == State::PeerClosed,
        })
    }
}

impl std::fmt::Debug for TlsConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TlsConnection")
            .field("records", &self.records)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
