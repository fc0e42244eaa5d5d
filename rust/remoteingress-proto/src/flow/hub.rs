//! The hub's flows of one session: what each id stands for, and which must go when the edge has too many
//! (threats A1.7).

use super::activity::Activity;
use super::end::FlowEnd;
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
    idle: Duration,
    active_at: Instant,
    is_two_way: bool,
}

/// The flows of one session at a hub, with a value of the owner's for each. A value is dropped with its flow; the count
/// is that of all the edge's sessions.
#[derive(Debug)]
pub struct HubFlows<V> {
    max: usize,
    count: Arc<FlowCount>,
    flows: LinkedSlab<Flow<V>, 2>,
    by_id: HashMap<FlowId, usize>,
    by_activity: Activity<BY_ACTIVITY>,
    one_way: List,
    one_way_count: usize,
    /// Tells a value why its flow ends.
    tell_end: Option<fn(&V, FlowEnd)>,
}

impl<V> HubFlows<V> {
    /// No flows yet; `count` never exceeds `max`.
    pub fn new(max: usize, count: Arc<FlowCount>) -> Self {
        Self {
            max,
            count,
            flows: LinkedSlab::default(),
            by_id: HashMap::new(),
            by_activity: Activity::default(),
            one_way: List::default(),
            one_way_count: 0,
            tell_end: None,
        }
    }

    /// Tells each value from now on why its flow ends, before it is dropped.
    pub fn tell_end(&mut self, tell: fn(&V, FlowEnd)) {
        self.tell_end = Some(tell);
    }

    /// Another limit from now on; flows that are too many stay until they end.
    pub fn set_limit(&mut self, max: usize) {
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

    /// Flows of this session whose target hasn't answered yet.
    pub fn one_way(&self) -> usize {
        self.one_way_count
    }

    /// Ends the oldest flow whose target hasn't answered yet; false if there is none.
    pub fn evict(&mut self) -> bool {
        let oldest = self.one_way.first();
        if let Some(oldest) = oldest {
            self.remove_at(oldest, FlowEnd::Displaced);
        }
        oldest.is_some()
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
            self.one_way_count -= 1;
        }
        self.touch(now, index)
    }

    /// A new flow, which ends once it is silent for `idle`. It takes the place of one with the same id, or of the oldest one-way flow where there
    /// are too many.
    pub fn insert(
        &mut self,
        now: Instant,
        id: FlowId,
        idle: Duration,
        value: V,
    ) -> Result<(), Full> {
        self.remove(id);
        while !self.count.take(self.max) {
            if !self.evict() {
                return Err(Full);
            }
        }
        let index = self.flows.insert(Flow {
            id,
            value,
            idle,
            active_at: now,
            is_two_way: false,
        });
        self.by_id.insert(id, index);
        self.by_activity.push(&mut self.flows, idle, index);
        self.flows.push_back(&mut self.one_way, ONE_WAY, index);
        self.one_way_count += 1;
        Ok(())
    }

    /// Ends a flow, if there is one.
    pub fn remove(&mut self, id: FlowId) {
        if let Some(index) = self.by_id.get(&id) {
            self.remove_at(*index, FlowEnd::Closed);
        }
    }

    /// Ends the flows that have been idle for too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(index) = self.overdue(now) {
            self.remove_at(index, FlowEnd::Idle);
        }
    }

    /// A flow that has been idle for too long.
    fn overdue(&self, now: Instant) -> Option<usize> {
        let is_over = |(idle, index): &(Duration, usize)| {
            let flow = self.flows.get(*index);
            flow.is_some_and(|flow| now.saturating_duration_since(flow.active_at) >= *idle)
        };
        let overdue = self.by_activity.oldest().find(is_over);
        overdue.map(|(_, index)| index)
    }

    /// Ends all flows of this session.
    pub fn clear(&mut self, end: FlowEnd) {
        while let Some(index) = self.by_activity.any() {
            self.remove_at(index, end);
        }
    }

    /// All flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &V)> {
        self.flows.iter().map(|(_, flow)| (flow.id, &flow.value))
    }

    /// One of them.
    pub fn get(&self, id: FlowId) -> Option<&V> {
        Some(&self.flows.get(*self.by_id.get(&id)?)?.value)
    }

    fn touch(&mut self, now: Instant, index: usize) -> Option<&mut V> {
        let idle = self.flows.get(index)?.idle;
        self.by_activity.touch(&mut self.flows, idle, index);
        let flow = self.flows.get_mut(index)?;
        flow.active_at = now;
        Some(&mut flow.value)
    }

    fn remove_at(&mut self, index: usize, end: FlowEnd) {
        if self.flows.get(index).is_some_and(|flow| !flow.is_two_way) {
            self.flows.unlink(&mut self.one_way, ONE_WAY, index);
            self.one_way_count -= 1;
        }
        if let Some(idle) = self.flows.get(index).map(|flow| flow.idle) {
            self.by_activity.remove(&mut self.flows, idle, index);
        }
        if let Some(flow) = self.flows.remove(index) {
            if let Some(tell) = self.tell_end {
                tell(&flow.value, end);
            }
            self.by_id.remove(&flow.id);
            self.count.give_back();
        }
    }
}

impl<V> Drop for HubFlows<V> {
    fn drop(&mut self) {
        self.clear(FlowEnd::SessionLost);
    }
}
