//! Probes a target: one connection, one request or one datagram, and a verdict before a deadline.
//!
//! Addresses are given, and have been found fit to be dialled. What is sent ahead as PROXY header is given as well; a
//! probe speaks for this machine itself, so that is `LOCAL` or `UNKNOWN`, which name no client.
//!
//! | probe | good | on the wire |
//! | --- | --- | --- |
//! | TCP | an address takes the connection | the header if there is one, then an end |
//! | HTTP | an accepted status, and the text if one is given | the header, `GET`, until the answer ends or 16 KiB of body came |
//! | UDP | a datagram that begins as expected | the header as the port would send it, then the bytes |
//!
//! A TCP probe ends with FIN, not with a reset: a reset can reach a server between `accept` and its first read, where some
//! log an error each time and some BSDs let `accept` itself fail. It costs this machine a socket in TIME-WAIT for a minute.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use remoteingress_config::UdpProxyProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::name::dial::{Attempt, describe, interleave, race};

mod answer;

pub use answer::Flaw;
use answer::{HttpAnswer, unexpected};

/// What stands for the address of a connection that is gone.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Bytes that are read at once from an HTTP answer.
const PIECE: usize = 4 * 1_024;
/// Bytes of an answer's datagram that are looked at; more are cut off.
const MAX_DATAGRAM: usize = 16 * 1_024;

/// What a target is asked, and which answer is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// It takes a connection.
    Tcp,
    /// It answers a request.
    Http(HttpProbe),
    /// It answers a datagram.
    Udp(UdpProbe),
}

/// A request and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Value of the field `Host`.
    pub host: String,
    /// The path and its query, with a slash in front. What can't stand in a request line is percent-encoded.
    pub path: String,
    /// Accepted statuses, such as 200 to 399. Redirects are not followed.
    pub statuses: RangeInclusive<u16>,
    /// Bytes to be found in the first 16 KiB of the body; empty for any body.
    pub text: Vec<u8>,
}

/// A datagram and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    /// Bytes to send.
    pub send: Vec<u8>,
    /// The answer's first bytes.
    pub expect: Vec<u8>,
    /// How the PROXY header is sent, if there is one.
    pub proxy_protocol: UdpProxyProtocol,
}

/// The reason why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No address took a connection.
    #[error("failed to connect to the target: {}", describe(tried))]
    Connect {
        /// Every address that was tried, in the order of their failures. Empty if the target has none.
        tried: Vec<Attempt>,
    },
    /// The target was asked, and the answer wasn't good.
    #[error("{asked} at {address}: {flaw}")]
    Answer {
        /// What was asked: `GET /health`, `UDP`.
        asked: String,
        /// The address that was asked.
        address: SocketAddr,
        /// What is wrong with the answer.
        flaw: Flaw,
    },
    /// A socket can't be used.
    #[error("{asked} at {address}: {source}")]
    Socket {
        /// What was asked: `GET /health`, `UDP`.
        asked: String,
        /// The address that was to be asked.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl ProbeError {
    /// The reason in one stable word: `refused`, `unreachable`, `timeout`, `status`, `text`, `reply`, `closed`, `tooLong`,
    /// or `exhausted` where [`is_own`](Self::is_own) holds.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { tried } => {
                let found = |word: &&str| tried.iter().any(|one| of_kernel(&one.error) == *word);
                // Of several addresses, what tells most: one that the target has but this machine can't reach tells least.
                let words = ["exhausted", "timeout", "refused"];
                words.into_iter().find(found).unwrap_or("unreachable")
            }
            Self::Answer { flaw, .. } => match flaw {
                Flaw::Timeout { .. } => "timeout",
                Flaw::Refused => "refused",
                Flaw::Status(_) => "status",
                Flaw::Text => "text",
                Flaw::Reply(_) => "reply",
                Flaw::Closed { .. } => "closed",
                Flaw::TooLong => "tooLong",
            },
            Self::Socket { source, .. } => of_kernel(source),
        }
    }

    /// True if this machine has run out of descriptors or memory: that says nothing of the target.
    pub fn is_own(&self) -> bool {
        self.reason() == "exhausted"
    }
}

impl HttpProbe {
    fn asked(&self) -> String {
        format!("GET {}", encoded(&self.path))
    }

    fn request(&self) -> String {
        let Self { host, path, .. } = self;
        let (host, path) = (encoded(host), encoded(path));
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: remoteingress-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
    }
}

/// Probes a target until `deadline`; gives the time that it took. `proxy_header` is sent ahead; it may be empty.
///
/// Of several addresses a TCP or HTTP probe uses the first one that takes its connection. A UDP probe asks them one after
/// the other while they refuse or are silent, each for a share of the time that is left.
///
/// # Errors
/// The target can't be reached, doesn't answer in time, or not as it should.
pub async fn probe(
    kind: &ProbeKind,
    to: &[SocketAddr],
    proxy_header: &[u8],
    deadline: Instant,
) -> Result<Duration, ProbeError> {
    let started = Instant::now();
    match kind {
        ProbeKind::Tcp => tcp(to, proxy_header, deadline).await,
        ProbeKind::Http(probe) => http(probe, to, proxy_header, deadline).await,
        ProbeKind::Udp(probe) => udp(probe, to, proxy_header, deadline).await,
    }?;
    Ok(started.elapsed())
}

async fn connect(to: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ProbeError> {
    let connected = race(to, None, deadline, |_| Ok(())).await;
    connected.map_err(|tried| ProbeError::Connect { tried })
}

async fn tcp(to: &[SocketAddr], header: &[u8], deadline: Instant) -> Result<(), ProbeError> {
    let mut socket = connect(to, deadline).await?;
    if !header.is_empty() {
        // The target has taken the connection: that it leaves before the header has come is its own business.
        let _ = timeout_at(deadline, socket.write_all(header)).await;
    }
    Ok(())
}

async fn http(
    probe: &HttpProbe,
    to: &[SocketAddr],
    header: &[u8],
    deadline: Instant,
) -> Result<(), ProbeError> {
    let mut socket = connect(to, deadline).await?;
    let address = socket.peer_addr().ok().or_else(|| to.first().copied());
    let mut answer = HttpAnswer::new(&probe.statuses, &probe.text);
    let asking = ask(&mut socket, header, probe, &mut answer);
    let verdict = timeout_at(deadline, asking).await.unwrap_or_else(|_| {
        Err(Flaw::Timeout {
            received: answer.received(),
        })
    });
    verdict.map_err(|flaw| ProbeError::Answer {
        asked: probe.asked(),
        address: address.unwrap_or(UNKNOWN),
        flaw,
    })
}

/// A failure of the connection ends the answer: the verdict is over what came before.
async fn ask(
    socket: &mut TcpStream,
    header: &[u8],
    probe: &HttpProbe,
    answer: &mut HttpAnswer<'_>,
) -> Result<(), Flaw> {
    let closed = |answer: &HttpAnswer<'_>| Flaw::Closed {
        received: answer.received(),
    };
    // In one write, as a proxy with a client's first bytes would send them.
    let request = [header, probe.request().as_bytes()].concat();
    let written = socket.write_all(&request).await;
    written.map_err(|_| closed(answer))?;
    let mut piece = [0; PIECE];
    loop {
        let length = match socket.read(&mut piece).await {
            Ok(0) => return answer.end(),
            Ok(length) => length,
            Err(_) => return Err(closed(answer)),
        };
        if let Some(verdict) = answer.take(piece.get(..length).unwrap_or_default()) {
            return verdict;
        }
    }
}

async fn udp(
    probe: &UdpProbe,
    to: &[SocketAddr],
    header: &[u8],
    deadline: Instant,
) -> Result<(), ProbeError> {
    let to = interleave(to);
    let mut result = Err(ProbeError::Connect { tried: Vec::new() });
    for (index, address) in to.iter().copied().enumerate() {
        let now = Instant::now();
        // Not above 16, as many as are tried.
        let share = deadline.duration_since(now) / (to.len() - index) as u32;
        let asking = exchange(probe, address, header);
        let asked = || "UDP".to_owned();
        let failed = |flaw| ProbeError::Answer {
            asked: asked(),
            address,
            flaw,
        };
        result = Err(match timeout_at(now + share, asking).await {
            Ok(Ok(answer)) if answer.starts_with(&probe.expect) => return Ok(()),
            Ok(Ok(answer)) => return Err(failed(unexpected(&answer))),
            Ok(Err(source)) if source.kind() == io::ErrorKind::ConnectionRefused => {
                failed(Flaw::Refused)
            }
            Ok(Err(source)) => ProbeError::Socket {
                asked: asked(),
                address,
                source,
            },
            Err(_) => failed(Flaw::Timeout { received: 0 }),
        });
    }
    result
}

/// Sends the bytes; gives the first datagram that comes back from there.
async fn exchange(probe: &UdpProbe, address: SocketAddr, header: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A connected socket receives from its peer only, and learns of its ICMP errors.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    match probe.proxy_protocol {
        UdpProxyProtocol::FirstDatagram if !header.is_empty() => {
            socket.send(header).await?;
            socket.send(&probe.send).await?;
        }
        UdpProxyProtocol::EveryDatagram => {
            socket.send(&[header, &probe.send].concat()).await?;
        }
        UdpProxyProtocol::FirstDatagram | UdpProxyProtocol::None => {
            socket.send(&probe.send).await?;
        }
    }
    let mut answer = vec![0; MAX_DATAGRAM];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// The word for what the kernel says of a socket. A lack of ports isn't one of this machine: the same error comes for an
/// address of a family that it doesn't have.
fn of_kernel(error: &io::Error) -> &'static str {
    let own = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    if error.raw_os_error().is_some_and(|code| own.contains(&code)) {
        "exhausted"
    } else if error.kind() == io::ErrorKind::ConnectionRefused {
        "refused"
    } else if error.kind() == io::ErrorKind::TimedOut {
        "timeout"
    } else {
        "unreachable"
    }
}

/// Without a byte that ends a word or a line, so that nothing can be put into a request or a log.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests;
