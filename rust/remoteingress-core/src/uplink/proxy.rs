//! Asks a proxy for a connection to the peer: bytes in, bytes out.
//!
//! [`Opening::begin`] gives the first bytes to send; [`Opening::handle`] takes what has come and says what is next. The
//! answers of a proxy are bounded by [`MAX_ANSWER`], and nothing of a login gets into an error.

mod http;
mod socks5;
#[cfg(test)]
mod tests;

use super::failure::Failure;
use http::Connect;
use remoteingress_config::error::ErrorCode;
use remoteingress_config::{DialProxy, ProxyKind};
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::secret::Secret;
use socks5::Socks5;
use std::fmt;
use zeroize::Zeroizing;

/// The most that a proxy may say until the connection is open, in bytes.
pub const MAX_ANSWER: usize = 8 * 1_024;

/// Bytes for the proxy, which may hold a password.
pub type Outgoing = Zeroizing<Vec<u8>>;

/// The peer to which the proxy is to connect.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// User and password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: Secret,
    /// The password.
    pub password: Secret,
}

/// A connection that a proxy is asked for.
#[derive(Debug)]
pub struct Opening {
    exchange: Exchange,
    received: Vec<u8>,
    /// Bytes of earlier answers.
    consumed: usize,
}

#[derive(Debug)]
enum Exchange {
    Http(Connect),
    Socks5(Socks5),
}

/// The next step.
#[derive(Debug)]
pub enum Progress {
    /// The answer isn't whole yet.
    NeedMore,
    /// These bytes are to be sent.
    Send(Outgoing),
    /// From here on the bytes are the peer's.
    Open,
}

/// A step that an answer leads to, and the bytes that the answer takes.
struct Step {
    progress: Progress,
    consumed: usize,
}

/// The reason why the proxy gives no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says no, in these words.
    Refused(String),
    /// It wants a login, and there is none. The schemes are those of HTTP that it names.
    LoginMissing(Vec<&'static str>),
    /// It doesn't accept the login. The schemes are those of HTTP that it names.
    LoginRefused(Vec<&'static str>),
    /// It speaks something else.
    Unintelligible,
    /// Its answer is longer than [`MAX_ANSWER`].
    TooLong,
    /// It says more than was asked, which would get between this end and the peer.
    Surplus,
    /// It closes the connection amid its answer.
    Closed,
}

impl Opening {
    /// Asks a proxy of this kind, and gives the first bytes for it.
    pub fn begin(kind: ProxyKind, peer: Destination, login: Option<Login>) -> (Self, Outgoing) {
        let (exchange, first) = match kind {
            ProxyKind::Http => {
                let (connect, first) = Connect::begin(&peer, login);
                (Exchange::Http(connect), first)
            }
            ProxyKind::Socks5 => {
                let (socks5, first) = Socks5::begin(peer, login);
                (Exchange::Socks5(socks5), first)
            }
        };
        let opening = Self {
            exchange,
            received: Vec::new(),
            consumed: 0,
        };
        (opening, first)
    }

    /// Bytes that the proxy may still send: no more are to be read at once.
    pub fn room(&self) -> usize {
        MAX_ANSWER.saturating_sub(self.consumed + self.received.len())
    }

    /// Takes bytes of the proxy. After an error it is of no use.
    ///
    /// # Errors
    /// The proxy gives no connection.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<Progress, Fault> {
        if bytes.len() > self.room() {
            return Err(Fault::TooLong);
        }
        self.received.extend_from_slice(bytes);
        let step = match &mut self.exchange {
            Exchange::Http(connect) => connect.read(&self.received)?,
            Exchange::Socks5(socks5) => socks5.read(&self.received)?,
        };
        let Some(Step { progress, consumed }) = step else {
            let is_full = self.room() == 0;
            return if is_full {
                Err(Fault::TooLong)
            } else {
                Ok(Progress::NeedMore)
            };
        };
        // It can't have answered yet what is only sent now.
        if self.received.len() > consumed {
            return Err(Fault::Surplus);
        }
        self.consumed += consumed;
        self.received.clear();
        Ok(progress)
    }
}

impl Fault {
    /// The failure of an attempt to reach `peer`.
    pub fn failure(&self, proxy: &DialProxy, peer: &Destination) -> Failure {
        let kind = match proxy.kind {
            ProxyKind::Http => "HTTP",
            ProxyKind::Socks5 => "SOCKS5",
        };
        let (code, what) = match self {
            Self::Refused(answer) => (
                ErrorCode::ProxyRefused,
                format!(
                    "answers {answer:?} when it is asked for {peer}; let it connect there, or see whether {peer} runs"
                ),
            ),
            Self::LoginMissing(schemes) => (
                ErrorCode::ProxyAuthFailed,
                format!(
                    "wants a login{}; {}",
                    Schemes(schemes),
                    if lacks_basic(schemes) {
                        HELPER
                    } else {
                        "write user:password@ in front of its host in the URL"
                    }
                ),
            ),
            Self::LoginRefused(schemes) => (
                ErrorCode::ProxyAuthFailed,
                format!(
                    "doesn't accept this user and password{}; {}",
                    Schemes(schemes),
                    if lacks_basic(schemes) {
                        HELPER
                    } else {
                        "correct them in its URL, or the password in its file"
                    }
                ),
            ),
            Self::Unintelligible => (
                ErrorCode::ProxyRefused,
                format!("doesn't answer in {kind}; check its port, and the scheme of its URL"),
            ),
            Self::TooLong => (
                ErrorCode::ProxyRefused,
                format!(
                    "answers with more than {MAX_ANSWER} bytes; check its port, and the scheme of its URL"
                ),
            ),
            Self::Surplus => (
                ErrorCode::ProxyRefused,
                format!(
                    "sent bytes of its own after its answer; check that it is a proxy for {kind}"
                ),
            ),
            Self::Closed => (
                ErrorCode::ProxyRefused,
                format!(
                    "closed the connection instead of an answer for {peer}; check that this machine may use it, and the scheme of its URL"
                ),
            ),
        };
        let failure = Failure::new(code, format!("the proxy {proxy} {what}"));
        if code == ErrorCode::ProxyAuthFailed {
            failure.patient()
        } else {
            failure
        }
    }
}

const HELPER: &str = "this end speaks only Basic: put a local helper that speaks them in between";

/// The proxy has named schemes, and none that this end speaks.
fn lacks_basic(schemes: &[&str]) -> bool {
    !schemes.is_empty() && !schemes.contains(&"Basic")
}

struct Schemes<'a>(&'a [&'static str]);

impl fmt::Display for Schemes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0.join(", "))
    }
}
