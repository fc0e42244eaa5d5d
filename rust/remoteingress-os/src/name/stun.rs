//! Asks STUN servers (RFC 8489) for this machine's public address. The answer is a hint: nothing is authorized by it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use stun_rs::attributes::stun::{MappedAddress, XorMappedAddress};
use stun_rs::methods::BINDING;
use stun_rs::{
    MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunMessageBuilder, TransactionId,
};
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::process::random;

/// Time for the lookup of a server's name, after which that server isn't asked.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests sent to each server.
const TRIES: u32 = 3;
/// Time for the answer to one request.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes that fit in one Ethernet frame; longer answers are ignored.
const MAX_MESSAGE: usize = 1472;
/// Bytes of a request: one without attributes is its header.
const REQUEST: usize = 20;

/// The public address that the first of `servers` (`host:port`) with a valid answer gives. All are asked at once; after 6.5 s
/// without an answer it is `None`.
pub async fn discover(servers: &[String]) -> Option<IpAddr> {
    let mut queries = JoinSet::new();
    for server in servers {
        let server = server.clone();
        queries.spawn(async move {
            let found = query(&server).await;
            if let Err(error) = &found {
                tracing::debug!(%server, %error, "STUN server gave no address");
            }
            found.ok()
        });
    }
    while let Some(finished) = queries.join_next().await {
        if let Ok(Some(address)) = finished {
            return Some(address);
        }
    }
    None
}

async fn query(server: &str) -> io::Result<IpAddr> {
    let server = address_of(lookup_host(server), LOOKUP_TIMEOUT).await?;
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A connected socket receives from its peer only.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;

    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..TRIES {
        let deadline = Instant::now() + PATIENCE;
        match timeout_at(deadline, transaction(&socket)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => {
                // An ICMP error comes at once; the next try is due only after its time.
                failure = error;
                tokio::time::sleep_until(deadline).await;
            }
            Err(_) => {}
        }
    }
    Err(failure)
}

/// The address to ask among those that `lookup` finds within `limit`.
async fn address_of<A: Iterator<Item = SocketAddr>>(
    lookup: impl Future<Output = io::Result<A>>,
    limit: Duration,
) -> io::Result<SocketAddr> {
    let addresses: Vec<_> = timeout(limit, lookup).await??.collect();
    // The IPv4 address is the one that is asked for in practice, and the one that NATs hide.
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let found = v4.or_else(|| addresses.first());
    Ok(*found.ok_or(io::ErrorKind::NotFound)?)
}

/// One request and the first valid answer to it.
async fn transaction(socket: &UdpSocket) -> io::Result<IpAddr> {
    let id = TransactionId::from(random::bytes::<12>());
    let request = StunMessageBuilder::new(BINDING, MessageClass::Request)
        .with_transaction_id(id)
        .build();
    let mut buffer = [0; REQUEST];
    let length = MessageEncoderBuilder::default()
        .build()
        .encode(&mut buffer, &request)
        .map_err(io::Error::other)?;
    socket.send(&buffer[..length]).await?;

    // One byte more, so that an answer that is too long can be recognised.
    let mut answer = [0; MAX_MESSAGE + 1];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length <= MAX_MESSAGE
            && let Some(address) = mapped_address(&answer[..length], &id)
        {
            return Ok(address);
        }
    }
}

/// The address in a success response to request `id`; `None` for anything else.
fn mapped_address(answer: &[u8], id: &TransactionId) -> Option<IpAddr> {
    let (message, length) = MessageDecoderBuilder::default()
        .build()
        .decode(answer)
        .ok()?;
    let is_answer = length == answer.len()
        && message.method() == BINDING
        && message.class() == MessageClass::SuccessResponse
        && message.transaction_id() == id;
    if !is_answer {
        return None;
    }
    let xored = message
        .get::<XorMappedAddress>()
        .and_then(|attribute| attribute.as_xor_mapped_address().ok())
        .map(|address| address.socket_address().ip());
    let plain = || {
        message
            .get::<MappedAddress>()
            .and_then(|attribute| attribute.as_mapped_address().ok())
            .map(|address| address.socket_address().ip())
    };
    let address = xored.or_else(plain)?;
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use stun_rs::StunAttribute;

    use super::*;

    const PUBLIC: &str = "203.0.113.7:4242";

    #[tokio::test]
    async fn answer_gives_the_address() {
        let server = Server::start(|request| vec![response(request, xor(PUBLIC))]).await;
        assert_eq!(server.ask().await, Some("203.0.113.7".parse().unwrap()));
        let old = MappedAddress::from(PUBLIC.parse::<SocketAddr>().unwrap());
        let server = Server::start(move |request| vec![response(request, old.clone())]).await;
        assert_eq!(server.ask().await, Some("203.0.113.7".parse().unwrap()));
    }

    #[tokio::test]
    async fn invalid_answers_are_passed_over() {
        let server = Server::start(|request| {
            let right = response(request, xor(PUBLIC));
            let wrong = response(request, xor("198.51.100.1:1"));
            let mut wrong_id = wrong.clone();
            wrong_id[19] ^= 1;
            let mut is_request = wrong.clone();
            is_request[0] = 0;
            let too_long = [wrong.clone(), vec![0; MAX_MESSAGE]].concat();
            let truncated = wrong[..wrong.len() - 1].to_vec();
            let trailing = [wrong, vec![0]].concat();
            let garbage = vec![0xff; 300];
            vec![
                wrong_id,
                is_request,
                too_long,
                truncated,
                trailing,
                garbage,
                vec![],
                right,
            ]
        })
        .await;
        assert_eq!(server.ask().await, Some("203.0.113.7".parse().unwrap()));
    }

    #[tokio::test]
    async fn answer_from_another_address_is_not_heard() {
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let asked = tokio::spawn(async move { discover(&[address]).await });
        let mut request = [0; 64];
        for _ in 0..TRIES {
            let (length, client) = server.recv_from(&mut request).await.unwrap();
            let forged = response(&request[..length], xor("198.51.100.1:1"));
            other.send_to(&forged, client).await.unwrap();
        }
        assert_eq!(asked.await.unwrap(), None);
    }

    #[tokio::test]
    async fn second_try_and_second_server_help() {
        let mut requests = 0;
        let server = Server::start(move |request| {
            requests += 1;
            if requests < 2 {
                vec![]
            } else {
                vec![response(request, xor(PUBLIC))]
            }
        })
        .await;
        let nobody = "127.0.0.1:9".to_owned();
        let found = discover(&[nobody, "no port".to_owned(), server.address.clone()]).await;
        assert_eq!(found, Some("203.0.113.7".parse().unwrap()));
        assert_eq!(discover(&[]).await, None);
    }

    #[tokio::test]
    async fn a_lookup_has_a_deadline_and_prefers_ipv4() {
        type Addresses = std::vec::IntoIter<SocketAddr>;
        let silent = std::future::pending::<io::Result<Addresses>>();
        let late = address_of(silent, Duration::from_millis(10)).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);

        let found = async |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            let addresses: Vec<SocketAddr> = addresses.collect();
            address_of(async { Ok(addresses.into_iter()) }, LOOKUP_TIMEOUT).await
        };
        let both = found(&["[::1]:1", "192.0.2.1:1"]).await.unwrap();
        assert_eq!(both.to_string(), "192.0.2.1:1");
        let v6 = found(&["[::1]:1"]).await.unwrap();
        assert_eq!(v6.to_string(), "[::1]:1");
        let none = found(&[]).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    struct Server {
        address: String,
        task: tokio::task::JoinHandle<()>,
    }

    impl Server {
        async fn start(mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap().to_string();
            let task = tokio::spawn(async move {
                let mut request = [0; 64];
                while let Ok((length, client)) = socket.recv_from(&mut request).await {
                    for answer in answers(&request[..length]) {
                        socket.send_to(&answer, client).await.unwrap();
                    }
                }
            });
            Self { address, task }
        }

        async fn ask(&self) -> Option<IpAddr> {
            discover(std::slice::from_ref(&self.address)).await
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn xor(address: &str) -> XorMappedAddress {
        XorMappedAddress::from(address.parse::<SocketAddr>().unwrap())
    }

    fn response(request: &[u8], attribute: impl Into<StunAttribute>) -> Vec<u8> {
        let id: [u8; 12] = request[8..20].try_into().unwrap();
        let message = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
            .with_transaction_id(TransactionId::from(id))
            .with_attribute(attribute)
            .build();
        let mut buffer = vec![0; 128];
        let length = MessageEncoderBuilder::default()
            .build()
            .encode(&mut buffer, &message)
            .unwrap();
        buffer.truncate(length);
        buffer
    }
}
