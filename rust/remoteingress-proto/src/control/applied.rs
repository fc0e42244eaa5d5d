//! Applied: what became of a generation on the edge.
//!
//! ```text
//! epoch 16 · generation u64 · outcome u8
//!   1 applied: entries u16, then entries of  state u8 · protocol u8 · …
//!       1 bound, 2 draining   a run of ports: first u16 · last u16
//!       3 failed              one port: port u16 · code u8 · message (length u8, UTF-8)
//!       4 failed alike        a run of ports: first u16 · last u16 · code u8 · message
//!   2 refused: code u8 · message (length u8, UTF-8)
//!
//! TLV 1, ports that are there on several addresses: each IP address · entries u16 · entries as above
//! ```
//!
//! Only peers with the feature `MANY_PORTS` know state 4 and code 5, and more than 8,192 ports.

use std::net::IpAddr;

use super::chunks::MAX_CONTROL_MESSAGE_BEFORE;
use super::error::ControlError;
use super::ports::{count_range, read_protocol, read_range};
use crate::handshake::HubEpoch;
use crate::wire::features::Features;
use crate::wire::header::Protocol;
use crate::wire::header::address::{read_ip, write_ip};
use crate::wire::tlv::{Cursor, Tlvs, write_tlv};

/// The most ports of one report: every port of either protocol. A port that drains isn't in the generation.
pub const MAX_PORT_STATES: usize = 2 * u16::MAX as usize;

/// The most ports that a report to a hub without [`Features::MANY_PORTS`] names.
const MAX_PORT_STATES_BEFORE: usize = 8192;

/// The longest explanation of a failure, in bytes; a longer one is cut, also to fit the whole report
/// into one message. The code is always there.
pub const MAX_FAILURE_MESSAGE: usize = 200;

/// The edge's answer to a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The run of the hub that made the generation.
    pub epoch: HubEpoch,
    /// The generation that this answers.
    pub generation: u64,
    /// Tells whether the generation is in force.
    pub outcome: ApplyOutcome,
}

/// The fate of a generation on the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// It is in force; per port, whether that worked.
    Applied(Vec<PortState>),
    /// It was refused whole; the one before stays in force.
    Refused(ApplyRefusal),
}

/// The state of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// TCP and UDP ports of one number are two ports.
    pub protocol: Protocol,
    /// Its number, never 0.
    pub port: u16,
    /// Only where the port is there on several addresses: the one of these. Boxed, so that others don't pay for it.
    pub address: Option<Box<IpAddr>>,
    /// Tells whether clients reach it.
    pub status: PortStatus,
}

/// Tells whether a port serves clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortStatus {
    /// It does.
    Bound,
    /// It is tried again.
    Failed {
        /// Reason, for programs.
        code: PortFailure,
        /// Reason, for people: at most [`MAX_FAILURE_MESSAGE`] bytes on the wire.
        message: Box<str>,
    },
    /// It accepts no more; its streams run on.
    Draining,
}

/// Reason why a generation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyRefusal {
    /// Reason, for programs.
    pub code: RefusalCode,
    /// Reason, for people: at most [`MAX_FAILURE_MESSAGE`] bytes on the wire.
    pub message: String,
}

/// Declares a fieldless enum with its byte on the wire and its name in events and status.
macro_rules! wire_codes {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $byte:literal $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The name in camelCase; errors carry it as `E_` and UPPER_SNAKE.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            const fn to_wire(self) -> u8 {
                match self { $(Self::$variant => $byte),+ }
            }

            const fn from_wire(byte: u8) -> Result<Self, ControlError> {
                match byte {
                    $($byte => Ok(Self::$variant),)+
                    _ => Err(ControlError::Malformed(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

wire_codes! {
    /// Reason why a port isn't bound.
    PortFailure {
        /// Another process has it.
        AddressInUse = 1 "addressInUse",
        /// The process may not bind it, as with ports below 1,024.
        PermissionDenied = 2 "permissionDenied",
        /// The edge's own configuration excludes it.
        NotAllowed = 3 "portNotAllowed",
        /// Anything else: the message says more.
        BindFailed = 4 "bindFailed",
        /// The process may have no more descriptors for listeners.
        DescriptorLimit = 5 "descriptorLimit",
    }
}

wire_codes! {
    /// Reason why a generation was refused whole.
    RefusalCode {
        /// It contradicts itself or a limit.
        InvalidConfig = 1 "invalidConfig",
        /// It asks for something that this edge can't do.
        NotSupported = 2 "notSupported",
    }
}

impl PortState {
    /// Only where the port is there on several addresses: the one of these.
    pub fn address(&self) -> Option<IpAddr> {
        self.address.as_deref().copied()
    }
}

impl PortFailure {
    /// The code as the peer knows it: without [`Features::MANY_PORTS`] the nearest one.
    fn told(self, are_many: bool) -> Self {
        if self == Self::DescriptorLimit && !are_many {
            Self::BindFailed
        } else {
            self
        }
    }
}

impl Applied {
    /// For a peer with these features.
    pub(super) fn encode(&self, peer: Features) -> Result<Vec<u8>, ControlError> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&self.epoch.0);
        out.extend_from_slice(&self.generation.to_be_bytes());
        match &self.outcome {
            ApplyOutcome::Applied(states) => {
                out.push(OUTCOME_APPLIED);
                encode_states(states, peer.contains(Features::MANY_PORTS), &mut out)?;
            }
            ApplyOutcome::Refused(ApplyRefusal { code, message }) => {
                out.extend_from_slice(&[OUTCOME_REFUSED, code.to_wire()]);
                write_text(&mut out, message, MAX_FAILURE_MESSAGE);
            }
        }
        Ok(out)
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, ControlError> {
        let epoch = HubEpoch(cursor.array()?);
        let generation = cursor.u64()?;
        let outcome = match cursor.u8()? {
            OUTCOME_APPLIED => ApplyOutcome::Applied(decode_states(cursor)?),
            OUTCOME_REFUSED => {
                let code = RefusalCode::from_wire(cursor.u8()?)?;
                ApplyOutcome::Refused(ApplyRefusal {
                    code,
                    message: read_text(cursor)?,
                })
            }
            _ => return Err(ControlError::Malformed("unknown outcome")),
        };
        Ok(Self {
            epoch,
            generation,
            outcome,
        })
    }
}

/// Ports of one state that follow each other share an entry, as in a configuration of ranges. A hub that knows only few
/// ports is told as many as it knows, and of more entries than can be counted the last ones are left out.
fn encode_states(
    states: &[PortState],
    are_many: bool,
    out: &mut Vec<u8>,
) -> Result<(), ControlError> {
    if states.len() > MAX_PORT_STATES {
        return Err(ControlError::TooManyPorts);
    }
    let most = if are_many {
        states.len()
    } else {
        states.len().min(MAX_PORT_STATES_BEFORE)
    };
    let (mut shared, once): (Vec<&PortState>, Vec<&PortState>) = states[..most]
        .iter()
        .partition(|state| state.address.is_some());
    shared.sort_by_key(|state| state.address());
    let alike = |before: &&PortState, after: &&PortState| continues(before, after, are_many);
    let once: Vec<_> = once.chunk_by(alike).take(u16::MAX.into()).collect();
    let shared: Vec<_> = shared.chunk_by(alike).collect();
    let mut fixed = out.len() + ENTRY_COUNT + once.len() * LONGEST_FIXED_ENTRY;
    // As many as fit: thousands of addresses, or entries.
    let longest = if are_many {
        usize::from(u16::MAX)
    } else {
        MAX_CONTROL_MESSAGE_BEFORE
            .saturating_sub(fixed + TLV_HEAD)
            .min(u16::MAX.into())
    };
    let mut room = longest;
    let groups = shared.chunk_by(is_on_same_address).map(|group| {
        let fit = room.saturating_sub(LONGEST_GROUP_HEAD) / LONGEST_FIXED_ENTRY;
        let group = &group[..group.len().min(fit)];
        if !group.is_empty() {
            room -= LONGEST_GROUP_HEAD + group.len() * LONGEST_FIXED_ENTRY;
        }
        group
    });
    let groups: Vec<_> = groups.filter(|group| !group.is_empty()).collect();
    let groups_fixed = longest - room;
    if !groups.is_empty() {
        fixed += TLV_HEAD + groups_fixed;
    }
    let entries = u16::try_from(once.len()).map_err(|_| ControlError::TooManyPorts)?;
    out.extend_from_slice(&entries.to_be_bytes());

    // Room that is left for messages once every entry has its fixed part. Long reports have codes only.
    let mut text_room = MAX_CONTROL_MESSAGE_BEFORE.saturating_sub(fixed);
    for run in once {
        encode_run(run, are_many, &mut text_room, out)?;
    }
    if groups.is_empty() {
        return Ok(());
    }
    let mut text_room = text_room.min(room);
    let mut value = Vec::with_capacity(groups_fixed);
    for group in groups {
        let address = group.first().and_then(|run| run.first()?.address());
        let Some(address) = address else { continue };
        let entries = u16::try_from(group.len()).map_err(|_| ControlError::TooManyPorts)?;
        write_ip(&mut value, address);
        value.extend_from_slice(&entries.to_be_bytes());
        for run in group {
            encode_run(run, are_many, &mut text_room, &mut value)?;
        }
    }
    write_tlv(out, TLV_SHARED, &value).map_err(|_| ControlError::TooLong)
}

fn encode_run(
    run: &[&PortState],
    are_many: bool,
    text_room: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), ControlError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(());
    };
    count_range(first.port, last.port)?;
    let state = match first.status {
        PortStatus::Bound => STATE_BOUND,
        PortStatus::Draining => STATE_DRAINING,
        PortStatus::Failed { .. } if run.len() == 1 => STATE_FAILED,
        PortStatus::Failed { .. } => STATE_FAILED_ALIKE,
    };
    out.extend_from_slice(&[state, first.protocol.to_wire()]);
    out.extend_from_slice(&first.port.to_be_bytes());
    if state != STATE_FAILED {
        out.extend_from_slice(&last.port.to_be_bytes());
    }
    if let PortStatus::Failed { code, message } = &first.status {
        out.push(code.told(are_many).to_wire());
        *text_room -= write_text(out, message, (*text_room).min(MAX_FAILURE_MESSAGE));
    }
    Ok(())
}

fn is_on_same_address(one: &&[&PortState], other: &&[&PortState]) -> bool {
    let address = |run: &[&PortState]| run.first().and_then(|state| state.address());
    address(one) == address(other)
}

fn continues(before: &PortState, after: &PortState, are_many: bool) -> bool {
    let alike = match (&before.status, &after.status) {
        (PortStatus::Failed { .. }, failed) => are_many && before.status == *failed,
        (before, after) => before == after,
    };
    alike
        && (before.protocol, &before.address) == (after.protocol, &after.address)
        && before.port.checked_add(1) == Some(after.port)
}

fn decode_states(cursor: &mut Cursor<'_>) -> Result<Vec<PortState>, ControlError> {
    let mut states = Vec::new();
    decode_entries(cursor, None, &mut states)?;
    for tlv in Tlvs::new(cursor.rest()) {
        let tlv = tlv?;
        if tlv.kind != TLV_SHARED {
            continue;
        }
        let mut groups = Cursor::new(tlv.value);
        while !groups.is_empty() {
            let address = read_ip(&mut groups)?;
            decode_entries(&mut groups, Some(address), &mut states)?;
        }
    }
    Ok(states)
}

fn decode_entries(
    cursor: &mut Cursor<'_>,
    address: Option<IpAddr>,
    states: &mut Vec<PortState>,
) -> Result<(), ControlError> {
    let entries = cursor.u16()?;
    for _ in 0..entries {
        let state = cursor.u8()?;
        let protocol = read_protocol(cursor)?;
        let status = match state {
            STATE_BOUND => PortStatus::Bound,
            STATE_DRAINING => PortStatus::Draining,
            STATE_FAILED | STATE_FAILED_ALIKE => {
                let first = cursor.u16()?;
                let last = if state == STATE_FAILED {
                    first
                } else {
                    cursor.u16()?
                };
                let count = count_range(first, last)?;
                if states.len() + count > MAX_PORT_STATES {
                    return Err(ControlError::TooManyPorts);
                }
                let code = PortFailure::from_wire(cursor.u8()?)?;
                let message = read_text(cursor)?.into();
                let status = PortStatus::Failed { code, message };
                states.extend((first..=last).map(|port| PortState {
                    protocol,
                    port,
                    address: address.map(Box::new),
                    status: status.clone(),
                }));
                continue;
            }
            _ => return Err(ControlError::Malformed("unknown port state")),
        };
        let (first, last, count) = read_range(cursor)?;
        if states.len() + count > MAX_PORT_STATES {
            return Err(ControlError::TooManyPorts);
        }
        states.extend((first..=last).map(|port| PortState {
            protocol,
            port,
            address: address.map(Box::new),
            status: status.clone(),
        }));
    }
    Ok(())
}

/// Writes as much of a text as fits, cut between characters; gives the length of what was written.
fn write_text(out: &mut Vec<u8>, text: &str, room: usize) -> usize {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (end, length) = u8::try_from(end).map_or((0, 0), |length| (end, length));
    out.push(length);
    out.extend_from_slice(&text.as_bytes()[..end]);
    end
}

fn read_text(cursor: &mut Cursor<'_>) -> Result<String, ControlError> {
    let length = usize::from(cursor.u8()?);
    if length > MAX_FAILURE_MESSAGE {
        return Err(ControlError::Malformed("message is too long"));
    }
    let text = std::str::from_utf8(cursor.take(length)?)
        .map_err(|_| ControlError::Malformed("message is no UTF-8"))?;
    Ok(text.to_owned())
}

const OUTCOME_APPLIED: u8 = 1;
const OUTCOME_REFUSED: u8 = 2;

const STATE_BOUND: u8 = 1;
const STATE_DRAINING: u8 = 2;
const STATE_FAILED: u8 = 3;
const STATE_FAILED_ALIKE: u8 = 4;

/// State, protocol, a range of ports that failed alike, their code and an empty message.
const LONGEST_FIXED_ENTRY: usize = 8;
/// The number of entries.
const ENTRY_COUNT: usize = 2;

const TLV_SHARED: u16 = 1;
/// Type and length.
const TLV_HEAD: usize = 4;
/// An IPv6 address with its family, and the number of entries.
const LONGEST_GROUP_HEAD: usize = 19;
