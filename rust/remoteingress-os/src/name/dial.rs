//! Connects to a host by name: all its addresses are raced (Happy Eyeballs, RFC 8305), the first one up wins.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::c_library::choose_port_at_connect;
use crate::socket::options::tune_tunnel;
use remoteingress_config::error::ErrorCode;
use remoteingress_proto::token::host::bare;

/// Head start of an address over the next one (RFC 8305, section 5).
pub const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried; the rest is ignored.
const MAX_ADDRESSES: usize = 16;

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("failed to resolve {host}: {source}")]
    /// The name gave no address in time.
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer, or `TimedOut`.
        source: io::Error,
    },
    #[error("failed to connect to {host}: {}", describe(tried))]
    /// No address of the name answered in time.
    Connect {
        /// The name.
        host: String,
        /// Every address that was tried, in the order of their failures. Empty if the name has none.
        tried: Vec<Attempt>,
    },
    #[error(
        "failed to dial from sourceAddress {address}: {source}; is it an address of this machine?"
    )]
    /// The local address can't be used.
    Source {
        /// The local address.
        address: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    #[error(
        "failed to dial {host} from sourceAddress {address}: {host} has no address of that family"
    )]
    /// The name has addresses of the other family only.
    Family {
        /// The name.
        host: String,
        /// The local address.
        address: IpAddr,
    },
}

/// One address and the reason why it didn't work.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub address: SocketAddr,
    /// The kernel's answer, or `TimedOut` where none came before the deadline.
    pub error: io::Error,
}

impl DialError {
    /// The stable code of the error in the interface.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } => ErrorCode::HubUnreachable,
            Self::Source { .. } | Self::Family { .. } => ErrorCode::BindFailed,
        }
    }
}

/// Looks a host up until `deadline`, and keeps the addresses that can be dialled from `source`, if that is given.
///
/// # Errors
/// There is none, or `source` can't be used.
pub async fn addresses(
    host: &str,
    port: u16,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(address) = source {
        let bound = std::net::UdpSocket::bind((address, 0));
        bound.map_err(|source| DialError::Source { address, source })?;
    }
    let found = timeout_at(deadline, lookup_host((bare(host), port)))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut found: Vec<SocketAddr> = found
        .map_err(|source| DialError::Resolve {
            host: host.to_owned(),
            source,
        })?
        .collect();
    if let Some(address) = source {
        let had_any = !found.is_empty();
        found.retain(|found| found.is_ipv4() == address.is_ipv4());
        if found.is_empty() && had_any {
            let host = host.to_owned();
            return Err(DialError::Family { host, address });
        }
    }
    Ok(found)
}

/// Connects to the hub until `deadline`, from `source` if that is given. The name is resolved anew each time, since the hub may have moved. The lookup itself
/// (getaddrinfo) can't be called off: after the deadline it occupies a thread of the runtime until it ends by itself.
///
/// # Errors
/// The name has no address, none of its addresses answered in time, or `source` can't be used.
pub async fn dial(
    host: &str,
    port: u16,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, DialError> {
    let addresses = addresses(host, port, source, deadline).await?;
    let connected = race(&addresses, source, deadline, prepare_tunnel).await;
    connected.map_err(|tried| DialError::Connect {
        host: host.to_owned(),
        tried,
    })
}

/// A port of the machine's own may be wanted by whoever listens here: with this option on both sockets it can be bound.
fn prepare_tunnel(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)?;
    tune_tunnel(socket)
}

/// Sets options of a socket that isn't connected yet.
type Prepare = fn(&TcpSocket) -> io::Result<()>;

/// Connects to the first of `addresses` that answers. They are tried at most 16, one after the other with a head start of
/// [`STAGGER`], and sooner where one fails; `prepare` sets the options of each socket, and `source` is its own address.
///
/// # Errors
/// None answered before `deadline`: each address that was tried, with its error.
pub async fn race(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    deadline: Instant,
    prepare: Prepare,
) -> Result<TcpStream, Vec<Attempt>> {
    // The usual case needs no task of its own.
    if let &[address] = addresses {
        let socket = timeout_at(deadline, connect(address, source, prepare))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        return socket.map_err(|error| vec![Attempt { address, error }]);
    }

    let mut waiting = interleave(addresses).into_iter().peekable();
    let mut running = JoinSet::new();
    let mut unanswered = Vec::new();
    let mut tried = Vec::new();
    let mut next_start = Instant::now();
    while !running.is_empty() || waiting.peek().is_some() {
        tokio::select! {
            biased;
            () = sleep_until(deadline) => {
                tried.extend(unanswered.into_iter().chain(waiting).map(|address| Attempt {
                    address,
                    error: io::ErrorKind::TimedOut.into(),
                }));
                return Err(tried);
            }
            Some(Ok((address, connected))) = running.join_next() => match connected {
                Ok(socket) => return Ok(socket),
                Err(error) => {
                    unanswered.retain(|other| *other != address);
                    tried.push(Attempt { address, error });
                    next_start = Instant::now();
                }
            },
            () = sleep_until(next_start), if waiting.peek().is_some() => {
                if let Some(address) = waiting.next() {
                    unanswered.push(address);
                    running.spawn(async move { (address, connect(address, source, prepare).await) });
                    next_start = Instant::now() + STAGGER;
                }
            }
        }
    }
    Err(tried)
}

async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    prepare: Prepare,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    prepare(&socket)?;
    if let Some(source) = source {
        // One port may serve as many peers as there are.
        choose_port_at_connect(socket.as_fd())?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

/// Alternates between the families and starts with the one that the resolver prefers.
pub fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let starts_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == starts_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order.truncate(MAX_ADDRESSES);
    order
}

pub(crate) fn describe(tried: &[Attempt]) -> String {
    if tried.is_empty() {
        return "it has no address".to_owned();
    }
    let mut text = String::new();
    for (index, Attempt { address, error }) in tried.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string can't fail.
        let _ = write!(text, "{separator}{address} ({error})");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn dials_names_and_addresses() {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = v4.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let socket = dial(host, port, None, in_seconds(5)).await.unwrap();
            assert!(socket.nodelay().unwrap());
            assert!(SockRef::from(&socket).keepalive().unwrap());
        }
        let v6 = TcpListener::bind("[::1]:0").await.unwrap();
        let port = v6.local_addr().unwrap().port();
        dial("[::1]", port, None, in_seconds(5)).await.unwrap();
    }

    #[tokio::test]
    async fn dials_from_the_address_that_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial_from = |source: &str| {
            let source = source.parse().unwrap();
            dial("localhost", port, Some(source), in_seconds(5))
        };
        let socket = dial_from("127.0.0.5").await.unwrap();
        let local = socket.local_addr().unwrap();
        assert_eq!(local.ip(), IpAddr::from([127, 0, 0, 5]));
        // Documentation addresses belong to nobody.
        let error = dial_from("192.0.2.1").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BindFailed);
        let text = error.to_string();
        assert!(text.contains("sourceAddress 192.0.2.1"), "{text}");
        let error = dial(
            "127.0.0.1",
            port,
            Some("::1".parse().unwrap()),
            in_seconds(5),
        )
        .await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BindFailed);
        assert!(error.to_string().contains("family"), "{error}");
    }

    #[tokio::test]
    async fn failure_names_every_address() {
        let (first, second) = (refusing().await, refusing().await);
        let tried = race(&[first, second], None, in_seconds(5), |_| Ok(()))
            .await
            .unwrap_err();
        let error = DialError::Connect {
            host: "hub".to_owned(),
            tried,
        };
        let message = error.to_string();
        assert_eq!(error.code(), ErrorCode::HubUnreachable);
        assert!(message.contains(&first.to_string()), "{message}");
        assert!(message.contains(&second.to_string()), "{message}");
        assert!(message.contains("refused"), "{message}");
    }

    #[tokio::test]
    async fn silent_address_does_not_hold_up_the_next() {
        let silent = Silent::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = race(&[silent.address, address], None, in_seconds(5), |_| Ok(()))
            .await
            .unwrap();
        assert_eq!(socket.peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn deadline_ends_the_race() {
        let (first, second) = (Silent::new().await, Silent::new().await);
        let started = Instant::now();
        let deadline = started + Duration::from_millis(400);
        let tried = race(&[first.address, second.address], None, deadline, |_| Ok(()))
            .await
            .unwrap_err();
        assert_eq!(tried.len(), 2);
        assert!(
            tried
                .iter()
                .all(|attempt| attempt.error.kind() == io::ErrorKind::TimedOut)
        );
        assert!(started.elapsed() < Duration::from_secs(3));
        let alone = race(&[first.address], None, Instant::now() + STAGGER, |_| Ok(()))
            .await
            .unwrap_err();
        assert_eq!(alone[0].error.kind(), io::ErrorKind::TimedOut);
        assert!(
            race(&[], None, in_seconds(5), |_| Ok(()))
                .await
                .unwrap_err()
                .is_empty()
        );
    }

    #[test]
    fn families_alternate() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "[::4]:1"];
        let order = interleave(&all.map(|address| address.parse().unwrap()));
        let order: Vec<_> = order.iter().map(ToString::to_string).collect();
        assert_eq!(
            order,
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1", "[::4]:1"]
        );
    }

    /// A listener whose accept queue is full: connects to it hang.
    struct Silent {
        address: SocketAddr,
        _listener: TcpListener,
        _queued: Vec<TcpStream>,
    }

    impl Silent {
        async fn new() -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let listener = socket.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let mut queued = Vec::new();
            let patience = Duration::from_millis(200);
            while let Ok(Ok(stream)) =
                tokio::time::timeout(patience, TcpStream::connect(address)).await
            {
                queued.push(stream);
            }
            Self {
                address,
                _listener: listener,
                _queued: queued,
            }
        }
    }

    /// An address at which nobody listens.
    async fn refusing() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }
}
