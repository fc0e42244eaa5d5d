//! Port specifications: what a user may write, and the checked map from listener port to target that comes of it.

mod span;
mod spec;

use std::net::IpAddr;

use remoteingress_proto::token::host::Host;
use serde::Deserialize;

pub use self::span::PortSpan;
pub(super) use self::{span::Port, spec::PortSpec};
use crate::error::CodedError;

/// The ports of one protocol of one edge, sorted and without overlap. Two lists that mean the same are equal,
/// however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap<P> {
    ranges: Vec<PortRange<P>>,
}

/// A run of listener ports whose targets run along: `first` goes to `target_port`, `first + 1` to `target_port + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange<P> {
    pub first: u16,
    /// Included.
    pub last: u16,
    /// Absent: the hub's own `targetHost`.
    pub target_host: Option<Host>,
    pub target_port: u16,
    pub proxy_protocol: P,
    /// Absent: the edge's own `bindAddress`.
    pub bind_address: Option<IpAddr>,
}

/// The header before the first byte of a TCP stream to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TcpProxyProtocol {
    #[default]
    V1,
    V2,
    None,
}

/// The header towards the target of a UDP flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UdpProxyProtocol {
    /// A datagram of its own before the first one, as SmartProxy and Cloudflare Spectrum have it.
    #[default]
    FirstDatagram,
    /// In front of each datagram's payload, as the specification has it.
    EveryDatagram,
    None,
}

impl<P> PortMap<P> {
    pub fn ranges(&self) -> &[PortRange<P>] {
        &self.ranges
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    #[cfg(test)]
    pub fn port_count(&self) -> usize {
        self.ranges
            .iter()
            .map(|range| range.span().port_count())
            .sum()
    }

    /// The range that holds a listener port, and that port's target port.
    pub fn target(&self, port: u16) -> Option<(&PortRange<P>, u16)> {
        let next = self.ranges.partition_point(|range| range.first <= port);
        let range = self.ranges[..next]
            .last()
            .filter(|range| port <= range.last)?;
        Some((range, range.target_port + (port - range.first)))
    }
}

impl<P> PortRange<P> {
    pub fn span(&self) -> PortSpan {
        PortSpan {
            first: self.first,
            last: self.last,
        }
    }
}

impl<P: Copy + Default + PartialEq> PortMap<P> {
    /// `path` is that of the list; `room` is how many ports the edge may still have and is used up.
    pub(super) fn build(
        specs: Vec<PortSpec<P>>,
        path: &str,
        room: &mut usize,
    ) -> Result<Self, CodedError> {
        // Sorted by first port, each with its place in the user's list.
        let mut placed: Vec<(PortRange<P>, usize)> = Vec::new();
        for (index, spec) in specs.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let range = spec.into_range(&path)?;
            *room = room.checked_sub(range.span().port_count()).ok_or_else(|| {
                CodedError::invalid_config(
                    &path,
                    format_args!(
                        "an edge has at most {MAX_PORTS_PER_EDGE} ports, TCP and UDP together"
                    ),
                )
            })?;
            let next = placed.partition_point(|(other, _)| other.first <= range.last);
            if let Some((other, earlier)) = placed[..next]
                .last()
                .filter(|(other, _)| other.last >= range.first)
            {
                let problem = format_args!(
                    "{} overlaps {}, which is entry [{earlier}] of the list; a port has one target",
                    range.span(),
                    other.span()
                );
                return Err(CodedError::invalid_config(path, problem));
            }
            placed.insert(next, (range, index));
        }
        let mut ranges: Vec<PortRange<P>> = Vec::with_capacity(placed.len());
        for (range, _) in placed {
            match ranges.last_mut() {
                Some(before) if before.is_continued_by(&range) => before.last = range.last,
                _ => ranges.push(range),
            }
        }
        Ok(Self { ranges })
    }
}

impl<P: PartialEq> PortRange<P> {
    fn is_continued_by(&self, next: &Self) -> bool {
        let length = u32::from(self.last - self.first) + 1;
        u32::from(self.first) + length == u32::from(next.first)
            && u32::from(self.target_port) + length == u32::from(next.target_port)
            && self.target_host == next.target_host
            && self.proxy_protocol == next.proxy_protocol
            && self.bind_address == next.bind_address
    }
}

/// One configuration message carries them all, and each is a listener on every worker and address family.
pub(super) const MAX_PORTS_PER_EDGE: usize = 4_096;

#[cfg(test)]
mod tests;
