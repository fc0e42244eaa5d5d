//! Port specifications: what a user may write, and the checked map from listener port to target that comes of it.

mod placed;
mod range;
mod room;
mod span;
mod spec;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use self::placed::Placed;
pub use self::{
    range::{PoolOfPort, PortRange},
    span::PortSpan,
};
pub(super) use self::{room::Room, span::Port, spec::PortSpec};
#[cfg(feature = "schema")]
pub(super) use self::{span::PortText, spec::PortShape};
use crate::error::CodedError;

/// The ports of one protocol of one edge, sorted and without overlap. Two lists that mean the same are equal,
/// however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap<P> {
    /// Ports that are there once, on whatever address.
    ranges: Vec<PortRange<P>>,
    /// Ports that are there on several addresses, by address.
    shared: Vec<(IpAddr, Vec<PortRange<P>>)>,
}

/// The way a TCP target learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TcpProxyProtocol {
    /// A line of text ahead of the client's first byte.
    #[default]
    V1,
    /// A binary header ahead of the client's first byte.
    V2,
    /// No header, for targets that don't parse one, such as ssh and databases.
    None,
}

/// The way a UDP target learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum UdpProxyProtocol {
    /// A PROXY v2 header in a datagram of its own before the client's first one, as SmartProxy and Cloudflare Spectrum
    /// have it.
    #[default]
    FirstDatagram,
    /// A PROXY v2 header in front of each datagram's payload, as the specification has it.
    EveryDatagram,
    /// No header, for targets that don't parse one, such as WireGuard.
    None,
}

impl From<TcpProxyProtocol> for UdpProxyProtocol {
    /// Where one word is for both: any header is one of its own.
    fn from(header: TcpProxyProtocol) -> Self {
        match header {
            TcpProxyProtocol::V1 | TcpProxyProtocol::V2 => Self::FirstDatagram,
            TcpProxyProtocol::None => Self::None,
        }
    }
}

impl<P> PortMap<P> {
    /// The ranges whose ports are there once, by first port.
    pub fn ranges(&self) -> &[PortRange<P>] {
        &self.ranges
    }

    /// The ranges that have ports which are there on several addresses: each has its own target. By address, then by first
    /// port.
    pub fn shared(&self) -> impl Iterator<Item = &PortRange<P>> {
        self.shared.iter().flat_map(|(_, ranges)| ranges)
    }

    /// The pools that its ports name.
    pub fn pools(&self) -> impl Iterator<Item = &PoolOfPort> {
        let ranges = self.ranges.iter().chain(self.shared());
        ranges.filter_map(|range| range.pool.as_ref())
    }

    /// The same, each with what its port has for the PROXY header.
    pub fn pools_and_headers(&self) -> impl Iterator<Item = (&PoolOfPort, P)>
    where
        P: Copy,
    {
        let ranges = self.ranges.iter().chain(self.shared());
        ranges.filter_map(|range| Some((range.pool.as_ref()?, range.proxy_protocol)))
    }

    /// True if it has no port at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.shared.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn port_count(&self) -> usize {
        let ranges = self.ranges.iter().chain(self.shared());
        ranges.map(|range| range.span().port_count()).sum()
    }

    /// The range that holds a listener port, and that port's target port. `address` is the one that the client came to: it
    /// decides where the port is there on several.
    pub fn target(&self, port: u16, address: IpAddr) -> Option<(&PortRange<P>, u16)> {
        let range = find(&self.ranges, port).or_else(|| self.find_shared(port, address))?;
        Some((range, range.target_port + (port - range.first)))
    }

    fn find_shared(&self, port: u16, address: IpAddr) -> Option<&PortRange<P>> {
        let place = |wanted| self.shared.binary_search_by_key(&wanted, |(own, _)| *own);
        let whole_family = match address.to_canonical() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut found = [address.to_canonical(), whole_family]
            .into_iter()
            .filter_map(|wanted| self.shared.get(place(wanted).ok()?));
        found.find_map(|(_, ranges)| find(ranges, port))
    }
}

fn find<P>(ranges: &[PortRange<P>], port: u16) -> Option<&PortRange<P>> {
    let next = ranges.partition_point(|range| range.first <= port);
    ranges[..next].last().filter(|range| port <= range.last)
}

impl<P: Copy + Default + PartialEq> PortMap<P> {
    /// `path` is that of the list; `room` is what the edge's lists may still have, and is used up.
    pub(super) fn build(
        specs: Vec<PortSpec<P>>,
        path: &str,
        room: &mut Room,
    ) -> Result<Self, CodedError> {
        let mut placed = Placed::default();
        for (index, spec) in specs.into_iter().enumerate() {
            let entry = format!("{path}[{index}]");
            let range = spec.into_range(&entry)?;
            room.take(&entry, range.span().port_count())?;
            placed.insert(range, index, path)?;
        }
        let (ranges, shared) = placed.into_ranges();
        let map = Self { ranges, shared };
        if map.shared().count() > MAX_SHARED_RANGES {
            let problem = format!(
                "has more than {MAX_SHARED_RANGES} entries whose ports are there on several addresses"
            );
            return Err(CodedError::invalid_config(path, problem));
        }
        Ok(map)
    }
}

/// One configuration message carries them all, each with its address.
const MAX_SHARED_RANGES: usize = 512;

#[cfg(test)]
mod tests;
