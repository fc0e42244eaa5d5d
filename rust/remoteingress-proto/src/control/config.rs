//! Config: one whole generation of what the edge is to listen on.
//!
//! ```text
//! epoch 16 · generation u64 · STUN interval u32, seconds · streams allowed u32 · entries u16
//! entry: protocol u8 · first u16 · last u16 · bind u8 (0 none, 1 as the entry before, 4 or 6 an address)
//!
//! TLV 1, idle timeouts of UDP ports: each first u16 · last u16 · seconds u32
//! TLV 2, ports on several addresses: each protocol u8 · first u16 · last u16 · IP address · idle timeout u32, 0 none
//! ```

use std::net::IpAddr;

use super::chunks::MAX_CONTROL_MESSAGE_BEFORE;
use super::error::ControlError;
use super::ports::{count_range, read_protocol, read_range};
use crate::handshake::HubEpoch;
use crate::wire::header::Protocol;
use crate::wire::header::address::{FAMILY_V4, FAMILY_V6, read_ip, write_ip};
use crate::wire::tlv::{Cursor, Tlvs, write_tlv};

/// The most ports of one generation, all entries together: every port of either protocol.
pub const MAX_PORTS: usize = 2 * u16::MAX as usize;

/// The most ports that an edge without [`MANY_PORTS`](crate::wire::features::Features::MANY_PORTS) takes.
pub const MAX_PORTS_BEFORE: usize = 4096;

/// The state that the hub wants, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The hub's run; a new one wins over any generation of another.
    pub epoch: HubEpoch,
    /// Counts up within the epoch; an older one is ignored.
    pub generation: u64,
    /// Their order carries no meaning; whether they overlap is for the edge to judge.
    pub ports: Vec<ConfigPort>,
    /// Seconds between the edge's look-ups of its public address; 0 = none.
    pub stun_interval_secs: u32,
    /// Streams that the edge may have open at a time.
    pub max_streams: u32,
}

/// A range of ports to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigPort {
    /// For all ports of the range.
    pub protocol: Protocol,
    /// At least 1.
    pub first: u16,
    /// At least `first`; the range includes it.
    pub last: u16,
    /// Absent: the edge's own choice.
    pub bind_address: Option<IpAddr>,
    /// Seconds without a datagram after which a flow of these UDP ports is over. Absent: the edge's own choice, as with a hub
    /// of a version before 0.2.
    pub udp_idle_secs: Option<u32>,
    /// The same ports are there on other addresses, too: `bind_address` is there and tells them apart. Only for edges that
    /// have agreed on [`PORT_ADDRESSES`](crate::wire::features::Features::PORT_ADDRESSES).
    pub is_shared: bool,
}

impl Config {
    pub(super) fn encode(&self) -> Result<Vec<u8>, ControlError> {
        let once = || self.ports.iter().filter(|port| !port.is_shared);
        let entries = u16::try_from(once().count()).map_err(|_| ControlError::TooManyPorts)?;
        let mut out = Vec::with_capacity(64 + self.ports.len() * 8);
        out.extend_from_slice(&self.epoch.0);
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.stun_interval_secs.to_be_bytes());
        out.extend_from_slice(&self.max_streams.to_be_bytes());
        out.extend_from_slice(&entries.to_be_bytes());
        let mut total = 0;
        let mut previous = None;
        for port in once() {
            total = add_ports(total, count_range(port.first, port.last)?)?;
            out.push(port.protocol.to_wire());
            out.extend_from_slice(&port.first.to_be_bytes());
            out.extend_from_slice(&port.last.to_be_bytes());
            match port.bind_address {
                None => out.push(BIND_NONE),
                Some(address) if previous == Some(address) => out.push(BIND_SAME),
                Some(address) => write_ip(&mut out, address),
            }
            previous = port.bind_address;
        }
        let shared = encode_shared(&self.ports, &mut total)?;
        if !shared.is_empty() {
            write_tlv(&mut out, TLV_SHARED, &shared).map_err(|_| ControlError::TooLong)?;
        }
        let timeouts = encode_timeouts(&self.ports);
        // Without room for them, the edge's own count: that takes thousands of ports with an IPv6 address each.
        if !timeouts.is_empty() && out.len() + 4 + timeouts.len() <= MAX_CONTROL_MESSAGE_BEFORE {
            write_tlv(&mut out, TLV_UDP_IDLE, &timeouts).map_err(|_| ControlError::TooLong)?;
        }
        Ok(out)
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, ControlError> {
        let epoch = HubEpoch(cursor.array()?);
        let generation = cursor.u64()?;
        let stun_interval_secs = cursor.u32()?;
        let max_streams = cursor.u32()?;
        let entries = cursor.u16()?;
        let mut ports = Vec::new();
        let mut total = 0;
        let mut previous = None;
        for _ in 0..entries {
            let protocol = read_protocol(cursor)?;
            let (first, last, count) = read_range(cursor)?;
            total = add_ports(total, count)?;
            let bind_address = read_bind(cursor, previous)?;
            previous = bind_address;
            ports.push(ConfigPort {
                protocol,
                first,
                last,
                bind_address,
                udp_idle_secs: None,
                is_shared: false,
            });
        }
        let mut shared = Vec::new();
        for tlv in Tlvs::new(cursor.rest()) {
            let tlv = tlv?;
            match tlv.kind {
                TLV_UDP_IDLE => decode_timeouts(tlv.value, &mut ports)?,
                TLV_SHARED => shared = decode_shared(tlv.value, &mut total)?,
                _ => {}
            }
        }
        ports.extend(shared);
        Ok(Self {
            epoch,
            generation,
            ports,
            stun_interval_secs,
            max_streams,
        })
    }
}

fn encode_shared(ports: &[ConfigPort], total: &mut usize) -> Result<Vec<u8>, ControlError> {
    let mut out = Vec::new();
    for port in ports.iter().filter(|port| port.is_shared) {
        let address = port.bind_address;
        let address = address.ok_or(ControlError::Malformed(NO_ADDRESS))?;
        *total = add_ports(*total, count_range(port.first, port.last)?)?;
        out.push(port.protocol.to_wire());
        out.extend_from_slice(&port.first.to_be_bytes());
        out.extend_from_slice(&port.last.to_be_bytes());
        write_ip(&mut out, address);
        out.extend_from_slice(&port.udp_idle_secs.unwrap_or(0).to_be_bytes());
    }
    Ok(out)
}

fn decode_shared(value: &[u8], total: &mut usize) -> Result<Vec<ConfigPort>, ControlError> {
    let mut ports = Vec::new();
    let mut cursor = Cursor::new(value);
    while !cursor.is_empty() {
        let protocol = read_protocol(&mut cursor)?;
        let (first, last, count) = read_range(&mut cursor)?;
        *total = add_ports(*total, count)?;
        ports.push(ConfigPort {
            protocol,
            first,
            last,
            bind_address: Some(read_ip(&mut cursor)?),
            udp_idle_secs: Some(cursor.u32()?).filter(|seconds| *seconds > 0),
            is_shared: true,
        });
    }
    Ok(ports)
}

/// Neighbours with the same timeout are one range, whatever lies between them.
fn encode_timeouts(ports: &[ConfigPort]) -> Vec<u8> {
    let timed = ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp && !port.is_shared);
    let timed = timed.filter_map(|port| Some((port.first, port.last, port.udp_idle_secs?)));
    let mut timed: Vec<(u16, u16, u32)> = timed.collect();
    timed.sort_unstable();
    timed.dedup_by(|next, before| {
        let is_same = next.2 == before.2;
        if is_same {
            before.1 = before.1.max(next.1);
        }
        is_same
    });
    let mut out = Vec::with_capacity(timed.len() * 8);
    for (first, last, seconds) in timed {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    out
}

fn decode_timeouts(value: &[u8], ports: &mut [ConfigPort]) -> Result<(), ControlError> {
    let mut timeouts = Vec::new();
    let mut cursor = Cursor::new(value);
    while !cursor.is_empty() {
        let (first, last, _) = read_range(&mut cursor)?;
        let seconds = cursor.u32()?;
        if seconds == 0 {
            return Err(ControlError::Malformed("an idle timeout is zero"));
        }
        if timeouts
            .last()
            .is_some_and(|(_, before, _)| first <= *before)
        {
            return Err(ControlError::Malformed("idle timeouts aren't in order"));
        }
        timeouts.push((first, last, seconds));
    }
    for port in ports
        .iter_mut()
        .filter(|port| port.protocol == Protocol::Udp)
    {
        let next = timeouts.partition_point(|(first, _, _)| *first <= port.first);
        let found = timeouts[..next].last();
        let found = found.filter(|(_, last, _)| port.first <= *last);
        port.udp_idle_secs = found.map(|(_, _, seconds)| *seconds);
    }
    Ok(())
}

fn read_bind(
    cursor: &mut Cursor<'_>,
    previous: Option<IpAddr>,
) -> Result<Option<IpAddr>, ControlError> {
    let mut ahead = cursor.clone();
    match ahead.u8()? {
        BIND_NONE => {
            *cursor = ahead;
            Ok(None)
        }
        BIND_SAME if previous.is_some() => {
            *cursor = ahead;
            Ok(previous)
        }
        FAMILY_V4 | FAMILY_V6 => Ok(Some(read_ip(cursor)?)),
        _ => Err(ControlError::Malformed("unknown bind address")),
    }
}

fn add_ports(total: usize, more: usize) -> Result<usize, ControlError> {
    if total + more > MAX_PORTS {
        Err(ControlError::TooManyPorts)
    } else {
        Ok(total + more)
    }
}

const TLV_UDP_IDLE: u16 = 1;
const TLV_SHARED: u16 = 2;
const NO_ADDRESS: &str = "a port on several addresses has none";
const BIND_NONE: u8 = 0;
const BIND_SAME: u8 = 1;
