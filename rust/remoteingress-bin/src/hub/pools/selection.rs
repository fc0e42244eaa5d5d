//! The selection of a target for one stream or flow of a pool: the picks for it, and the slot that it holds.

use super::{Pooled, PoolsView, add};
use crate::hub::context::WorkerContext;
use remoteingress_config::events::{Event, TargetDown, TargetUp};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::PickReason;
use remoteingress_config::pools::{Strategy, UdpUnhealthy};
use remoteingress_config::reasons::TargetDownReason;
use remoteingress_config::{AllowedEdge, TcpProxyProtocol};
use remoteingress_core::hub::upstream::Target;
use remoteingress_upstream::affinity::BindingKey;
use remoteingress_upstream::breaker::Phase;
use remoteingress_upstream::client::ClientKey;
use remoteingress_upstream::member::Slot;
use remoteingress_upstream::pick::{Ask, NoTarget, Pick, Picked};
use remoteingress_upstream::region::Origin;
use remoteingress_upstream::time::Moment;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// The picks of one stream or flow, all from one generation of its pool.
pub(in crate::hub) struct Selection {
    pooled: Arc<Pooled>,
    client: ClientKey,
    origin: Origin,
    /// Place in the plan of the target that the client has.
    bound: Option<usize>,
    /// The client had a target, in the plan or not any more.
    was_bound: bool,
    tried: Vec<usize>,
    /// Why the first of those was picked.
    reason: PickReason,
    /// The stream had a target of this pool already, and is counted.
    is_again: bool,
}

/// A client, and the edge that it came to.
#[derive(Clone, Copy)]
pub(in crate::hub) struct Client<'a> {
    pub(in crate::hub) allowed: &'a AllowedEdge,
    pub(in crate::hub) address: IpAddr,
}

impl Selection {
    /// For a client of the pool with this name; none if there is no such pool.
    pub(in crate::hub) fn new(
        worker: &WorkerContext,
        view: &PoolsView,
        pool: &Name,
        client: Client<'_>,
    ) -> Option<Self> {
        let pooled = view.pool(pool)?.clone();
        let Client { allowed, address } = client;
        let key = ClientKey::new(address, view.seed());
        let now = worker.state.pools.now();
        let live = &pooled.live;
        let binding = live.config.affinity.and_then(|affinity| {
            let key = BindingKey::new(live.number, key);
            worker.state.pools.bindings.touch(key, affinity.ttl(), now)
        });
        let bound = binding.and_then(|number| live.plan.place_of(number));
        let mut selection = Self {
            client: key,
            origin: Origin::default(),
            bound,
            was_bound: binding.is_some(),
            tried: Vec::new(),
            reason: PickReason::Retry,
            is_again: false,
            pooled,
        };
        // A look into the database of countries costs more than the rest of a pick.
        if selection.pooled.live.config.strategy == Strategy::Geo && !selection.takes_bound(now) {
            let regions = view.regions();
            let own = allowed.region.as_ref();
            let own = own.and_then(|region| regions.get(region.as_str()));
            selection.origin = view.origin(address, own.or_else(|| regions.hub()));
        }
        Some(selection)
    }

    pub(in crate::hub) fn pooled(&self) -> &Arc<Pooled> {
        &self.pooled
    }

    fn takes_bound(&self, now: Moment) -> bool {
        let entry = self
            .bound
            .and_then(|place| self.pooled.live.plan.entries().get(place));
        entry.is_some_and(|entry| {
            let limit = entry.settings.hard_limit;
            entry.member.out(now, limit, true).is_none()
        })
    }

    /// The next target, and a place at it.
    pub(in crate::hub) fn pick(&mut self, worker: &WorkerContext) -> Result<Picked, NoTarget> {
        let ask = Ask {
            client: self.client,
            origin: self.origin,
            bound: self.bound,
            tried: &self.tried,
            now: worker.state.pools.now(),
        };
        let plan = &self.pooled.live.plan;
        let picked = Pick::new(plan, &ask).take(&mut || worker.random())?;
        if self.tried.is_empty() {
            self.reason = picked.reason(plan, &ask);
        }
        self.tried.push(picked.index);
        Ok(picked)
    }

    /// The stream had this target, and is to get another one.
    pub(in crate::hub) fn avoid(&mut self, number: u32) {
        self.is_again = true;
        self.tried.extend(self.pooled.live.plan.place_of(number));
    }

    /// The stream has got this target: the client keeps it.
    pub(in crate::hub) fn settle(&self, worker: &WorkerContext, index: usize) {
        let live = &self.pooled.live;
        if !self.is_again {
            let is_first = self.tried.first() == Some(&index);
            live.counts.picks.add(if is_first {
                self.reason
            } else {
                PickReason::Retry
            });
        }
        if live.config.affinity.is_none() {
            return;
        }
        if self.bound == Some(index) {
            return add(&live.counts.affinity_hits);
        }
        if self.was_bound {
            add(&live.counts.affinity_broken);
        }
        if let Some(entry) = live.plan.entries().get(index) {
            let key = BindingKey::new(live.number, self.client);
            let pools = &worker.state.pools;
            pools.bindings.bind(key, entry.member.number(), pools.now());
        }
    }

    /// Counts that nothing was found.
    pub(in crate::hub) fn refuse(&self, none: NoTarget) {
        let counts = &self.pooled.live.counts;
        add(match none {
            NoTarget::Empty => &counts.refused_empty,
            NoTarget::Full => &counts.refused_full,
            NoTarget::NoneHealthy => &counts.refused_unhealthy,
        });
    }
}

/// A stream's or flow's place at a target. Dropping it gives it back.
pub(in crate::hub) struct HeldSlot {
    slot: RefCell<Option<Slot>>,
    pooled: Arc<Pooled>,
    index: usize,
}

impl HeldSlot {
    pub(in crate::hub) fn new(pooled: &Arc<Pooled>, picked: Picked) -> Self {
        Self {
            slot: RefCell::new(Some(picked.slot)),
            pooled: pooled.clone(),
            index: picked.index,
        }
    }

    /// The target's place in the plan.
    pub(in crate::hub) fn index(&self) -> usize {
        self.index
    }

    /// The target's id.
    pub(in crate::hub) fn target_id(&self) -> Option<&Name> {
        let destination = self.pooled.live.destinations.get(self.index);
        destination.map(|destination| &destination.id)
    }

    /// The target's number.
    pub(in crate::hub) fn number(&self) -> Option<u32> {
        let slot = self.slot.borrow();
        slot.as_ref().map(|slot| slot.member().number())
    }

    /// The target as this generation of its pool has it, if it does.
    pub(in crate::hub) fn target_in<P: From<TcpProxyProtocol>>(
        &self,
        pooled: &Pooled,
        listener_port: u16,
        header: (P, bool),
    ) -> Option<Target<P>> {
        let place = pooled.live.plan.place_of(self.number()?)?;
        pooled.target(place, listener_port, header)
    }

    /// Further targets that a stream of its pool may try.
    pub(in crate::hub) fn retries(&self) -> u32 {
        self.pooled.live.config.retries.into()
    }

    /// Its pool may retry once more; this counts as that.
    pub(in crate::hub) fn may_retry(&self, worker: &WorkerContext) -> bool {
        self.pooled.may_retry(worker.state.pools.now())
    }

    /// Ports of TCP name its pool, too.
    pub(in crate::hub) fn is_over_tcp(&self) -> bool {
        self.pooled.live.is_over_tcp
    }

    /// Flows of its pool leave a target that is dead or fails.
    pub(in crate::hub) fn moves_flows(&self) -> bool {
        self.pooled.live.config.udp_unhealthy == UdpUnhealthy::Move
    }

    /// Another target gets the datagrams of a flow that this one refuses. Where TCP has the pool, too, anybody could use its
    /// retries up by datagrams.
    pub(in crate::hub) fn repeats(&self) -> bool {
        self.retries() > 0 && self.moves_flows() && !self.is_over_tcp()
    }

    /// True unless the target is dead or fails.
    pub(in crate::hub) fn is_well(&self, worker: &WorkerContext) -> bool {
        let slot = self.slot.borrow();
        slot.as_ref().is_some_and(|slot| {
            let now = worker.state.pools.now();
            // A drain, and a limit that is reached, concern new clients alone.
            slot.member().out(now, 0, true).is_none()
        })
    }

    /// The target took the stream, `connect` after the dial began.
    pub(in crate::hub) fn succeeded(&self, worker: &WorkerContext, connect: Duration) {
        if worker.state.times.is_on() {
            self.pooled.shared.connects.record(connect);
        }
        self.judge(worker, |slot, now| slot.succeeded(now, connect));
    }

    /// The target refused, failed or was silent.
    pub(in crate::hub) fn failed(&self, worker: &WorkerContext) {
        let unit = worker.random_unit();
        self.judge(worker, |slot, now| slot.failed(now, unit));
    }

    /// The target took the stream, and reset it before anything was said.
    pub(in crate::hub) fn was_reset(&self, worker: &WorkerContext) {
        let unit = worker.random_unit();
        self.judge(worker, |slot, now| slot.was_reset(now, unit));
    }

    /// The target has said something.
    pub(in crate::hub) fn spoke(&self) {
        if let Some(slot) = self.slot.borrow_mut().as_mut() {
            slot.spoke();
        }
    }

    /// Tells when the target's breaker opens and closes.
    fn judge(&self, worker: &WorkerContext, judge: impl FnOnce(&mut Slot, Moment)) {
        let mut slot = self.slot.borrow_mut();
        let Some(slot) = slot.as_mut() else {
            return;
        };
        let is_open = |slot: &Slot| slot.member().phase() != Phase::Closed;
        let was_open = is_open(slot);
        let now = worker.state.pools.now();
        judge(slot, now);
        let (Some(target), pool) = (self.target_id(), &self.pooled.live.name) else {
            return;
        };
        let events = &worker.state.events;
        match (was_open, is_open(slot)) {
            (false, true) => {
                // It is looked at from now on.
                worker.state.pools.changed.notify_one();
                let failures = slot.member().failures();
                tracing::warn!(%pool, %target, failures, "streams to a target fail: it gets none for a while, then one at a time");
                events.emit(&Event::TargetDown(TargetDown {
                    pool: pool.clone(),
                    target: target.clone(),
                    reason: TargetDownReason::Streams,
                    failures,
                }));
            }
            (true, false) => {
                tracing::info!(%pool, %target, "a target takes streams again");
                events.emit(&Event::TargetUp(TargetUp {
                    pool: pool.clone(),
                    target: target.clone(),
                }));
            }
            _ => {}
        }
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        self.slot.take();
        // So that either this sees who waits, or that one sees the free place.
        fence(Ordering::SeqCst);
        self.pooled.free();
    }
}
