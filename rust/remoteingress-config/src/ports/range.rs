//! A run of listener ports and its targets.

use std::net::IpAddr;
use std::time::Duration;

use remoteingress_proto::token::host::Host;

use super::span::PortSpan;
use crate::{name::Name, target::TargetPath};

/// A run of listener ports whose targets run along: `first` goes to `target_port`, `first + 1` to `target_port + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange<P> {
    /// The lowest listener port.
    pub first: u16,
    /// The highest listener port.
    pub last: u16,
    /// Absent: the hub's own `targetHost`.
    pub target_host: Option<Host>,
    /// The target port of `first`.
    pub target_port: u16,
    /// The target is this unix socket instead.
    pub target_path: Option<TargetPath>,
    /// The target is one of this pool instead.
    pub pool: Option<PoolOfPort>,
    /// The way the target learns the client's address.
    pub proxy_protocol: P,
    /// Absent: the edge's own `bindAddress`.
    pub bind_address: Option<IpAddr>,
    /// Of a UDP port's flows. Absent: the hub's own.
    pub udp_idle_timeout: Option<Duration>,
}

/// The pool that a port names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOfPort {
    /// The pool's name.
    pub name: Name,
    /// The port itself says what targets are told of the client; otherwise the target's source may.
    pub says_header: bool,
}

impl<P> PortRange<P> {
    /// The listener ports.
    pub fn span(&self) -> PortSpan {
        PortSpan {
            first: self.first,
            last: self.last,
        }
    }
}

impl<P: PartialEq> PortRange<P> {
    /// Tells if the two are one range in fact.
    pub(super) fn is_continued_by(&self, next: &Self) -> bool {
        let length = u32::from(self.last - self.first) + 1;
        u32::from(self.first) + length == u32::from(next.first)
            && u32::from(self.target_port) + length == u32::from(next.target_port)
            && self.target_path == next.target_path
            && self.pool == next.pool
            && self.target_host == next.target_host
            && self.proxy_protocol == next.proxy_protocol
            && self.bind_address == next.bind_address
            && self.udp_idle_timeout == next.udp_idle_timeout
    }
}
