//! The hub's flows of one session: what each id stands for, and which must go when the edge has too many
//! (threats A1.7).

use super::id::FlowId;
use super::linked::{LinkedSlab, List};
use super::quota::FlowCount;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All flows, the one that was silent longest first.
const BY_ACTIVITY: usize = 0;
/// Flows whose target hasn't answered yet, the oldest first.
const ONE_WAY: usize = 1;

/// The edge has as many flows as it may, and none of this session can make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Flow<V> {
    id: FlowId,
    value: V,
    active_at: Instant,
    is_two_way: bool,
}

/// The flows of one session at a hub, with a value of the owner's for each. A value is dropped with its flow; the count
/// is that of all the edge's sessions.
#[derive(Debug)]
pub struct HubFlows<V> {
    idle: Duration,
    max: usize,
    count: Arc<FlowCount>,
    flows: LinkedSlab<Flow<V>, 2>,
    by_id: HashMap<FlowId, usize>,
    by_activity: List,
    one_way: List,
}

impl<V> HubFlows<V> {
    /// No flows yet; one that is silent for `idle` ends, and `count` never exceeds `max`.
    pub fn new(idle: Duration, max: usize, count: Arc<FlowCount>) -> Self {
        Self {
            idle,
            max,
            count,
            flows: LinkedSlab::default(),
            by_id: HashMap::new(),
            by_activity: List::default(),
            one_way: List::default(),
        }
    }

    /// Other limits from now on; flows that are too many stay until they end.
    pub fn set_limits(&mut self, idle: Duration, max: usize) {
        self.idle = idle;
        self.max = max;
    }

    /// Flows of this session.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A datagram of the edge has come for this flow.
    pub fn from_edge(&mut self, now: Instant, id: FlowId) -> Option<&mut V> {
        self.expire(now);
        let index = *self.by_id.get(&id)?;
        self.touch(now, index)
    }

    /// The target has sent something; the flow is two-way from now on.
    pub fn from_target(&mut self, now: Instant, id: FlowId) -> Option<&mut V> {
        self.expire(now);
        let index = *self.by_id.get(&id)?;
        let flow = self.flows.get_mut(index);
        if let Some(flow) = flow.filter(|flow| !flow.is_two_way) {
            flow.is_two_way = true;
            self.flows.unlink(&mut self.one_way, ONE_WAY, index);
        }
        self.touch(now, index)
    }

    /// A new flow. It takes the place of one with the same id, or of the oldest one-way flow where there
    /// are too many.
    pub fn insert(&mut self, now: Instant, id: FlowId, value: V) -> Result<(), Full> {
        self.remove(id);
        while !self.count.take(self.max) {
            let oldest = self.one_way.first().ok_or(Full)?;
            self.remove_at(oldest);
        }
        let index = self.flows.insert(Flow {
            id,
            value,
            active_at: now,
            is_two_way: false,
        });
        self.by_id.insert(id, index);
        self.flows
            .push_back(&mut self.by_activity, BY_ACTIVITY, index);
        self.flows.push_back(&mut self.one_way, ONE_WAY, index);
        Ok(())
    }

    /// Ends a flow, if there is one.
    pub fn remove(&mut self, id: FlowId) {
        if let Some(index) = self.by_id.get(&id) {
            self.remove_at(*index);
        }
    }

    /// Ends the flows that have been idle for too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(index) = self.by_activity.first()
            && self
                .flows
                .get(index)
                .is_some_and(|flow| now.saturating_duration_since(flow.active_at) >= self.idle)
        {
            self.remove_at(index);
        }
    }

    /// Ends all flows of this session.
    pub fn clear(&mut self) {
        while let Some(index) = self.by_activity.first() {
            self.remove_at(index);
        }
    }

    /// All flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &V)> {
        self.flows.iter().map(|(_, flow)| (flow.id, &flow.value))
    }

    fn touch(&mut self, now: Instant, index: usize) -> Option<&mut V> {
        self.flows
            .move_back(&mut self.by_activity, BY_ACTIVITY, index);
        let flow = self.flows.get_mut(index)?;
        flow.active_at = now;
        Some(&mut flow.value)
    }

    fn remove_at(&mut self, index: usize) {
        if self.flows.get(index).is_some_and(|flow| !flow.is_two_way) {
            self.flows.unlink(&mut self.one_way, ONE_WAY, index);
        }
        self.flows.unlink(&mut self.by_activity, BY_ACTIVITY, index);
        if let Some(flow) = self.flows.remove(index) {
            self.by_id.remove(&flow.id);
            self.count.give_back();
        }
    }
}

impl<V> Drop for HubFlows<V> {
    fn drop(&mut self) {
        self.clear();
    }
}
