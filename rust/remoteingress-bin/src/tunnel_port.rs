//! The port that the other end dials, the edge at a hub or the hub at an edge: TCP and UDP under one number.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_os::bind::{BindError, bind_families};
use remoteingress_tunnel::transport::quic::steering::bind_group;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};

/// Ports that are tried where any will do.
const PORT_TRIES: u32 = 16;

/// The bound sockets of the tunnel port. Those of an end that only dials are none.
#[derive(Default)]
pub(crate) struct TunnelPort {
    pub(crate) listeners: Vec<TcpListener>,
    /// Per address a group of UDP sockets, one per worker.
    pub(crate) groups: Vec<Vec<UdpSocket>>,
}

impl TunnelPort {
    /// Binds both protocols for this many workers; `fields` names those of the configuration that say where.
    pub(crate) fn bind(
        address: Option<IpAddr>,
        port: u16,
        workers: usize,
        fields: &str,
    ) -> Result<Self, CodedError> {
        // A port that the kernel has chosen for TCP may be taken for UDP.
        let mut tries = if port == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Self::try_bind(address, port, workers) {
                Ok(bound) => return Ok(bound),
                Err(error) if error.code() == ErrorCode::AddressInUse && tries > 0 => {}
                Err(error) => {
                    let advice = format!("choose another {fields}, or stop what listens there");
                    let message = format!("the tunnel port: {error}; {advice}");
                    return Err(CodedError::new(error.code(), message));
                }
            }
        }
    }

    fn try_bind(address: Option<IpAddr>, port: u16, workers: usize) -> Result<Self, BindError> {
        let bound = bind_families(address, port, 1, true)?;
        let listeners: Vec<TcpListener> = bound.into_iter().flatten().collect();
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok());
        let groups = addresses.map(|address| bind_group(address, workers));
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { listeners, groups })
    }

    /// The number that the other end dials.
    pub(crate) fn number(&self) -> io::Result<u16> {
        let address = self.listeners.first().map(TcpListener::local_addr);
        Ok(address.transpose()?.map_or(0, |address| address.port()))
    }
}
