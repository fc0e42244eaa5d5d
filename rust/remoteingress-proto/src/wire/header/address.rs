//! Typed addresses on the wire: family `u8` (4 or 6), 4 or 16 bytes, and for a socket its port `u16`.
//!
//! An IPv4-mapped IPv6 address becomes its IPv4 address in both directions, so that one client has
//! one spelling and no address rule can be passed by spelling it differently.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::wire::tlv::{Cursor, UnexpectedEnd};

/// Reason why an address was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The address is cut.
    #[error(transparent)]
    End(#[from] UnexpectedEnd),
    /// The byte before it.
    #[error("address family {0} is neither 4 nor 6")]
    Family(u8),
}

pub(crate) const FAMILY_V4: u8 = 4;
pub(crate) const FAMILY_V6: u8 = 6;

pub(crate) fn write_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            out.push(FAMILY_V4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(FAMILY_V6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

pub(crate) fn read_ip(cursor: &mut Cursor<'_>) -> Result<IpAddr, AddressError> {
    let address = match cursor.u8()? {
        FAMILY_V4 => IpAddr::from(cursor.array::<4>()?),
        FAMILY_V6 => IpAddr::from(cursor.array::<16>()?).to_canonical(),
        other => return Err(AddressError::Family(other)),
    };
    Ok(address)
}

pub(crate) fn write_socket_address(out: &mut Vec<u8>, address: SocketAddr) {
    write_ip(out, address.ip());
    out.extend_from_slice(&address.port().to_be_bytes());
}

pub(crate) fn read_socket_address(cursor: &mut Cursor<'_>) -> Result<SocketAddr, AddressError> {
    let ip = read_ip(cursor)?;
    Ok(SocketAddr::new(ip, cursor.u16()?))
}
