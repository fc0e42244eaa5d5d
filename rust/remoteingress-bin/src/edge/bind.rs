//! Binds the listeners of a port.

use super::command::ListenerSocket;
use remoteingress_config::EdgeConfig;
use remoteingress_config::error::ErrorCode;
use remoteingress_core::edge::port_table::PortKey;
use remoteingress_core::edge::spread::{Listeners, NoDescriptors};
use remoteingress_os::bind::{BindError, Listen, bind_families};
use remoteingress_os::dual::bind_one;
use remoteingress_os::socket_options::tune_stream;
use remoteingress_proto::control::PortFailure;
use remoteingress_proto::wire::header::Protocol;
use std::net::{IpAddr, TcpListener, UdpSocket};

/// The listeners of a port, by address family. A port beside a listener of this edge's own isn't bound for a test first,
/// since that listener still holds it.
pub(super) fn bind(
    config: &EdgeConfig,
    key: PortKey,
    listeners: Result<Listeners, NoDescriptors>,
    workers: usize,
    is_beside_own: bool,
) -> Result<Vec<Vec<ListenerSocket>>, (PortFailure, String)> {
    let PortKey {
        protocol,
        port,
        address,
    } = key;
    let is_allowed = match protocol {
        Protocol::Tcp => config.allowed_ports.tcp.contains(port),
        Protocol::Udp => config.allowed_ports.udp.contains(port),
    };
    if !is_allowed {
        let protocol = protocol.as_str();
        let message = format!("{protocol} port {port} is not among the edge's allowedPorts");
        return Err((PortFailure::NotAllowed, message));
    }
    let listeners = listeners.map_err(|error| (PortFailure::DescriptorLimit, error.to_string()))?;
    let copies = match listeners {
        Listeners::PerWorker => Some(workers),
        Listeners::One => None,
    };
    let ip = address.or(config.bind_address);
    let is_tested = !is_beside_own;
    match protocol {
        Protocol::Tcp => {
            let families = open::<TcpListener>(ip, port, copies, is_tested)?;
            for listener in families.iter().flatten() {
                // Accepted sockets inherit these; without them a part of a transfer could look like all of it.
                tune_stream(listener).map_err(|error| {
                    let message = format!("failed to set the options of port {port}: {error}");
                    (PortFailure::BindFailed, message)
                })?;
            }
            Ok(wrap(families, ListenerSocket::Tcp))
        }
        Protocol::Udp => {
            let families = open::<UdpSocket>(ip, port, copies, is_tested)?;
            let is_rare = copies.is_none();
            Ok(wrap(families, |socket| ListenerSocket::Udp {
                socket,
                is_rare,
            }))
        }
    }
}

/// So many copies per address family, or one listener for both.
fn open<L: Listen>(
    ip: Option<IpAddr>,
    port: u16,
    copies: Option<usize>,
    is_tested: bool,
) -> Result<Vec<Vec<L>>, (PortFailure, String)> {
    let bound = match copies {
        Some(copies) => bind_families(ip, port, copies, is_tested),
        None => bind_one(ip, port, is_tested).map(|listener| vec![vec![listener]]),
    };
    bound.map_err(|error| failure(&error))
}

fn failure(error: &BindError) -> (PortFailure, String) {
    let reason = error.source.raw_os_error();
    let code = if matches!(reason, Some(libc::EMFILE | libc::ENFILE)) {
        PortFailure::DescriptorLimit
    } else if error.code() == ErrorCode::AddressInUse {
        PortFailure::AddressInUse
    } else if error.code() == ErrorCode::PermissionDenied {
        PortFailure::PermissionDenied
    } else {
        PortFailure::BindFailed
    };
    (code, error.to_string())
}

fn wrap<L>(
    families: Vec<Vec<L>>,
    socket: impl Fn(L) -> ListenerSocket,
) -> Vec<Vec<ListenerSocket>> {
    let families = families.into_iter();
    families
        .map(|copies| copies.into_iter().map(&socket).collect())
        .collect()
}
