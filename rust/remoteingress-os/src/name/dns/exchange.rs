//! One question to one name server, over UDP and, where the answer is too long for that, over TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{Question, Said, Unusable};
use crate::process::random;

/// Time for the answer over UDP, and again for that over TCP.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers are told to send less; some send more on the machine's own network. What is longer is no answer.
const MAX_DATAGRAM: usize = 4096;

/// Why a server has given no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Unusable(#[from] Unusable),
    #[error("the name is too long")]
    TooLong,
}

/// What `server` says.
///
/// An answer counts if it comes from the server's address to the port of this question, and has its random number and its
/// name: so somebody who doesn't see the question has to guess 16 bits, and the port.
///
/// # Errors
/// There is no answer, or none that says something.
pub(super) async fn ask(server: SocketAddr, question: &Question) -> Result<Said, ExchangeError> {
    match ask_once(server, question, true).await {
        // What a server says that is older than RFC 6891, to the size of a datagram.
        Err(ExchangeError::Unusable(Unusable::Refused(Rcode::FORMERR | Rcode::NOTIMP))) => {
            ask_once(server, question, false).await
        }
        other => other,
    }
}

async fn ask_once(
    server: SocketAddr,
    question: &Question,
    with_size: bool,
) -> Result<Said, ExchangeError> {
    let encode = || {
        let id = u16::from_be_bytes(random::bytes());
        let query = question.encode(id, with_size);
        let query = query.and_then(|bytes| Message::from_octets(bytes).ok());
        query.ok_or(ExchangeError::TooLong)
    };
    let answer = over_udp(server, encode()?);
    let answer = timeout(PATIENCE, answer).await;
    let mut answer = answer.map_err(|_| ExchangeError::Silent)??;
    // Less than the whole isn't used: the targets that it lacks would seem to have gone.
    if answer.header().tc() {
        let whole = over_tcp(server, encode()?);
        let whole = timeout(PATIENCE, whole).await;
        answer = whole.map_err(|_| ExchangeError::Silent)??;
    }
    Ok(question.decode(answer.for_slice())?)
}

type Bytes = Message<Vec<u8>>;

async fn over_udp(server: SocketAddr, query: Bytes) -> Result<Bytes, ExchangeError> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket of its own for each question, thus a port by chance. A connected one receives from its peer only.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(query.as_slice()).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).map(Message::from_slice);
        if let Some(Ok(answer)) = answer
            && answer.is_answer(query.for_slice())
        {
            buffer.truncate(length);
            return Message::from_octets(buffer).map_err(|_| Unusable::Damaged.into());
        }
    }
}

async fn over_tcp(server: SocketAddr, query: Bytes) -> Result<Bytes, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = query.as_slice();
    let length = u16::try_from(bytes.len()).map_err(|_| ExchangeError::TooLong)?;
    // In one piece: there are servers that read the length and the rest as one.
    let framed = [length.to_be_bytes().as_slice(), bytes].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_octets(answer).map_err(|_| Unusable::Damaged)?;
    if !answer.is_answer(query.for_slice()) || answer.header().tc() {
        return Err(Unusable::Damaged.into());
    }
    Ok(answer)
}
