//! One socket for both address families, for ports that are many: a descriptor each.

use super::bind::{BindError, Listen, bind_socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One listener on `ip` or, without one, on all IPv6 addresses and all IPv4 ones, which it sees as IPv4-mapped: see
/// [`unmapped`]. Where the machine has no IPv6 it is on all IPv4 addresses.
///
/// With `is_tested` it fails where another socket listens; without, this process itself may listen on an overlapping
/// address.
///
/// # Errors
/// [`BindError::code`] says why the address can't be listened on.
pub fn bind_one<L: Listen>(ip: Option<IpAddr>, port: u16, is_tested: bool) -> Result<L, BindError> {
    let bind = |ip: IpAddr, both| {
        let address = SocketAddr::new(ip, port);
        let bound = open::<L>(address, both, is_tested);
        bound.map_err(|source| BindError { address, source })
    };
    match ip {
        Some(ip) => bind(ip, false),
        None => match bind(Ipv6Addr::UNSPECIFIED.into(), true) {
            Err(error) if error.is_family_missing() => bind(Ipv4Addr::UNSPECIFIED.into(), false),
            bound => bound,
        },
    }
}

fn open<L: Listen>(address: SocketAddr, both: bool, is_tested: bool) -> io::Result<L> {
    let socket = L::open(address)?;
    if both {
        socket.set_only_v6(false)?;
    }
    // Without SO_REUSEPORT the kernel refuses while anyone listens here. With it from then on, a listener that succeeds
    // this one can be bound beside it.
    if is_tested {
        bind_socket(&socket, address)?;
        socket.set_reuse_port(true)?;
    } else {
        socket.set_reuse_port(true)?;
        bind_socket(&socket, address)?;
    }
    L::listen(socket)
}

/// The address itself, of one that a socket for both families sees.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else {
        return address;
    };
    match v6.ip().to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), v6.port()),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::super::bind::bind_families;
    use super::*;
    use remoteingress_config::error::ErrorCode;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn one_socket_has_both_families() {
        let listener: TcpListener = bind_one(None, 0, true).unwrap();
        listener.set_nonblocking(false).unwrap();
        let port = listener.local_addr().unwrap().port();
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let client = TcpStream::connect((ip, port)).unwrap();
            let (accepted, address) = listener.accept().unwrap();
            assert_eq!(unmapped(address), client.local_addr().unwrap());
            assert_eq!(unmapped(accepted.local_addr().unwrap()).ip(), ip);
        }
    }

    #[test]
    fn others_are_found_in_either_family_and_of_either_protocol() {
        for theirs in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let foreign = TcpListener::bind(theirs).unwrap();
            let port = foreign.local_addr().unwrap().port();
            let error = bind_one::<TcpListener>(None, port, true).unwrap_err();
            assert_eq!(error.code(), ErrorCode::AddressInUse, "{theirs}: {error}");
            let foreign = UdpSocket::bind(theirs).unwrap();
            let port = foreign.local_addr().unwrap().port();
            let error = bind_one::<UdpSocket>(None, port, true).unwrap_err();
            assert_eq!(error.code(), ErrorCode::AddressInUse, "{theirs}: {error}");
        }
    }

    #[test]
    fn a_successor_is_bound_beside_it_and_beside_a_group() {
        fn check<L: Listen>() {
            let first: L = bind_one(None, 0, true).unwrap();
            let port = first.address().unwrap().port();
            assert!(bind_one::<L>(None, port, true).is_err());
            let ip = Some(IpAddr::from([127, 0, 0, 1]));
            let _second: L = bind_one(ip, port, false).unwrap();
            let _third: Vec<Vec<L>> = bind_families(None, port, 2, false).unwrap();
            drop(first);
            let _fourth: L = bind_one(None, port, false).unwrap();
        }
        check::<TcpListener>();
        check::<UdpSocket>();
    }

    #[test]
    fn all_addresses_of_either_family_are_a_pair() {
        fn check<L: Listen>() {
            let v6: L = bind_one(Some(Ipv6Addr::UNSPECIFIED.into()), 0, true).unwrap();
            let port = v6.address().unwrap().port();
            let _v4: L = bind_one(Some(Ipv4Addr::UNSPECIFIED.into()), port, true).unwrap();
        }
        check::<TcpListener>();
        check::<UdpSocket>();
    }

    #[test]
    fn an_address_that_is_not_there_yet_is_bound() {
        for ip in ["192.0.2.77", "2001:db8::77"] {
            let ip: IpAddr = ip.parse().unwrap();
            for is_tested in [true, false] {
                let tcp: TcpListener = bind_one(Some(ip), 0, is_tested).unwrap();
                assert_eq!(tcp.local_addr().unwrap().ip(), ip);
                let udp: UdpSocket = bind_one(Some(ip), 0, is_tested).unwrap();
                assert_eq!(udp.local_addr().unwrap().ip(), ip);
            }
        }
    }

    #[test]
    fn only_mapped_addresses_change() {
        for (seen, itself) in [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let seen: SocketAddr = seen.parse().unwrap();
            assert_eq!(unmapped(seen), itself.parse().unwrap());
        }
    }
}
