//! Calls that no safe crate has, and with them all unsafe code of this crate. Each function is safe to call with any argument
//! that its types let through.

#![expect(unsafe_code, reason = "rustix and socket2 have none of these calls")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `ioctl` request for the unsent bytes of a TCP socket (`linux/sockios.h`); the C library's crate lacks it.
const SIOCOUTQNSD: libc::c_ulong = 0x894b;

/// Sets `IPV6_DONTFRAG`: whether IPv6 datagrams larger than the path takes are refused instead of fragmented.
pub(crate) fn set_ipv6_dont_fragment(socket: &impl AsFd, value: bool) -> io::Result<()> {
    let value = libc::c_int::from(value);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the pointer is valid for reads of the one int that `length` says,
    // and the kernel keeps no pointer.
    check(unsafe {
        libc::setsockopt(
            raw(socket.as_fd()),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const value).cast(),
            length,
        )
    })
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`: a bind to port 0 leaves the choice of the port to the connect that follows. It counts for
/// IPv6 too.
pub(crate) fn choose_port_at_connect(socket: BorrowedFd<'_>) -> io::Result<()> {
    let value: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the pointer is valid for reads of the one int that `length` says,
    // and the kernel keeps no pointer.
    check(unsafe {
        libc::setsockopt(
            raw(socket),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const value).cast(),
            length,
        )
    })
}

/// Gives the socket's `SO_REUSEPORT` group a classic BPF program that chooses among its sockets. The kernel refuses with
/// `InvalidInput` what is no valid program: an empty one, one that is too long, jumps outside, or has no return.
pub(crate) fn attach_reuseport_program(
    socket: &UdpSocket,
    instructions: &[libc::sock_filter],
) -> io::Result<()> {
    let len = libc::c_ushort::try_from(instructions.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_ptr().cast_mut(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the pointer is valid for reads of the one sock_fprog that `length`
    // says. Its own pointer is valid for reads of `len` instructions, which the kernel copies, never writes, and checks.
    check(unsafe {
        libc::setsockopt(
            raw(socket.as_fd()),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            length,
        )
    })
}

/// Bytes that a TCP socket holds and hasn't sent yet.
pub(crate) fn unsent_bytes(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // A TCP socket writes one int. Other sockets and TUN devices read an ifreq from here before they refuse the request.
    let mut answer = [0 as libc::c_int; size_of::<libc::ifreq>() / size_of::<libc::c_int>()];
    // SAFETY: the descriptor is borrowed, so it is open; the pointer is valid for all that this request reads or writes.
    check(unsafe { libc::ioctl(raw(socket), SIOCOUTQNSD as _, answer.as_mut_ptr()) })?;
    let [unsent, ..] = answer;
    Ok(unsent)
}

/// The kernel's figures of a TCP socket. A field that an older kernel lacks is 0.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: all its fields are integers, for which zeroes are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel writes at most `length` bytes, for which the first pointer
    // is valid, and the number of them to the second one. Whatever integers it writes are a value of this type.
    check(unsafe {
        libc::getsockopt(
            raw(socket),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    })?;
    Ok(info)
}

/// Gives free pages of the heap back to the system; does nothing where the C library isn't glibc.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer and locks the heap itself. Its result says only if there was something to give back.
    let _ = unsafe { libc::malloc_trim(0) };
}

fn raw(socket: BorrowedFd<'_>) -> libc::c_int {
    socket.as_raw_fd()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dont_fragment_is_set_and_taken_back() {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        for value in [true, false] {
            set_ipv6_dont_fragment(&socket, value).unwrap();
            assert_eq!(
                ipv6_dont_fragment(&socket).unwrap(),
                libc::c_int::from(value)
            );
        }
        let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_ipv6_dont_fragment(&v4, true).unwrap_err();
    }

    /// Reads the option back.
    fn ipv6_dont_fragment(socket: &UdpSocket) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = -1;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is borrowed, so it is open; the kernel writes at most `length` bytes, for which the first
        // pointer is valid, and the number of them to the second one.
        check(unsafe {
            libc::getsockopt(
                raw(socket.as_fd()),
                libc::IPPROTO_IPV6,
                libc::IPV6_DONTFRAG,
                (&raw mut value).cast(),
                &raw mut length,
            )
        })?;
        Ok(value)
    }

    #[test]
    fn programs_of_impossible_lengths_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let nothing = libc::sock_filter {
            code: 0,
            jt: 0,
            jf: 0,
            k: 0,
        };
        // 65,536 would wrap to 0, and 65,543 to 7.
        for length in [0, 65_535, 65_536, 65_543] {
            let error = attach_reuseport_program(&socket, &vec![nothing; length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{length}");
        }
    }

    #[test]
    fn a_trimmed_heap_still_gives() {
        let kept: Vec<Vec<u8>> = (0..1_000).map(|n| vec![n as u8; 4_096]).collect();
        trim_heap();
        assert!(kept.iter().enumerate().all(|(n, page)| page[0] == n as u8));
    }
}
