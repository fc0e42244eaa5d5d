//! SOCKS5 (RFC 1928) with user and password (RFC 1929). The proxy looks names up.

use super::exchange::{Destination, Login, Outgoing, Progress, Step};
use super::fault::Fault;
use std::net::IpAddr;
use zeroize::Zeroizing;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// A request for a connection.
#[derive(Debug)]
pub(super) struct Socks5 {
    peer: Destination,
    login: Option<Login>,
    awaited: Awaited,
}

#[derive(Clone, Copy, Debug)]
enum Awaited {
    Method,
    LoginStatus,
    Reply,
}

impl Socks5 {
    pub(super) fn begin(peer: Destination, login: Option<Login>) -> (Self, Outgoing) {
        let methods: &[u8] = if login.is_some() {
            &[VERSION, 2, NO_LOGIN, USER_AND_PASSWORD]
        } else {
            &[VERSION, 1, NO_LOGIN]
        };
        let socks5 = Self {
            peer,
            login,
            awaited: Awaited::Method,
        };
        (socks5, Zeroizing::new(methods.to_vec()))
    }

    pub(super) fn read(&mut self, received: &[u8]) -> Result<Option<Step>, Fault> {
        match self.awaited {
            Awaited::Method => self.method(received),
            Awaited::LoginStatus => self.login_status(received),
            Awaited::Reply => reply(received),
        }
    }

    fn method(&mut self, received: &[u8]) -> Result<Option<Step>, Fault> {
        if received.first().is_some_and(|version| *version != VERSION) {
            return Err(Fault::Unintelligible);
        }
        let Some(method) = received.get(1) else {
            return Ok(None);
        };
        let progress = match (*method, &self.login) {
            (NO_LOGIN, _) => self.request(),
            (USER_AND_PASSWORD, Some(login)) => {
                self.awaited = Awaited::LoginStatus;
                Progress::Send(login_message(login))
            }
            (NONE_ACCEPTABLE, Some(_)) => return Err(Fault::LoginRefused(Vec::new())),
            (NONE_ACCEPTABLE, None) => return Err(Fault::LoginMissing(Vec::new())),
            _ => return Err(Fault::Unintelligible),
        };
        let consumed = 2;
        Ok(Some(Step { progress, consumed }))
    }

    fn login_status(&mut self, received: &[u8]) -> Result<Option<Step>, Fault> {
        match received {
            [LOGIN_VERSION, 0, ..] => {
                let progress = self.request();
                let consumed = 2;
                Ok(Some(Step { progress, consumed }))
            }
            [LOGIN_VERSION, _, ..] => Err(Fault::LoginRefused(Vec::new())),
            [] | [LOGIN_VERSION] => Ok(None),
            [..] => Err(Fault::Unintelligible),
        }
    }

    fn request(&mut self) -> Progress {
        self.awaited = Awaited::Reply;
        let mut request = vec![VERSION, CONNECT, 0];
        match self.peer.host.address() {
            Some(IpAddr::V4(address)) => {
                request.push(ADDRESS_V4);
                request.extend_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                request.push(ADDRESS_V6);
                request.extend_from_slice(&address.octets());
            }
            None => {
                request.push(NAME);
                push_short(&mut request, self.peer.host.bare().as_bytes());
            }
        }
        request.extend_from_slice(&self.peer.port.to_be_bytes());
        Progress::Send(Zeroizing::new(request))
    }
}

fn login_message(login: &Login) -> Outgoing {
    // It never grows, which would leave a copy of the password behind.
    let mut message = Zeroizing::new(Vec::with_capacity(3 + 2 * usize::from(u8::MAX)));
    message.push(LOGIN_VERSION);
    push_short(&mut message, login.user.expose().as_bytes());
    push_short(&mut message, login.password.expose().as_bytes());
    message
}

/// A byte with the length, and as much as that can name: a name has at most 253 bytes, and the configuration bounds logins.
fn push_short(message: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    message.push(length);
    message.extend_from_slice(bytes.get(..length.into()).unwrap_or_default());
}

fn reply(received: &[u8]) -> Result<Option<Step>, Fault> {
    match received {
        [VERSION, 0, ..] => {}
        // The rest of a refusal may never come.
        [VERSION, code, ..] => return Err(Fault::Refused(words(*code))),
        [] | [VERSION] => return Ok(None),
        [..] => return Err(Fault::Unintelligible),
    }
    let (Some(kind), first) = (received.get(3), received.get(4)) else {
        return Ok(None);
    };
    let address = match (*kind, first) {
        (ADDRESS_V4, _) => 4,
        (ADDRESS_V6, _) => 16,
        (NAME, Some(length)) => 1 + usize::from(*length),
        (NAME, None) => return Ok(None),
        _ => return Err(Fault::Unintelligible),
    };
    let consumed = 4 + address + 2;
    Ok((received.len() >= consumed).then_some(Step {
        progress: Progress::Open,
        consumed,
    }))
}

/// The reply in words (RFC 1928 section 6).
fn words(code: u8) -> String {
    match code {
        1 => "general failure".to_owned(),
        2 => "not allowed by the rules".to_owned(),
        3 => "network unreachable".to_owned(),
        4 => "host unreachable".to_owned(),
        5 => "connection refused".to_owned(),
        6 => "TTL expired".to_owned(),
        7 => "command not supported".to_owned(),
        8 => "address type not supported".to_owned(),
        other => format!("reply {other}"),
    }
}
