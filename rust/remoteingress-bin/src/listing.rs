//! The oldest streams and flows of one worker, for status: all are counted, and few of them are looked at closely.

use remoteingress_config::reasons::Protocol;
use remoteingress_config::streams::{
    DEFAULT_STREAMS, StreamList, StreamStatus, StreamsParams, WaitsFor,
};
use remoteingress_observe::clock::unix_millis;
use remoteingress_os::worker::ask;
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::session::shown::{Look, ages, before, show};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Which streams are asked for, and when: all workers count ages to the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    params: StreamsParams,
    now: Instant,
    unix_millis: u64,
}

/// A flow as the end that has it knows it.
pub(crate) struct FlowFacts {
    pub(crate) client: SocketAddr,
    /// The edge's address that the client sends to.
    pub(crate) listener: SocketAddr,
    pub(crate) target: Option<String>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) waits_for: Option<WaitsFor>,
}

/// Whoever has the flows of a session.
pub(crate) trait Flows {
    /// All flows, and when each began.
    fn begun(&self) -> Vec<(FlowId, Instant)>;

    /// One of them.
    fn facts(&self, id: FlowId) -> Option<FlowFacts>;
}

/// Gathers the streams of sessions, then tells of those that are wanted.
pub(crate) struct Listing<'a> {
    edge: Option<&'a EdgeId>,
    limit: usize,
    at_sockets: WaitsFor,
    now: Instant,
    unix_millis: u64,
    sessions: Vec<(&'a EdgeId, Transport, Rc<LocalSession>)>,
    /// By age and serial, with the place of their session.
    streams: Vec<(Reverse<Duration>, u64, usize, StreamKey)>,
    tables: Vec<(&'a EdgeId, Transport, Rc<LocalSession>, &'a dyn Flows)>,
    /// By age and id, with the place of their table.
    flows: Vec<(Reverse<Duration>, FlowId, usize)>,
}

impl<'a> Listing<'a> {
    /// Nothing yet. `at_sockets` is the party at the sockets of this end.
    pub(crate) fn new(asked: &'a Asked, at_sockets: WaitsFor) -> Self {
        Self {
            edge: asked.params.edge_id.as_ref(),
            limit: asked.params.limit.unwrap_or(DEFAULT_STREAMS),
            at_sockets,
            now: asked.now,
            unix_millis: asked.unix_millis,
            sessions: Vec::new(),
            streams: Vec::new(),
            tables: Vec::new(),
            flows: Vec::new(),
        }
    }

    /// True if streams of this edge are wanted.
    pub(crate) fn wants(&self, edge: &EdgeId) -> bool {
        self.edge.is_none_or(|wanted| wanted == edge)
    }

    /// Adds the streams of a session.
    pub(crate) fn add_streams(
        &mut self,
        edge: &'a EdgeId,
        transport: Transport,
        local: &Rc<LocalSession>,
    ) {
        let place = self.sessions.len();
        let streams = ages(local, self.now).into_iter();
        self.streams
            .extend(streams.map(|(age, serial, key)| (Reverse(age), serial, place, key)));
        self.sessions.push((edge, transport, local.clone()));
    }

    /// Adds the flows of a session.
    pub(crate) fn add_flows(
        &mut self,
        edge: &'a EdgeId,
        transport: Transport,
        local: &Rc<LocalSession>,
        flows: &'a dyn Flows,
    ) {
        let place = self.tables.len();
        let now = self.now;
        let age = |begun_at| Reverse(now.saturating_duration_since(begun_at));
        let begun = flows.begun().into_iter();
        self.flows
            .extend(begun.map(|(id, begun_at)| (age(begun_at), id, place)));
        self.tables.push((edge, transport, local.clone(), flows));
    }

    /// The oldest of all that was added.
    pub(crate) fn finish(mut self) -> StreamList {
        let total = self.streams.len() + self.flows.len();
        cut(self.limit, &mut self.streams, |stream| (stream.0, stream.1));
        cut(self.limit, &mut self.flows, |flow| (flow.0, flow.1));
        let streams = self.streams.iter().filter_map(|(_, _, place, key)| {
            let (edge, transport, local) = self.sessions.get(*place)?;
            let look = Look {
                edge,
                transport: (*transport).into(),
                at_sockets: self.at_sockets,
                now: self.now,
                unix_millis: self.unix_millis,
            };
            show(local, &look, *key)
        });
        let flows = self.flows.iter();
        let flows = flows.filter_map(|(age, id, place)| self.show_flow(age.0, *id, *place));
        let streams = streams.chain(flows).collect();
        oldest(self.limit, StreamList { streams, total })
    }

    fn show_flow(&self, age: Duration, id: FlowId, place: usize) -> Option<StreamStatus> {
        let (edge, transport, local, flows) = self.tables.get(place)?;
        let facts = flows.facts(id)?;
        Some(StreamStatus {
            id: local.flow_name(id),
            serial: None,
            edge_id: (*edge).clone(),
            protocol: Protocol::Udp,
            client_address: facts.client,
            port: facts.listener.port(),
            listener_ip: facts.listener.ip(),
            target: facts.target,
            transport: (*transport).into(),
            opened_at: before(self.unix_millis, age),
            bytes_in: facts.bytes_in,
            bytes_out: facts.bytes_out,
            tier: None,
            waits_for: facts.waits_for,
        })
    }
}

/// Keeps those that come first by this key, in no order.
fn cut<T, K: Ord>(limit: usize, all: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if limit < all.len() {
        all.select_nth_unstable_by_key(limit, key);
        all.truncate(limit);
    }
}

fn oldest(limit: usize, mut list: StreamList) -> StreamList {
    let order = |stream: &StreamStatus| (stream.opened_at, stream.serial);
    list.streams.sort_by_key(order);
    list.streams.truncate(limit);
    list
}

/// Asks all workers for their oldest streams.
pub(crate) async fn list<C>(
    workers: &[mpsc::UnboundedSender<C>],
    params: &StreamsParams,
    command: impl Fn(Asked, oneshot::Sender<StreamList>) -> C,
) -> StreamList {
    let asked = Asked {
        params: params.clone(),
        now: Instant::now(),
        unix_millis: unix_millis(SystemTime::now()),
    };
    let mut all = StreamList::default();
    for worker in workers {
        let part = ask(worker, |reply| command(asked.clone(), reply)).await;
        let part = part.unwrap_or_default();
        all.streams.extend(part.streams);
        all.total += part.total;
    }
    oldest(params.limit.unwrap_or(DEFAULT_STREAMS), all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::mux::budget::{Budget, BudgetPool};
    use remoteingress_proto::mux::{Carrier, EARLY_CREDIT, Role, Session, SessionConfig};
    use std::cell::RefCell;

    /// Flows of which each began a second after the one before.
    struct Counted {
        first: Instant,
        shown: RefCell<Vec<FlowId>>,
    }

    impl Flows for Counted {
        fn begun(&self) -> Vec<(FlowId, Instant)> {
            let begun = |id| (FlowId(id), self.first + Duration::from_secs(id.into()));
            (0..10).rev().map(begun).collect()
        }

        fn facts(&self, id: FlowId) -> Option<FlowFacts> {
            self.shown.borrow_mut().push(id);
            Some(FlowFacts {
                client: ([127, 0, 0, 1], 1).into(),
                listener: ([127, 0, 0, 1], 2).into(),
                target: None,
                bytes_in: 3,
                bytes_out: 4,
                waits_for: None,
            })
        }
    }

    fn local(now: Instant) -> Rc<LocalSession> {
        let config = SessionConfig {
            role: Role::Edge,
            carrier: Carrier::Ordered,
            max_peer_streams: 0,
            resume_timeout: Duration::ZERO,
            keepalive: Duration::from_secs(15),
            announced_credit: EARLY_CREDIT,
            peer_credit: EARLY_CREDIT,
            is_welcome: true,
            expects_begin: false,
        };
        let budget = Budget::new(BudgetPool::new(1 << 24));
        LocalSession::new(Session::new(&config, &budget, now))
    }

    #[test]
    fn only_flows_that_are_wanted_are_looked_at() {
        let now = Instant::now();
        let asked = Asked {
            params: StreamsParams {
                limit: Some(2),
                ..StreamsParams::default()
            },
            now: now + Duration::from_secs(60),
            unix_millis: 1_000_000,
        };
        let flows = Counted {
            first: now,
            shown: RefCell::default(),
        };
        let edge = EdgeId::new("edge-1").unwrap();
        let mut listing = Listing::new(&asked, WaitsFor::Client);
        listing.add_flows(&edge, Transport::Quic, &local(now), &flows);
        let list = listing.finish();
        assert_eq!(list.total, 10);
        let opened: Vec<u64> = list.streams.iter().map(|flow| flow.opened_at).collect();
        assert_eq!(opened, [940_000, 941_000]);
        let mut shown = flows.shown.take();
        shown.sort();
        assert_eq!(shown, [FlowId(0), FlowId(1)]);
    }
}
