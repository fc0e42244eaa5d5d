//! Ports that are free now and stay free: chosen below the range that the kernel gives to outgoing connections.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

/// From here; Linux hands out 32768 and above to connections, which could take a port between choice and use.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port that can be bound for TCP and UDP on every address, never given twice in this process.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of the suite on this machine starts elsewhere.
    let start = std::process::id().wrapping_mul(997) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(COUNT)).unwrap();
        if is_free(FIRST + offset) {
            return FIRST + offset;
        }
    }
    panic!("no free port from {FIRST}");
}

/// `count` free ports in a row.
pub(crate) fn free_range(count: u16) -> u16 {
    loop {
        let first = free_port();
        let consecutive = (1..count).all(|offset| {
            let next = first + offset;
            free_port() == next
        });
        if consecutive {
            return first;
        }
    }
}

fn is_free(port: u16) -> bool {
    [Type::STREAM, Type::DGRAM].into_iter().all(|kind| {
        let v4 = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), kind);
        let v6 = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), kind);
        v4 && (v6 || !has_ipv6())
    })
}

/// True if this machine has IPv6 on loopback.
pub(crate) fn has_ipv6() -> bool {
    bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Type::STREAM)
}

fn bind(address: SocketAddr, kind: Type) -> bool {
    let socket = Socket::new(Domain::for_address(address), kind, None);
    socket.is_ok_and(|socket| {
        (address.is_ipv4() || socket.set_only_v6(true).is_ok())
            && socket.bind(&address.into()).is_ok()
    })
}
