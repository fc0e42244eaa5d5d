//! The faults of a proxy, and the failures that they mean.

use super::exchange::{Destination, MAX_ANSWER};
use crate::uplink::failure::Failure;
use remoteingress_config::error::ErrorCode;
use remoteingress_config::{DialProxy, ProxyKind};
use std::fmt;

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
