//! The oldest streams and flows of one worker, for status: all are counted, and few of them are looked at closely.

use remoteingress_config::streams::{
    DEFAULT_STREAMS, StreamList, StreamStatus, StreamsParams, WaitsFor,
};
use remoteingress_observe::clock::unix_millis;
use remoteingress_os::worker::ask;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::session::shown::{Look, ages, before, show};
use std::cmp::Reverse;
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
    flows: Vec<StreamStatus>,
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

    /// Adds a flow that began at this time. Its other facts are given with it.
    pub(crate) fn add_flow(&mut self, begun_at: Instant, mut flow: StreamStatus) {
        let age = self.now.saturating_duration_since(begun_at);
        flow.opened_at = before(self.unix_millis, age);
        self.flows.push(flow);
    }

    /// The oldest of all that was added.
    pub(crate) fn finish(mut self) -> StreamList {
        let total = self.streams.len() + self.flows.len();
        let (limit, mut streams) = (self.limit, std::mem::take(&mut self.streams));
        let flows = std::mem::take(&mut self.flows);
        if limit < streams.len() {
            let oldest_first =
                |stream: &(Reverse<Duration>, u64, usize, StreamKey)| (stream.0, stream.1);
            streams.select_nth_unstable_by_key(limit, oldest_first);
            streams.truncate(limit);
        }
        let shown = streams.iter().filter_map(|(_, _, place, key)| {
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
        let streams = shown.chain(flows).collect();
        oldest(limit, StreamList { streams, total })
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
