//! One QUIC connection: its handshake, the messages that prove both ends, and its end.
//!
//! The first QUIC stream that the client opens is the session's own lane; the messages of the handshake are the first
//! bytes on it. Which end is the client is one question, and which end is the edge another: either may dial.

use super::config::{ClientQuic, PROVED_STREAMS, PROVED_WINDOW};
use super::endpoint::{QuicEndpoint, Slot};
use crate::transport::error::ConnectionError;
use crate::transport::identity::pin_of;
use crate::transport::tls::{EXPORTER_LABEL, ExportedKey};
use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, Dir, Event, ReadError, Side, StreamId, VarInt};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::pin::Pin as PublicKeyPin;
use rustls::pki_types::CertificateDer;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use zeroize::Zeroizing;

/// System calls that one turn sends with.
const SENDS: usize = 8;
/// A proper end is offered to the peer for this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why a connection is closed; the peer sees the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    Done = 0,
    Violation = 1,
}

/// A QUIC connection as the one task that drives it has it. It is closed when it is dropped.
pub struct QuicConnection {
    pub(super) endpoint: Rc<QuicEndpoint>,
    pub(super) slot: Rc<Slot>,
    /// This end's role in the session.
    pub(super) role: Role,
    /// Bytes of the session's lane that the handshake didn't use.
    pub(super) leftover: Bytes,
    timer: Pin<Box<Sleep>>,
    close_code: CloseCode,
    is_connected: bool,
    /// The session's lane is there, so that it can be read.
    has_lane: bool,
    has_pins: bool,
}

crate::opaque::opaque_debug!(QuicConnection);

impl QuicConnection {
    /// Begins a connection to the peer at `address`; `choice` spreads connections over the peer's workers.
    pub(crate) fn connect(
        endpoint: &Rc<QuicEndpoint>,
        quic: &ClientQuic,
        address: SocketAddr,
        choice: u8,
    ) -> io::Result<Self> {
        let slot = endpoint.connect(quic, address, choice)?;
        Ok(Self::new(endpoint.clone(), slot, quic.role, quic.has_pins))
    }

    /// Takes over a connection that an endpoint has accepted.
    pub(crate) fn accepted(endpoint: Rc<QuicEndpoint>, slot: Rc<Slot>, role: Role) -> Self {
        Self::new(endpoint, slot, role, false)
    }

    fn new(endpoint: Rc<QuicEndpoint>, slot: Rc<Slot>, role: Role, has_pins: bool) -> Self {
        Self {
            endpoint,
            slot,
            role,
            leftover: Bytes::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            close_code: CloseCode::Done,
            is_connected: false,
            has_lane: false,
            has_pins,
        }
    }

    /// Waits until the peer's key is verified, and the TLS handshake is over.
    pub async fn handshake(&mut self) -> Result<(), ConnectionError> {
        self.until(|this| Ok(this.is_connected.then_some(())))
            .await?;
        let mut connection = self.slot.connection.borrow_mut();
        if connection.side() == Side::Client {
            // The session's own lane. The peer allows some before it knows who calls.
            connection
                .streams()
                .open(Dir::Bi)
                .ok_or(ConnectionError::Closed)?;
            self.has_lane = true;
        }
        Ok(())
    }

    /// A key that both ends and nobody in between know.
    pub fn exported_key(&self) -> Option<ExportedKey> {
        let mut key = Zeroizing::new([0; 32]);
        let connection = self.slot.connection.borrow();
        let session = connection.crypto_session();
        session
            .export_keying_material(key.as_mut(), EXPORTER_LABEL, b"")
            .ok()?;
        Some(key)
    }

    /// The pin of the key that the peer has shown.
    pub fn peer_pin(&self) -> Option<PublicKeyPin> {
        let connection = self.slot.connection.borrow();
        let shown = connection.crypto_session().peer_identity()?;
        let shown = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        pin_of(shown.first()?).ok()
    }

    /// True if the hub's key was verified by a pin.
    pub fn peer_pin_verified(&self) -> bool {
        self.has_pins
    }

    /// Address of the peer now; that may change.
    pub fn peer_address(&self) -> SocketAddr {
        self.slot.connection.borrow().remote_address()
    }

    /// Sends a message of the handshake.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        let mut rest = Bytes::copy_from_slice(message);
        self.until(|this| {
            let mut connection = this.slot.connection.borrow_mut();
            let mut lane = connection.send_stream(session_lane());
            // Blocked: the next turn tries again.
            let _ = lane.write_chunks(std::slice::from_mut(&mut rest));
            Ok(rest.is_empty().then_some(()))
        })
        .await?;
        self.endpoint
            .transmit(&self.slot, std::task::Waker::noop(), Instant::now(), SENDS);
        Ok(())
    }

    /// Reads until `parse` makes something of the bytes so far and says how many it used; at most
    /// `most` bytes are kept for it.
    pub async fn receive<T, E: From<ConnectionError>>(
        &mut self,
        most: usize,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, E> {
        let mut received = BytesMut::from(std::mem::take(&mut self.leftover));
        let mut has_lane = self.has_lane;
        let mut failed = None;
        let parsed = self
            .until(|this| {
                let mut connection = this.slot.connection.borrow_mut();
                if !has_lane {
                    // Lanes come in order: the session's is the first.
                    has_lane = connection.streams().accept(Dir::Bi).is_some();
                }
                let take = |chunk: Bytes| received.extend_from_slice(&chunk);
                let may_go_on = !has_lane || read(&mut connection, session_lane(), take)?;
                // Datagrams are dropped until the session begins: nothing was agreed on.
                while connection.datagrams().recv().is_some() {}
                let head = received.get(..most.min(received.len())).unwrap_or_default();
                match parse(head) {
                    Ok(None) if received.len() >= most || !may_go_on => {
                        Err(ConnectionError::Closed)
                    }
                    Ok(parsed) => Ok(parsed),
                    Err(error) => {
                        failed = Some(error);
                        Err(ConnectionError::Closed)
                    }
                }
            })
            .await;
        self.has_lane = has_lane;
        match (parsed, failed) {
            (Ok((value, used)), _) => {
                self.leftover = received.split_off(used.min(received.len())).freeze();
                Ok(value)
            }
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// The peer has proved the secret: it may send more.
    pub fn widen(&mut self) {
        let mut connection = self.slot.connection.borrow_mut();
        connection.set_receive_window(PROVED_WINDOW.into());
        if self.role == Role::Hub {
            connection.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(PROVED_STREAMS));
        }
    }

    /// Says goodbye once all that was said has arrived, or after a while.
    pub async fn close(mut self) {
        {
            let mut connection = self.slot.connection.borrow_mut();
            // Fails only where it has ended.
            let _ = connection.send_stream(session_lane()).finish();
        }
        let said = self.until(|this| {
            let mut connection = this.slot.connection.borrow_mut();
            let unsaid = connection.streams().send_streams();
            Ok((unsaid == 0).then_some(()))
        });
        // The connection ends either way.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, said).await;
    }

    /// The peer broke the protocol: it is told so when the connection is dropped.
    pub(super) fn mark_violation(&mut self) {
        self.close_code = CloseCode::Violation;
    }

    /// Takes turns until `done` gives something, which is asked once in each.
    async fn until<T>(
        &mut self,
        mut done: impl FnMut(&Self) -> Result<Option<T>, ConnectionError>,
    ) -> Result<T, ConnectionError> {
        poll_fn(|cx| {
            self.begin_turn(cx);
            let mut lost = None;
            loop {
                let event = self.slot.connection.borrow_mut().poll();
                match event {
                    Some(Event::ConnectionLost { reason }) => lost = Some(reason),
                    Some(Event::Connected) => self.is_connected = true,
                    Some(
                        Event::HandshakeDataReady
                        | Event::Stream(_)
                        | Event::DatagramReceived
                        | Event::DatagramsUnblocked,
                    ) => {}
                    None => break,
                }
            }
            // Bytes that came before the end count.
            let result = done(self);
            self.end_turn(cx);
            match (result, lost) {
                (Ok(Some(value)), _) => Poll::Ready(Ok(value)),
                (_, Some(reason)) => Poll::Ready(Err(reason.into())),
                (Err(error), None) => Poll::Ready(Err(error)),
                (Ok(None), None) if self.slot.connection.borrow().is_closed() => {
                    Poll::Ready(Err(ConnectionError::Closed))
                }
                (Ok(None), None) => Poll::Pending,
            }
        })
        .await
    }

    fn begin_turn(&mut self, cx: &mut Context<'_>) {
        self.slot.driver.set(Some(cx.waker().clone()));
        self.slot
            .connection
            .borrow_mut()
            .handle_timeout(Instant::now());
        self.endpoint.exchange(&self.slot);
    }

    fn end_turn(&mut self, cx: &mut Context<'_>) {
        if self
            .endpoint
            .transmit(&self.slot, cx.waker(), Instant::now(), SENDS)
        {
            cx.waker().wake_by_ref();
        }
        self.endpoint.exchange(&self.slot);
        let timeout = self.slot.connection.borrow_mut().poll_timeout();
        if let Some(at) = timeout {
            self.timer.as_mut().reset(at.into());
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}

impl Drop for QuicConnection {
    fn drop(&mut self) {
        let reason: &[u8] = match self.close_code {
            CloseCode::Done => b"",
            CloseCode::Violation => b"protocol violation",
        };
        self.endpoint
            .abandon(&self.slot, self.close_code as u32, reason);
    }
}

/// The first QUIC stream that the client opens.
pub(super) fn session_lane() -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, 0)
}

/// Gives what has come on a lane to `take`; false once it has ended.
pub(super) fn read(
    connection: &mut Connection,
    lane: StreamId,
    mut take: impl FnMut(Bytes),
) -> Result<bool, ConnectionError> {
    let mut stream = connection.recv_stream(lane);
    let Ok(mut chunks) = stream.read(true) else {
        return Ok(false);
    };
    let is_open = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => take(chunk.bytes),
            Ok(None) => break Ok(false),
            Err(ReadError::Blocked) => break Ok(true),
            // We never do; whoever does isn't one of ours.
            Err(ReadError::Reset(_)) => break Err(ConnectionError::LaneReset),
        }
    };
    // The next transmit takes along what this allows the peer.
    let _ = chunks.finalize();
    is_open
}
