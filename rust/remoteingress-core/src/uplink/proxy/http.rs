//! HTTP CONNECT (RFC 9110 section 9.3.6) with Basic (RFC 7617).

use super::exchange::{Destination, Login, Outgoing, Progress, Step};
use super::fault::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const BEGINNING: &[u8] = b"HTTP/1.";
/// Characters of a status line that are shown.
const MAX_PHRASE: usize = 100;
/// Ways to log in that an error may name: any other word might be the login.
const SCHEMES: [&str; 6] = ["Basic", "Digest", "NTLM", "Negotiate", "Kerberos", "Bearer"];

/// A request for a connection.
#[derive(Debug)]
pub(super) struct Connect {
    login: Option<Login>,
}

impl Connect {
    pub(super) fn begin(peer: &Destination, login: Option<Login>) -> (Self, Outgoing) {
        let mut request = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n").into_bytes();
        // It never grows, which would leave a copy of the password behind.
        request.reserve_exact(1_024);
        let mut request = Zeroizing::new(request);
        if let Some(login) = &login {
            request.extend_from_slice(b"Proxy-Authorization: Basic ");
            request.extend_from_slice(basic(login).as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        (Self { login }, request)
    }

    /// Reads the answer, once it is whole; interim ones are passed over.
    pub(super) fn read(&self, received: &[u8]) -> Result<Option<Step>, Fault> {
        let mut consumed = 0;
        loop {
            let rest = received.get(consumed..).unwrap_or_default();
            let compared = rest.len().min(BEGINNING.len());
            if rest.get(..compared) != BEGINNING.get(..compared) {
                return Err(Fault::Unintelligible);
            }
            let Some(length) = head_length(rest) else {
                return Ok(None);
            };
            consumed += length;
            let head = rest.get(..length).unwrap_or_default();
            match self.judge(head)? {
                Verdict::Interim => {}
                Verdict::Open => {
                    let progress = Progress::Open;
                    return Ok(Some(Step { progress, consumed }));
                }
            }
        }
    }

    fn judge(&self, head: &[u8]) -> Result<Verdict, Fault> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        // "HTTP/1.1 200 Connection established"; the phrase may be missing.
        let line = String::from_utf8_lossy(line);
        let mut parts = line.trim_end().splitn(3, ' ').skip(1);
        let code = parts.next().unwrap_or_default();
        if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::Unintelligible);
        }
        match code.as_bytes() {
            [b'2', ..] => Ok(Verdict::Open),
            [b'1', ..] if code != "101" => Ok(Verdict::Interim),
            // tinyproxy answers a wrong password with 401.
            b"407" | b"401" => {
                let schemes = schemes(lines);
                Err(if self.login.is_some() {
                    Fault::LoginRefused(schemes)
                } else {
                    Fault::LoginMissing(schemes)
                })
            }
            _ => {
                let phrase = self.shown(parts.next().unwrap_or_default());
                Err(Fault::Refused(
                    format!("{code} {phrase}").trim_end().to_owned(),
                ))
            }
        }
    }

    /// As much of a phrase as a log may show: a proxy might repeat the login.
    fn shown(&self, phrase: &str) -> String {
        let repeats = |login: &Login| {
            let parts = [login.user.expose(), login.password.expose()];
            parts
                .iter()
                .any(|part| !part.is_empty() && phrase.contains(part))
                || phrase.contains(basic(login).as_str())
        };
        if self.login.as_ref().is_some_and(repeats) {
            return String::new();
        }
        let is_shown = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
        phrase.chars().filter(is_shown).take(MAX_PHRASE).collect()
    }
}

enum Verdict {
    Interim,
    Open,
}

fn basic(login: &Login) -> Zeroizing<String> {
    let (user, password) = (login.user.expose(), login.password.expose());
    let plain = Zeroizing::new([user, ":", password].concat());
    Zeroizing::new(STANDARD.encode(plain.as_bytes()))
}

/// The length of a head with its empty line, if that has come. A line may end with a line feed alone (RFC 9112 section 2.2).
fn head_length(received: &[u8]) -> Option<usize> {
    let mut is_empty = false;
    for (index, byte) in received.iter().enumerate() {
        match byte {
            b'\n' if is_empty => return Some(index + 1),
            b'\n' => is_empty = true,
            b'\r' => {}
            _ => is_empty = false,
        }
    }
    None
}

/// The ways to log in that the header's lines name.
fn schemes<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<&'static str> {
    let scheme = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':')?;
        let names = ["proxy-authenticate", "www-authenticate"];
        if !names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return None;
        }
        let word = value.split_whitespace().next()?;
        SCHEMES
            .into_iter()
            .find(|scheme| scheme.eq_ignore_ascii_case(word))
    };
    let mut found: Vec<&'static str> = lines.filter_map(scheme).collect();
    found.dedup();
    found.truncate(SCHEMES.len());
    found
}
