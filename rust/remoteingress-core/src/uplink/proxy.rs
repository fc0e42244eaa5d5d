//! Asks a proxy for a connection to the peer: bytes in, bytes out.
//!
//! [`Opening::begin`] gives the first bytes to send; [`Opening::handle`] takes what has come and says what is next. The
//! answers of a proxy are bounded by [`MAX_ANSWER`], and nothing of a login gets into an error.

mod exchange;
mod fault;
mod http;
mod socks5;
#[cfg(test)]
mod tests;

use exchange::Step;
pub use exchange::{Destination, Login, MAX_ANSWER, Outgoing, Progress};
pub use fault::Fault;
use http::Connect;
use remoteingress_config::ProxyKind;
use socks5::Socks5;

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
