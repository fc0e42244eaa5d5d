//! Binds a TCP or UDP listener once per worker; a test bind before that finds a port that another process holds.

use remoteingress_config::error::ErrorCode;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that the kernel keeps until they are accepted; more than `net.core.somaxconn` is cut to that.
const BACKLOG: i32 = 4096;

/// A kind of listener: [`TcpListener`] or [`UdpSocket`].
pub trait Listen: Sized {
    /// A non-blocking socket of the family of `address`, not bound yet. Its `bind` fails where another socket listens.
    ///
    /// # Errors
    /// The machine lacks the address family, or the process is out of descriptors.
    fn open(address: SocketAddr) -> io::Result<Socket>;

    /// Makes a bound socket take clients from now on.
    ///
    /// # Errors
    /// `AddrInUse`, if another socket has begun to listen since the bind.
    fn listen(socket: Socket) -> io::Result<Self>;

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The kernel has no memory left for the answer.
    fn address(&self) -> io::Result<SocketAddr>;
}

impl Listen for TcpListener {
    fn open(address: SocketAddr) -> io::Result<Socket> {
        let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
        // A port whose old connections are in TIME_WAIT can be bound.
        socket.set_reuse_address(true)?;
        Ok(socket)
    }

    fn listen(socket: Socket) -> io::Result<Self> {
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Listen for UdpSocket {
    fn open(address: SocketAddr) -> io::Result<Socket> {
        // Never SO_REUSEADDR: with UDP it lets one process take another's datagrams.
        new_socket(address, Type::DGRAM, Protocol::UDP)
    }

    fn listen(socket: Socket) -> io::Result<Self> {
        Ok(socket.into())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {source}")]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// The kernel's answer.
    pub source: io::Error,
}

impl BindError {
    /// The stable code of the error in the interface.
    pub fn code(&self) -> ErrorCode {
        bind_code(&self.source)
    }

    /// The address means all of its family, and this machine has none of that family, typically no IPv6.
    pub(super) fn is_family_missing(&self) -> bool {
        let reason = self.source.raw_os_error();
        self.address.ip().is_unspecified()
            && matches!(reason, Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
    }
}

/// The stable code of the kernel's refusal to bind a socket, of whatever family.
pub fn bind_code(error: &io::Error) -> ErrorCode {
    if error.kind() == io::ErrorKind::AddrInUse {
        ErrorCode::AddressInUse
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        ErrorCode::PermissionDenied
    } else {
        ErrorCode::BindFailed
    }
}

/// Listeners on `ip` or, without one, on all IPv4 and, where the machine has IPv6, all IPv6 addresses.
///
/// Each address gets a list of `copies` non-blocking listeners, among which the kernel spreads the clients. All of them have
/// the same port; 0 is a free one. `test_bind` finds listeners of other processes, which would silently share the port; it
/// must be off where this process itself listens on an overlapping address.
///
/// # Errors
/// The first address that fails; [`BindError::code`] says why. Listeners on other addresses are closed again.
pub fn bind_families<L: Listen>(
    ip: Option<IpAddr>,
    port: u16,
    copies: usize,
    test_bind: bool,
) -> Result<Vec<Vec<L>>, BindError> {
    if let Some(ip) = ip {
        return Ok(vec![bind_address(
            SocketAddr::new(ip, port),
            copies,
            test_bind,
        )?]);
    }
    let v4: Vec<L> = bind_address((Ipv4Addr::UNSPECIFIED, port).into(), copies, test_bind)?;
    let bound = v4.first().and_then(|listener| listener.address().ok());
    let port = bound.map_or(port, |address| address.port());
    match bind_address((Ipv6Addr::UNSPECIFIED, port).into(), copies, test_bind) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.is_family_missing() => Ok(vec![v4]),
        Err(error) => Err(error),
    }
}

/// The same on one address.
fn bind_address<L: Listen>(
    address: SocketAddr,
    copies: usize,
    test_bind: bool,
) -> Result<Vec<L>, BindError> {
    bind_all(address, copies, test_bind).map_err(|source| BindError { address, source })
}

fn bind_all<L: Listen>(
    mut address: SocketAddr,
    copies: usize,
    test_bind: bool,
) -> io::Result<Vec<L>> {
    if test_bind && address.port() != 0 {
        // Without SO_REUSEPORT the kernel refuses while anyone listens here.
        bind_socket(&L::open(address)?, address)?;
    }
    let mut listeners = Vec::with_capacity(copies);
    for _ in 0..copies {
        let socket = L::open(address)?;
        socket.set_reuse_port(true)?;
        bind_socket(&socket, address)?;
        let listener = L::listen(socket)?;
        address = listener.address()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Binds a socket. An address that the machine doesn't have yet, as one that floats between machines or comes by DHCP, is
/// bound all the same: packets come in as soon as it is there. A warning says so once.
///
/// # Errors
/// The kernel's answer: another socket has the address, or the process may not bind it.
pub fn bind_socket(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let refused = match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => error,
        answer => return answer,
    };
    // All addresses of a family are missing only where the machine lacks the family.
    if address.ip().is_unspecified() {
        return Err(refused);
    }
    let allowed = if address.is_ipv6() {
        socket.set_freebind_v6(true)
    } else {
        socket.set_freebind_v4(true)
    };
    // A kernel before 4.15 has no such option for IPv6.
    allowed.map_err(|_| refused)?;
    socket.bind(&address.into())?;
    if is_news(&MISSING, Instant::now(), address.ip()) {
        tracing::warn!(
            address = %address.ip(),
            "the address to listen on isn't there yet: clients are served as soon as the machine has it"
        );
    }
    Ok(())
}

/// Addresses that were missing, and when that was said.
static MISSING: Mutex<Vec<(IpAddr, Instant)>> = Mutex::new(Vec::new());

/// Each port of an address and each copy of its listener would say the same.
fn is_news(said: &Mutex<Vec<(IpAddr, Instant)>>, now: Instant, address: IpAddr) -> bool {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.retain(|(_, at)| now.duration_since(*at) < SAID_FOR);
    let is_known = said.iter().any(|(known, _)| *known == address);
    if is_known || said.len() >= MAX_SAID {
        return false;
    }
    said.push((address, now));
    true
}

/// One warning per address and minute.
const SAID_FOR: Duration = Duration::from_secs(60);
/// Addresses that are warned of per minute.
const MAX_SAID: usize = 16;

/// A non-blocking socket of the family of `address`, not bound yet. One of IPv6 takes no IPv4.
///
/// # Errors
/// The machine lacks the address family, or the process is out of descriptors.
pub fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn bind_tcp(
        address: SocketAddr,
        copies: usize,
        test_bind: bool,
    ) -> Result<Vec<TcpListener>, BindError> {
        bind_address(address, copies, test_bind)
    }

    #[test]
    fn a_udp_port_is_shared_among_copies_and_with_nobody_else() {
        let bind = |address, test_bind| bind_address::<UdpSocket>(address, 2, test_bind);
        let ours = bind(any_port("127.0.0.1"), true).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert_eq!(ours[1].local_addr().unwrap(), address);
        let error = bind(address, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::AddressInUse, "{error}");
        bind(address, false).unwrap();
    }

    #[test]
    fn copies_share_one_port() {
        let listeners = bind_tcp(any_port("127.0.0.1"), 4, true).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(listeners.len(), 4);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), address);
            assert_eq!(
                listener.accept().unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        }
    }

    #[test]
    fn test_bind_finds_every_kind_of_foreign_listener() {
        for reuse_port in [false, true] {
            for (theirs, ours) in [
                ("127.0.0.1", "127.0.0.1"),
                ("0.0.0.0", "127.0.0.1"),
                ("127.0.0.1", "0.0.0.0"),
                ("::", "::1"),
                ("::1", "::"),
            ] {
                let foreign = foreign_listener(any_port(theirs), reuse_port, true);
                assert_in_use(with_port(ours, &foreign));
            }
            let dual_stack = foreign_listener(any_port("::"), reuse_port, false);
            assert_in_use(with_port("0.0.0.0", &dual_stack));
        }
    }

    #[test]
    fn families_do_not_collide() {
        let v4 = bind_tcp(any_port("0.0.0.0"), 2, true).unwrap();
        let port = v4[0].local_addr().unwrap().port();
        let v6 = bind_tcp(SocketAddr::new("::".parse().unwrap(), port), 2, true).unwrap();
        assert_eq!(v6.len(), 2);
    }

    #[test]
    fn port_with_closing_connections_can_be_bound_again() {
        let first = bind_tcp(any_port("127.0.0.1"), 1, true).unwrap();
        let address = first[0].local_addr().unwrap();
        first[0].set_nonblocking(false).unwrap();
        let client = TcpStream::connect(address).unwrap();
        // The side that closes first keeps TIME_WAIT.
        drop(first[0].accept().unwrap());
        drop(client);
        drop(first);
        bind_tcp(address, 2, true).unwrap();
    }

    #[test]
    fn without_a_test_bind_a_successor_binds_beside_us() {
        let first = bind_tcp(any_port("127.0.0.1"), 1, true).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_in_use(address);
        bind_tcp(address, 1, false).unwrap();
    }

    #[test]
    fn an_address_that_isnt_there_yet_is_bound_and_shared_like_others() {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let address = address.parse().unwrap();
            match bind_tcp(address, 2, true) {
                Ok(first) => assert_in_use(first[0].local_addr().unwrap()),
                Err(error) => {
                    let reason = error.source.raw_os_error();
                    assert_eq!(reason, Some(libc::EAFNOSUPPORT), "{error}");
                    continue;
                }
            }
            let udp = bind_address::<UdpSocket>(address, 2, true).unwrap();
            assert_eq!(udp[0].local_addr().unwrap().ip(), address.ip());
        }
    }

    #[test]
    fn an_address_is_said_to_be_missing_once_a_minute() {
        let (said, now) = (Mutex::default(), Instant::now());
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        assert!(is_news(&said, now, ip(1)));
        assert!(!is_news(&said, now, ip(1)));
        let others = (2..=255).filter(|last| is_news(&said, now, ip(*last)));
        assert_eq!(others.count(), MAX_SAID - 1);
        assert!(!is_news(&said, now + SAID_FOR / 2, ip(1)));
        assert!(is_news(&said, now + SAID_FOR, ip(1)));
    }

    #[test]
    fn other_failures_have_their_codes() {
        // Link-local addresses need a zone.
        let error = bind_tcp("[fe80::1]:0".parse().unwrap(), 1, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::BindFailed);
        assert!(!error.is_family_missing());
        let failure = |reason| BindError {
            address: any_port("::"),
            source: io::Error::from_raw_os_error(reason),
        };
        assert_eq!(failure(libc::EACCES).code(), ErrorCode::PermissionDenied);
        assert!(failure(libc::EAFNOSUPPORT).is_family_missing());
    }

    fn assert_in_use(address: SocketAddr) {
        let error = bind_tcp(address, 2, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::AddressInUse, "{error}");
    }

    fn foreign_listener(address: SocketAddr, reuse_port: bool, only_v6: bool) -> Socket {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(reuse_port).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(only_v6).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(1).unwrap();
        socket
    }

    fn any_port(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 0)
    }

    fn with_port(ip: &str, like: &Socket) -> SocketAddr {
        let port = like.local_addr().unwrap().as_socket().unwrap().port();
        SocketAddr::new(ip.parse().unwrap(), port)
    }
}
