//! Drives rustls' unbuffered state machine through the handshake: bytes in, bytes to send out. No I/O.
//!
//! rustls is fed one record at a time, and none after the handshake: those belong to [`Records`].

use bytes::{Buf, BytesMut};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, SupportedCipherSuite};

use super::error::TlsError;
use super::protection::HEADER;
use super::records::{Kernel, Records};

/// First room for a message of ours; rustls says if it needs more, bytes.
const MESSAGE_ROOM: usize = 64;
/// A message in fragments stays in the buffer until it is whole; more than this is refused, bytes.
const MAX_HELD: usize = 64 * 1024;

/// rustls' state of one of the two roles.
pub(super) enum Role {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// A handshake with the bytes that the peer has sent so far.
pub(super) struct Handshake {
    role: Role,
    pub(super) received: BytesMut,
    /// Length of the front part that rustls has seen and still refers to: a message in fragments.
    held: usize,
}

impl Handshake {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            received: BytesMut::new(),
            held: 0,
        }
    }

    /// Goes as far as the received bytes allow; appends what is to be sent, after an error the alert.
    pub(super) fn advance(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        while self.is_running() {
            let unseen = self.received.get(self.held..).unwrap_or_default();
            let record = complete_record(unseen);
            // An incomplete one is shown too: a header that can't be right is refused before its body comes.
            let shown = self.held + record.unwrap_or(unseen.len());
            let kept = match &mut self.role {
                Role::Client(engine) => show(engine.as_mut(), &mut self.received, shown, outgoing),
                Role::Server(engine) => show(engine.as_mut(), &mut self.received, shown, outgoing),
            }?;
            if record.is_none() {
                // Of the bytes shown, no more than those held before can have been dropped.
                self.held = self.held.saturating_sub(shown - kept);
                return Ok(());
            }
            self.held = kept;
            if self.held > MAX_HELD {
                return Err(TlsError::HandshakeTooLarge);
            }
        }
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.state().is_handshaking()
    }

    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// The certificate of a server's own key.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.state().peer_certificates()?.first()
    }

    pub(super) fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.state().negotiated_cipher_suite()
    }

    /// The established connection, and what the peer has sent after its handshake.
    pub(super) fn finish(self) -> Result<(Records, BytesMut), TlsError> {
        if self.held > 0 {
            return Err(TlsError::Library("a message goes beyond the handshake"));
        }
        let (secrets, kernel) = match self.role {
            Role::Client(engine) => {
                let (secrets, kernel) = engine.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Client(Box::new(kernel)))
            }
            Role::Server(engine) => {
                let (secrets, kernel) = engine.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Server(Box::new(kernel)))
            }
        };
        Ok((Records::new(secrets, kernel)?, self.received))
    }

    fn state(&self) -> &CommonState {
        match &self.role {
            Role::Client(engine) => engine,
            Role::Server(engine) => engine,
        }
    }
}

/// The methods that rustls offers on each role's type but not as a trait.
trait Engine {
    type Data;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn wants_write(&self) -> bool;
}

impl Engine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
}

impl Engine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
}

/// Shows rustls the first `shown` bytes until it wants nothing more of them, which is at most one new record.
///
/// Returns how many of them it still refers to.
fn show<E: Engine>(
    engine: &mut E,
    received: &mut BytesMut,
    mut shown: usize,
    outgoing: &mut Vec<u8>,
) -> Result<usize, TlsError> {
    loop {
        let mut is_settled = false;
        let status = engine.process(&mut received[..shown]);
        let discard = status.discard.min(shown);
        match status.state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append(outgoing, |tail| message.encode(tail))?;
            }
            // All of `outgoing` is sent before anything that is sealed later.
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                is_settled = true;
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                return Err(TlsError::ClosedInHandshake);
            }
            Ok(_) => return Err(TlsError::Library("a state we don't know")),
            Err(error) => {
                received.advance(discard);
                append_alert(engine, &mut received[..shown - discard], outgoing);
                return Err(error.into());
            }
        }
        received.advance(discard);
        shown -= discard;
        if is_settled {
            return Ok(shown);
        }
    }
}

/// Tells the peer why, if rustls has prepared that. Never looks at another record: rustls has failed.
fn append_alert<E: Engine>(engine: &mut E, received: &mut [u8], outgoing: &mut Vec<u8>) {
    while engine.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut message)) = engine.process(received).state else {
            return;
        };
        if append(outgoing, |tail| message.encode(tail)).is_err() {
            return;
        }
    }
}

/// Lets `produce` write after the end of `outgoing`, with more room if it says so.
fn append(
    outgoing: &mut Vec<u8>,
    mut produce: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    let mut room = MESSAGE_ROOM;
    loop {
        outgoing.resize(start + room, 0);
        let written = produce(&mut outgoing[start..]);
        outgoing.truncate(start + written.as_ref().copied().unwrap_or(0));
        match written {
            Ok(_) => return Ok(()),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(_) => return Err(TlsError::Library("a message can't be written")),
        }
    }
}

/// Length of the record at the front with its header, if all of it is there.
fn complete_record(bytes: &[u8]) -> Option<usize> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let len = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    (len <= bytes.len()).then_some(len)
}
