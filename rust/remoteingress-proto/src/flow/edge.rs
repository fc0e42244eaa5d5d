//! The edge's flows: which client of which listener has which id, and who must go when there are too many
//! (threats A1.6, A1.7).
//!
//! A flow is one-way until the target has answered. When a count is used up the oldest one-way flow under
//! it makes room; a two-way flow never does, so a flood of forged addresses displaces only itself.

use super::activity::Activity;
use super::end::FlowEnd;
use super::id::FlowId;
use super::linked::{LinkedSlab, List};
use super::quota::{FlowQuota, UsedUp};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All flows, the one that was silent longest first.
const BY_ACTIVITY: usize = 0;
/// The one-way flows of a listener, the oldest first.
const OF_LISTENER: usize = 1;
/// The one-way flows of a client address, the oldest first.
const OF_CLIENT: usize = 2;
/// Beyond this many ids a new session begins again at the first.
const MANY_IDS: u32 = 1 << 31;

/// Flows that have ended which are kept for whoever wants to know: a second's worth of a flood, 2 MiB.
const MAX_ENDED: usize = 16_384;

/// Both addresses of a flow, which tell it from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The address that the client sends from.
    pub client: SocketAddr,
    /// The edge's address that the client sends to.
    pub local: SocketAddr,
}

/// Limit of what an unproven client may get.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes sent to a client per byte from it, until it has sent again after an answer. None: any number.
    pub unvalidated_reply_factor: Option<u32>,
}

/// A client's datagram may go into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The flow that it belongs to.
    pub flow: FlowId,
    /// The hub may not know the flow: the datagram has to say whom it stands for.
    pub with_header: bool,
}

/// Reason why a client's datagram gets no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The listener has as many flows as it may, all of them two-way.
    PerListener,
    /// The client's address has as many flows as it may, all of them two-way.
    PerClient,
    /// The session has no id left: a new one is needed.
    IdsExhausted,
}

/// Destination of a target's datagram.
#[derive(Debug)]
pub struct Reply<'a, L> {
    /// The client to send it to.
    pub client: SocketAddr,
    /// The edge's address to send it from.
    pub local: SocketAddr,
    /// The listener's value that the flow began with.
    pub listener: &'a L,
}

/// Reason why a target's datagram goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyRefusal {
    /// The flow is over.
    UnknownFlow,
    /// The client hasn't shown yet that it is where its datagrams say.
    Unvalidated,
}

/// A flow as somebody sees it who only looks.
#[derive(Clone, Copy, Debug)]
pub struct FlowView {
    /// Its number.
    pub id: FlowId,
    /// Its addresses.
    pub key: FlowKey,
    /// Time of the client's first datagram.
    pub begun_at: Instant,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Time from there to the first answer of the target.
    pub answered_after: Option<Duration>,
}

/// A flow that has ended.
#[derive(Debug)]
pub struct Ended<N> {
    /// The flow as it was then.
    pub flow: FlowView,
    /// The name that it had in the session which carried it last.
    pub name: Option<N>,
    /// Reason why it has ended.
    pub end: FlowEnd,
    /// Time of the end.
    pub at: Instant,
}

#[derive(Debug)]
struct Flow<L, N> {
    id: FlowId,
    key: FlowKey,
    /// Absent for a client that no limit per address counts.
    network: Option<IpAddr>,
    listener: L,
    idle: Duration,
    begun_at: Instant,
    answered_after: Option<Duration>,
    active_at: Instant,
    is_two_way: bool,
    /// The session whose hub has the header.
    known_in: Option<u32>,
    is_validated: bool,
    received: u64,
    sent: u64,
    /// With the session that it is of.
    name: Option<(u32, N)>,
}

impl<L, N> Flow<L, N> {
    fn view(&self) -> FlowView {
        FlowView {
            id: self.id,
            key: self.key,
            begun_at: self.begun_at,
            received: self.received,
            sent: self.sent,
            answered_after: self.answered_after,
        }
    }
}

/// The flows of an edge's clients: who has which id, and who may get an answer. One per worker; the quota is that of
/// all workers. Each flow may have a name of the owner's, by which it is known in the session that carries it.
#[derive(Debug)]
pub struct EdgeFlows<L, N = ()> {
    settings: Settings,
    quota: Arc<FlowQuota>,
    flows: LinkedSlab<Flow<L, N>, 3>,
    /// Those that are over, where somebody wants to know of them.
    ended: Option<Vec<Ended<N>>>,
    /// Those that were too many.
    ended_unseen: u64,
    by_key: HashMap<FlowKey, usize>,
    by_id: HashMap<FlowId, usize>,
    by_activity: Activity<BY_ACTIVITY>,
    one_way_of_listener: HashMap<u16, List>,
    one_way_of_client: HashMap<Option<IpAddr>, List>,
    last_id: u32,
    session: u32,
}

impl<L, N> EdgeFlows<L, N> {
    /// No flows yet.
    pub fn new(settings: Settings, quota: Arc<FlowQuota>) -> Self {
        Self {
            settings,
            quota,
            flows: LinkedSlab::default(),
            ended: None,
            ended_unseen: 0,
            by_key: HashMap::new(),
            by_id: HashMap::new(),
            by_activity: Activity::default(),
            one_way_of_listener: HashMap::new(),
            one_way_of_client: HashMap::new(),
            last_id: 0,
            session: 0,
        }
    }

    /// Flows of this worker.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = FlowView> {
        self.flows.iter().map(|(_, flow)| flow.view())
    }

    /// One of them.
    pub fn get(&self, id: FlowId) -> Option<FlowView> {
        Some(self.flows.get(*self.by_id.get(&id)?)?.view())
    }

    /// Keeps those that end from now on, for [`Self::take_ended`].
    pub fn keep_ended(&mut self) {
        self.ended.get_or_insert_default();
    }

    /// The flows that have ended since the last time, and how many more than are kept.
    pub fn take_ended(&mut self) -> (Vec<Ended<N>>, u64) {
        let ended = self.ended.as_mut().map(std::mem::take).unwrap_or_default();
        (ended, std::mem::take(&mut self.ended_unseen))
    }

    /// Gives a flow its name in the session that carries it now, if it hasn't one there.
    pub fn name(&mut self, id: FlowId, name: impl FnOnce() -> Option<N>) {
        let session = self.session;
        let flow = self.by_id.get(&id).and_then(|at| self.flows.get_mut(*at));
        let is_nameless = |flow: &&mut Flow<L, N>| {
            let named = flow.name.as_ref();
            named.is_none_or(|(named_in, _)| *named_in != session)
        };
        if let Some(flow) = flow.filter(is_nameless)
            && let Some(name) = name()
        {
            flow.name = Some((session, name));
        }
    }

    /// Other settings from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Datagrams go through another session from now on: its hub knows no flow. Gives the session's number.
    pub fn new_session(&mut self, now: Instant) -> u32 {
        if self.last_id >= MANY_IDS {
            while let Some(index) = self.by_activity.any() {
                self.remove(now, index, FlowEnd::Closed);
            }
            self.last_id = 0;
        }
        self.session = self.session.wrapping_add(1);
        self.session
    }

    /// A client has sent `length` bytes. `network` gives the address that a new flow is counted for, if any limit does. A new
    /// flow begins with a value of its listener's, and the time after which it is over without a datagram in either
    /// direction.
    pub fn from_client(
        &mut self,
        now: Instant,
        key: FlowKey,
        network: impl FnOnce() -> Option<IpAddr>,
        length: usize,
        begin: impl FnOnce() -> (L, Duration),
    ) -> Result<Departure, Refusal> {
        self.expire(now);
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => self.insert(now, key, network(), begin)?,
        };
        let session = self.session;
        let Some(flow) = self.flows.get_mut(index) else {
            return Err(Refusal::IdsExhausted);
        };
        flow.is_validated |= flow.is_two_way;
        flow.received += length as u64;
        // The hub may have forgotten a flow that was silent for long: better the header again than a lost datagram.
        let was_silent = now.saturating_duration_since(flow.active_at) >= flow.idle / 2;
        let departure = Departure {
            flow: flow.id,
            with_header: was_silent || flow.known_in != Some(session),
        };
        flow.active_at = now;
        let idle = flow.idle;
        self.by_activity.touch(&mut self.flows, idle, index);
        Ok(departure)
    }

    /// The target has sent `length` bytes.
    pub fn to_client(
        &mut self,
        now: Instant,
        id: FlowId,
        length: usize,
    ) -> Result<Reply<'_, L>, ReplyRefusal> {
        self.expire(now);
        let index = *self.by_id.get(&id).ok_or(ReplyRefusal::UnknownFlow)?;
        self.make_two_way(now, index);
        let idle = self.flows.get(index).map(|flow| flow.idle);
        let idle = idle.ok_or(ReplyRefusal::UnknownFlow)?;
        self.by_activity.touch(&mut self.flows, idle, index);
        let flow = self.flows.get_mut(index).ok_or(ReplyRefusal::UnknownFlow)?;
        flow.active_at = now;
        let sent = flow.sent + length as u64;
        if let Some(factor) = self.settings.unvalidated_reply_factor
            && !flow.is_validated
            && sent > flow.received.saturating_mul(factor.into())
        {
            return Err(ReplyRefusal::Unvalidated);
        }
        flow.sent = sent;
        Ok(Reply {
            client: flow.key.client,
            local: flow.key.local,
            listener: &flow.listener,
        })
    }

    /// The hub of this session has the header of a flow.
    pub fn known(&mut self, id: FlowId, session: u32) {
        self.set_known(id, session, Some(session));
    }

    /// The hub of this session needs the header of a flow again.
    pub fn unknown(&mut self, id: FlowId, session: u32) {
        self.set_known(id, session, None);
    }

    /// The word of an earlier session's hub is of no use any more.
    fn set_known(&mut self, id: FlowId, session: u32, known_in: Option<u32>) {
        let flow = self.by_id.get(&id).and_then(|at| self.flows.get_mut(*at));
        if let Some(flow) = flow.filter(|_| session == self.session) {
            flow.known_in = known_in;
        }
    }

    /// Ends the flows that have been idle for too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(index) = self.overdue(now) {
            self.remove(now, index, FlowEnd::Idle);
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

    /// Ends the flows of listeners that aren't kept.
    pub fn retain(&mut self, now: Instant, is_kept: impl Fn(&L) -> bool) {
        let flows = self.flows.iter();
        let ended = flows.filter(|(_, flow)| !is_kept(&flow.listener));
        let ended: Vec<usize> = ended.map(|(index, _)| index).collect();
        for index in ended {
            self.remove(now, index, FlowEnd::Closed);
        }
    }

    fn insert(
        &mut self,
        now: Instant,
        key: FlowKey,
        network: Option<IpAddr>,
        begin: impl FnOnce() -> (L, Duration),
    ) -> Result<usize, Refusal> {
        let id = self.last_id.checked_add(1).ok_or(Refusal::IdsExhausted)?;
        self.take(now, key.local.port(), network)?;
        self.last_id = id;
        let id = FlowId(id);
        let (listener, idle) = begin();
        let index = self.flows.insert(Flow {
            id,
            key,
            network,
            listener,
            idle,
            begun_at: now,
            answered_after: None,
            active_at: now,
            is_two_way: false,
            known_in: None,
            is_validated: false,
            received: 0,
            sent: 0,
            name: None,
        });
        self.by_key.insert(key, index);
        self.by_id.insert(id, index);
        self.by_activity.push(&mut self.flows, idle, index);
        let of_listener = self
            .one_way_of_listener
            .entry(key.local.port())
            .or_default();
        self.flows.push_back(of_listener, OF_LISTENER, index);
        let of_client = self.one_way_of_client.entry(network).or_default();
        self.flows.push_back(of_client, OF_CLIENT, index);
        Ok(index)
    }

    /// Counts a flow in; where there are too many, the oldest one-way flow of the same kind makes room.
    fn take(
        &mut self,
        now: Instant,
        listener: u16,
        network: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        loop {
            let (list, refusal) = match self.quota.take(listener, network) {
                Ok(()) => return Ok(()),
                Err(UsedUp::Listener) => (
                    self.one_way_of_listener.get(&listener),
                    Refusal::PerListener,
                ),
                Err(UsedUp::Client) => (self.one_way_of_client.get(&network), Refusal::PerClient),
            };
            let oldest = list.and_then(List::first).ok_or(refusal)?;
            self.remove(now, oldest, FlowEnd::Displaced);
        }
    }

    fn make_two_way(&mut self, now: Instant, index: usize) {
        let flow = self.flows.get_mut(index);
        if let Some(flow) = flow.filter(|flow| !flow.is_two_way) {
            flow.is_two_way = true;
            flow.answered_after = Some(now.saturating_duration_since(flow.begun_at));
            let (listener, network) = (flow.key.local.port(), flow.network);
            self.leave_one_way(index, listener, network);
        }
    }

    fn leave_one_way(&mut self, index: usize, listener: u16, network: Option<IpAddr>) {
        if let Some(list) = self.one_way_of_listener.get_mut(&listener) {
            self.flows.unlink(list, OF_LISTENER, index);
            if list.is_empty() {
                self.one_way_of_listener.remove(&listener);
            }
        }
        if let Some(list) = self.one_way_of_client.get_mut(&network) {
            self.flows.unlink(list, OF_CLIENT, index);
            if list.is_empty() {
                self.one_way_of_client.remove(&network);
            }
        }
    }

    fn remove(&mut self, at: Instant, index: usize, end: FlowEnd) {
        let Some(flow) = self.forget(index) else {
            return;
        };
        match &mut self.ended {
            Some(ended) if ended.len() < MAX_ENDED => ended.push(Ended {
                flow: flow.view(),
                name: flow.name.map(|(_, name)| name),
                end,
                at,
            }),
            Some(_) => self.ended_unseen += 1,
            None => {}
        }
    }

    fn forget(&mut self, index: usize) -> Option<Flow<L, N>> {
        let flow = self.flows.get(index)?;
        let (id, key, network, idle) = (flow.id, flow.key, flow.network, flow.idle);
        if !flow.is_two_way {
            self.leave_one_way(index, key.local.port(), network);
        }
        self.by_activity.remove(&mut self.flows, idle, index);
        self.by_key.remove(&key);
        self.by_id.remove(&id);
        self.quota.give_back(key.local.port(), network);
        self.flows.remove(index)
    }
}

impl<L, N> Drop for EdgeFlows<L, N> {
    fn drop(&mut self) {
        while let Some(index) = self.by_activity.any() {
            self.forget(index);
        }
    }
}
