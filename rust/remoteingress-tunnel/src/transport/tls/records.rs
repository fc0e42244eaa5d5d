//! The records of an established connection: payload, KeyUpdate, alerts and tickets, and in which order. No I/O.
//!
//! rustls' `KernelConnection` keeps the traffic secrets and gives the next keys; records are sealed and opened here.

use bytes::{Buf, Bytes, BytesMut};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ContentType, ExtractedSecrets};

use super::error::{TlsError, Violation};
use super::protection::{HEADER, Keys, MAX_CONTENT, Opener, Sealer, record_len};

/// Records that one key seals at most. RFC 8446, section 5.5, allows AES-GCM 2^24.5 full ones and ChaCha20-Poly1305
/// more than can be counted; half of this is used, then there is a KeyUpdate.
const KEY_LIMIT: u64 = 1 << 24;
/// Records without payload in a row: more than any peer has a reason for (rustls and BoringSSL chose 32, too).
const MAX_IDLE_RECORDS: u32 = 32;
/// Largest message after the handshake; only tickets are longer than a byte, and few of them than 1 KiB, bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// Type and length in front of a handshake message, bytes.
const MESSAGE_HEADER: usize = 4;

// Handshake messages (RFC 8446, appendix B.3) and the two requests of a KeyUpdate.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;

/// Levels of an alert; TLS 1.3 sends but doesn't use them.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// rustls' part in an established connection: the traffic secrets.
pub(super) enum Kernel {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

impl Kernel {
    fn next_sending_keys(&mut self) -> Result<Keys, TlsError> {
        let next = match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        };
        next?.try_into()
    }

    fn next_receiving_keys(&mut self) -> Result<Keys, TlsError> {
        let next = match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        };
        next?.try_into()
    }

    fn confidentiality_limit(&self) -> u64 {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        suite
            .tls13()
            .map_or(0, |suite| suite.common.confidentiality_limit)
    }
}

/// Both directions of an established connection.
pub(super) struct Records {
    kernel: Kernel,
    pub(super) sealer: Sealer,
    opener: Opener,
    key_limit: u64,
    /// Our close_notify is sealed: nothing comes after it.
    has_closed: bool,
    /// Front of a handshake message whose rest is in records to come, [`MAX_MESSAGE`] at most.
    fragment: Vec<u8>,
    /// Records without payload in a row.
    idle: u32,
}

impl Records {
    pub(super) fn new(secrets: ExtractedSecrets, kernel: Kernel) -> Result<Self, TlsError> {
        let key_limit = KEY_LIMIT.min(kernel.confidentiality_limit());
        Ok(Self {
            sealer: Sealer::new(secrets.tx.try_into()?, key_limit),
            opener: Opener::new(secrets.rx.try_into()?),
            kernel,
            key_limit,
            has_closed: false,
            fragment: Vec::new(),
            idle: 0,
        })
    }

    /// Lets payload be appended to `out` as records.
    pub(super) fn sealing<'a>(&'a mut self, out: &'a mut Vec<u8>) -> Result<Sealing<'a>, TlsError> {
        if self.has_closed {
            return Err(TlsError::Closed);
        }
        Ok(Sealing {
            records: self,
            out,
            start: None,
        })
    }

    /// Appends the message that nothing more follows.
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.has_closed {
            return Ok(());
        }
        self.has_closed = true;
        let alert = [WARNING, AlertDescription::CloseNotify.into()];
        self.seal_control(ContentType::Alert, &alert, out)
    }

    /// Appends the alert that tells the peer about `error`, unless it was the peer that told us.
    pub(super) fn alert(&mut self, error: &TlsError, out: &mut Vec<u8>) {
        if self.has_closed || matches!(error, TlsError::AlertReceived(_)) {
            return;
        }
        self.has_closed = true;
        let alert = if let TlsError::Violation(violation) = error {
            violation.alert()
        } else {
            AlertDescription::InternalError
        };
        // The connection fails either way.
        let _ = self.seal_control(ContentType::Alert, &[FATAL, alert.into()], out);
    }

    /// Opens every complete record at the front of `received` and pushes its payload, a slice of `received`.
    ///
    /// Returns whether the peer has said that it closes. The answers that TLS has to send come to `answers`.
    pub(super) fn open(
        &mut self,
        received: &mut BytesMut,
        answers: &mut Vec<u8>,
        payloads: &mut Vec<Bytes>,
    ) -> Result<bool, TlsError> {
        while let Some(len) = record_len(received)? {
            if len > received.len() {
                break;
            }
            let mut record = received.split_to(len);
            let (kind, content) = self.opener.open(&mut record)?;
            if !self.fragment.is_empty() && kind != ContentType::Handshake {
                return Err(Violation::InterruptedMessage.into());
            }
            if kind == ContentType::ApplicationData && !content.is_empty() {
                self.idle = 0;
                record.truncate(content.end);
                record.advance(HEADER);
                payloads.push(record.freeze());
                continue;
            }
            self.idle += 1;
            if self.idle > MAX_IDLE_RECORDS {
                return Err(Violation::TooManyIdleRecords.into());
            }
            let content = record.get(content).unwrap_or_default();
            match kind {
                ContentType::ApplicationData => {}
                ContentType::Handshake => self.read_messages(content, answers)?,
                ContentType::Alert => return read_alert(content).map(|()| true),
                ContentType::ChangeCipherSpec
                | ContentType::Heartbeat
                | ContentType::Unknown(_)
                | _ => return Err(Violation::UnexpectedContent.into()),
            }
        }
        Ok(false)
    }

    /// Reads the handshake messages that end in this record, and keeps the front of one that doesn't.
    fn read_messages(&mut self, content: &[u8], answers: &mut Vec<u8>) -> Result<(), TlsError> {
        if content.is_empty() {
            return Err(Violation::EmptyRecord.into());
        }
        let mut messages = std::mem::take(&mut self.fragment);
        messages.extend_from_slice(content);
        let mut rest = messages.as_slice();
        while let Some((&[kind, high, middle, low], after)) =
            rest.split_first_chunk::<MESSAGE_HEADER>()
        {
            let len =
                usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
            self.check_message(kind, len)?;
            let Some((body, after)) = after.split_at_checked(len) else {
                break;
            };
            rest = after;
            if let (KEY_UPDATE, &[request]) = (kind, body) {
                if !rest.is_empty() {
                    return Err(Violation::UnalignedKeyUpdate.into());
                }
                self.follow_key_update(request, answers)?;
            }
        }
        self.fragment = rest.to_vec();
        Ok(())
    }

    /// Refuses by its header a message that nobody may send to us. Tickets are let pass, but not looked at.
    fn check_message(&self, kind: u8, len: usize) -> Result<(), Violation> {
        match (kind, &self.kernel) {
            (KEY_UPDATE, _) if len == 1 => Ok(()),
            (KEY_UPDATE, _) => Err(Violation::Undecodable),
            (NEW_SESSION_TICKET, Kernel::Client(_)) if len <= MAX_MESSAGE => Ok(()),
            (NEW_SESSION_TICKET, Kernel::Client(_)) => Err(Violation::Undecodable),
            _ => Err(Violation::UnexpectedContent),
        }
    }

    fn follow_key_update(&mut self, request: u8, answers: &mut Vec<u8>) -> Result<(), TlsError> {
        if request > UPDATE_REQUESTED {
            return Err(Violation::IllegalParameter.into());
        }
        self.opener = Opener::new(self.kernel.next_receiving_keys()?);
        // An answer that hasn't left yet answers this request as well: the queue stays at one.
        if request == UPDATE_REQUESTED && answers.is_empty() && !self.has_closed {
            self.update_sending_key(UPDATE_NOT_REQUESTED, answers)?;
        }
        Ok(())
    }

    /// Appends a KeyUpdate; what is sealed after it has the next keys.
    pub(super) fn update_sending_key(
        &mut self,
        request: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let message = [KEY_UPDATE, 0, 0, 1, request];
        let next = Sealer::new(self.kernel.next_sending_keys()?, self.key_limit);
        self.seal_control(ContentType::Handshake, &message, out)?;
        self.sealer = next;
        Ok(())
    }

    pub(super) fn seal_control(
        &mut self,
        kind: ContentType,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let start = Sealer::begin(out);
        out.extend_from_slice(content);
        self.sealer.end(kind, start, out)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Records")
            .field("sealer", &self.sealer)
            .field("opener", &self.opener)
            .finish_non_exhaustive()
    }
}

/// Records at the end of the caller's buffer, the last of which is still being filled.
///
/// Payload that wasn't sealed by [`Sealing::finish`] is taken out of the buffer again.
pub(crate) struct Sealing<'a> {
    records: &'a mut Records,
    out: &'a mut Vec<u8>,
    /// Start of the record that is being filled.
    start: Option<usize>,
}

crate::opaque::opaque_debug!(Sealing<'_>);

impl Sealing<'_> {
    /// Appends `part`, which isn't split if it fits into a record: if not into this one, then into the next.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), TlsError> {
        for part in part.chunks(MAX_CONTENT) {
            if let Some(start) = self.start
                && self.out.len() - start - HEADER + part.len() > MAX_CONTENT
            {
                self.end_record()?;
            }
            if self.start.is_none() {
                if self.records.sealer.is_worn() {
                    self.records
                        .update_sending_key(UPDATE_NOT_REQUESTED, self.out)?;
                }
                self.start = Some(Sealer::begin(self.out));
            }
            self.out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Bytes in the buffer so far.
    pub(crate) fn size(&self) -> usize {
        self.out.len()
    }

    /// Seals the last record.
    pub(crate) fn finish(mut self) -> Result<(), TlsError> {
        self.end_record()
    }

    fn end_record(&mut self) -> Result<(), TlsError> {
        let Some(start) = self.start.take() else {
            return Ok(());
        };
        self.records
            .sealer
            .end(ContentType::ApplicationData, start, self.out)
    }
}

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        if let Some(start) = self.start {
            self.out.truncate(start);
        }
    }
}

/// `Ok` is the proper end.
fn read_alert(content: &[u8]) -> Result<(), TlsError> {
    match content {
        [] => Err(Violation::EmptyRecord.into()),
        &[_, description] => {
            let description = AlertDescription::from(description);
            if description == AlertDescription::CloseNotify {
                Ok(())
            } else {
                Err(TlsError::AlertReceived(description))
            }
        }
        _ => Err(Violation::Undecodable.into()),
    }
}
