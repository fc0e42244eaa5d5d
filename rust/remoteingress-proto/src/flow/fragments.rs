//! Puts fragments together, exactly: what overlaps, comes too late or is too much is dropped and counted (D10).

use super::id::FlowId;
use super::linked::{LinkedSlab, List};
use super::wire::{Fragment, MAX_FRAGMENTS};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Packets that wait for fragments, per flow: the second may overtake parts of the first (D10).
const MAX_PER_FLOW: usize = 2;
/// Bytes of packets that wait, per session: 64 of the largest (D10).
const MAX_BYTES: usize = 4 * 1_024 * 1_024;
/// A part that is missing for this long is lost (D10).
const PATIENCE: Duration = Duration::from_secs(2);
/// The cost of a packet beside its bytes, so that small ones are bounded too.
const OVERHEAD: usize = 256;

/// Payloads that were given up, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentDrops {
    /// A part was missing for 2 s.
    pub late: u64,
    /// Parts that contradict each other, or too many.
    pub invalid: u64,
    /// Pushed out by newer ones.
    pub overflow: u64,
}

#[derive(Debug)]
struct Packet {
    flow: FlowId,
    number: u32,
    since: Instant,
    buffer: Vec<u8>,
    /// Start and end of what has come, in the order of their place.
    parts: Vec<(u16, u16)>,
    missing: usize,
}

/// Payloads of which parts have come. One per session and direction.
#[derive(Debug, Default)]
pub struct Reassembler {
    packets: LinkedSlab<Packet, 1>,
    by_age: List,
    flows: HashMap<FlowId, [Option<usize>; MAX_PER_FLOW]>,
    bytes: usize,
    drops: FragmentDrops,
}

enum Placed {
    Whole,
    Part,
    Again,
    Contradiction,
}

impl Packet {
    fn place(&mut self, fragment: &Fragment) -> Placed {
        let (start, length) = (usize::from(fragment.offset), fragment.part.len());
        let Ok(end) = u16::try_from(start + length) else {
            return Placed::Contradiction;
        };
        if usize::from(fragment.total) != self.buffer.len() {
            return Placed::Contradiction;
        }
        let range = (fragment.offset, end);
        let place = self.parts.partition_point(|part| part.0 < range.0);
        if self.parts.get(place) == Some(&range) {
            return Placed::Again;
        }
        let hits_next = self.parts.get(place).is_some_and(|next| next.0 < range.1);
        let before = place
            .checked_sub(1)
            .and_then(|before| self.parts.get(before));
        let hits_before = before.is_some_and(|before| range.0 < before.1);
        let Some(room) = self.buffer.get_mut(start..start + length) else {
            return Placed::Contradiction;
        };
        if hits_next || hits_before || self.parts.len() == MAX_FRAGMENTS {
            return Placed::Contradiction;
        }
        room.copy_from_slice(&fragment.part);
        self.parts.insert(place, range);
        self.missing -= length;
        if self.missing == 0 {
            Placed::Whole
        } else {
            Placed::Part
        }
    }
}

impl Reassembler {
    /// Takes a fragment; gives the payload that it makes whole.
    pub fn handle(&mut self, now: Instant, flow: FlowId, fragment: &Fragment) -> Option<Bytes> {
        self.expire(now);
        let index = match self.find(flow, fragment.packet) {
            Some(index) => index,
            None => self.insert(now, flow, fragment),
        };
        match self.packets.get_mut(index)?.place(fragment) {
            Placed::Part | Placed::Again => None,
            Placed::Whole => self.remove(index).map(|packet| packet.buffer.into()),
            Placed::Contradiction => {
                self.remove(index);
                self.drops.invalid += 1;
                None
            }
        }
    }

    /// Gives up what has waited for too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(index) = self.by_age.first()
            && self
                .packets
                .get(index)
                .is_some_and(|packet| now.saturating_duration_since(packet.since) >= PATIENCE)
        {
            self.remove(index);
            self.drops.late += 1;
        }
    }

    /// Packets that were given up, and parts that fitted none.
    pub fn drops(&self) -> FragmentDrops {
        self.drops
    }

    /// Bytes that wait for others, with what it takes to keep them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&self, flow: FlowId, number: u32) -> Option<usize> {
        let mut own = self.flows.get(&flow)?.iter().flatten().copied();
        own.find(|index| {
            let packet = self.packets.get(*index);
            packet.is_some_and(|packet| packet.number == number)
        })
    }

    fn insert(&mut self, now: Instant, flow: FlowId, fragment: &Fragment) -> usize {
        let total = usize::from(fragment.total);
        if let Some(&[Some(older), Some(_)]) = self.flows.get(&flow) {
            self.give_up(older);
        }
        while self.bytes + total + OVERHEAD > MAX_BYTES
            && let Some(oldest) = self.by_age.first()
        {
            self.give_up(oldest);
        }
        self.bytes += total + OVERHEAD;
        let index = self.packets.insert(Packet {
            flow,
            number: fragment.packet,
            since: now,
            buffer: vec![0; total],
            parts: Vec::with_capacity(4),
            missing: total,
        });
        self.packets.push_back(&mut self.by_age, 0, index);
        let own = self.flows.entry(flow).or_default();
        if let Some(slot) = own.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(index);
        }
        index
    }

    fn give_up(&mut self, index: usize) {
        self.remove(index);
        self.drops.overflow += 1;
    }

    fn remove(&mut self, index: usize) -> Option<Packet> {
        self.packets.unlink(&mut self.by_age, 0, index);
        let packet = self.packets.remove(index)?;
        self.bytes -= packet.buffer.len() + OVERHEAD;
        if let Some(own) = self.flows.get_mut(&packet.flow) {
            // The older one stands first.
            if own.first() == Some(&Some(index)) {
                own.rotate_left(1);
            }
            if let Some(last) = own.last_mut() {
                *last = None;
            }
            if own.iter().all(Option::is_none) {
                self.flows.remove(&packet.flow);
            }
        }
        Some(packet)
    }
}
