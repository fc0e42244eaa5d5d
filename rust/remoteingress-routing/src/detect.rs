//! What a connection speaks, by its first bytes.

mod hello;
mod http;

pub use hello::{ClientHello, HelloError, MAX_HELLO};

use hello::{HEADER as HANDSHAKE_HEADER, Message};

/// Bytes ahead of a record's contents (RFC 8446, 5.1).
const RECORD_HEADER: usize = 5;
/// Contents of a record that isn't encrypted (the same).
const MAX_RECORD: usize = 16 * 1024;
/// Content type of handshake messages (the same).
const HANDSHAKE: u8 = 22;

/// What a connection speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS, and what its client asks for.
    Tls(ClientHello),
    /// HTTP in the clear, of version 1 or 2.
    Http,
    /// Neither.
    Other,
}

/// What the bytes so far show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Nothing for certain.
    NeedsMore,
    /// This.
    Protocol(Protocol),
    /// It begins as TLS, and is none that a server could answer.
    Refused(HelloError),
}

/// Looks at the first bytes of one connection, in pieces of any size. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct Detector {
    state: State,
    /// Bytes so far.
    taken: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Begin,
    /// Of HTTP's first line, or of something else.
    Line(http::Line),
    Records(Records),
    /// It has been told.
    End,
}

/// A hello that is spread over records.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    /// Bytes that the current record still has.
    left: usize,
    message: Vec<u8>,
}

impl Detector {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the connection. Once it has shown what it is, nothing is to be given any more.
    pub fn take(&mut self, bytes: &[u8]) -> Detected {
        self.taken = self.taken.saturating_add(bytes.len());
        let detected = match std::mem::take(&mut self.state) {
            State::Begin => self.begin(bytes),
            State::Line(line) => self.line(line, bytes),
            State::Records(records) => self.records(records, bytes),
            State::End => Detected::Protocol(Protocol::Other),
        };
        if detected != Detected::NeedsMore {
            self.state = State::End;
        }
        detected
    }

    /// Bytes that it was given.
    pub fn taken(&self) -> usize {
        self.taken
    }

    fn begin(&mut self, bytes: &[u8]) -> Detected {
        match bytes.first() {
            None => Detected::NeedsMore,
            Some(&HANDSHAKE) => {
                whole_hello(bytes).unwrap_or_else(|| self.records(Records::default(), bytes))
            }
            Some(_) => self.line(http::Line::default(), bytes),
        }
    }

    fn line(&mut self, mut line: http::Line, bytes: &[u8]) -> Detected {
        match line.take(bytes) {
            Some(true) => Detected::Protocol(Protocol::Http),
            Some(false) => Detected::Protocol(Protocol::Other),
            None => {
                self.state = State::Line(line);
                Detected::NeedsMore
            }
        }
    }

    fn records(&mut self, mut records: Records, bytes: &[u8]) -> Detected {
        match records.take(bytes) {
            Progress::NeedsMore if self.taken >= MAX_HELLO => {
                Detected::Refused(HelloError::TooLarge)
            }
            Progress::NeedsMore => {
                self.state = State::Records(records);
                Detected::NeedsMore
            }
            Progress::NoTls => Detected::Protocol(Protocol::Other),
            Progress::Hello(hello) => of_hello(hello),
        }
    }
}

fn of_hello(hello: Result<ClientHello, HelloError>) -> Detected {
    match hello {
        Ok(hello) => Detected::Protocol(Protocol::Tls(hello)),
        Err(error) => Detected::Refused(error),
    }
}

/// The usual case: the first piece has a record that has the whole hello, which is read where it stands.
fn whole_hello(bytes: &[u8]) -> Option<Detected> {
    let (header, contents) = bytes.split_at_checked(RECORD_HEADER)?;
    let length = record_length(header)?.ok()?;
    let contents = contents.get(..length)?;
    match Message::read(contents) {
        Message::Whole(body) => Some(of_hello(ClientHello::read(body))),
        Message::NeedsMore | Message::Other | Message::TooLarge => None,
    }
}

/// Length of the contents of a record with this header; none if that is of no handshake.
fn record_length(header: &[u8]) -> Option<Result<usize, HelloError>> {
    let &[kind, major, _, high, low] = header else {
        return None;
    };
    if (kind, major) != (HANDSHAKE, 3) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Nobody may send an empty one, with which a hello would never end (RFC 8446, 5.1).
    let is_sound = (1..=MAX_RECORD).contains(&length);
    Some(is_sound.then_some(length).ok_or(HelloError::Record))
}

enum Progress {
    NeedsMore,
    /// The first record is none of TLS.
    NoTls,
    Hello(Result<ClientHello, HelloError>),
}

impl Records {
    fn take(&mut self, mut bytes: &[u8]) -> Progress {
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = RECORD_HEADER - self.header.len();
                let (of_header, rest) = bytes.split_at(missing.min(bytes.len()));
                self.header.extend_from_slice(of_header);
                bytes = rest;
                if let Some(progress) = self.check_header() {
                    return progress;
                }
            }
            let (of_message, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.message.extend_from_slice(of_message);
            self.left -= of_message.len();
            bytes = rest;
            match Message::read(&self.message) {
                Message::NeedsMore => {}
                Message::Whole(body) => return Progress::Hello(ClientHello::read(body)),
                Message::Other => return Progress::Hello(Err(HelloError::NoHello)),
                Message::TooLarge => return Progress::Hello(Err(HelloError::TooLarge)),
            }
        }
        Progress::NeedsMore
    }

    /// Looks at what there is of a header; some if that is the end.
    fn check_header(&mut self) -> Option<Progress> {
        let is_first = self.message.is_empty();
        // What isn't TLS is told with the first byte that shows it.
        let is_sound = self.header.first().is_none_or(|kind| *kind == HANDSHAKE)
            && self.header.get(1).is_none_or(|major| *major == 3);
        if !is_sound {
            return Some(if is_first {
                Progress::NoTls
            } else {
                Progress::Hello(Err(HelloError::Record))
            });
        }
        match record_length(&self.header)? {
            Ok(length) => {
                self.left = length;
                self.header.clear();
                None
            }
            Err(error) => Some(Progress::Hello(Err(error))),
        }
    }
}

const _: () = assert!(HANDSHAKE_HEADER < MAX_RECORD);
