//! The tunnel's TLS 1.3 connection on rustls' unbuffered API: a handshake over a socket, then records without I/O.
//!
//! `connect` and `accept` run the handshake and give a [`TlsConnection`], which owns the keys and the bytes read
//! so far but no socket: it moves between threads, and its owner reads and writes as it likes.
//!
//! - out: [`TlsConnection::seal`] appends records to a buffer of the caller;
//! - in: one large read into [`TlsConnection::receive_buffer`], then [`TlsConnection::open`] gives the plaintexts
//!   of all complete records as slices of that buffer.
//!
//! The end of the socket before `Opened::peer_closed` is a truncation.

mod config;
mod error;
mod exporter;
mod records;
mod verifier;

use std::sync::Arc;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

pub(crate) use config::{ClientTls, ServerTls};
pub(crate) use error::TlsError;
use exporter::ExporterLog;
pub(crate) use exporter::{ExportedKey, LABEL as EXPORTER_LABEL};
use records::{Incoming, MAX_RECORD, Role};

/// Receive buffer before the peer has proved the secret, and bound of the handshake, bytes.
const UNPROVED_CAPACITY: usize = 64 * 1024;
/// Receive buffer afterwards: about 16 full records per system call, bytes.
const RECEIVE_CAPACITY: usize = 256 * 1024;
/// First allocation of a handshake: both flights of ours fit, bytes.
const HANDSHAKE_READ: usize = 4 * 1024;

/// Calls the hub over a connected socket.
pub(crate) async fn connect<S>(
    socket: &mut S,
    tls: &ClientTls,
    deadline: Instant,
) -> Result<TlsConnection, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (engine, exporter) = tls.connection()?;
    let connection = TlsConnection::new(Role::Client(Box::new(engine)), tls.has_pins());
    connection.handshake(socket, &exporter, deadline).await
}

/// Answers an edge over an accepted socket.
pub(crate) async fn accept<S>(
    socket: &mut S,
    tls: &ServerTls,
    deadline: Instant,
) -> Result<TlsConnection, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (engine, exporter) = tls.connection()?;
    let connection = TlsConnection::new(Role::Server(Box::new(engine)), false);
    connection.handshake(socket, &exporter, deadline).await
}

/// An established TLS connection without its socket.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    role: Role,
    incoming: Incoming,
    capacity: usize,
    /// Control records that go out before anything else.
    pending: Vec<u8>,
    /// Payloads that came along with the end of the handshake.
    early: Vec<Bytes>,
    ekm: Option<ExportedKey>,
    peer_pin_verified: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    PeerClosed,
    /// rustls has reported an error and isn't asked again.
    Failed,
}

/// What the received bytes were besides payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The peer has closed its direction properly: nothing follows, and nothing was cut off.
    pub(crate) peer_closed: bool,
}

impl TlsConnection {
    fn new(role: Role, peer_pin_verified: bool) -> Self {
        Self {
            role,
            incoming: Incoming::default(),
            capacity: UNPROVED_CAPACITY,
            pending: Vec::new(),
            early: Vec::new(),
            ekm: None,
            peer_pin_verified,
            state: State::Open,
        }
    }

    async fn handshake<S>(
        mut self,
        socket: &mut S,
        exporter: &Arc<ExporterLog>,
        deadline: Instant,
    ) -> Result<Self, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout_at(deadline, self.exchange_flights(socket))
            .await
            .unwrap_or(Err(TlsError::TimedOut))?;

        let state = self.role.state();
        if state.alpn_protocol() != Some(config::ALPN) {
            return Err(TlsError::WrongProtocol);
        }
        self.ekm = state
            .negotiated_cipher_suite()
            .and_then(|suite| exporter.take(suite));
        if self.ekm.is_none() {
            return Err(TlsError::Library("no exporter secret"));
        }
        Ok(self)
    }

    async fn exchange_flights<S>(&mut self, socket: &mut S) -> Result<(), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let opened = self
                .role
                .open(&mut self.incoming, &mut self.pending, &mut self.early);
            // Also after an error: the alert tells the peer what was wrong.
            socket.write_all(&self.pending).await?;
            self.pending.clear();
            if opened? {
                self.state = State::PeerClosed;
            }
            if !self.role.state().is_handshaking() {
                return Ok(());
            }
            let room = UNPROVED_CAPACITY.saturating_sub(self.incoming.bytes.len());
            if room == 0 {
                return Err(TlsError::HandshakeTooLarge);
            }
            self.incoming.bytes.reserve(HANDSHAKE_READ.min(room));
            let mut buffer = (&mut self.incoming.bytes).limit(room);
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err(TlsError::ClosedInHandshake);
            }
        }
    }

    /// The key that both ends of this very connection share, for the proof of the secret. It is given once.
    pub(crate) fn take_exported_key(&mut self) -> Option<ExportedKey> {
        self.ekm.take()
    }

    /// Whether the handshake has verified the hub's key by a pin; always false on the hub.
    pub(crate) fn peer_pin_verified(&self) -> bool {
        self.peer_pin_verified
    }

    /// Allows large reads. To be called when the peer has proved the secret.
    pub(crate) fn widen(&mut self) {
        self.capacity = RECEIVE_CAPACITY;
    }

    /// Appends one record with `plaintext` (1 to 16,384 bytes; more makes several records) to `out`.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.flush(out);
        if self.state == State::Failed {
            return Err(TlsError::Closed);
        }
        if plaintext.is_empty() {
            return Ok(());
        }
        self.role.seal(&mut self.incoming, plaintext, out)
    }

    /// Appends what TLS itself has to say: an answer, or after an error the alert that names it.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
    }

    /// Appends the proper end of our direction. Nothing may be sealed afterwards.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
        if self.state != State::Failed && self.role.close_notify(&mut self.incoming, out).is_err() {
            self.state = State::Failed;
        }
    }

    /// Where the next read of the socket goes: room for a large one, behind what is incomplete.
    pub(crate) fn receive_buffer(&mut self) -> Limit<&mut BytesMut> {
        let bytes = &mut self.incoming.bytes;
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
        payloads.append(&mut self.early);
        match self.state {
            State::Failed => return Err(TlsError::Closed),
            State::PeerClosed => self.incoming.bytes.clear(),
            State::Open => match self
                .role
                .open(&mut self.incoming, &mut self.pending, payloads)
            {
                Ok(true) => self.state = State::PeerClosed,
                Ok(false) => {}
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            },
        }
        Ok(Opened {
            peer_closed: self.state == State::PeerClosed,
        })
    }
}

#[cfg(test)]
mod tests;
