//! The port that edges dial: TCP and UDP under one number.

use remoteingress_config::HubConfig;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_os::bind::{BindError, bind_families};
use remoteingress_tunnel::transport::quic::steering::bind_group;
use std::io;
use std::net::{TcpListener, UdpSocket};

/// Ports that are tried where any will do.
const PORT_TRIES: u32 = 16;

/// The bound sockets of the tunnel port.
pub(super) struct TunnelPort {
    pub(super) listeners: Vec<TcpListener>,
    /// Per address a group of UDP sockets, one per worker.
    pub(super) groups: Vec<Vec<UdpSocket>>,
}

impl TunnelPort {
    pub(super) fn bind(config: &HubConfig) -> Result<Self, CodedError> {
        // A port that the kernel has chosen for TCP may be taken for UDP.
        let mut tries = if config.tunnel_port == 0 {
            PORT_TRIES
        } else {
            1
        };
        loop {
            tries -= 1;
            match Self::try_bind(config) {
                Ok(bound) => return Ok(bound),
                Err(error) if error.code() == ErrorCode::AddressInUse && tries > 0 => {}
                Err(error) => {
                    let advice =
                        "choose another tunnelPort or bindAddress, or stop what listens there";
                    let message = format!("the tunnel port: {error}; {advice}");
                    return Err(CodedError::new(error.code(), message));
                }
            }
        }
    }

    fn try_bind(config: &HubConfig) -> Result<Self, BindError> {
        let bound = bind_families(config.bind_address, config.tunnel_port, 1, true)?;
        let listeners: Vec<TcpListener> = bound.into_iter().flatten().collect();
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok());
        let groups = addresses.map(|address| bind_group(address, config.engine.workers));
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { listeners, groups })
    }

    /// The number that edges dial.
    pub(super) fn number(&self) -> io::Result<u16> {
        let address = self.listeners.first().map(TcpListener::local_addr);
        Ok(address.transpose()?.map_or(0, |address| address.port()))
    }
}
