//! Port specifications: what a user may write, and the checked map from listener port to target that comes of it.

mod range;
mod span;
mod spec;

use serde::Deserialize;

pub use self::{range::PortRange, span::PortSpan};
pub(super) use self::{span::Port, spec::PortSpec};
#[cfg(feature = "schema")]
pub(super) use self::{span::PortText, spec::PortShape};
use crate::error::CodedError;

/// The ports of one protocol of one edge, sorted and without overlap. Two lists that mean the same are equal,
/// however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap<P> {
    ranges: Vec<PortRange<P>>,
}

/// The way a TCP target learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

impl<P> PortMap<P> {
    /// The ranges, by first port.
    pub fn ranges(&self) -> &[PortRange<P>] {
        &self.ranges
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn port_count(&self) -> usize {
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

impl<P: Copy + Default + PartialEq> PortMap<P> {
    /// `path` is that of the list; `room` is how many entries the edge's lists may still have and is used up.
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
            *room = room.checked_sub(1).ok_or_else(|| {
                let problem = format_args!(
                    "an edge has at most {MAX_ENTRIES_PER_EDGE} of these, TCP and UDP together; write neighbours as a range"
                );
                CodedError::invalid_config(&path, problem)
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

/// One configuration message carries them all.
pub(super) const MAX_ENTRIES_PER_EDGE: usize = 4_096;

#[cfg(test)]
mod tests;
