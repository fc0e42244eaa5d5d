//! A connection on its way in: the entrance decides, the passage carries that out.

use super::{Command, Hub};
use crate::edge::attempt::FEATURES;
use crate::env::Env;
use crate::link::Packet;
use bytes::BytesMut;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_core::entrance::{Action, Decision, Entrance, Failure, Terms};
use remoteingress_core::hub::registry::{Applicant, Place};
use remoteingress_proto::handshake::{
    AuthenticatedEdge, Candidates, HubHandshake, HubProgress, InstanceId, SessionId, Transport,
};
use remoteingress_proto::wire::features::{FeatureOffer, Features};
use remoteingress_testkit::net::Connection;
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A connection that was let in, and what has come on it.
pub(crate) struct Incoming {
    pub(crate) connection: Connection,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// The hub's worker that has its place.
    pub(crate) worker: usize,
    pub(crate) edge: Box<AuthenticatedEdge>,
    pub(crate) early: Vec<Packet>,
    /// It has died meanwhile.
    pub(crate) is_dead: bool,
}

pub(crate) struct Passage {
    connection: Connection,
    transport: Transport,
    address: SocketAddr,
    handshake: HubHandshake,
    entrance: Entrance<Place>,
    received: BytesMut,
    edge: Option<Box<AuthenticatedEdge>>,
    early: Vec<Packet>,
    is_dead: bool,
    /// Sessions that were pinged and may still answer.
    pub(crate) pinged: Vec<SessionId>,
    /// For the checks: an instance that was evicted for this connection.
    evicted: Option<InstanceId>,
}

impl Passage {
    pub(crate) fn new(
        env: &Env,
        connection: Connection,
        transport: Transport,
        address: SocketAddr,
    ) -> Self {
        let offer = FeatureOffer {
            required: Features::NONE,
            optional: FEATURES,
        };
        let terms = Terms {
            handshake_timeout: Some(Duration::from_secs(10)),
            offer,
        };
        Self {
            connection,
            transport,
            address,
            handshake: HubHandshake::new(&env.exporter(connection), transport),
            entrance: Entrance::new(env.now(), address, terms),
            received: BytesMut::new(),
            edge: None,
            early: Vec::new(),
            is_dead: false,
            pinged: Vec::new(),
            evicted: None,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.entrance.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.entrance.handle_timeout(now);
    }

    /// The connection was closed or cut.
    pub(crate) fn ended(&mut self) {
        self.is_dead = true;
        if self.edge.is_none() {
            self.entrance.handle_failure(Failure::Broken);
        }
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, hub: &mut Hub, packet: Packet) {
        match packet {
            Packet::Bytes(bytes) if self.edge.is_none() => {
                self.received.extend_from_slice(&bytes);
                let (registry, guard) = (&hub.registry, &hub.guard);
                let blocked = Cell::new(None);
                let lookup = |edge: &_| {
                    let left = guard.blocked(now, self.address.ip(), edge);
                    blocked.set(left);
                    left.map_or_else(|| registry.candidates(edge), |_| Candidates::unknown())
                };
                let handled = self.handshake.handle(&self.received, lookup);
                if let Some(left) = blocked.get() {
                    return self.entrance.handle_blocked(left);
                }
                match handled {
                    Ok(HubProgress::NeedMore) => {}
                    Ok(HubProgress::Authenticated { edge, consumed }) => {
                        let hello = &edge.hello;
                        self.entrance
                            .handle_authenticated(&hello.edge_id, hello.offer());
                        let rest = self.received.split_off(consumed);
                        if !rest.is_empty() {
                            self.early.push(Packet::Bytes(rest.freeze()));
                        }
                        self.edge = Some(edge);
                    }
                    Err(error) => {
                        let knows_edges = hub.registry.is_told;
                        self.entrance.handle_handshake_error(&error, knows_edges);
                    }
                }
            }
            packet @ (Packet::Bytes(_) | Packet::Lane(_)) => self.early.push(packet),
        }
    }

    /// A session that was pinged has heard from its edge.
    pub(crate) fn pong(&mut self) {
        self.pinged.clear();
        self.entrance.handle_pong();
    }

    /// A session that was pinged is gone.
    pub(crate) fn ping_lost(&mut self, session: SessionId) {
        let count = self.pinged.len();
        self.pinged.retain(|pinged| *pinged != session);
        if count > 0 && self.pinged.is_empty() {
            self.entrance.handle_pings_lost();
        }
    }

    /// Carries out what the entrance has decided; true once the connection has a place or none.
    pub(crate) fn poll(&mut self, hub: &mut Hub, env: &mut Env) -> bool {
        while let Some(action) = self.entrance.poll_action() {
            let now = env.now();
            match action {
                Action::CountFailure(claimed) => {
                    let name = env.name(self.connection);
                    env.say(format_args!("hub: wrong proof on {name}"));
                    let [from, _] = env.net.ends(self.connection);
                    hub.count_wrong_proof(now, from);
                    hub.guard.failed(now, self.address.ip(), claimed.as_ref());
                }
                Action::ForgetFailures(edge) => {
                    hub.guard.succeeded(now, self.address.ip(), &edge);
                }
                Action::Decide => {
                    let decision = self.decide(hub);
                    env.say(format_args!("hub: decides, {}", name_of(&decision)));
                    if let Decision::Conflict(conflict) = &decision {
                        assert_ne!(
                            Some(conflict.instance),
                            self.evicted,
                            "registry: an instance that was evicted is still in the way"
                        );
                    }
                    self.entrance.handle_decision(now, decision);
                }
                Action::Ping(mut sessions) => {
                    // The registry has them in any order.
                    sessions.sort_unstable();
                    for (_, session) in sessions {
                        self.pinged.push(session);
                        hub.command(env, Command::Ping(session));
                    }
                }
                Action::Evict { instance } => {
                    self.evicted = Some(instance);
                    if let Some(edge) = &self.edge {
                        let actions = hub.registry.evict(&edge.hello.edge_id, instance);
                        hub.act(env, actions);
                    }
                }
                Action::Admit(place) => {
                    hub.check_place(&place);
                    if let Some(edge) = self.edge.take() {
                        let incoming = Incoming {
                            connection: self.connection,
                            transport: self.transport,
                            address: self.address,
                            worker: place.worker,
                            edge,
                            early: std::mem::take(&mut self.early),
                            is_dead: self.is_dead,
                        };
                        hub.admitted(env, self.transport, incoming);
                    }
                    return true;
                }
                Action::Refuse(refusal) => {
                    let reason = HubRefusalReason::from(refusal.reason).as_str();
                    env.say(format_args!("hub: refuses, {reason}"));
                    let own = hub.endpoint(self.transport);
                    if let Some(answer) = refusal.answer {
                        let packet = Packet::Bytes(answer.message().into());
                        env.net.send(self.connection, own, packet);
                        env.net.finish(self.connection, own);
                    } else {
                        env.drop_connection(self.connection, own);
                    }
                    return true;
                }
                Action::Abandon(reason) => {
                    let reason = HubRefusalReason::from(reason).as_str();
                    env.say(format_args!("hub: abandons a connection, {reason}"));
                    env.drop_connection(self.connection, hub.endpoint(self.transport));
                    return true;
                }
            }
        }
        false
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn decide(&self, hub: &Hub) -> Decision<Place> {
        let edge = self.edge.as_ref().expect("only edges are decided on");
        let hello = &edge.hello;
        let applicant = Applicant {
            edge: &hello.edge_id,
            keys: &edge.keys,
            instance: hello.instance,
            ordinal: hello.session_ordinal,
            resume: hello.resume.as_ref().map(|resume| resume.session),
            replaces_instance: hello.replaces_instance,
        };
        hub.registry.admit(&applicant, &hub.loads()).into()
    }
}

fn name_of(decision: &Decision<Place>) -> String {
    match decision {
        Decision::Admit(place) => format!("yes, at worker {}", place.worker),
        Decision::Refuse(code) => code.as_str().to_owned(),
        Decision::Conflict(_) => "another instance is connected".to_owned(),
    }
}
