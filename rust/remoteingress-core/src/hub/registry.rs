//! The edges, the tunnels and sessions that they have, and what each is to be told (D7).
//!
//! Every method that changes something gives the [`Action`]s that follow from it; the caller
//! carries them out before the next change.

mod action;
mod admission;
mod counters;
mod edge;

pub use action::Action;
pub use admission::{Admission, Applicant, Place};
pub use counters::EdgeCounters;

use crate::failed_ports::newly_failed;
use edge::{Edge, Session, Terms, Tunnel, cut_all, disconnected, proof_keys};
use remoteingress_config::commands::EdgesRemoved;
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::{AllowedEdge, AllowedEdgesChange, DialProxy};
use remoteingress_proto::control::{Applied, ApplyOutcome, PortState};
use remoteingress_proto::handshake::{
    Candidates, HubEpoch, InstanceId, ProofKeys, RefuseCode, SessionId, Transport,
};
use remoteingress_proto::mux::Totals;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Instances of one edge that drain while a successor has taken over: one that was restarted twice within its drain
/// timeout. With more the oldest is cut, since each session may keep 1.5 MiB.
const MAX_LEAVING: usize = 2;

/// A session as its worker announces it.
#[derive(Debug)]
pub struct NewSession {
    /// The name that it has on the wire, too.
    pub id: SessionId,
    /// The worker that has it.
    pub worker: usize,
    /// Number of the session among the edge's, counted from 0.
    pub ordinal: u16,
    /// The run of the edge that has it.
    pub instance: InstanceId,
    /// The edge takes the place of any other instance.
    pub replaces_instance: bool,
    /// Those of the secret that the edge has proved.
    pub keys: ProofKeys,
    /// Address of the edge.
    pub address: SocketAddr,
    /// Its transport.
    pub transport: Transport,
    /// The end that has dialled.
    pub dialled_by: DialledBy,
    /// The edge's software.
    pub version: String,
    /// Those agreed on.
    pub features: Features,
}

/// A connected edge as status shows it, without the counts of its live sessions.
#[derive(Debug)]
pub struct ConnectedEdge<'a> {
    /// Id of the edge.
    pub id: &'a EdgeId,
    /// Its address.
    pub address: SocketAddr,
    /// The transport of its new streams.
    pub transport: Transport,
    /// The end that has dialled.
    pub dialled_by: DialledBy,
    /// The proxy through which this hub has dialled.
    pub proxy: Option<&'a DialProxy>,
    /// Its software.
    pub version: &'a str,
    /// Time at which the first of its sessions came up.
    pub connected_at: SystemTime,
    /// All of its live sessions only let their streams finish.
    pub is_leaving: bool,
    /// Its live sessions.
    pub sessions: usize,
    /// Totals of its sessions that are gone.
    pub ended: Totals,
    /// All that its sessions have open now.
    pub counters: &'a EdgeCounters,
    /// The address by which it finds itself on the internet.
    pub public_address: Option<IpAddr>,
    /// Its ports, as it has last reported them.
    pub ports: &'a [PortState],
}

/// All edges that may connect, and the tunnels of those that have.
#[derive(Debug)]
pub struct Registry {
    epoch: HubEpoch,
    max_sessions: u16,
    max_streams: u32,
    edges: HashMap<EdgeId, Edge>,
    /// The highest generation of an edge that was removed. An edge that comes back goes on from there: it may have
    /// applied a generation before, and ignores lower ones.
    last_removed: u64,
    /// The hub drains: only sessions that exist may be resumed.
    pub draining: bool,
    /// It has been told which edges may come, even if none may.
    pub is_told: bool,
    /// How long a UDP flow may be silent where its port says nothing else.
    pub udp_idle: Option<Duration>,
}

impl Registry {
    /// No edge may come yet. `max_sessions` and `max_streams` are of one edge.
    pub fn new(epoch: HubEpoch, max_sessions: u16, max_streams: u32) -> Self {
        Self {
            epoch,
            max_sessions,
            max_streams,
            edges: HashMap::new(),
            last_removed: 0,
            draining: false,
            is_told: false,
            udp_idle: None,
        }
    }

    /// The proofs that an edge may give.
    pub fn candidates(&self, edge: &EdgeId) -> Candidates {
        self.edges
            .get(edge)
            .map_or_else(Candidates::unknown, Edge::candidates)
    }

    /// An edge as it is configured.
    pub fn allowed(&self, edge: &EdgeId) -> Option<Arc<AllowedEdge>> {
        self.edges.get(edge).map(|edge| edge.allowed.clone())
    }

    /// The edges as they are configured, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<AllowedEdge>> {
        self.edges.values().map(|edge| &edge.allowed)
    }

    /// The edges that this hub dials, each with the keys of its secret and of its next one, in no order.
    pub fn dialled(&self) -> impl Iterator<Item = (&Arc<AllowedEdge>, &[ProofKeys])> {
        let dialled = self
            .edges
            .values()
            .filter(|edge| edge.allowed.dial.is_some());
        dialled.map(|edge| (&edge.allowed, edge.keys.as_slice()))
    }

    /// Takes over the whole set of edges; those that stay the same aren't touched.
    pub fn update(&mut self, edges: Vec<AllowedEdge>) -> (AllowedEdgesChange, Vec<Action>) {
        let wanted: HashSet<&EdgeId> = edges.iter().map(|edge| &edge.id).collect();
        let gone = self.edges.keys().filter(|id| !wanted.contains(id));
        let mut gone: Vec<EdgeId> = gone.cloned().collect();
        gone.sort();
        let (EdgesRemoved { removed, .. }, mut actions) = self.remove(gone);
        let (change, more) = self.upsert(edges);
        actions.extend(more);
        (AllowedEdgesChange { removed, ..change }, actions)
    }

    /// Adds these edges, or replaces those of the same id; the others aren't touched.
    pub fn upsert(&mut self, edges: Vec<AllowedEdge>) -> (AllowedEdgesChange, Vec<Action>) {
        self.is_told = true;
        let mut change = AllowedEdgesChange::default();
        let mut actions = Vec::new();
        for allowed in edges {
            let id = allowed.id.clone();
            let Some(edge) = self.edges.get_mut(&id) else {
                let edge = Edge::new(Arc::new(allowed), self.last_removed + 1);
                self.edges.insert(id.clone(), edge);
                change.added.push(id);
                continue;
            };
            if *edge.allowed == allowed {
                change.unchanged.push(id);
                continue;
            }
            let new = Arc::new(allowed);
            let old = std::mem::replace(&mut edge.allowed, new.clone());
            edge.keys = proof_keys(&new);
            if old.tcp != new.tcp || old.udp != new.udp || old.stun_interval != new.stun_interval {
                edge.generation += 1;
            }
            edge.changed(&id, old.dial != new.dial, &mut actions);
            self.tell(&id, &mut actions);
            change.changed.push(id);
        }
        (change, actions)
    }

    /// Removes these edges and cuts their tunnels; the others aren't touched.
    pub fn remove(&mut self, ids: Vec<EdgeId>) -> (EdgesRemoved, Vec<Action>) {
        let mut result = EdgesRemoved::default();
        let mut actions = Vec::new();
        for id in ids {
            let Some(edge) = self.edges.remove(&id) else {
                result.unknown.push(id);
                continue;
            };
            self.last_removed = self.last_removed.max(edge.generation);
            for tunnel in edge.tunnel.iter().chain(&edge.leaving) {
                cut_all(tunnel, false, &mut actions);
            }
            if let Some(tunnel) = &edge.tunnel {
                disconnected(&id, tunnel, "the edge was removed", &mut actions);
            }
            result.removed.push(id);
        }
        (result, actions)
    }

    /// Other limits of one edge from now on, which all edges are told; sessions and streams that are too many stay.
    pub fn set_limits(
        &mut self,
        max_sessions: u16,
        max_streams: u32,
        udp_idle: Option<Duration>,
    ) -> Vec<Action> {
        self.max_sessions = max_sessions;
        let mut actions = Vec::new();
        if (max_streams, udp_idle) != (self.max_streams, self.udp_idle) {
            (self.max_streams, self.udp_idle) = (max_streams, udp_idle);
            let terms = self.terms();
            for (id, edge) in &mut self.edges {
                edge.generation += 1;
                edge.tell(id, terms, &mut actions);
            }
        }
        actions
    }

    /// Decides on a connection whose proof held.
    pub fn admit(&self, applicant: &Applicant<'_>, workers: &[usize]) -> Admission {
        let Some(edge) = self.edges.get(applicant.edge) else {
            return Admission::No(RefuseCode::AuthFailed);
        };
        if !edge.accepts(applicant.keys) {
            return Admission::No(RefuseCode::AuthFailed);
        }
        let resumed = edge.tunnel.as_ref().and_then(|tunnel| {
            let session = tunnel.sessions.get(&applicant.resume?)?;
            (tunnel.instance == applicant.instance).then_some(session.worker)
        });
        if self.draining && resumed.is_none() {
            return Admission::No(RefuseCode::Draining);
        }
        if let Some(tunnel) = &edge.tunnel {
            let is_other = tunnel.instance != applicant.instance;
            let staying: Vec<_> = tunnel
                .staying()
                .map(|(id, session)| (session.worker, id))
                .collect();
            if is_other && !staying.is_empty() && !applicant.replaces_instance {
                return Admission::Conflict {
                    other: tunnel.address,
                    instance: tunnel.instance,
                    sessions: staying,
                };
            }
            // Sessions that finish their streams count beside those that take over from them.
            // Silent ones and those that end by themselves hold none up, up to twice that.
            let most = 2 * usize::from(self.max_sessions);
            let too_many = staying.len() >= most || tunnel.sessions.len() >= 2 * most;
            if !is_other && resumed.is_none() && too_many {
                return Admission::No(RefuseCode::TooManySessions);
            }
        }
        if applicant.ordinal >= self.max_sessions {
            return Admission::No(RefuseCode::TooManySessions);
        }
        let worker = resumed.unwrap_or_else(|| self.least_loaded(workers, applicant.ordinal));
        Admission::Yes {
            worker,
            allowed: edge.allowed.clone(),
            counters: edge.counters.clone(),
        }
    }

    /// The worker with the fewest streams; of those that are alike the one with the fewest sessions,
    /// and an edge's sessions, which come at once, each on another.
    fn least_loaded(&self, workers: &[usize], ordinal: u16) -> usize {
        let mut sessions = vec![0_usize; workers.len()];
        let tunnels = self.edges.values().filter_map(|edge| edge.tunnel.as_ref());
        for session in tunnels.flat_map(|tunnel| tunnel.sessions.values()) {
            if let Some(count) = sessions.get_mut(session.worker) {
                *count += 1;
            }
        }
        let distance = |worker: usize| {
            let first = usize::from(ordinal) % workers.len();
            (worker + workers.len() - first) % workers.len()
        };
        let loads = workers.iter().zip(sessions).enumerate();
        let least = loads.min_by_key(|(worker, load)| (*load, distance(*worker)));
        least.map_or(0, |(worker, _)| worker)
    }

    /// An instance didn't answer: its sessions go, so that another may come in.
    pub fn evict(&mut self, id: &EdgeId, instance: InstanceId) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(edge) = self.edges.get_mut(id) else {
            return actions;
        };
        if let Some(tunnel) = edge.tunnel.take_if(|tunnel| tunnel.instance == instance) {
            cut_all(&tunnel, true, &mut actions);
            disconnected(id, &tunnel, "another instance took over", &mut actions);
        }
        actions
    }

    /// A worker has made a session; None if the edge or its secret has changed since, or another
    /// instance has come in.
    pub fn session_made(
        &mut self,
        id: &EdgeId,
        new: NewSession,
    ) -> Option<(Arc<AllowedEdge>, Vec<Action>)> {
        let mut actions = Vec::new();
        let edge = self
            .edges
            .get_mut(id)
            .filter(|edge| edge.accepts(&new.keys))?;
        let other = edge
            .tunnel
            .take_if(|tunnel| tunnel.instance != new.instance);
        if let Some(other) = other {
            let is_leaving = other.staying().next().is_none();
            if !is_leaving && !new.replaces_instance {
                edge.tunnel = Some(other);
                return None;
            }
            disconnected(id, &other, "another instance took over", &mut actions);
            if is_leaving && other.live() > 0 {
                if edge.leaving.len() >= MAX_LEAVING {
                    cut_all(&edge.leaving.remove(0), true, &mut actions);
                }
                edge.leaving.push(other);
            } else {
                cut_all(&other, true, &mut actions);
            }
        }
        if edge.tunnel.is_none() {
            // Facts about another instance don't hold for this one.
            edge.ports.clear();
            edge.applied = 0;
            edge.public_address = None;
        }
        let tunnel = edge.tunnel.get_or_insert_with(|| Tunnel {
            instance: new.instance,
            version: new.version,
            features: new.features,
            address: new.address,
            // The first session that is up sets it.
            connected_at: UNIX_EPOCH,
            transport: new.transport,
            dialled_by: new.dialled_by,
            sessions: HashMap::new(),
            told: None,
        });
        // An edge that still had its session in this place would have resumed it. A QUIC session that is only silent may recover.
        let given_up = tunnel.sessions.iter().filter(|(_, session)| {
            session.ordinal == new.ordinal
                && session.transport == Transport::TcpTls
                && !(session.live || session.pending || session.leaving)
        });
        actions.extend(given_up.map(|(id, session)| Action::Cut {
            worker: session.worker,
            session: *id,
            replaced: false,
        }));
        let session = Session {
            worker: new.worker,
            ordinal: new.ordinal,
            keys: new.keys,
            address: new.address,
            transport: new.transport,
            live: false,
            pending: true,
            leaving: false,
        };
        tunnel.sessions.insert(new.id, session);
        Some((edge.allowed.clone(), actions))
    }

    /// A session has a connection.
    pub fn session_up(
        &mut self,
        id: &EdgeId,
        session: SessionId,
        address: SocketAddr,
        now: SystemTime,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(tunnel) = self.edges.get_mut(id).and_then(|edge| edge.tunnel.as_mut()) else {
            return actions;
        };
        let first = tunnel.live() == 0;
        let Some(session) = tunnel.sessions.get_mut(&session) else {
            return actions;
        };
        session.live = true;
        session.pending = false;
        session.address = address;
        let transport = session.transport;
        tunnel.transport = transport;
        if first {
            tunnel.address = address;
            tunnel.connected_at = now;
            actions.push(Action::Connected {
                edge: id.clone(),
                address,
                transport,
                version: tunnel.version.clone(),
                dialled_by: tunnel.dialled_by,
            });
        }
        self.tell(id, &mut actions);
        actions
    }

    /// A session's edge opens no more streams on it.
    pub fn session_leaving(&mut self, id: &EdgeId, session: SessionId) {
        let tunnel = self.edges.get_mut(id).and_then(|edge| edge.tunnel.as_mut());
        if let Some(session) = tunnel.and_then(|tunnel| tunnel.sessions.get_mut(&session)) {
            session.leaving = true;
        }
    }

    /// A session has lost its connection and may come back.
    pub fn session_down(&mut self, id: &EdgeId, session: SessionId, reason: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(tunnel) = self.edges.get_mut(id).and_then(|edge| edge.tunnel.as_mut()) else {
            return actions;
        };
        let Some(session) = tunnel.sessions.get_mut(&session) else {
            return actions;
        };
        let was_live = std::mem::replace(&mut session.live, false);
        session.pending = false;
        if was_live && tunnel.live() == 0 {
            let address = tunnel.address;
            let reason = reason.to_owned();
            actions.push(Action::Disconnected {
                edge: id.clone(),
                address,
                reason,
            });
        }
        self.tell(id, &mut actions);
        actions
    }

    /// A session is gone for good.
    pub fn session_ended(
        &mut self,
        id: &EdgeId,
        session: SessionId,
        totals: Totals,
    ) -> Vec<Action> {
        let actions = self.session_down(id, session, "the session has ended");
        let Some(edge) = self.edges.get_mut(id) else {
            return actions;
        };
        edge.ended.received += totals.received;
        edge.ended.sent += totals.sent;
        edge.ended.streams += totals.streams;
        for tunnel in &mut edge.leaving {
            tunnel.sessions.remove(&session);
        }
        edge.leaving.retain(|tunnel| !tunnel.sessions.is_empty());
        if let Some(tunnel) = &mut edge.tunnel {
            tunnel.sessions.remove(&session);
            if tunnel.sessions.is_empty() {
                edge.tunnel = None;
            }
        }
        actions
    }

    /// The edge has answered a generation.
    pub fn applied(&mut self, id: &EdgeId, applied: Applied) -> Vec<Action> {
        let Some(edge) = self.edges.get_mut(id) else {
            return Vec::new();
        };
        if applied.epoch != self.epoch || applied.generation != edge.generation {
            return Vec::new();
        }
        match applied.outcome {
            // An edge that says the same again gives no reason to tell anybody.
            ApplyOutcome::Applied(ports)
                if ports == edge.ports && edge.applied == applied.generation =>
            {
                Vec::new()
            }
            ApplyOutcome::Applied(ports) => {
                let (failed, left_out) = newly_failed(&edge.ports, &ports);
                edge.ports = ports;
                edge.applied = applied.generation;
                vec![Action::PortsApplied {
                    edge: id.clone(),
                    generation: applied.generation,
                    ports: edge.ports.clone(),
                    failed,
                    left_out,
                }]
            }
            ApplyOutcome::Refused(_) if edge.refused == Some(applied.generation) => Vec::new(),
            ApplyOutcome::Refused(refusal) => {
                edge.refused = Some(applied.generation);
                vec![Action::ConfigRefused {
                    edge: id.clone(),
                    generation: applied.generation,
                    refusal,
                }]
            }
        }
    }

    /// The edge has found out by which address it is reached.
    pub fn public_address(&mut self, id: &EdgeId, address: IpAddr) {
        if let Some(edge) = self.edges.get_mut(id) {
            edge.public_address = Some(address);
        }
    }

    /// Worker and id of the session on which an edge is asked for a test, and what both ends know; none without a live
    /// session that takes new streams.
    pub fn test_session(&self, id: &EdgeId) -> Option<(usize, SessionId, Features)> {
        let tunnel = self.edges.get(id)?.tunnel.as_ref()?;
        let staying = tunnel.staying().filter(|(_, session)| session.live);
        let (id, session) = staying.min_by_key(|(id, session)| (session.ordinal, *id))?;
        Some((session.worker, id, tunnel.features))
    }

    /// Edges with a live session.
    pub fn connected(&self) -> impl Iterator<Item = ConnectedEdge<'_>> {
        self.edges.iter().filter_map(|(id, edge)| {
            let tunnel = edge.tunnel.as_ref().filter(|tunnel| tunnel.live() > 0)?;
            Some(ConnectedEdge {
                id,
                address: tunnel.address,
                transport: tunnel.transport,
                dialled_by: tunnel.dialled_by,
                proxy: edge.proxy(tunnel.dialled_by),
                version: &tunnel.version,
                connected_at: tunnel.connected_at,
                is_leaving: tunnel.is_leaving(),
                sessions: tunnel.live(),
                ended: edge.ended,
                counters: &edge.counters,
                public_address: edge.public_address,
                ports: &edge.ports,
            })
        })
    }

    fn tell(&mut self, id: &EdgeId, actions: &mut Vec<Action>) {
        let terms = self.terms();
        if let Some(edge) = self.edges.get_mut(id) {
            edge.tell(id, terms, actions);
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            epoch: self.epoch,
            max_streams: self.max_streams,
            udp_idle: self.udp_idle,
        }
    }
}

#[cfg(test)]
mod tests;
