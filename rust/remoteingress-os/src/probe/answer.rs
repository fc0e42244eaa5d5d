//! Whether the answer to an HTTP probe is the one that is expected. Pure: bytes in, in any pieces; a verdict out.
//!
//! An answer is good once it has an accepted status and has ended, or once the text has been found in its body; of a long
//! body the first 16 KiB are looked at. So a target that says 200 and then falls silent isn't taken for a healthy one.
//! A redirect is a status like any other.

use std::ops::RangeInclusive;

/// Bytes of a status line: a longer one comes from something else.
const MAX_STATUS_LINE: usize = 1_024;
/// Bytes of all heads of an answer, interim ones included; what most servers allow a request.
const MAX_HEADS: usize = 16 * 1_024;
/// Bytes that are looked at after the head: enough for a page that says how its server is.
const MAX_BODY: usize = 16 * 1_024;
/// Bytes of an unexpected answer that are told.
const MAX_TOLD: usize = 32;

/// The reason why an answer isn't good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// None came, or not all of it, before the deadline.
    #[error("no whole answer in time, {received} bytes of it")]
    Timeout {
        /// Bytes that came.
        received: usize,
    },
    /// A machine said that nobody listens there.
    #[error("refused")]
    Refused,
    /// The status is none of the accepted ones.
    #[error("status {0}")]
    Status(u16),
    /// The text wasn't found.
    #[error("the text isn't in the body's first 16 KiB")]
    Text,
    /// It is no HTTP/1 answer, or the datagram begins otherwise. Its begin, escaped.
    #[error("an answer that wasn't expected: \"{0}\"")]
    Reply(String),
    /// The connection ended before the answer did.
    #[error("the connection ended after {received} bytes, before the answer")]
    Closed {
        /// Bytes that came.
        received: usize,
    },
    /// The status line is longer than 1 KiB, or the head longer than 16 KiB.
    #[error("the head is too long")]
    TooLong,
}

/// An answer as far as it has come.
#[derive(Debug)]
pub(super) struct HttpAnswer<'a> {
    statuses: &'a RangeInclusive<u16>,
    text: &'a [u8],
    part: Part,
    /// The line that has begun.
    line: Vec<u8>,
    /// Bytes of heads and of what came after them.
    heads: usize,
    body: usize,
    /// What of the body can be part of the text; empty while no text is looked for.
    looked_at: Vec<u8>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Part {
    StatusLine,
    /// A field of the head, or the empty line after them.
    Field {
        status: u16,
        length: Length,
    },
    /// The body, or one chunk of it. Without a number it lasts until the connection ends.
    Data {
        left: Option<u64>,
        is_chunk: bool,
    },
    ChunkSize,
    /// The empty line after a chunk.
    ChunkEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    UntilClosed,
    Bytes(u64),
    Chunked,
}

type Verdict = Result<(), Flaw>;

/// The start of an answer that isn't the expected one, as it may be told.
pub(super) fn unexpected(answer: &[u8]) -> Flaw {
    let told = answer.get(..MAX_TOLD).unwrap_or(answer);
    Flaw::Reply(told.escape_ascii().to_string())
}

impl<'a> HttpAnswer<'a> {
    /// Of an answer whose status is in `statuses` and whose body has `text`, which is empty where none is looked for.
    pub(super) fn new(statuses: &'a RangeInclusive<u16>, text: &'a [u8]) -> Self {
        Self {
            statuses,
            text,
            part: Part::StatusLine,
            line: Vec::new(),
            heads: 0,
            body: 0,
            looked_at: Vec::new(),
        }
    }

    /// Bytes that have been taken.
    pub(super) fn received(&self) -> usize {
        self.heads + self.body
    }

    /// Takes the next bytes; gives the verdict once they are enough for one.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Option<Verdict> {
        while !bytes.is_empty() {
            let (taken, verdict) = match self.part {
                Part::Data { left, is_chunk } => self.take_data(bytes, left, is_chunk),
                Part::StatusLine | Part::Field { .. } | Part::ChunkSize | Part::ChunkEnd => {
                    self.take_line(bytes)
                }
            };
            if verdict.is_some() {
                return verdict;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        None
    }

    /// No more bytes will come.
    pub(super) fn end(&self) -> Verdict {
        match self.part {
            Part::Data { left: None, .. } => self.without_text(),
            Part::StatusLine
            | Part::Field { .. }
            | Part::Data { .. }
            | Part::ChunkSize
            | Part::ChunkEnd => Err(Flaw::Closed {
                received: self.received(),
            }),
        }
    }

    /// The verdict over an answer whose body is at its end, or has been looked at as far as it is.
    fn without_text(&self) -> Verdict {
        if self.text.is_empty() {
            Ok(())
        } else {
            Err(Flaw::Text)
        }
    }

    fn take_data(
        &mut self,
        bytes: &[u8],
        left: Option<u64>,
        is_chunk: bool,
    ) -> (usize, Option<Verdict>) {
        let room = MAX_BODY - self.body;
        let in_body = left.map_or(room, |left| usize::try_from(left).unwrap_or(room));
        let length = bytes.len().min(room).min(in_body);
        let (data, _) = bytes.split_at(length);
        self.body += length;
        if self.finds_text(data) {
            return (length, Some(Ok(())));
        }
        let left = left.map(|left| left - length as u64);
        self.part = match (left, is_chunk) {
            (Some(0), true) => Part::ChunkEnd,
            (Some(0), false) => return (length, Some(self.without_text())),
            (left, is_chunk) => Part::Data { left, is_chunk },
        };
        (length, self.after_room())
    }

    fn finds_text(&mut self, data: &[u8]) -> bool {
        if self.text.is_empty() {
            return false;
        }
        // What came before may hold its begin.
        let from = self.looked_at.len().saturating_sub(self.text.len() - 1);
        self.looked_at.extend_from_slice(data);
        let rest = self.looked_at.get(from..).unwrap_or_default();
        rest.windows(self.text.len()).any(|part| part == self.text)
    }

    /// The verdict if as much of the body as is looked at has come.
    fn after_room(&self) -> Option<Verdict> {
        (self.body >= MAX_BODY).then(|| self.without_text())
    }

    fn take_line(&mut self, bytes: &[u8]) -> (usize, Option<Verdict>) {
        let is_head = matches!(self.part, Part::StatusLine | Part::Field { .. });
        let room = match self.part {
            Part::StatusLine => (MAX_STATUS_LINE - self.line.len()).min(MAX_HEADS - self.heads),
            Part::Field { .. } => MAX_HEADS - self.heads,
            Part::Data { .. } | Part::ChunkSize | Part::ChunkEnd => MAX_BODY - self.body,
        };
        let part = bytes.get(..room).unwrap_or(bytes);
        let end = part.iter().position(|byte| *byte == b'\n');
        let (line, _) = part.split_at(end.map_or(part.len(), |end| end + 1));
        self.line.extend_from_slice(line);
        if is_head {
            self.heads += line.len();
        } else {
            self.body += line.len();
        }
        let verdict = if end.is_some() {
            let mut line = std::mem::take(&mut self.line);
            line.pop();
            line.pop_if(|last| *last == b'\r');
            self.end_line(&line).or_else(|| self.after_room())
        } else if let Some(verdict) = self.check_begin() {
            Some(verdict)
        } else if is_head && line.len() == room {
            Some(Err(Flaw::TooLong))
        } else {
            self.after_room()
        };
        (line.len(), verdict)
    }

    /// What is no HTTP shows soon, without an end of its first line.
    fn check_begin(&self) -> Option<Verdict> {
        let is_other = matches!(self.part, Part::StatusLine)
            && !self.line.iter().zip(b"HTTP/1.").all(|(is, be)| is == be);
        is_other.then(|| Err(unexpected(&self.line)))
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Verdict> {
        match self.part {
            Part::StatusLine => {
                let Some(status) = status(line) else {
                    return Some(Err(unexpected(line)));
                };
                if !is_interim(status) && !self.statuses.contains(&status) {
                    return Some(Err(Flaw::Status(status)));
                }
                self.part = Part::Field {
                    status,
                    length: Length::UntilClosed,
                };
                None
            }
            Part::Field { status, .. } if line.is_empty() && is_interim(status) => {
                self.part = Part::StatusLine;
                None
            }
            Part::Field { status, length } if line.is_empty() => self.end_head(status, length),
            Part::Field { status, length } => match length_after(length, line) {
                Some(length) => {
                    self.part = Part::Field { status, length };
                    None
                }
                None => Some(Err(unexpected(line))),
            },
            Part::ChunkSize => match chunk_size(line) {
                Some(0) => Some(self.without_text()),
                Some(left) => {
                    let (left, is_chunk) = (Some(left), true);
                    self.part = Part::Data { left, is_chunk };
                    None
                }
                None => Some(Err(unexpected(line))),
            },
            Part::ChunkEnd if line.is_empty() => {
                self.part = Part::ChunkSize;
                None
            }
            Part::ChunkEnd | Part::Data { .. } => Some(Err(unexpected(line))),
        }
    }

    fn end_head(&mut self, status: u16, length: Length) -> Option<Verdict> {
        // RFC 9112, section 6.3: these have no body, whatever their fields say.
        let is_without = matches!(status, 101 | 204 | 304);
        let left = match length {
            _ if is_without => return Some(self.without_text()),
            Length::Bytes(0) => return Some(self.without_text()),
            Length::Chunked => {
                self.part = Part::ChunkSize;
                return None;
            }
            Length::Bytes(left) => Some(left),
            Length::UntilClosed => None,
        };
        let is_chunk = false;
        self.part = Part::Data { left, is_chunk };
        None
    }
}

/// True for an answer after which another one comes. After 101 another protocol would, so it is judged.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

fn status(line: &[u8]) -> Option<u16> {
    let [minor, b' ', digits @ ..] = line.strip_prefix(b"HTTP/1.")? else {
        return None;
    };
    let (digits, rest) = digits.split_at_checked(3)?;
    let is_whole = minor.is_ascii_digit() && matches!(rest, [] | [b' ', ..]);
    let status = number(digits, 10).filter(|status| is_whole && *status >= 100)?;
    u16::try_from(status).ok()
}

/// The body's length after one more field; none if that contradicts itself or another.
fn length_after(length: Length, field: &[u8]) -> Option<Length> {
    let Some(colon) = field.iter().position(|byte| *byte == b':') else {
        return Some(length);
    };
    let (name, value) = field.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        let last = value.rsplit(|byte| *byte == b',').next()?;
        let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Some(if is_chunked { Length::Chunked } else { length });
    }
    if !name.eq_ignore_ascii_case(b"content-length") {
        return Some(length);
    }
    let bytes = number(value, 10)?;
    match length {
        Length::Chunked => Some(length),
        Length::Bytes(other) if other != bytes => None,
        Length::Bytes(_) | Length::UntilClosed => Some(Length::Bytes(bytes)),
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?;
    number(size.trim_ascii(), 16)
}

/// Of digits only: no sign, and at least one.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_number = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests;
