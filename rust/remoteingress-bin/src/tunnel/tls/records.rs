//! Drives rustls' unbuffered state machine: bytes in, plaintexts and bytes to send out. No I/O.
//!
//! rustls is fed one record at a time. It opens a record in place and then lends a copy of the plaintext; as the
//! record's place is known, the plaintext is taken from the read buffer and the copy is only looked at to be sure.

use bytes::{Bytes, BytesMut};
use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};

use super::error::TlsError;

/// Type, version and length in front of every record, bytes.
const HEADER: usize = 5;
/// Largest record with its header (RFC 8446, section 5.2), bytes.
pub(super) const MAX_RECORD: usize = HEADER + (1 << 14) + 256;
/// Largest plaintext of a record, bytes.
const MAX_PLAINTEXT: usize = 1 << 14;
/// Header, content type and AEAD tag: what a record adds to its plaintext, bytes.
const RECORD_OVERHEAD: usize = HEADER + 1 + 16;
/// Room for any single control record: an alert or a key update, bytes.
const CONTROL_ROOM: usize = 64;
/// A handshake message in fragments stays in the buffer until it is whole; more than this is refused, bytes.
const MAX_HELD: usize = 64 * 1024;

/// rustls' state of one of the two roles.
pub(super) enum Role {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Bytes received and not yet opened.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) bytes: BytesMut,
    /// Length of the front part that rustls has seen and still refers to: a handshake message in fragments.
    held: usize,
}

impl Role {
    /// Opens every complete record of `incoming`; returns whether the peer has said that it closes.
    pub(super) fn open(
        &mut self,
        incoming: &mut Incoming,
        outgoing: &mut Vec<u8>,
        payloads: &mut Vec<Bytes>,
    ) -> Result<bool, TlsError> {
        match self {
            Self::Client(engine) => open(engine.as_mut(), incoming, outgoing, payloads),
            Self::Server(engine) => open(engine.as_mut(), incoming, outgoing, payloads),
        }
    }

    /// Appends `plaintext` as records.
    pub(super) fn seal(
        &mut self,
        incoming: &mut Incoming,
        plaintext: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let records = plaintext.len().div_ceil(MAX_PLAINTEXT);
        let room = plaintext.len() + records * RECORD_OVERHEAD;
        match self {
            Self::Client(engine) => write(engine.as_mut(), incoming, outgoing, room, |w, tail| {
                w.encrypt(plaintext, tail)
            }),
            Self::Server(engine) => write(engine.as_mut(), incoming, outgoing, room, |w, tail| {
                w.encrypt(plaintext, tail)
            }),
        }
    }

    /// Appends the message that nothing more follows.
    pub(super) fn close_notify(
        &mut self,
        incoming: &mut Incoming,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        match self {
            Self::Client(engine) => write(
                engine.as_mut(),
                incoming,
                outgoing,
                CONTROL_ROOM,
                |w, tail| w.queue_close_notify(tail),
            ),
            Self::Server(engine) => write(
                engine.as_mut(),
                incoming,
                outgoing,
                CONTROL_ROOM,
                |w, tail| w.queue_close_notify(tail),
            ),
        }
    }

    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Client(engine) => engine,
            Self::Server(engine) => engine,
        }
    }
}

impl std::fmt::Debug for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// What rustls offers on each role's type but not as a trait.
trait Engine {
    type Data;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn wants_write(&self) -> bool;
}

impl Engine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
}

impl Engine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
}

fn open<E: Engine>(
    engine: &mut E,
    incoming: &mut Incoming,
    outgoing: &mut Vec<u8>,
    payloads: &mut Vec<Bytes>,
) -> Result<bool, TlsError> {
    loop {
        let unseen = incoming.bytes.get(incoming.held..).unwrap_or_default();
        let record = complete_record(unseen);
        // An incomplete one is shown too: a header that can't be right is refused before its body comes.
        let shown = incoming.held + record.unwrap_or(unseen.len());
        let step = process(engine, incoming, shown, outgoing, payloads)?;
        if step.peer_closed {
            incoming.bytes.clear();
            incoming.held = 0;
            return Ok(true);
        }
        if record.is_none() {
            return Ok(false);
        }
        incoming.held = step.kept;
        if incoming.held > MAX_HELD {
            return Err(TlsError::HandshakeTooLarge);
        }
    }
}

/// What the bytes shown to rustls have led to.
struct Step {
    /// Bytes in front that rustls still refers to.
    kept: usize,
    peer_closed: bool,
}

/// Shows rustls the first `shown` bytes until it wants nothing more of them, which is at most one new record.
fn process<E: Engine>(
    engine: &mut E,
    incoming: &mut Incoming,
    mut shown: usize,
    outgoing: &mut Vec<u8>,
    payloads: &mut Vec<Bytes>,
) -> Result<Step, TlsError> {
    let mut peer_closed = false;
    loop {
        let mut plaintext = None;
        let mut is_settled = false;
        let status = engine.process(&mut incoming.bytes[..shown]);
        let discard = status.discard.min(shown);
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                if let Some(record) = traffic.next_record() {
                    plaintext = Some(Fingerprint::of(record?.payload));
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append(outgoing, CONTROL_ROOM, |tail| message.encode(tail))?;
            }
            // All of `outgoing` is sent before anything that is sealed later.
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::PeerClosed) => peer_closed = true,
            Ok(
                ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | ConnectionState::Closed,
            ) => is_settled = true,
            Ok(_) => return Err(TlsError::Library("a state we don't know")),
            Err(error) => {
                drop_front(incoming, &mut shown, discard);
                append_alert(engine, incoming, shown, outgoing);
                return Err(error.into());
            }
        }
        let record = drop_front(incoming, &mut shown, discard);
        if let Some(plaintext) = plaintext {
            payloads.push(plaintext.locate(record)?);
            is_settled = shown == 0;
        }
        if is_settled {
            return Ok(Step {
                kept: shown,
                peer_closed,
            });
        }
    }
}

fn drop_front(incoming: &mut Incoming, shown: &mut usize, discard: usize) -> BytesMut {
    if discard == 0 {
        return BytesMut::new();
    }
    *shown -= discard;
    incoming.held = incoming.held.saturating_sub(discard);
    incoming.bytes.split_to(discard)
}

/// Tells the peer why, if rustls has prepared that. Never looks at another record: rustls has failed.
fn append_alert<E: Engine>(
    engine: &mut E,
    incoming: &mut Incoming,
    shown: usize,
    outgoing: &mut Vec<u8>,
) {
    while engine.wants_write() {
        let state = engine.process(&mut incoming.bytes[..shown]).state;
        let Ok(ConnectionState::EncodeTlsData(mut message)) = state else {
            return;
        };
        if append(outgoing, CONTROL_ROOM, |tail| message.encode(tail)).is_err() {
            return;
        }
    }
}

/// Calls `produce` with rustls' writing state. Of what was received it shows only what rustls already refers to,
/// so that nothing is opened here.
fn write<E: Engine>(
    engine: &mut E,
    incoming: &mut Incoming,
    outgoing: &mut Vec<u8>,
    room: usize,
    mut produce: impl FnMut(&mut WriteTraffic<'_, E::Data>, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let held = incoming.held;
    loop {
        match engine.process(&mut incoming.bytes[..held]).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                return append(outgoing, room, |tail| produce(&mut traffic, tail));
            }
            ConnectionState::EncodeTlsData(mut message) => {
                append(outgoing, CONTROL_ROOM, |tail| message.encode(tail))?;
            }
            ConnectionState::TransmitTlsData(message) => message.done(),
            ConnectionState::Closed => return Err(TlsError::Closed),
            ConnectionState::ReadTraffic(_)
            | ConnectionState::ReadEarlyData(_)
            | ConnectionState::PeerClosed
            | ConnectionState::BlockedHandshake
            | _ => return Err(TlsError::Library("not ready to write")),
        }
    }
}

/// Lets `produce` write behind the end of `outgoing`, with more room if it says so.
fn append<F: Into<Overflow>>(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    mut produce: impl FnMut(&mut [u8]) -> Result<usize, F>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    loop {
        outgoing.resize(start + room, 0);
        let written = produce(&mut outgoing[start..]).map_err(Into::into);
        outgoing.truncate(start + written.as_ref().copied().unwrap_or(0));
        match written {
            Ok(_) => return Ok(()),
            Err(Overflow::Needs(required)) if required > room => room = required,
            Err(_) => return Err(TlsError::Library("a record can't be written")),
        }
    }
}

/// Why rustls didn't write.
enum Overflow {
    Needs(usize),
    Fatal,
}

impl From<EncodeError> for Overflow {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::Needs(required_size)
            }
            EncodeError::AlreadyEncoded => Self::Fatal,
        }
    }
}

impl From<EncryptError> for Overflow {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::Needs(required_size)
            }
            EncryptError::EncryptExhausted => Self::Fatal,
        }
    }
}

/// Length of the record at the front with its header, if all of it is there.
fn complete_record(bytes: &[u8]) -> Option<usize> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let len = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    (len <= bytes.len()).then_some(len)
}

/// Enough of a plaintext to tell whether other bytes of its length are the same plaintext or its ciphertext.
struct Fingerprint {
    len: usize,
    head: [u8; Self::SAMPLE],
    tail: [u8; Self::SAMPLE],
}

impl Fingerprint {
    const SAMPLE: usize = 16;

    fn of(plaintext: &[u8]) -> Self {
        Self {
            len: plaintext.len(),
            head: Self::sample(plaintext.iter()),
            tail: Self::sample(plaintext.iter().rev()),
        }
    }

    fn sample<'a>(bytes: impl Iterator<Item = &'a u8>) -> [u8; Self::SAMPLE] {
        let mut sample = [0; Self::SAMPLE];
        for (to, from) in sample.iter_mut().zip(bytes) {
            *to = *from;
        }
        sample
    }

    /// The plaintext inside its opened record.
    fn locate(&self, record: BytesMut) -> Result<Bytes, TlsError> {
        let found = record.get(HEADER..HEADER + self.len).unwrap_or_default();
        let found = Self::of(found);
        if found.len != self.len || found.head != self.head || found.tail != self.tail {
            return Err(TlsError::Library("a record isn't opened in place"));
        }
        Ok(record.freeze().slice(HEADER..HEADER + self.len))
    }
}
