//! The first line of HTTP in the clear, as far as it takes to tell it from other protocols.

/// Bytes of a method: the longest that is registered, `UPDATEREDIRECTREF`, has 17.
const MAX_METHOD: usize = 24;
/// What a target in absolute form begins with.
const ABSOLUTE: &[u8] = b"http";

/// The beginning of a line, given piece by piece.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Bytes of the method so far.
    method: usize,
    /// Still the beginning of `CONNECT`, whose target is an authority.
    connect: bool,
    /// The method has ended; bytes of [`ABSOLUTE`] since then.
    target: Option<usize>,
}

const CONNECT: &[u8] = b"CONNECT";

impl Line {
    /// True once it is HTTP, false once it can't be.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<bool> {
        bytes.iter().find_map(|byte| self.next(*byte))
    }

    fn next(&mut self, byte: u8) -> Option<bool> {
        let Some(absolute) = &mut self.target else {
            return self.of_method(byte);
        };
        match byte {
            b'/' | b'*' if *absolute == 0 => Some(true),
            _ if self.connect => Some(byte.is_ascii_alphanumeric() || byte == b'['),
            _ if ABSOLUTE.get(*absolute) == Some(&byte.to_ascii_lowercase()) => {
                *absolute += 1;
                (*absolute == ABSOLUTE.len()).then_some(true)
            }
            _ => Some(false),
        }
    }

    fn of_method(&mut self, byte: u8) -> Option<bool> {
        match byte {
            b' ' if self.method > 0 => {
                self.connect &= self.method == CONNECT.len();
                self.target = Some(0);
                None
            }
            b'A'..=b'Z' | b'-' if self.method < MAX_METHOD => {
                let is_of_connect = CONNECT.get(self.method) == Some(&byte);
                self.connect = is_of_connect && (self.connect || self.method == 0);
                self.method += 1;
                None
            }
            _ => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_from_what_only_looks_like_it() {
        for (bytes, is_http) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(true)),
            (b"OPTIONS * HTTP/1.1", Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(true)),
            (b"UPDATEREDIRECTREF /", Some(true)),
            (b"M-SEARCH * HTTP/1.1", Some(true)),
            (b"GET http://a.example/ HTTP/1.1", Some(true)),
            (b"GET HTTPS://a.example/", Some(true)),
            (b"CONNECT a.example:443 HTTP/1.1", Some(true)),
            (b"CONNECT [2001:db8::1]:443", Some(true)),
            (b"CONNEC a", Some(false)),
            (b"CONNECTS a", Some(false)),
            (b"EHLO host.example", Some(false)),
            (b"HELO http-host", Some(true)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(false)),
            (b"QUIT\r\n", Some(false)),
            (b"get / HTTP/1.1", Some(false)),
            (b" GET /", Some(false)),
            (b"\0", Some(false)),
            (b"GET", None),
            (b"GET ", None),
            (b"GET ht", None),
            (b"", None),
        ] {
            assert_eq!(Line::default().take(bytes), is_http, "{bytes:?}");
            let mut by_bytes = Line::default();
            let found = bytes.iter().find_map(|byte| by_bytes.take(&[*byte]));
            assert_eq!(found, is_http, "{bytes:?} by bytes");
        }
        assert_eq!(Line::default().take(&[b'A'; MAX_METHOD + 1]), Some(false));
    }
}
