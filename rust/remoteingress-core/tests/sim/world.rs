//! An edge and a hub in one virtual time, what lies between them, and what must hold in the end.

use crate::EDGE_ID;
use crate::edge::uplink::Settings;
use crate::edge::{Client, Edge, MAX_EDGE_WORKERS};
use crate::env::Env;
use crate::hub::Hub;
use crate::link::Packet;
use crate::trace::Trace;
use remoteingress_config::{AllowedEdge, TransportMode, parse_edges};
use remoteingress_proto::control::PortStatus;
use remoteingress_proto::handshake::{InstanceId, ProofKeys};
use remoteingress_proto::mux::stream::StreamEnd;
use remoteingress_proto::token::secret::Secret;
use remoteingress_testkit::net::{Dials, Endpoint, Event, Path};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The secret that edges prove.
const SECRET: &str = "0123456789abcdef";
/// After the last fault every worker has a session again within this: a dead connection is noticed after 8 s; an attempt
/// that was on its way fails within 21 s (5 s QUIC, 8 s to dial TLS, 8 s to its Welcome); the wait that follows is at
/// most 30 s, whether the backoff's cap or twice the 15 s after a refusal; and where the first worker asks for all, the
/// others' first attempt comes after it and may wait once more for as long.
const RECOVERY: Duration = Duration::from_secs(8 + 21 + 30 + 30);
/// Everything that is over has been noticed to be over: sessions are resumed within 30 s, and connections are idle for
/// as long.
const SETTLING: Duration = Duration::from_secs(75);

/// The settings that stay the same in a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: TransportMode,
    pub(crate) workers: usize,
    pub(crate) max_sessions: u16,
    pub(crate) has_pin: bool,
    pub(crate) replaces_instance: bool,
    pub(crate) resume_timeout: [Duration; 2],
}

/// The faults of the world now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) path: Path,
    pub(crate) tls_dials: Dials,
    pub(crate) is_black: bool,
    pub(crate) is_quic_blocked: bool,
}

/// The edge as the hub is told of it.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredEdge {
    pub(crate) is_allowed: bool,
    pub(crate) has_right_secret: bool,
    pub(crate) ports: BTreeSet<u16>,
}

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) plan: Plan,
    pub(crate) faults: Faults,
    pub(crate) configured: ConfiguredEdge,
    /// Absent while it is down.
    pub(crate) hub: Option<Hub>,
    pub(crate) hub_endpoints: [Endpoint; 2],
    /// The edge's starts that aren't gone; the last one on the first machine counts.
    pub(crate) edges: Vec<Start>,
    keys: ProofKeys,
    /// Faults that end.
    pub(crate) ends: Vec<(Instant, End)>,
}

/// One start of an edge, on one of two machines.
pub(crate) struct Start {
    pub(crate) edge: Edge,
    pub(crate) machine: u8,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    BlackHole,
    QuicBlocked,
    Dials,
    HubDown,
    HubUntold,
    WrongSecret,
    Removed,
    EdgeDown,
    SecondEdge,
    HubDrains,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut env = Env::new(seed, trace);
        let chance = &mut env.chance;
        let mode = [
            TransportMode::TcpTls,
            TransportMode::Quic,
            TransportMode::QuicWithFallback,
            TransportMode::QuicWithFallback,
        ][chance.below(4)];
        let timeout = |n: usize| Duration::from_secs(if n == 0 { 10 } else { 30 });
        let plan = Plan {
            mode,
            workers: 1 + chance.below(MAX_EDGE_WORKERS),
            max_sessions: 1 + chance.below(4) as u16,
            has_pin: chance.below(3) > 0,
            replaces_instance: chance.below(4) == 0,
            resume_timeout: [timeout(chance.below(4)), timeout(chance.below(4))],
        };
        let hub_endpoints = [env.net.endpoint("hub, TLS"), env.net.endpoint("hub, QUIC")];
        env.say(format_args!("{plan:?}"));
        let mut world = Self {
            env,
            plan,
            faults: Faults {
                path: Path::default(),
                tls_dials: Dials::Accepted,
                is_black: false,
                is_quic_blocked: false,
            },
            configured: ConfiguredEdge {
                is_allowed: true,
                has_right_secret: true,
                ports: BTreeSet::from([80, 443]),
            },
            hub: None,
            hub_endpoints,
            edges: Vec::new(),
            keys: ProofKeys::derive(&Secret::new(SECRET.to_owned())),
            ends: Vec::new(),
        };
        world.change_path();
        world.start_hub();
        world.tell_hub();
        world.start_edge(0, world.plan.replaces_instance);
        world
    }

    /// Another delay from now on.
    pub(crate) fn change_path(&mut self) {
        let chance = &mut self.env.chance;
        let millis = |n: usize| Duration::from_millis(n as u64);
        self.faults.path.delay = millis(2 + chance.below(120));
        self.faults.path.jitter = millis(chance.below(3) * chance.below(80));
        self.set_paths();
    }

    /// Puts the faults into force.
    pub(crate) fn set_paths(&mut self) {
        let faults = self.faults;
        let [tls, quic] = self.hub_endpoints;
        let is_up = self.hub.is_some();
        for Start { edge, .. } in &self.edges {
            let from = edge.up.endpoint;
            let dials = if is_up {
                faults.tls_dials
            } else {
                Dials::Refused
            };
            self.env.net.set_path(
                from,
                tls,
                Path {
                    dials,
                    ..faults.path
                },
            );
            let is_dead = faults.is_quic_blocked || !is_up;
            let dials = if is_dead {
                Dials::Ignored
            } else {
                Dials::Accepted
            };
            self.env.net.set_path(
                from,
                quic,
                Path {
                    dials,
                    ..faults.path
                },
            );
            self.env.set_black(from, tls, faults.is_black);
            let is_black = faults.is_black || faults.is_quic_blocked;
            self.env.set_black(from, quic, is_black);
        }
    }

    pub(crate) fn start_hub(&mut self) {
        let secs = self.plan.resume_timeout[1].as_secs() as u32;
        let most = self.plan.max_sessions;
        self.hub = Some(Hub::new(&mut self.env, self.hub_endpoints, most, secs));
        self.env.say(format_args!("hub: starts"));
        self.set_paths();
    }

    pub(crate) fn start_edge(&mut self, machine: u8, replaces_instance: bool) {
        let endpoint = self.env.net.endpoint("edge");
        let settings = Settings {
            instance: InstanceId(self.env.id()),
            replaces_instance,
            has_pin: self.plan.has_pin,
            mode: self.plan.mode,
            resume_timeout: self.plan.resume_timeout[0],
            patience: Duration::from_secs(5),
            workers: self.plan.workers,
            keys: self.keys.clone(),
        };
        self.env.say(format_args!(
            "edge: starts on machine {machine}, replaces: {replaces_instance}"
        ));
        let edge = Edge::new(settings, endpoint, self.hub_endpoints);
        self.edges.push(Start { edge, machine });
        self.set_paths();
        if let Some(start) = self.edges.last_mut() {
            start.edge.turn(&mut self.env);
        }
    }

    /// Tells the hub which edges there are.
    pub(crate) fn tell_hub(&mut self) {
        let edges = self.allowed_edges();
        let configured = &self.configured;
        if let Some(hub) = &mut self.hub {
            self.env.say(format_args!(
                "hub: is told its edges, allowed: {}, right secret: {}, ports {:?}",
                configured.is_allowed, configured.has_right_secret, configured.ports
            ));
            let is_right = configured.is_allowed && configured.has_right_secret;
            hub.update(&mut self.env, edges, is_right);
            hub.turn(&mut self.env);
        }
    }

    /// The edge that is to be connected in the end.
    pub(crate) fn main_edge(&mut self) -> Option<&mut Edge> {
        let mut edges = self.edges.iter_mut().rev();
        let main = edges.find(|start| start.machine == 0 && !start.edge.up.is_leaving);
        main.map(|start| &mut start.edge)
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.env.now() + time;
        self.env.net.wake(self.env.clock, until);
        let (mut at_once, mut last) = (0, self.env.now());
        while let Some((at, event)) = self.env.net.pop() {
            at_once = if self.env.now() == last {
                at_once + 1
            } else {
                0
            };
            last = self.env.now();
            assert!(
                at_once < 10_000,
                "time stands still: {event:?} at {}",
                self.env.net.name(at)
            );
            if at == self.env.clock {
                self.env.cut_due();
                self.end_faults();
                if self.env.now() >= until {
                    break;
                }
                continue;
            }
            self.handle(at, event);
        }
    }

    /// A fault that ends by itself.
    pub(crate) fn ends_after(&mut self, time: Duration, end: End) {
        let at = self.env.now() + time;
        self.ends.push((at, end));
        self.env.net.wake(self.env.clock, at);
    }

    /// Says what all sessions of edges are about.
    pub(crate) fn describe(&mut self) {
        for start in &self.edges {
            let text = start.edge.describe();
            self.env
                .say(format_args!("edge on machine {}: {text}", start.machine));
        }
    }

    /// Ends all faults, and leaves one edge.
    pub(crate) fn heal(&mut self) {
        self.env.say(format_args!("all faults end"));
        self.env.loses_welcomes = false;
        let now = self.env.now();
        // The end of one fault may be the beginning of a shorter one.
        while !self.ends.is_empty() {
            for (at, _) in &mut self.ends {
                *at = now;
            }
            self.end_faults();
        }
        for start in &mut self.edges {
            if start.machine != 0 {
                start.edge.vanish(&mut self.env);
            }
        }
        // An edge with a wrong secret may have had its address blocked, for longer than the test waits.
        if self.hub.as_ref().is_some_and(Hub::may_block) {
            if let Some(hub) = self.hub.take() {
                hub.vanish(&mut self.env, true);
            }
            self.start_hub();
            self.tell_hub();
        }
        if self.main_edge().is_none() {
            self.start_edge(0, self.plan.replaces_instance);
        }
        for start in &mut self.edges {
            start.edge.turn(&mut self.env);
        }
    }

    /// The tunnel comes back, carries streams, has all ports, and leaves nothing when it ends.
    pub(crate) fn check_end(&mut self) {
        let start = self.env.now();
        let most = usize::from(self.plan.max_sessions);
        while self.main_edge().map_or(1, |edge| edge.missing(most)) > 0 {
            self.pass(Duration::from_millis(500));
            let missing = self.main_edge().map_or(1, |edge| edge.missing(most));
            assert!(
                missing == 0 || self.env.now() < start + RECOVERY,
                "{missing} workers have no session {RECOVERY:?} after the last fault"
            );
        }
        self.env.say(format_args!("all workers are back"));
        self.check_streams();
        self.finish_streams();
        let until = self.env.now() + SETTLING;
        while self.env.traffic.unsettled() > 0 {
            let left = self.env.traffic.unsettled();
            assert!(self.env.now() < until, "{left} streams never end");
            self.pass(Duration::from_millis(500));
        }
        let until = self.env.now() + SETTLING;
        while let Some(problem) = self.ports_differ() {
            assert!(self.env.now() < until, "generation: {problem}");
            self.pass(Duration::from_millis(500));
        }
        self.check_leaving();
    }

    fn allowed_edges(&self) -> Vec<AllowedEdge> {
        let ConfiguredEdge {
            is_allowed,
            has_right_secret,
            ports,
        } = &self.configured;
        let secret = if *has_right_secret {
            SECRET
        } else {
            "another-secret-1"
        };
        let edge = json!({ "id": EDGE_ID, "secret": secret, "listenPorts": ports });
        let edges = if *is_allowed { vec![edge] } else { Vec::new() };
        parse_edges(&json!({ "edges": edges }), false).expect("legal edges")
    }

    fn handle(&mut self, at: Endpoint, event: Event<Packet>) {
        if self.hub_endpoints.contains(&at) {
            let machines: Vec<(Endpoint, u8)> = self
                .edges
                .iter()
                .map(|start| (start.edge.up.endpoint, start.machine))
                .collect();
            let address = |from: Endpoint| {
                let own = machines.iter().find(|(endpoint, _)| *endpoint == from);
                let machine = own.map_or(9, |(_, machine)| *machine);
                SocketAddr::from(([192, 0, 2, machine + 1], 5_000))
            };
            if let Some(hub) = &mut self.hub {
                hub.handle(&mut self.env, at, event, address);
                hub.turn(&mut self.env);
            }
            return;
        }
        let mut edges = self.edges.iter_mut();
        if let Some(start) = edges.find(|start| start.edge.up.endpoint == at) {
            start.edge.handle(&mut self.env, event);
            start.edge.turn(&mut self.env);
        }
        self.edges.retain(|start| !start.edge.is_gone());
    }

    fn end_faults(&mut self) {
        let now = self.env.now();
        while let Some(index) = self.ends.iter().position(|(at, _)| *at <= now) {
            let (_, end) = self.ends.remove(index);
            self.end_fault(end);
        }
    }

    /// Each worker takes a stream, whose bytes all arrive.
    fn check_streams(&mut self) {
        let most = usize::from(self.plan.max_sessions).min(self.plan.workers);
        let client = Client {
            sends: (3_000, true),
            answer: (5_000, true),
        };
        for worker in 0..most {
            // Its session may be one that ends any moment now: of a connection that is dead, or over the other transport.
            let until = self.env.now() + SETTLING;
            while !self.carries(worker, client, until) {
                let now = self.env.now();
                assert!(now < until, "worker {worker} carries no new stream");
                self.pass(Duration::from_millis(500));
            }
        }
    }

    /// A new stream at this worker is carried to its end; false if it can't be opened, or is reset.
    fn carries(&mut self, worker: usize, client: Client, until: Instant) -> bool {
        let env = &mut self.env;
        let mut edges = self.edges.iter_mut().rev();
        let main = edges.find(|start| start.machine == 0 && !start.edge.up.is_leaving);
        let Some(Start { edge, .. }) = main else {
            return false;
        };
        let Some(serial) = edge.open_at(env, worker, client) else {
            return false;
        };
        edge.turn(env);
        loop {
            self.pass(Duration::from_millis(500));
            if self.env.traffic.is_complete(serial) {
                return true;
            }
            let end = self.env.traffic.end_at_edge(serial);
            if let Some(StreamEnd::Aborted(_)) = end {
                return false;
            }
            let now = self.env.now();
            assert!(
                now < until,
                "stream {serial} is neither carried nor reset: {end:?}"
            );
        }
    }

    /// Both ends of each stream send nothing more.
    pub(crate) fn finish_streams(&mut self) {
        let (env, nothing_more) = (&mut self.env, (0, true));
        for Start { edge, .. } in &mut self.edges {
            for serial in edge.streams() {
                if let Some(session) = edge.of_stream(serial) {
                    let (own, ends, now) = (&mut session.session, &mut session.ends, env.now());
                    env.traffic.write(own, ends, now, serial, nothing_more);
                }
            }
            edge.turn(env);
        }
        if let Some(hub) = &mut self.hub {
            for serial in hub.streams() {
                if let Some(session) = hub.of_stream(serial) {
                    let (own, ends, now) = (&mut session.session, &mut session.ends, env.now());
                    env.traffic.write(own, ends, now, serial, nothing_more);
                }
            }
            hub.turn(env);
        }
        env.traffic.always_finish();
    }

    /// Edge and hub agree on every port; or they don't, and how.
    fn ports_differ(&mut self) -> Option<String> {
        let wanted = self.configured.ports.clone();
        let hub = self.hub.as_ref()?;
        let epoch = hub.epoch;
        let reported: Vec<BTreeSet<u16>> = hub
            .registry
            .connected()
            .map(|edge| {
                let bound = |port: &&remoteingress_proto::control::PortState| {
                    port.status == PortStatus::Bound
                };
                edge.ports
                    .iter()
                    .filter(bound)
                    .map(|port| port.port)
                    .collect()
            })
            .collect();
        let edge = self.main_edge()?;
        if edge.ports.bound() != &wanted {
            return Some(format!("bound {:?} of {wanted:?}", edge.ports.bound()));
        }
        let applied = edge.ports.applied();
        if applied.is_none_or(|(at, _)| at != epoch) {
            return Some(format!("applied {applied:?} in epoch {epoch}"));
        }
        (reported != [wanted]).then(|| format!("the hub knows of {reported:?}"))
    }

    /// The edge leaves, and the hub forgets it.
    fn check_leaving(&mut self) {
        if let Some(edge) = self.main_edge() {
            // It may come again, and is the same edge.
            let endpoint = edge.up.endpoint;
            let mut edges = self.edges.iter_mut();
            if let Some(start) = edges.find(|start| start.edge.up.endpoint == endpoint) {
                start.edge.leave(&mut self.env);
                start.edge.turn(&mut self.env);
            }
        }
        let until = self.env.now() + SETTLING;
        loop {
            self.pass(Duration::from_millis(500));
            let hub = self.hub.as_mut().expect("it is up");
            let (sessions, edges) = (hub.sessions.len(), hub.registry.connected().count());
            if sessions == 0 && edges == 0 && hub.is_idle() && self.edges.is_empty() {
                break;
            }
            assert!(
                self.env.now() < until,
                "{sessions} sessions and {edges} edges are left at the hub, and {} edges run",
                self.edges.len()
            );
        }
        let now = self.env.now();
        let hub = self.hub.as_mut().expect("it is up");
        assert_eq!(hub.turned_away, 0, "guard: an edge was turned away");
        // As many as may come at once from one address.
        for _ in 0..64 {
            let admitted = hub.guard.admit(now, [192, 0, 2, 1].into());
            assert_eq!(
                admitted,
                Ok(()),
                "guard: it counts connections that are gone"
            );
        }
    }
}
